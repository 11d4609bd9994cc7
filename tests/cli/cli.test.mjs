// The commands as an operator meets them: the demonstration ends with its table, modules are shown, bad arguments are named.
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { aosModule, tests } from '../lib/paths.mjs'
import { run } from '../lib/unit.mjs'

const table = [/messages, end to end +[\d.,]+\/s/, /latency, half of them +[\d.,]+ [mu]?s/, /latency, 99 of 100 +[\d.,]+ [mu]?s/, /gas +/, /memory per process +[\d.,]+ KiB/, /compile time +[\d.,]+ [mu]?s/]

test('demo --once ends 0 with its table: 64 processes, 4,096 messages', { timeout: 300_000 }, async () => {
  const done = await run(['demo', '--once'])
  assert.equal(done.code, 0, done.out + done.err)
  assert.match(done.out, /^4,?096 messages to 64 processes/m)
  for (const line of table) assert.match(done.out, line)
  console.log(done.out.trim().replace(/^/gm, '# '))
})

test('demo takes an aos module', { timeout: 300_000 }, async () => {
  const done = await run(['demo', '--once', '--processes', '2', '--messages', '16', '--module', aosModule('aos2_0_6.wasm'), '--format', 'wasm64-unknown-emscripten-draft_2024_02_15'])
  assert.equal(done.code, 0, done.out + done.err)
  assert.match(done.out, /^16 messages to 2 processes of aos2_0_6\.wasm/m)
  for (const line of table) assert.match(done.out, line)
})

test('inspect shows what a module is, and why it would be refused', async () => {
  const fine = await run(['inspect', path.join(tests, 'processes', 'counter.wasm')])
  assert.equal(fine.code, 0)
  for (const line of [/^format +.*wasm32-unknown-emscripten4/m, /^memory +.*131,?072/m, /^refused +no/m, /^imports 0/m, /^ +handle +func \(i32, i32\) -> i32/m]) assert.match(fine.out, line)
  const aos = await run(['inspect', aosModule('aos2_0_6.wasm')])
  for (const line of [/^format +wasm64-unknown-emscripten-draft_2024_02_15/m, /^features +.*memory64/m, /^imports 31/m, /emscripten_resize_heap/]) assert.match(aos.out, line)
  const unknown = await run(['inspect', path.join(tests, 'faults', 'modules', 'unknown_import.wasm')])
  for (const line of [/^refused +yes/m, /env\.nobody_provides_this/]) assert.match(unknown.out, line)
  const none = await run(['inspect', path.join(tests, 'run')])
  assert.notEqual(none.code, 0)
  assert.match(none.err, /tests\/run.*not a WebAssembly module/)
})

test('a bad setting ends with 2 and says which, from where, and what was expected', async () => {
  const serve = (args, env) => run(['serve', ...args], { env, seconds: 20 })
  for (const done of [await serve(['--process-memory-cache-max-size', 'banana']), await serve([], { PROCESS_MEMORY_CACHE_MAX_SIZE: 'banana' })]) {
    assert.equal(done.code, 2, done.err)
    assert.match(done.err, /process_memory_cache_max_size.*expected bytes.*banana/)
  }
  assert.equal((await serve(['--no-such-setting', '1'])).code, 2)
  assert.notEqual((await serve(['--listen', '256.0.0.1:1'])).code, 0)
})
