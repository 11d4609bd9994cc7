// Faults of the reference that must not be ours, and the real scheduler's quirks: what they do to a unit over HTTP.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Network, answer, serveNetwork } from '../lib/network.mjs'
import { authority, id, owner, stranger } from '../lib/messages.mjs'
import { serveUnit, temporary } from '../lib/unit.mjs'
import { counting, evaluations, output, wasm } from './lib.mjs'

async function around (t, net, { quirks, ...options } = {}) {
  const upstream = await serveNetwork(net, quirks)
  t.after(upstream.close)
  return { upstream, unit: await serveUnit(t, upstream, options) }
}
const counts = (answers) => answers.map(output)
const upTo = (n) => Array.from({ length: n }, (_, i) => String(i + 1))
const setTag = (edge, name, value) => { edge.node.assignment.tags.find((t) => t.name === name).value = value }

for (const bare of [false, true]) {
  test(`twelve simultaneous cold /result calls count right and agree${bare ? ' (process without an assignment of its own)' : ''}`, async (t) => {
    const { net, pid, ids } = counting(12, { bare })
    const { unit } = await around(t, net)
    const messages = ids.slice(-12)
    const answers = await Promise.all([...messages, ...messages, ...messages].map((m) => unit.result(m, pid)))
    assert.deepEqual(counts(answers), [...upTo(12), ...upTo(12), ...upTo(12)])
    const { json } = await unit.results(pid, { limit: '100' })
    assert.deepEqual(json.edges.map((e) => e.node.Output.data), bare ? upTo(12) : ['', ...upTo(12)])
  })
}

test('concurrent identical requests evaluate once', async (t) => {
  const { net, pid, ids } = counting(3)
  const { unit } = await around(t, net)
  const before = await evaluations(unit)
  const answers = await Promise.all(Array.from({ length: 40 }, () => unit.result(ids[3], pid)))
  assert.deepEqual(new Set(answers.map((a) => a.body.toString())).size, 1)
  assert.equal(output(answers[0]), '3')
  assert.equal(await evaluations(unit) - before, 4, 'the process and three messages, once each')
})

test('after a restart finished results are answered without evaluating, and without the scheduler', async (t) => {
  const { net, pid, ids } = counting(5)
  const data = temporary(t)
  const { upstream, unit } = await around(t, net, { data })
  const before = await Promise.all(ids.map((m) => unit.result(m, pid)))
  const walk = await unit.results(pid, { limit: '100' })
  assert.equal((await unit.stop()).code, 0, 'an orderly end')
  const again = await serveUnit(t, upstream, { data })
  upstream.intercept = ({ role, url }) => (role === 'su' && url.searchParams.has('limit') ? answer.json({ error: 'no pages today' }, 500) : undefined)
  const after = await Promise.all(ids.map((m) => again.result(m, pid)))
  assert.deepEqual(after.map((a) => a.body.toString()), before.map((a) => a.body.toString()))
  assert.deepEqual((await again.results(pid, { limit: '100' })).json, walk.json)
  assert.equal(await evaluations(again), 0)
})

test('a killed unit answers as an uninterrupted one', async (t) => {
  const { net, pid, ids } = counting(6)
  const data = temporary(t)
  const { upstream, unit } = await around(t, net, { data })
  assert.equal(output(await unit.result(ids[3], pid)), '3')
  await unit.stop('SIGKILL')
  const again = await serveUnit(t, upstream, { data })
  assert.equal(output(await again.result(ids[6], pid)), '6')
  assert.deepEqual((await again.results(pid, { limit: '100' })).json.edges.map((e) => e.node.Output.data), ['', ...upTo(6)])
})

test('a trailing duplicate is skipped and hurts no later request, nor one after a restart', async (t) => {
  const { net, pid } = counting(1)
  const pushed = net.message(pid, { Action: 'Increment' }, { from: id('another process'), signer: authority })
  const duplicate = net.again(pid, 2)
  const data = temporary(t)
  const { upstream, unit } = await around(t, net, { data })
  assert.equal(output(await unit.result(pushed, pid)), '2')
  const skipped = await unit.result(duplicate, pid)
  assert.equal(skipped.status, 200)
  assert.deepEqual(skipped.json, { Messages: [], Assignments: [], Spawns: [], Output: '' }, 'nothing happened, and nothing is pushed twice')
  const dry = await unit.dryRun(pid, { Owner: owner, Tags: [{ name: 'Action', value: 'Get' }] })
  assert.equal(output(dry), '2')
  assert.equal((await unit.state(pid)).status, 200)
  const later = net.message(pid, { Action: 'Increment' })
  assert.equal(output(await unit.result(later, pid)), '3')
  await unit.stop()
  const again = await serveUnit(t, upstream, { data })
  const last = net.message(pid, { Action: 'Increment' })
  assert.equal(output(await again.result(last, pid)), '4')
  assert.equal((await again.state(pid)).status, 200)
  assert.deepEqual((await again.results(pid, { limit: '100' })).json.edges.map((e) => e.node.Output.data), ['', '1', '2', '3', '4'], 'a duplicate has no row')
})

for (const exclude of [['Data'], ['Data', 'Anchor']]) {
  test(`an assignment with ${exclude.length === 1 ? 'a single Exclude tag' : 'two Exclude tags'} is evaluated, and so are later messages`, async (t) => {
    const net = new Network()
    const pid = net.process('probe', net.module('probe', wasm('probe')))
    const original = id('assigned transaction')
    net.transaction({ id: original, tags: [{ name: 'Action', value: 'Echo' }], recipient: stranger }, 'not wanted')
    const assigned = net.assign(pid, original, exclude)
    const later = net.message(pid, { Action: 'Count' })
    const { upstream, unit } = await around(t, net)
    const seen = JSON.parse((await unit.result(assigned, pid)).json.Output)
    assert.equal(seen.Id, original)
    assert.equal(seen.Target, stranger, 'the recipient of the transaction')
    assert.notEqual(seen.Data, 'not wanted')
    assert.equal(upstream.count('gateway', (r) => r.path === `/raw/${original}`), 0, 'excluded data is not fetched')
    assert.equal((await unit.result(later, pid)).json.Output, '1')
  })
}

test('an assigned message is fetched from the gateway, with its data', async (t) => {
  const net = new Network()
  const pid = net.process('probe', net.module('probe', wasm('probe')))
  const original = id('assigned transaction')
  net.transaction({ id: original, tags: [{ name: 'Action', value: 'Echo' }], recipient: '' }, 'the data')
  const assigned = net.assign(pid, original)
  const { unit } = await around(t, net)
  const seen = JSON.parse((await unit.result(assigned, pid)).json.Output)
  assert.equal(seen.Data, 'the data')
  assert.equal(seen.Owner, owner)
  assert.equal(seen.Nonce, 1)
})

test('a broken hash chain refuses that message and those built on it, keeps what came before, and heals with the schedule', async (t) => {
  const { net, pid, ids } = counting(4)
  const edge = net.processes[pid].edges[3]
  const right = edge.node.assignment.tags.find((x) => x.name === 'Hash-Chain').value
  setTag(edge, 'Hash-Chain', id('another chain'))
  const { unit } = await around(t, net)
  const refused = await unit.result(ids[3], pid)
  assert.equal(refused.status, 422)
  assert.deepEqual(refused.json, { error: `HashChain invalid on message ${ids[3]}` })
  assert.equal((await unit.result(ids[4], pid)).status, 422)
  assert.equal(output(await unit.result(ids[2], pid)), '2')
  assert.equal(output(await unit.result(ids[1], pid)), '1')
  setTag(edge, 'Hash-Chain', right)
  assert.deepEqual(counts([await unit.result(ids[4], pid), await unit.result(ids[3], pid)]), ['4', '3'])
})

test('the chain of an old process (block under 1,440,000) is not checked', async (t) => {
  const net = new Network()
  net.clock.block_height = 1_400_000
  const { pid, ids } = counting(3, { net })
  setTag(net.processes[pid].edges[2], 'Hash-Chain', id('another chain'))
  const { unit } = await around(t, net)
  assert.equal(output(await unit.result(ids[3], pid)), '3')
})

test('a full last page that says more follow ends, and pages of any size give every message once', async (t) => {
  for (const size of ['11', '5', '2']) {
    const { net, pid, ids } = counting(10, { label: `pages of ${size}` })
    const { upstream, unit } = await around(t, net, { env: { LOAD_MESSAGES_PAGE_SIZE: size } })
    assert.equal(output(await unit.result(ids[10], pid)), '10', `pages of ${size}`)
    assert.equal((await unit.state(pid)).status, 200)
    assert.ok(upstream.requests.length < 60, `${upstream.requests.length} requests`)
  }
})

test('a page size of 1 is never asked from the start, where the scheduler would say that nothing follows', async (t) => {
  const { net, pid, ids } = counting(4)
  const { upstream, unit } = await around(t, net, { env: { LOAD_MESSAGES_PAGE_SIZE: '1' } })
  assert.equal(output(await unit.result(ids[4], pid)), '4')
  const fromStart = (r) => r.query.get('limit') === '1' && [null, '-1'].includes(r.query.get('from-nonce')) && r.query.get('from') === null
  assert.equal(upstream.count('su', fromStart), 0)
})

for (const noncePaging of [true, false]) {
  test(`messages that share a millisecond are all evaluated, across pages too (${noncePaging ? 'nonce' : 'timestamp'} paging)`, async (t) => {
    const net = new Network()
    const { pid, ids } = counting(2, { net })
    for (let i = 0; i < 4; i++) ids.push(net.message(pid, { Action: 'Increment' }, { sameTime: i > 0 }))
    ids.push(net.message(pid, { Action: 'Increment' }))
    const { unit } = await around(t, net, { quirks: { noncePaging }, env: { LOAD_MESSAGES_PAGE_SIZE: '5' } })
    assert.equal(output(await unit.result(ids[4], pid)), '4', 'its own result, not that of the last message of that millisecond')
    assert.deepEqual(counts([await unit.result(ids[7], pid), await unit.result(ids[6], pid), await unit.result(ids[3], pid)]), ['7', '6', '3'])
  })
}

test("another process's message is not evaluated for this one, though the scheduler ignores process-id", async (t) => {
  const { net, pid: a, ids } = counting(2)
  const { pid: b } = counting(0, { net, label: 'other' })
  const { unit } = await around(t, net)
  assert.equal(output(await unit.result(ids[2], a)), '2')
  const crossed = await unit.result(ids[2], b)
  assert.ok(crossed.status >= 400 && crossed.json.error, `${crossed.status} ${crossed.body}`)
  assert.deepEqual((await unit.results(b)).json.edges.filter((e) => e.node.Output?.data), [], 'and left no row there')
})

test('an unknown message is an error in under two seconds, in JSON', async (t) => {
  const { net, pid } = counting(1)
  const { unit } = await around(t, net)
  const begun = Date.now()
  const unknown = await unit.result(id('nobody sent this'), pid)
  assert.ok(unknown.status >= 400 && typeof unknown.json.error === 'string', `${unknown.status} ${unknown.body}`)
  const nobody = await unit.result(id('nobody sent this'), id('no such process'))
  assert.ok(nobody.status >= 400 && typeof nobody.json.error === 'string', `${nobody.status} ${nobody.body}`)
  assert.ok(Date.now() - begun < 4000, `${Date.now() - begun} ms for two`)
  assert.equal((await unit.results(id('no such process'))).status, 200)
})

test('an id that stops resolving is answered still: from what is stored, or by looking through the schedule', async (t) => {
  const { net, pid, ids } = counting(5)
  const lostIds = new Set()
  const { unit } = await around(t, net, { quirks: { lostIds } })
  const known = await unit.result(ids[2], pid)
  for (const m of ids) lostIds.add(m)
  assert.deepEqual((await unit.result(ids[2], pid)).json, known.json, 'evaluated before')
  assert.equal(output(await unit.result(ids[5], pid)), '5', 'not seen before')
  assert.equal(output(await unit.result(ids[4], pid)), '4')
})

test('a process the gateway does not know for the first second is answered', async (t) => {
  const { net, pid, ids } = counting(1)
  const end = Date.now() + 1000
  const hidden = (i) => i === pid && Date.now() < end
  const { unit } = await around(t, net, { quirks: { hidden } })
  const boot = await unit.result(pid, pid, { 'no-busy': '1' })
  assert.equal(boot.status, 200, boot.body.toString())
  assert.deepEqual(boot.json, { Messages: [], Assignments: [], Spawns: [], Output: { data: '' }, GasUsed: 0 })
  assert.equal(output(await unit.result(ids[1], pid)), '1')
})

test('a process without messages is dry-run, though the scheduler has no latest message', async (t) => {
  const { net, pid } = counting(0)
  const { unit } = await around(t, net)
  assert.equal(output(await unit.dryRun(pid, { Owner: owner, Tags: [{ name: 'Action', value: 'Get' }] })), '0')
})

test('a dry run leaves no trace, and every one sees the latest state', async (t) => {
  const { net, pid, ids } = counting(2)
  const { unit } = await around(t, net, { env: { DRY_RUN_RESULT_MAX_AGE: '0' } })
  const run = (Action) => unit.dryRun(pid, { Owner: owner, Tags: [{ name: 'Action', value: Action }] })
  assert.deepEqual(counts([await run('Increment'), await run('Increment'), await run('Get')]), ['3', '3', '2'])
  assert.equal(output(await unit.result(ids[2], pid)), '2')
  const { json } = await unit.results(pid)
  assert.equal(json.edges.length, 3)
})

test('results keep the types the messenger insists on', async (t) => {
  const net = new Network()
  const pid = net.process('probe', net.module('probe', wasm('probe')))
  const of = (Action) => net.message(pid, { Action })
  const actions = ['Count', 'Error', 'Throw', 'Trap', 'WrongTypes', 'Unmarked', 'NotJson', 'Echo']
  const ids = actions.map(of)
  const { unit } = await around(t, net, { env: { BUSY_THRESHOLD: '1' } })
  for (const [i, mid] of ids.entries()) {
    const got = await unit.result(mid, pid, { 'no-busy': '1' })
    assert.equal(got.status, 200, `${actions[i]}: never 202 with no-busy`)
    for (const list of ['Messages', 'Assignments', 'Spawns']) assert.ok(Array.isArray(got.json[list]), `${actions[i]}: ${list} is ${JSON.stringify(got.json[list])}`)
    assert.ok(['number', 'undefined'].includes(typeof got.json.GasUsed), `${actions[i]}: GasUsed is ${JSON.stringify(got.json.GasUsed)}`)
    assert.notEqual(typeof got.json.Output, 'number', `${actions[i]}: a number becomes text`)
  }
})

test('a busy unit says 202 at once, goes on evaluating, and never says 202 to no-busy', async (t) => {
  const net = new Network()
  const pid = net.process('miner', net.module('miner', wasm('miner')))
  const header = 'ab'.repeat(76)
  const ids = Array.from({ length: 4 }, (_, i) => net.message(pid, { Action: 'Mine', Header: header, First: String(i), Count: '400000' }))
  const { unit } = await around(t, net, { env: { BUSY_THRESHOLD: '20' } })
  const busy = await unit.result(ids[3], pid)
  assert.equal(busy.status, 202)
  assert.deepEqual(busy.json, { message: `Evaluation of process "${pid}" to "${ids[3]}" is in progress.` })
  const done = await unit.result(ids[3], pid, { 'no-busy': '1' })
  assert.equal(done.status, 200)
  assert.match(output(done), /^\d+ [0-9a-f]{64}$/)
})

test('messages are given to the guest with exactly the keys, order and types of the contract', async (t) => {
  const net = new Network()
  const pid = net.process('probe', net.module('probe', wasm('probe')))
  const plain = net.message(pid, { Action: 'Echo', From: 'dropped', Owner: 'dropped', Kept: 'é"\\' }, { data: 'dä"ta' })
  const pushed = net.message(pid, { Action: 'Echo' }, { from: id('another process'), signer: authority, exactly: { anchor: null } })
  const environment = net.message(pid, { Action: 'Environment' })
  const { unit } = await around(t, net)
  const seen = async (mid) => (await unit.result(mid, pid)).json.Output
  const node = net.processes[pid].edges[1].node
  const chain = (n) => net.processes[pid].edges[n].node.assignment.tags.find((x) => x.name === 'Hash-Chain').value
  const time = (n) => +net.processes[pid].edges[n].node.assignment.tags.find((x) => x.name === 'Timestamp').value
  const height = (n) => +net.processes[pid].edges[n].node.assignment.tags.find((x) => x.name === 'Block-Height').value
  assert.equal(await seen(plain), JSON.stringify({
    Id: plain, Signature: `sig-${plain}`, Data: 'dä"ta', Owner: owner, Target: pid, Anchor: node.message.anchor, From: owner,
    Tags: node.message.tags.filter((x) => !['From', 'Owner'].includes(x.name)),
    Epoch: 0, Nonce: 1, Timestamp: time(1), 'Block-Height': height(1), 'Hash-Chain': chain(1), Cron: false, 'Read-Only': false
  }))
  const second = net.processes[pid].edges[2].node.message
  assert.equal(await seen(pushed), JSON.stringify({
    Id: pushed, Signature: `sig-${pushed}`, Data: '', Owner: authority, Target: pid, Anchor: null, From: id('another process'), 'Forwarded-By': authority,
    Tags: second.tags, Epoch: 0, Nonce: 2, Timestamp: time(2), 'Block-Height': height(2), 'Hash-Chain': chain(2), Cron: false, 'Read-Only': false
  }))
  const module = id('module probe')
  assert.equal(await seen(environment), JSON.stringify({
    Process: { Id: pid, Owner: owner, Tags: net.processes[pid].process.tags },
    Module: { Id: module, Owner: owner, Tags: net.transactions[module].tags }
  }))
})

test('the unit stops in order while requests run', async (t) => {
  const { net, pid, ids } = counting(50)
  const { unit } = await around(t, net)
  const pending = Promise.allSettled(ids.map((m) => unit.result(m, pid)))
  await sleep(30)
  assert.equal((await unit.stop('SIGTERM', 30)).code, 0)
  await pending
})
