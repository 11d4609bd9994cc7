// Unmodified @permaweb/aoconnect in legacy mode, and aos 2.0.6, against `lockstep devnet` and `lockstep serve`.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, createDataItemSigner, serializeCron } from '@permaweb/aoconnect'
import { tags } from '../lib/messages.mjs'
import { aosModule } from '../lib/paths.mjs'
import { devnet, freePort, serveUnit, temporary } from '../lib/unit.mjs'
import { address, upload, wallet } from '../lib/wallet.mjs'

const jwk = wallet()
const signer = createDataItemSigner(jwk)
const stops = []
const scope = { after: (f) => stops.push(f) }
let net, unit, ao, module, scheduler, authority

async function until (what, probe, seconds = 30) {
  const end = Date.now() + seconds * 1000
  let last
  while (Date.now() < end) {
    last = await probe()
    if (last) return last
    await sleep(100)
  }
  throw new Error(`${what}: not within ${seconds} s`)
}

const spawn = async (label, more = []) => {
  const pid = await ao.spawn({ module, scheduler, signer, tags: [...tags({ Name: label, Authority: authority }), ...more] })
  await until(`${label} boots`, async () => (await ao.result({ process: pid, message: pid }).catch(() => null))?.Output)
  return pid
}
const evaluate = async (pid, data) => {
  const message = await ao.message({ process: pid, signer, tags: tags({ Action: 'Eval' }), data })
  return { message, ...(await ao.result({ process: pid, message })) }
}
const value = async (pid, data) => (await evaluate(pid, data)).Output?.data

before(async () => {
  const port = await freePort()
  net = await devnet(scope, { unitUrl: `http://127.0.0.1:${port}`, args: ['--poll-ms', '1000'] })
  unit = await serveUnit(scope, net, { port, data: temporary(scope) })
  ;({ scheduler, authority } = net)
  module = await upload(net.bundlerUrl, jwk, fs.readFileSync(aosModule('aos2_0_6.wasm')), tags({
    'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Module', 'Module-Format': 'wasm64-unknown-emscripten-draft_2024_02_15', 'Input-Encoding': 'JSON-V1', 'Output-Encoding': 'JSON-V1', 'Memory-Limit': '1-gb', 'Compute-Limit': '9000000000000', 'Content-Type': 'application/wasm'
  }))
  ao = connect({ MODE: 'legacy', MU_URL: net.muUrl, CU_URL: unit.url, GATEWAY_URL: net.gatewayUrl })
}, { timeout: 120_000 })

after(async () => { for (const stop of stops.reverse()) await stop() })

let alice, bob

test('spawn, and the process answers', { timeout: 120_000 }, async () => {
  alice = await spawn('alice')
  bob = await spawn('bob')
  const boot = await ao.result({ process: alice, message: alice })
  assert.deepEqual([boot.Messages, boot.Assignments, boot.Spawns], [[], [], []])
  assert.match(boot.Output.prompt, /alice/)
})

test('eval', async () => {
  assert.equal(await value(alice, 'return 1+1'), '2')
  assert.equal(await value(alice, 'X = (X or 40) + 2; return X'), '42')
  assert.equal(await value(alice, 'return X'), '42', 'state stays')
  assert.equal(await value(alice, 'return "ünïcödé 😀"'), 'ünïcödé 😀')
})

test('an error is a result, and the process goes on without it', async () => {
  const failed = await evaluate(alice, 'X = 0; error("boom")')
  assert.match(String(failed.Error), /boom/)
  assert.deepEqual([failed.Messages, failed.Spawns], [[], []])
  assert.equal(await value(alice, 'return X'), '42')
})

test('Send between two processes, pushed by the messenger, and its reply', async () => {
  await evaluate(bob, 'Handlers.add("Ping", { Action = "Ping" }, function (m) PINGS = (PINGS or "") .. m.Data; m.reply({ Action = "Pong", Data = "back " .. m.Data }) end)')
  await evaluate(alice, 'Handlers.add("Pong", { Action = "Pong" }, function (m) PONG = m.Data .. " from " .. m.From end)')
  const sent = await evaluate(alice, `Send({ Target = "${bob}", Action = "Ping", Data = "hello" }); return "sent"`)
  assert.equal(sent.Messages.length, 1)
  assert.equal(sent.Messages[0].Target, bob)
  await until('bob is pinged', async () => (await value(bob, 'return PINGS')) === 'hello')
  await until('alice has the reply', async () => (await value(alice, 'return PONG')) === `back hello from ${bob}`)
})

test('Spawn from a process', async () => {
  await evaluate(alice, 'Handlers.add("Spawned", { Action = "Spawned" }, function (m) CHILD = m.Process or m.Tags.Process end)')
  const spawned = await evaluate(alice, 'Spawn(ao.env.Module.Id, { Name = "child", Data = "x" }); return "asked"')
  assert.equal(spawned.Spawns.length, 1)
  const child = await until('the parent is told', async () => { const id = await value(alice, 'return CHILD'); return id?.length === 43 && id })
  const boot = await ao.result({ process: child, message: child })
  assert.match(boot.Output.prompt, /child/)
})

test('assign: a message of one process is evaluated by another', async () => {
  const original = await ao.message({ process: alice, signer, tags: tags({ Action: 'Eval' }), data: 'ASSIGNED = ao.id; return ao.id' })
  assert.equal((await ao.result({ process: alice, message: original })).Output.data, alice)
  const assignment = await ao.assign({ process: bob, message: original })
  const got = await ao.result({ process: bob, message: assignment })
  assert.equal(got.Error, undefined)
  // aos takes assignments only where it is told to; that it was evaluated, and refused or run, is what counts here
  assert.ok(got.Output !== undefined && Array.isArray(got.Messages))
  await evaluate(bob, 'ao.addAssignable("any", function () return true end)')
  const again = await ao.message({ process: alice, signer, tags: tags({ Action: 'Eval' }), data: 'ASSIGNED = ao.id; return "to " .. ao.id' })
  const second = await ao.assign({ process: bob, message: again })
  assert.equal((await ao.result({ process: bob, message: second })).Output.data, `to ${bob}`)
  assert.equal(await value(bob, 'return ASSIGNED'), bob)
})

test('a dry run sees the state and leaves it', async () => {
  const dry = await ao.dryrun({ process: alice, Owner: address(jwk), tags: tags({ Action: 'Eval' }), data: 'X = X + 1; return X' })
  assert.equal(dry.Output.data, '43')
  assert.equal(await value(alice, 'return X'), '42')
})

test('results page forward and back, without errors among them', async () => {
  const walk = async (sort, size) => {
    const seen = []
    let cursor
    for (;;) {
      const page = await ao.results({ process: alice, sort, limit: size, ...(cursor && (sort === 'ASC' ? { from: cursor } : { to: cursor })) })
      const edges = page.edges.filter((e) => !seen.some((s) => s.cursor === e.cursor))
      seen.push(...edges)
      if (!edges.length || page.edges.length < size) return seen
      cursor = page.edges.at(-1).cursor
    }
  }
  const forward = await walk('ASC', 3)
  const back = await walk('DESC', 4)
  const all = (await ao.results({ process: alice, limit: 1000 })).edges
  const strip = (edges) => edges.map((e) => { const { sort, ...cursor } = JSON.parse(Buffer.from(e.cursor, 'base64')); return { cursor, node: e.node } })
  assert.ok(all.length > 10)
  assert.deepEqual(strip(forward), strip(all))
  assert.deepEqual(strip(back), strip(all).toReversed())
  assert.ok(all.every((e) => !e.node.Error))
})

test('cron messages are evaluated, and a monitored process has them pushed', { timeout: 120_000 }, async () => {
  const ticking = await spawn('ticking', serializeCron({ interval: '1-second', tags: tags({ Action: 'Tick' }) }))
  await evaluate(bob, 'TOCKS = 0; Handlers.add("Tock", { Action = "Tock" }, function (m) TOCKS = TOCKS + 1 end)')
  await evaluate(ticking, `Handlers.add("Tick", { Action = "Tick" }, function (m) TICKS = (TICKS or 0) + 1; Send({ Target = "${bob}", Action = "Tock", N = tostring(TICKS) }) end)`)
  const ticks = await until('three ticks', async () => { const n = +(await value(ticking, 'return TICKS or 0')); return n >= 3 && n })
  const { json } = await unit.cron(ticking)
  assert.ok(json.edges.length >= ticks)
  assert.ok(json.edges.every((e) => /^0-1-second/.test(JSON.parse(Buffer.from(e.cursor, 'base64')).cron)))
  assert.equal(await value(bob, 'return TOCKS'), '0', 'not monitored yet')
  await ao.monitor({ process: ticking, signer })
  await until('ticks are pushed', async () => +(await value(bob, 'return TOCKS')) >= 3, 60)
  await ao.unmonitor({ process: ticking, signer })
})
