// A scheduler or a gateway that fails, lies or floods: a clear error naming what failed, in bounded time and memory, the last
// good state intact, other processes unaffected, and everything well again once the upstream is.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { answer, closes, hangs, serveNetwork } from '../lib/network.mjs'
import { id } from '../lib/messages.mjs'
import { run, serveUnit, temporary } from '../lib/unit.mjs'
import { counting, output } from './lib.mjs'

const isPage = (role, url, pid) => role === 'su' && url.pathname === `/${pid}`
const mib = 1 << 20
const megabytes = (n, byte) => (function * () { for (let i = 0; i < n; i++) yield Buffer.alloc(mib, byte) })()
const withPage = (change) => (usual) => { const got = usual(); const page = JSON.parse(got.body); change(page); return answer.json(page) }
const assignmentTag = (edge, name) => edge.node.assignment.tags.find((t) => t.name === name)

let sameFor
/** What the page (or a gateway answer) of process `bad` becomes, by the fault's name. */
const pages = {
  'hangs': () => hangs,
  'closes the connection': () => closes,
  'answers 500': () => answer.json({ error: 'out of order' }, 500),
  'answers HTML': () => ({ status: 200, type: 'text/html', body: '<html>not a scheduler</html>' }),
  'answers nothing': () => ({ status: 200, type: 'application/json', body: '' }),
  'answers half a page': (usual) => { const got = usual(); return { ...got, body: got.body.slice(0, got.body.length / 2) } },
  'answers 100 MB of JSON': () => ({ status: 200, type: 'application/json', stream: (function * () { yield '{"page_info":{"has_next_page":false},"edges":["'; yield * megabytes(100, 'x'); yield '"]}' })() }),
  'answers 100 MB of garbage': () => ({ status: 200, type: 'application/json', stream: megabytes(100, 0) }),
  'answers deeply nested JSON': () => ({ status: 200, type: 'application/json', body: '['.repeat(5_000_000) }),
  'answers invalid UTF-8': (usual) => { const got = usual(); return { ...got, body: Buffer.concat([Buffer.from(got.body.slice(0, 300)), Buffer.from([0xff, 0xfe, 0xc3, 0x28]), Buffer.from(got.body.slice(300))]) } },
  'answers another shape': () => answer.json({ page_info: 'yes', edges: { 0: 1 } }),
  'answers null': () => answer.json(null),
  'gives an edge without assignment': withPage((p) => { delete p.edges.at(-1).node.assignment }),
  'gives a nonce that is no number': withPage((p) => { assignmentTag(p.edges.at(-1), 'Nonce').value = 'three' }),
  'gives a timestamp that is no number': withPage((p) => { assignmentTag(p.edges.at(-1), 'Timestamp').value = '' }),
  'gives tags that are no list': withPage((p) => { p.edges.at(-1).node.message.tags = 'Action' }),
  'gives a tag value that is no text': withPage((p) => { p.edges.at(-1).node.message.tags[0].value = 7 }),
  'leaves out a message': withPage((p) => { p.edges.splice(1, 1) }),
  'gives the same page for ever': (usual) => { sameFor ??= withPage((p) => { p.page_info.has_next_page = true; p.edges.length = 2 })(usual); return sameFor }
}

for (const [fault, change] of Object.entries(pages)) {
  test(`a scheduler that ${fault}: an error in time, earlier results and other processes unhurt, well again after`, { timeout: 120_000 }, async (t) => {
    const { net, pid: bad, ids } = counting(1, { label: 'bad' })
    const { pid: good, ids: goodIds } = counting(2, { net, label: 'good' })
    const upstream = await serveNetwork(net)
    t.after(upstream.close)
    const unit = await serveUnit(t, upstream, { env: { LOCKSTEP_UPSTREAM_TIMEOUT: '1s' } })
    assert.equal(output(await unit.result(ids[1], bad)), '1')
    for (let i = 0; i < 3; i++) ids.push(net.message(bad, { Action: 'Increment' }))
    upstream.intercept = ({ role, url, usual }) => (isPage(role, url, bad) ? change(usual) : undefined)

    const begun = Date.now()
    const failed = await unit.result(ids[4], bad)
    const took = Date.now() - begun
    assert.ok(failed.status >= 400 && failed.status < 600, `${failed.status} ${failed.body.subarray(0, 300)}`)
    assert.ok(failed.json && typeof failed.json.error === 'string' && failed.json.error.length > 10, failed.body.toString())
    assert.ok(took < 30_000, `${took} ms`)
    assert.equal(output(await unit.result(ids[1], bad)), '1', 'what was evaluated is still answered')
    assert.equal(output(await unit.result(goodIds[2], good)), '2', 'another process')

    upstream.intercept = null
    assert.equal(output(await unit.result(ids[4], bad)), '4', 'well again')
    assert.deepEqual((await unit.results(bad, { limit: '100' })).json.edges.map((e) => e.node.Output.data), ['', '1', '2', '3', '4'])
    const rss = +/VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${unit.child.pid}/status`, 'utf8'))[1]
    assert.ok(rss < 600_000, `peak memory ${rss} kB`)
  })
}

test('a scheduler that repeats messages has each evaluated once', async (t) => {
  const { net, pid, ids } = counting(4)
  const upstream = await serveNetwork(net)
  t.after(upstream.close)
  const unit = await serveUnit(t, upstream)
  upstream.intercept = ({ role, url, usual }) => (isPage(role, url, pid) ? withPage((p) => { p.edges = p.edges.flatMap((e) => [e, e]) })(usual) : undefined)
  const got = await unit.result(ids[4], pid)
  assert.ok(output(got) === '4' || got.status >= 400, `${got.status} ${got.body}`)
  upstream.intercept = null
  assert.equal(output(await unit.result(ids[4], pid)), '4')
})

const gateways = {
  'hangs': () => hangs,
  'closes the connection': () => closes,
  'answers 500': () => answer.json({ errors: [{ message: 'out of order' }] }, 500),
  'answers HTML': () => ({ status: 200, type: 'text/html', body: '<html>' }),
  'answers 100 MB': () => ({ status: 200, type: 'application/json', stream: megabytes(100, 'x') }),
  'answers GraphQL errors': () => answer.json({ errors: [{ message: 'no such field' }], data: null }),
  'answers another shape': () => answer.json({ data: { transactions: { edges: [{ node: 5 }] } } })
}
for (const [fault, change] of Object.entries(gateways)) {
  test(`a gateway that ${fault} to GraphQL: an error in time, processes already known unhurt, well again after`, { timeout: 120_000 }, async (t) => {
    const { net, pid: known, ids: knownIds } = counting(2, { label: 'known' })
    const { pid: fresh, ids } = counting(1, { net, label: 'fresh' })
    net.processes[fresh].edges.length = 2
    const upstream = await serveNetwork(net)
    t.after(upstream.close)
    const unit = await serveUnit(t, upstream, { env: { LOCKSTEP_UPSTREAM_TIMEOUT: '1s' } })
    assert.equal(output(await unit.result(knownIds[1], known)), '1')
    // a process of a module not seen before, so that the gateway is needed
    const other = net.module('another counter', Buffer.from(net.data[id('module counter')]()))
    for (const place of [net.processes[fresh].process.tags, net.processes[fresh].edges[0].node.message.tags, net.transactions[fresh].tags]) place.find((x) => x.name === 'Module').value = other
    upstream.intercept = ({ role, url }) => (role === 'gateway' && url.pathname === '/graphql' ? change() : undefined)
    const begun = Date.now()
    const failed = await unit.result(ids[1], fresh)
    assert.ok(failed.status >= 400 && typeof failed.json?.error === 'string', `${failed.status} ${failed.body.subarray(0, 300)}`)
    assert.ok(Date.now() - begun < 30_000, `${Date.now() - begun} ms`)
    assert.equal(output(await unit.result(knownIds[2], known)), '2', 'a process already known')
    upstream.intercept = null
    assert.equal(output(await unit.result(ids[1], fresh)), '1', 'well again')
  })
}

test('a data directory that cannot be written ends the unit at once, naming it', async (t) => {
  const file = path.join(temporary(t), 'a-file')
  fs.writeFileSync(file, 'not a directory')
  for (const data of [file, path.join(file, 'below')]) {
    const done = await run(['serve', '--listen', '127.0.0.1:0', '--su-url', 'http://127.0.0.1:9', '--gateway-url', 'http://127.0.0.1:9', '--data', data], { seconds: 20 })
    assert.notEqual(done.code, 0)
    assert.ok((done.err + done.out).includes(data), `names ${data}: ${done.err}`)
    assert.ok(!/panicked/.test(done.err), done.err)
  }
})

test('nothing upstream answers: an error, in JSON, in bounded time', async (t) => {
  const unit = await serveUnit(t, { suUrl: 'http://127.0.0.1:9', gatewayUrl: 'http://127.0.0.1:9' })
  const begun = Date.now()
  for (const at of [`/result/${id('m')}?process-id=${id('p')}`, `/state/${id('p')}`, `/cron/${id('p')}`]) {
    const got = await unit.request(at)
    assert.ok(got.status >= 400 && typeof got.json?.error === 'string', `${at}: ${got.status} ${got.body}`)
  }
  assert.ok(Date.now() - begun < 60_000)
})
