// Every status and error shape of the unit's HTTP interface, over the wire. Clients parse errors as JSON without looking at the
// status first, so a body that is not JSON breaks them.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Network, serveNetwork } from '../lib/network.mjs'
import { id, owner } from '../lib/messages.mjs'
import { serveUnit } from '../lib/unit.mjs'
import { counting, evaluations, output, wasm } from '../faults/lib.mjs'

const stops = []
const scope = { after: (f) => stops.push(f) }
let upstream, unit, net, pid, ids
const around = async (t, network, options) => {
  const up = await serveNetwork(network)
  t.after(up.close)
  return serveUnit(t, up, options)
}
const isError = (answer, status, text) => {
  assert.ok([status].flat().includes(answer.status), `${answer.status}, expected ${status}: ${answer.body}`)
  assert.match(answer.type, /^application\/json; charset=utf-8$/i)
  assert.deepEqual(Object.keys(answer.json), ['error'], answer.body.toString())
  if (text instanceof RegExp) assert.match(answer.json.error, text)
  else if (text) assert.equal(answer.json.error, text)
}
/** What the reference answers 500 for input that cannot mean anything; 400 says better whose fault it is. */
const invalid = [400, 500]

before(async () => {
  ({ net, pid, ids } = counting(3))
  upstream = await serveNetwork(net)
  unit = await serveUnit(scope, upstream)
  assert.equal(output(await unit.result(ids[3], pid)), '3')
})
after(async () => { for (const stop of stops) await stop(); upstream.close() })

test('GET / names the unit and the time', async () => {
  const { status, type, json } = await unit.request('/')
  assert.equal(status, 200)
  assert.equal(type, 'application/json; charset=utf-8')
  assert.deepEqual(Object.keys(json), ['address', 'timestamp'])
  assert.ok(Math.abs(json.timestamp - Date.now()) < 60_000 && /^[\w-]{43}$/.test(json.address), JSON.stringify(json))
})

test('GET /status is fast JSON for operators', async () => {
  const { status, json } = await unit.request('/status')
  assert.equal(status, 200)
  assert.equal(typeof json, 'object')
  assert.equal(typeof json.version, 'string')
})

test('GET /openapi.json and /docs describe every route', async () => {
  const { status, json } = await unit.request('/openapi.json')
  assert.equal(status, 200)
  assert.match(json.openapi, /^3\./)
  const paths = Object.keys(json.paths).join(' ')
  for (const route of ['/result/', '/results/', '/cron/', '/state/', '/dry-run', '/metrics', '/status']) assert.ok(paths.includes(route), `${route} in ${paths}`)
  const docs = await unit.request('/docs')
  assert.equal(docs.status, 200)
  assert.match(docs.type, /^text\/html/)
})

test('GET /metrics is OpenMetrics text', async () => {
  const { status, type, body } = await unit.request('/metrics')
  assert.equal(status, 200)
  assert.match(type, /openmetrics-text/)
  assert.match(body.toString(), /^ao_cu_/m)
  assert.match(body.toString(), /^lockstep_/m)
  assert.match(body.toString(), /# EOF\n?$/)
})

test('200: a result has its keys in order, arrays always, GasUsed a number', async () => {
  const { status, type, body } = await unit.result(ids[1], pid)
  assert.equal(status, 200)
  assert.equal(type, 'application/json; charset=utf-8')
  assert.equal(body.toString(), '{"Messages":[],"Assignments":[],"Spawns":[],"Output":{"data":"1"},"GasUsed":0}')
})

test('200: /results pages have pageInfo first, cursors of the reference\'s form, no GasUsed', async () => {
  const { json, body } = await unit.results(pid, { limit: '2' })
  assert.match(body.toString(), /^{"pageInfo":{"hasNextPage":true},"edges":\[{"node":{"Messages":\[\],"Assignments":\[\],"Spawns":\[\],"Output":/)
  assert.deepEqual(Object.keys(json.edges[0]), ['node', 'cursor'])
  assert.ok(!('GasUsed' in json.edges[1].node))
  const cursor = Buffer.from(json.edges[1].cursor, 'base64').toString()
  const time = net.processes[pid].edges[1].cursor
  assert.equal(cursor, `{"timestamp":${time},"ordinate":"1","cron":null,"sort":"ASC"}`)
  assert.equal(json.edges[1].cursor, Buffer.from(cursor).toString('base64'), 'standard, padded')
})

test('200: /results bounds: a cursor from is exclusive, a bare one inclusive, to inclusive, the cursor\'s sort wins', async () => {
  const data = async (more) => (await unit.results(pid, more)).json.edges.map(output_)
  const output_ = (e) => e.node.Output.data
  const all = (await unit.results(pid)).json.edges
  const time = (n) => JSON.parse(Buffer.from(all[n].cursor, 'base64')).timestamp
  assert.deepEqual(await data({ from: all[1].cursor }), ['2', '3'])
  assert.deepEqual(await data({ from: String(time(1)) }), ['1', '2', '3'])
  assert.deepEqual(await data({ to: all[1].cursor }), ['', '1'])
  assert.deepEqual(await data({ to: String(time(1)) }), ['', '1'])
  assert.deepEqual(await data({ sort: 'DESC', limit: '2' }), ['3', '2'])
  const descending = (await unit.results(pid, { sort: 'DESC', limit: '2' })).json.edges[1].cursor
  assert.deepEqual(await data({ from: descending }), ['3'], 'still a lower bound')
  assert.deepEqual(await data({ from: descending, sort: 'ASC' }), ['3'])
})

test('200: /state is the whole memory with where it stands', async () => {
  const { status, type, body, headers } = await unit.state(pid)
  assert.equal(status, 200)
  assert.equal(type, 'application/octet-stream')
  assert.equal(body.length, 131072)
  assert.equal(headers.get('last-timestamp'), net.processes[pid].edges[3].cursor)
  assert.equal(headers.get('last-ordinate'), '3')
  assert.match(headers.get('last-block-height'), /^\d+$/)
})

test('200: /cron of a process without crons is an empty page; /results of an unknown process too', async () => {
  assert.deepEqual((await unit.cron(pid)).json, { pageInfo: { hasNextPage: false }, edges: [] })
  assert.deepEqual((await unit.results(id('nobody'))).json, { pageInfo: { hasNextPage: false }, edges: [] })
})

test('HEAD mirrors GET, cross-origin readers are let in, nothing is cached', async () => {
  const at = `/result/${ids[1]}?process-id=${pid}`
  const get = await unit.request(at)
  const head = await unit.request(at, { method: 'HEAD' })
  assert.equal(head.status, 200)
  assert.equal(head.body.length, 0)
  assert.equal(get.headers.get('access-control-allow-origin'), '*')
  assert.equal(get.headers.get('etag'), null)
  const preflight = await unit.request('/dry-run', { method: 'OPTIONS', headers: { origin: 'http://somewhere', 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type,x-max-age' } })
  assert.equal(preflight.status, 204)
  assert.match(preflight.headers.get('access-control-allow-methods'), /POST/)
  assert.match(preflight.headers.get('access-control-allow-headers'), /x-max-age/i)
})

test('400: input that cannot mean anything names the field', async () => {
  isError(await unit.request(`/result/${ids[1]}`), invalid, /process-?id/i)
  isError(await unit.request(`/result/${ids[1]}?process-id=${pid}&process-id=${pid}`), invalid, /process-?id/i)
  isError(await unit.results(pid, { limit: 'abc' }), invalid, /limit/)
  isError(await unit.results(pid, { limit: '2.5' }), invalid)
  isError(await unit.results(pid, { limit: '99999999999999999999' }), invalid, /limit/)
  isError(await unit.results(pid, { sort: 'UP' }), invalid, /sort/)
  isError(await unit.results(pid, { from: 'soon' }), invalid, /from/)
  isError(await unit.cron(pid, { limit: '1001' }), invalid, /limit/)
  isError(await unit.state(pid, { to: 'soon' }), invalid, /to/)
  for (const body of [{}, { Owner: owner }, { Tags: [] }, { Owner: owner, Tags: 'none' }, { Owner: owner, Tags: [{ name: 'a' }] }, { Owner: null, Tags: [] }, []]) isError(await unit.dryRun(pid, body), invalid)
  isError(await unit.request('/dry-run', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ Owner: owner, Tags: [] }) }), invalid, /process-?id/i)
})

test('400, 413, 415, 404: what no handler saw has statusCode, error and message', async () => {
  const post = (body, type) => unit.request(`/dry-run?process-id=${pid}`, { method: 'POST', headers: type ? { 'content-type': type } : {}, body })
  const cases = [
    [await unit.request('/no/such/route'), 404, 'Not Found', 'Route GET:/no/such/route not found'],
    [await unit.request(`/result/${ids[1]}`, { method: 'DELETE' }), 404, 'Not Found', `Route DELETE:/result/${ids[1]} not found`],
    [await post('{"Owner":', 'application/json'), 400, 'Bad Request'],
    [await post('', 'application/json'), 400, 'Bad Request'],
    [await post(JSON.stringify({ Data: 'x'.repeat(1 << 20), Owner: owner, Tags: [] }), 'application/json'), 413, 'Payload Too Large'],
    [await post('<x/>', 'application/xml'), 415, 'Unsupported Media Type'],
    [await unit.request('/result/%zz?process-id=x'), 400, 'Bad Request']
  ]
  for (const [got, status, error, message] of cases) {
    assert.equal(got.status, status, got.body.toString())
    assert.equal(got.json?.statusCode, status, got.body.toString())
    if (message) assert.equal(got.json.message, message)
    assert.equal(got.json.error, error, got.body.toString())
    assert.equal(typeof got.json.message, 'string')
  }
})

test('an id of over 100 characters is no route', async () => {
  const got = await unit.request(`/results/${'x'.repeat(101)}`)
  assert.ok(got.status === 404 || got.status === 414 || got.status === 400, `${got.status}`)
  assert.equal(typeof got.json, 'object')
})

test('403: restricted, not allowed, owner not allowed', async (t) => {
  const restricted = await around(t, net, { env: { RESTRICT_PROCESSES: pid } })
  for (const got of [await restricted.result(ids[1], pid), await restricted.results(pid), await restricted.state(pid), await restricted.cron(pid), await restricted.dryRun(pid, { Owner: owner, Tags: [] })]) isError(got, 403, `Access denied for process ${pid}`)
  const allowing = await around(t, net, { env: { ALLOW_PROCESSES: id('another') } })
  isError(await allowing.result(ids[1], pid), 403, `Access denied for process ${pid}`)
  assert.equal((await allowing.request(`/result/${ids[1]}`)).status, 403, 'an allow list refuses a missing id')
  const owners = await around(t, net, { env: { ALLOW_OWNERS: id('someone') } })
  isError(await owners.result(ids[1], pid), 403, `Access denied for process owner ${owner}`)
})

test('404: in ru mode only dry runs are there', async (t) => {
  const ru = await around(t, net, { env: { UNIT_MODE: 'ru' } })
  for (const got of [await ru.result(ids[1], pid), await ru.results(pid), await ru.state(pid), await ru.cron(pid)]) {
    assert.equal(got.status, 404)
    assert.equal(got.body.toString(), 'Not Found')
  }
  assert.equal(output(await ru.dryRun(pid, { Owner: owner, Tags: [{ name: 'Action', value: 'Get' }] })), '3')
  assert.equal((await ru.request('/')).status, 200)
})

test('404: an assigned transaction that the gateway does not have', async (t) => {
  const other = new Network()
  const p = other.process('probe', other.module('probe', wasm('probe')))
  const assigned = other.assign(p, id('not there'))
  isError(await (await around(t, other)).result(assigned, p), 404)
})

const limits = [
  [413, { 'Memory-Limit': [] }, {}, (p) => `Memory-Limit for process "${p}" exceeds supported limit`],
  [413, { 'Memory-Limit': '2-gb' }, {}, (p) => `Memory-Limit for process "${p}" exceeds supported limit`],
  [413, {}, { 'Memory-Limit': '5-gb' }, (p) => `Memory-Limit for process "${p}" exceeds supported limit`],
  [413, { 'Compute-Limit': [] }, {}, (p) => `Compute-Limit for process "${p}" exceeds supported limit`],
  [413, {}, { 'Compute-Limit': '99000000000000' }, (p) => `Compute-Limit for process "${p}" exceeds supported limit`],
  [422, { 'Module-Format': 'wasm128' }, {}, (p, m) => `Module-Format for module "${m}" is not supported`],
  [422, { 'Input-Encoding': [] }, {}, (p, m) => `Input-Encoding for module "${m}" is not supported`],
  [422, { 'Output-Encoding': [] }, {}, (p, m) => `Output-Encoding for module "${m}" is not supported`],
  [422, { Extension: 'Telepathy' }, {}, (p, m) => `Module Extensions for module "${m}" are not supported`]
]
for (const [status, moduleTags, processTags, text] of limits) {
  test(`${status}: module ${JSON.stringify(moduleTags)}, process ${JSON.stringify(processTags)}`, async (t) => {
    const other = new Network()
    const m = other.module('limited', wasm('counter'), undefined, moduleTags)
    const p = other.process('limited', m, processTags)
    isError(await (await around(t, other)).result(p, p), status, text(p, m))
  })
}

test('425: a state before the one that is known', async (t) => {
  const one = counting(5)
  const fresh = await around(t, one.net)
  assert.equal(output(await fresh.result(one.ids[5], one.pid)), '5')
  isError(await fresh.state(one.pid, { to: one.net.processes[one.pid].edges[2].cursor }), 425, /^message at timestamp \d+ not found cached, and earlier than latest known/)
})

test('429: too many dry runs of one client; those answered from the cache do not count', async (t) => {
  const limited = await around(t, net, { env: { RATE_LIMIT_MAX_REQUESTS: '2' } })
  const run = (n, client = '10.0.0.1') => limited.request(`/dry-run?process-id=${pid}`, { method: 'POST', headers: { 'content-type': 'application/json', 'x-forwarded-for': client }, body: JSON.stringify({ Owner: owner, Data: String(n), Tags: [{ name: 'Action', value: 'Get' }] }) })
  for (const n of [1, 1, 1, 2]) assert.equal((await run(n)).status, 200)
  isError(await run(3), 429, 'Rate limit exceeded')
  assert.equal((await run(3, '10.0.0.2')).status, 200, 'another client')
})

test('503: behind more messages than the hydration limit; the first request is answered in the end', async (t) => {
  const slow = new Network()
  const p = slow.process('miner', slow.module('miner', wasm('miner')))
  const mids = Array.from({ length: 12 }, (_, i) => slow.message(p, { Action: 'Mine', Header: 'ab'.repeat(76), First: String(i), Count: '1500000' }))
  const busy = await around(t, slow, { env: { HYDRATION_MODE_NONCE_LIMIT: '3' } })
  const first = busy.result(mids[11], p)
  while ((await evaluations(busy)) < 2) await sleep(10)
  const refused = await busy.result(mids[10], p)
  isError(refused, 503, new RegExp(`^Nonce limit exceeded: process ${p} is currently hydrating with >3 nonces remaining \\(\\d+ remaining\\)\\. Please try again later\\.$`))
  assert.equal((await first).status, 200)
})

test('500: a scheduler\'s refusal is passed on with its words', async () => {
  const got = await unit.result(id('never sent'), pid)
  isError(got, [404, 500], /./)
  assert.match(got.json.error, /Message or Process not found|not found/i)
})
