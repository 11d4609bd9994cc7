// Starts the release binary: a compute unit, the development network, or a one-shot command. Loopback only, bounded in time.
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { execFile, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { lockstep } from './paths.mjs'

/** A port of 127.0.0.1 that is free now, the first of `count` in a row. */
export async function freePort (count = 1) {
  const free = (port) => new Promise((resolve) => {
    const s = net.createServer()
    s.once('error', () => resolve(null))
    s.listen(port, '127.0.0.1', () => { const got = s.address().port; s.close(() => resolve(got)) })
  })
  for (let tries = 0; tries < 50; tries++) {
    const first = await free(0)
    if (first + count > 65535) continue
    const rest = await Promise.all(Array.from({ length: count - 1 }, (_, i) => free(first + 1 + i)))
    if (rest.every(Boolean)) return first
  }
  throw new Error(`no ${count} free ports in a row`)
}

export const temporary = (t, label = 'data') => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), `lockstep-${label}-`))
  t?.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** A long-lived command of the binary. `ready` is polled, with what was printed so far, until it answers something true. */
async function start (args, env, ready, { seconds = 30 } = {}) {
  const child = spawn(lockstep, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const log = []
  for (const out of [child.stdout, child.stderr]) out.setEncoding('utf8').on('data', (d) => { log.push(d); if (log.length > 5000) log.splice(0, 1000) })
  let ended = null
  child.on('exit', (code, signal) => { ended = { code, signal } })
  child.on('error', (e) => { ended = { code: String(e) } })
  const running = {
    child,
    log: () => log.join(''),
    ended: () => ended,
    stop: async (signal = 'SIGTERM', seconds = 20) => {
      if (!ended) child.kill(signal)
      for (let i = 0; i < seconds * 20 && !ended; i++) await sleep(50)
      if (!ended) { child.kill('SIGKILL'); throw new Error(`${args[0]} did not end within ${seconds} s of ${signal}\n${log.join('').slice(-2000)}`) }
      return ended
    }
  }
  const end = Date.now() + seconds * 1000
  while (!(await ready(log.join('')).catch(() => false))) {
    if (ended || Date.now() > end) { if (!ended) child.kill('SIGKILL'); throw new Error(`lockstep ${args.join(' ')}: ${ended ? `ended with ${JSON.stringify(ended)}` : `not ready in ${seconds} s`}\n${log.join('').slice(-3000)}`) }
    await sleep(50)
  }
  return running
}

/**
 * `lockstep serve` against an upstream of lib/network.mjs (or any `{suUrl, gatewayUrl}`). Stops with the test `t`.
 * `env` are settings by their environment names, `args` more flags, `port` where others expect it.
 */
export async function serveUnit (t, { suUrl, gatewayUrl }, { data, port, env = {}, args = [], seconds } = {}) {
  port ??= await freePort()
  const url = `http://127.0.0.1:${port}`
  data ??= temporary(t)
  const unit = await start(['serve', '--listen', `127.0.0.1:${port}`, '--su-url', suUrl, '--gateway-url', gatewayUrl, '--graphql-url', `${gatewayUrl}/graphql`, '--data', data, ...args],
    { HYDRATION_MODE_NONCE_LIMIT: '0', RATE_LIMIT_MAX_REQUESTS: '0', ENABLE_METRICS_ENDPOINT: '1', RUST_LOG: 'info', ...env },
    async () => (await fetch(`${url}/status`)).ok, { seconds })
  Object.assign(unit, { url, data })
  t?.after(() => unit.stop().catch(() => {}))
  return Object.assign(unit, client(url))
}

/** The requests a unit answers; each gives `{status, type, headers, body, json}`. */
export function client (url) {
  const request = async (at, init = {}) => {
    const res = await fetch(url + at, { signal: AbortSignal.timeout(init.timeout ?? 60_000), ...init })
    const body = Buffer.from(await res.arrayBuffer())
    let json
    try { json = JSON.parse(body.toString()) } catch { /* not JSON */ }
    return { status: res.status, type: res.headers.get('content-type'), headers: res.headers, body, json }
  }
  const query = (pairs) => { const q = new URLSearchParams(pairs).toString(); return q && `?${q}` }
  return {
    request,
    result: (mid, pid, more = {}) => request(`/result/${mid}${query({ 'process-id': pid, ...more })}`),
    results: (pid, more = {}) => request(`/results/${pid}${query(more)}`),
    cron: (pid, more = {}) => request(`/cron/${pid}${query(more)}`),
    state: (pid, more = {}) => request(`/state/${pid}${query(more)}`),
    dryRun: (pid, body, more = {}) => request(`/dry-run${query({ 'process-id': pid, ...more })}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    /** The sum of a metric's samples whose labels contain all of `labels` (`name="value"`); null where there is no such metric. */
    metric: async (name, ...labels) => {
      const { body } = await request('/metrics')
      const samples = body.toString().split('\n').map((line) => /^([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)/.exec(line)).filter((m) => m?.[1] === name && labels.every((l) => m[2]?.includes(l)))
      return samples.length ? samples.reduce((sum, m) => sum + Number(m[3]), 0) : null
    }
  }
}

/**
 * `lockstep devnet --port p`: gateway p, bundler p+1, messenger p+2, scheduler p+3, with its compute unit at `unitUrl`. The
 * addresses of messenger (an Authority for processes) and scheduler are those it prints.
 */
export async function devnet (t, { unitUrl, env = {}, args = [] } = {}) {
  const port = await freePort(4)
  const at = (n) => `http://127.0.0.1:${port + n}`
  const address = (who, log) => new RegExp(`${who} .*address ([\\w-]{43})`).exec(log)?.[1]
  const running = await start(['devnet', '--port', String(port), ...(unitUrl ? ['--cu-url', unitUrl] : []), ...args], env, async (log) => address('scheduler', log) && (await fetch(at(3))).ok)
  t?.after(() => running.stop().catch(() => {}))
  return Object.assign(running, { gatewayUrl: at(0), bundlerUrl: at(1), muUrl: at(2), suUrl: at(3), authority: address('messenger', running.log()), scheduler: address('scheduler', running.log()) })
}

/** A one-shot command; answers `{code, out, err}` and never throws for an exit status. */
export function run (args, { env = {}, seconds = 300, max = 512 << 20 } = {}) {
  return new Promise((resolve, reject) => {
    execFile(lockstep, args, { env: { ...process.env, ...env }, timeout: seconds * 1000, maxBuffer: max, encoding: 'utf8' }, (error, out, err) => {
      if (error && typeof error.code !== 'number') return reject(new Error(`lockstep ${args.join(' ')}: ${error.killed ? `not done in ${seconds} s` : error.message}\n${err.slice(-2000)}`))
      resolve({ code: error?.code ?? 0, out, err })
    })
  })
}
