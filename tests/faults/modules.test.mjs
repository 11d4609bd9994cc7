// Modules that cannot run, and processes that misbehave: a clear error naming the thing, the state before it intact, other
// processes unaffected.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Network, serveNetwork } from '../lib/network.mjs'
import { environment, schedule } from '../lib/messages.mjs'
import { evaluateFresh } from '../lib/loader.mjs'
import { tests } from '../lib/paths.mjs'
import { serveUnit, temporary } from '../lib/unit.mjs'
import { check, writeVectors } from '../lib/vectors.mjs'
import { counting, output, wasm } from './lib.mjs'

const formats = ['wasm32-unknown-emscripten4', 'wasm32-unknown-emscripten-metering']
const wrong = ['Error', 'Throw', 'Trap', 'Divide', 'Overflow', 'Outside', 'PointerOutside', 'PointerAtEnd', 'NoEnd', 'NotJson', 'Nothing', 'Null', 'Deep']

for (const format of formats) {
  test(`every way of failing leaves no trace and is answered as the npm loader answers it (${format})`, async (t) => {
    const env = environment('probe', format)
    const steps = ['Count', ...wrong.flatMap((Action) => [Action, 'Count']), 'Unmarked', 'InvalidUtf8', 'WrongTypes', 'Count'].map((Action) => ({ tags: { Action } }))
    const records = []
    for await (const r of evaluateFresh({ wasm: wasm('probe'), format, env, messages: schedule(env, steps) })) records.push(r)
    assert.equal(records.filter((r) => r.thrown).length, wrong.length - 1, 'all but Error throw')
    const done = await check(path.join(tests, 'faults/modules/probe.wasm'), format, writeVectors(path.join(temporary(t), 'probe.json'), { env }, records))
    assert.equal(done.code, 0, done.differences)
    assert.deepEqual(done.outputs, [records.length, records.length], done.last)
  })
}

const good = wasm('probe')
const hostile = {
  'is empty': Buffer.alloc(0),
  'is not wasm': Buffer.from('<html>404</html>'),
  'is only a header': good.subarray(0, 8),
  'is cut in half': good.subarray(0, good.length >> 1),
  'lacks its last byte': good.subarray(0, -1),
  'has 16 wrong bytes in its code': (() => { const b = Buffer.from(good); b.fill(0xff, b.length >> 1, (b.length >> 1) + 16); return b })(),
  'claims a section of 4 GB': Buffer.concat([good.subarray(0, 8), Buffer.from([1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x60])]),
  'claims 4,294,967,295 functions': Buffer.concat([good.subarray(0, 8), Buffer.from([1, 4, 1, 0x60, 0, 0, 3, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])]),
  'has no exports': Buffer.from('0061736d01000000', 'hex'),
  'imports what nobody provides': wasm('unknown_import'),
  'has constructors that never end': wasm('boot_spins')
}
for (const [fault, bytes] of Object.entries(hostile)) {
  test(`a module that ${fault} is an error in time, and hurts no other process`, { timeout: 120_000 }, async (t) => {
    const net = new Network()
    const bad = net.process('bad', net.module('hostile', bytes))
    const { pid: fine, ids } = counting(1, { net, label: 'fine' })
    const upstream = await serveNetwork(net)
    t.after(upstream.close)
    const unit = await serveUnit(t, upstream, { env: { LOCKSTEP_EVALUATION_TIME_LIMIT: '2s' } })
    const begun = Date.now()
    const [failed, other] = await Promise.all([unit.result(bad, bad), unit.result(ids[1], fine)])
    assert.ok(Date.now() - begun < 30_000, `${Date.now() - begun} ms`)
    assert.ok(failed.status >= 400 && typeof failed.json?.error === 'string', `${failed.status} ${failed.body}`)
    if (fault.startsWith('imports')) assert.match(failed.json.error, /nobody_provides_this/)
    assert.equal(output(other), '1')
    assert.equal((await unit.result(bad, bad)).status, failed.status, 'the same again')
  })
}

test('a module of 4 GiB of memory runs or is refused, without taking that much', async (t) => {
  const net = new Network()
  const whole = net.process('whole', net.module('whole', wasm('whole_memory')))
  const { pid, ids } = counting(1, { net })
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream)
  const got = await unit.result(whole, whole)
  assert.ok((got.status === 200 && got.json.Output === 'touched') || (got.status >= 400 && got.json.error), `${got.status} ${got.body}`)
  assert.equal(output(await unit.result(ids[1], pid)), '1')
  const rss = +/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${unit.child.pid}/status`, 'utf8'))[1]
  assert.ok(rss < 600_000, `peak memory ${rss} kB`)
})

test('an endless loop without metering ends at the wall-clock bound, is no result, and hurts only itself', { timeout: 120_000 }, async (t) => {
  const net = new Network()
  const module = net.module('probe', wasm('probe'))
  const spins = net.process('spins', module)
  const before = net.message(spins, { Action: 'Count' })
  const spin = net.message(spins, { Action: 'Spin' })
  const same = net.process('same module', module)
  const sameCount = net.message(same, { Action: 'Count' })
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream, { env: { LOCKSTEP_EVALUATION_TIME_LIMIT: '2s' } })
  assert.equal((await unit.result(before, spins)).json.Output, '1')
  const begun = Date.now()
  const [stopped, other] = await Promise.all([unit.result(spin, spins), unit.result(sameCount, same)])
  const took = Date.now() - begun
  assert.equal(stopped.status, 500, stopped.body.toString())
  assert.match(stopped.json.error, /wall-clock|2 ?s/)
  assert.ok(took > 1_800 && took < 20_000, `${took} ms`)
  assert.equal(other.json.Output, '1')
  assert.equal((await unit.result(before, spins)).json.Output, '1', 'the last good state is answered still')
  assert.deepEqual((await unit.results(spins)).json.edges.map((e) => e.node.Output), ['', '1'], 'no row for what never ended')
  const memory = await unit.state(spins, { to: String(net.clock.timestamp - 3000) })
  assert.ok([200, 425].includes(memory.status), memory.body.subarray(0, 200).toString())
})

test('endless messages of more processes than there are threads keep no other process waiting', { timeout: 120_000 }, async (t) => {
  const net = new Network()
  const module = net.module('probe', wasm('probe'))
  const spinning = ['a', 'b', 'c'].map((name) => {
    const pid = net.process(`spins ${name}`, module)
    return { pid, spin: net.message(pid, { Action: 'Spin' }) }
  })
  const other = net.process('counts', module)
  const count = net.message(other, { Action: 'Count' })
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream, { env: { LOCKSTEP_EVALUATION_TIME_LIMIT: '12s', WASM_EVALUATION_MAX_WORKERS: '2' } })
  const begun = Date.now()
  let ended = 0
  const stopped = spinning.map(({ pid, spin }) => unit.result(spin, pid).then((answer) => { ended++; return answer }))
  await new Promise((resolve) => setTimeout(resolve, 500)) // by then the one thread for messages is taken
  assert.equal((await unit.result(count, other)).json.Output, '1')
  assert.equal(ended, 0, `answered after ${Date.now() - begun} ms, and not because the endless ones had ended`)
  assert.ok(Date.now() - begun < 11_000, `${Date.now() - begun} ms`)
  for (const { status, json } of await Promise.all(stopped)) {
    assert.equal(status, 500)
    assert.match(json.error, /wall-clock|12 ?s/)
  }
})

test('an endless loop with metering runs out of gas, is a result, and the process goes on', { timeout: 120_000 }, async (t) => {
  const net = new Network()
  const pid = net.process('spins', net.module('metered probe', wasm('probe'), 'wasm32-unknown-emscripten-metering', { 'Compute-Limit': '9000000000' }))
  const spin = net.message(pid, { Action: 'Spin' })
  const after = net.message(pid, { Action: 'Count' })
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream)
  const out = await unit.result(spin, pid)
  assert.equal(out.status, 200)
  assert.deepEqual(out.json, { Messages: [], Assignments: [], Spawns: [], Output: '', Error: {} })
  assert.equal((await unit.result(after, pid)).json.Output, '1')
})

test('errors are answered and kept, but stand in no page, and pages around them are full', async (t) => {
  const net = new Network()
  const pid = net.process('probe', net.module('probe', wasm('probe')))
  const ids = []
  for (let i = 0; i < 6; i++) for (const Action of ['Count', 'Trap', 'Error', 'Throw']) ids.push(net.message(pid, { Action }))
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream)
  assert.equal((await unit.result(ids.at(-1), pid)).status, 200)
  for (const sort of ['ASC', 'DESC']) {
    const seen = []
    let cursor
    for (let pages = 0; pages < 10; pages++) {
      const { json } = await unit.results(pid, { limit: '2', sort, ...(cursor && { [sort === 'ASC' ? 'from' : 'to']: cursor }) })
      const edges = sort === 'DESC' && cursor ? json.edges.filter((e) => e.cursor !== cursor) : json.edges
      seen.push(...edges.map((e) => e.node.Output))
      if (json.pageInfo.hasNextPage) assert.equal(json.edges.length, 2, 'a page that is not the last is full')
      if (!json.pageInfo.hasNextPage || !edges.length) break
      cursor = json.edges.at(-1).cursor
    }
    const all = ['', '1', '2', '3', '4', '5', '6']
    assert.deepEqual(seen, sort === 'ASC' ? all : all.toReversed(), sort)
  }
})
