// Side by side in one run: the npm loader as the reference compute unit uses it (a process's whole memory copied in and out for
// every message), and Lockstep's native engine; the same module, the same messages. Prints rates, ratios, cores and load.
//   node --experimental-wasm-memory64 benches/peers/run.mjs [--check[=PART]] [--quick]
// --check exits 1 if a ratio is below what README promises, or below a part of it: --check=0.5 allows for a machine that does other
// things; --quick takes fewer messages.
// Needs the release binary and what tests/run installs.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { execFileSync, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { loaderOf, withGlobalsKept } from '../../tests/lib/loader.mjs'
import { environment, schedule } from '../../tests/lib/messages.mjs'
import { aosModule, lockstep } from '../../tests/lib/paths.mjs'
import { writeVectors } from '../../tests/lib/vectors.mjs'

const flag = (name) => process.argv.includes(name)
const quick = flag('--quick')
const check = process.argv.find((arg) => arg === '--check' || arg.startsWith('--check='))
const part = Number(check?.split('=')[1] ?? 1)
if (!(part > 0 && part <= 1)) throw new Error(`${check}: a part is above 0 and at most 1`)
const module = aosModule('aos2_0_6.wasm')
const plain = 'wasm64-unknown-emscripten-draft_2024_02_15'
const metered = 'wasm64-unknown-emscripten-draft_2024_10_16-metering'
/** What the README promises, on this kind of run. */
const promised = { sequential: 60, metered: 100, meteredCost: 1.4, many: 100, manyPeakMb: 300 }
const processes = 16

const evals = (n) => Array.from({ length: n }, () => ({ tags: { Action: 'Eval' }, data: 'return 1+1' }))
const isRight = (result) => assert.equal(result.Output?.data, '2', JSON.stringify(result).slice(0, 300))
/** What a process used so far: peak memory and processor time (ticks of 10 ms). Nothing once it has ended. */
const usage = (pid) => {
  try {
    const [user, system] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).map(Number)
    const peak = /VmHWM:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))
    return peak && { peakMb: +peak[1] / 1024, cpu: (user + system) / 100 }
  } catch { return null }
}

/** `copies` processes, each given its boot (not timed) and then `n` messages in turn, by the npm loader in this node process. */
async function byLoader (format, n, copies) {
  return withGlobalsKept(async () => {
    const now = performance.now.bind(performance)
    const env = environment('bench', format)
    const [boot, ...messages] = schedule(env, evals(n))
    const fresh = loaderOf(fs.readFileSync(module), format)
    const running = []
    for (let i = 0; i < copies; i++) {
      const handle = await fresh()
      running.push({ handle, state: (await handle(null, boot, env)).Memory })
    }
    const [begun, cpu] = [now(), process.cpuUsage()]
    for (const msg of messages) {
      for (const p of running) {
        const { Memory, ...result } = await p.handle(p.state, msg, env)
        isRight(result)
        p.state = Memory
      }
    }
    const { user, system } = process.cpuUsage(cpu)
    return { messages: n * copies, seconds: (now() - begun) / 1000, cpu: (user + system) / 1e6 }
  })
}

/**
 * The same by `lockstep eval --copies`, which prints `N messages in S s, R messages/s` for all copies on all cores. Compiling is
 * done before, into a cache; the boots are timed apart, in a run of their own, and taken off.
 */
async function byLockstep (format, n, copies) {
  const env = environment('bench', format)
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-peers-'))
  try {
    const timed = async (count) => {
      const file = writeVectors(path.join(dir, `${count}.json`), { env }, schedule(env, evals(count)).map((msg) => ({ msg })))
      const args = ['eval', '--module', module, '--format', format, '--guest-env', 'empty', '--copies', String(copies), '--cache', path.join(dir, 'code'), file]
      const child = spawn(lockstep, args, { stdio: ['ignore', 'ignore', 'pipe'] })
      let err = ''
      let used = { peakMb: 0, cpu: 0 }
      child.stderr.setEncoding('utf8').on('data', (d) => { err += d })
      const watch = setInterval(() => { used = usage(child.pid) ?? used }, 5)
      const code = await new Promise((resolve) => child.on('close', resolve))
      clearInterval(watch)
      const last = /(\d+) messages in ([\d.]+) s/.exec(err.trim().split('\n').at(-1))
      if (code !== 0 || !last) throw new Error(`lockstep ${args.join(' ')}: exit ${code}\n${err}`)
      assert.equal(+last[1], (count + 1) * copies)
      return { seconds: +last[2], ...used }
    }
    await timed(0) // compiles
    const boots = await timed(0)
    const all = await timed(n)
    return { messages: n * copies, seconds: all.seconds - boots.seconds, cpu: all.cpu - boots.cpu, peakMb: all.peakMb }
  } finally { fs.rmSync(dir, { recursive: true, force: true }) }
}

/** A comparison must be of right answers: both evaluate three messages, and Lockstep's must be `2` as well. */
function answersAgree () {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-peers-'))
  try {
    const env = environment('bench', plain)
    const file = writeVectors(path.join(dir, 'answers.json'), { env }, schedule(env, evals(3)).map((msg) => ({ msg })))
    const out = execFileSync(lockstep, ['eval', '--module', module, '--format', plain, '--guest-env', 'empty', file], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    out.trim().split('\n').slice(1, 4).forEach((line) => isRight(JSON.parse(line).result))
  } finally { fs.rmSync(dir, { recursive: true, force: true }) }
}

const rate = ({ messages, seconds }) => messages / seconds
const show = (what, { messages, seconds, cpu, peakMb }) => console.log(`  ${what.padEnd(34)} ${(messages / seconds).toFixed(1).padStart(9)} messages/s  ${(seconds / messages * 1000).toFixed(3).padStart(8)} ms each, ${(cpu / messages * 1000).toFixed(3).padStart(8)} ms of processor  (${messages})${peakMb ? `  peak ${peakMb.toFixed(0)} MB` : ''}`)

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(`${os.cpus().length} cores (${os.cpus()[0].model}), load ${os.loadavg().map((l) => l.toFixed(2)).join(' ')}, node ${process.version}, aos 2.0.6, \`return 1+1\``)
  if (os.loadavg()[0] > os.cpus().length / 2) console.log('other work is running here: times are not those of an idle machine')
  answersAgree()
  const [few, some, many] = quick ? [15, 5, 200] : [60, 20, 2000]

  console.log('one process, one message after another, unmetered')
  const a = await byLoader(plain, few, 1)
  show('npm loader, state in and out', a)
  const b = await byLockstep(plain, many, 1)
  show('Lockstep', b)
  console.log('one process, one message after another, metered')
  const c = await byLoader(metered, few, 1)
  show('npm loader, state in and out', c)
  const d = await byLockstep(metered, many, 1)
  show('Lockstep', d)
  console.log(`${processes} processes, ${quick ? 20 : 100} messages each, unmetered`)
  const e = await byLoader(plain, quick ? 2 : some, processes)
  show(`npm loader (${some} each, one thread)`, e)
  const f = await byLockstep(plain, quick ? 20 : 100, processes)
  show('Lockstep (all cores)', f)

  const found = { sequential: rate(b) / rate(a), metered: rate(d) / rate(c), meteredCost: (d.seconds / d.messages) / (b.seconds / b.messages), many: rate(f) / rate(e), manyPeakMb: f.peakMb }
  const lines = [
    ['sequential', 'unmetered, sequential', 'x', 'at least'], ['metered', 'metered, sequential', 'x', 'at least'], ['meteredCost', 'metered over unmetered time', 'x', 'at most'],
    ['many', `${processes} processes`, 'x', 'at least'], ['manyPeakMb', `peak memory of ${processes} processes`, ' MB', 'at most']
  ]
  let [short, missed] = [0, 0]
  for (const [key, what, unit, bound] of lines) {
    const holds = bound === 'at least' ? found[key] >= promised[key] : found[key] <= promised[key]
    if (!holds) short++
    if (bound === 'at least' ? found[key] < promised[key] * part : found[key] > promised[key] / part) missed++
    console.log(`${what.padEnd(36)} ${found[key].toFixed(key === 'manyPeakMb' ? 0 : 2).padStart(8)}${unit}  promised ${bound} ${promised[key]}${unit}${holds ? '' : '  NOT MET'}`)
  }
  console.log(`load afterwards ${os.loadavg().map((l) => l.toFixed(2)).join(' ')}`)
  if (missed) console.log(`${missed} are below ${part} of what is promised`)
  else if (short) console.log(`${short} are below what is promised, and above ${part} of it`)
  process.exit(check && missed ? 1 : 0)
}
