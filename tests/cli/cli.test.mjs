// The commands as an operator meets them: the demonstration ends with its table, modules are shown, bad arguments are named.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { aosModule, tests } from '../lib/paths.mjs'
import { run, temporary } from '../lib/unit.mjs'

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

test('demo has the same results in lanes as natively', { timeout: 300_000 }, async () => {
  const demo = ['demo', '--once', '--shipped', 'miner', '--nonces', '200', '--processes', '70', '--messages', '280']
  const [native, lanes] = [await run([...demo, '--engine', 'native']), await run([...demo, '--engine', 'lanes'])]
  for (const done of [native, lanes]) assert.equal(done.code, 0, done.out + done.err)
  const hash = (done) => done.out.match(/results' SHA-256 +([0-9a-f]{64})/)[1]
  assert.equal(hash(lanes), hash(native))
  assert.match(native.out, /in lanes +0\.00 /)
  assert.match(lanes.out, /in lanes +280 +messages while replaying, in [\d.]+ groups/)
  const none = await run([...demo, '--engine', 'lanes', '--gpu', 'off'])
  assert.notEqual(none.code, 0)
  assert.match(none.err, /--engine lanes: .*no adapter/)
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

test('a bad setting ends with 2 and says which, from where, and what was expected', async (t) => {
  const data = temporary(t)
  const serve = (args, env) => run(['serve', '--data', data, ...args], { env, seconds: 20 })
  for (const done of [await serve(['--process-memory-cache-max-size', 'banana']), await serve([], { PROCESS_MEMORY_CACHE_MAX_SIZE: 'banana' })]) {
    assert.equal(done.code, 2, done.err)
    assert.match(done.err, /process_memory_cache_max_size.*expected bytes.*banana/)
  }
  assert.equal((await serve(['--no-such-setting', '1'])).code, 2)
  assert.notEqual((await serve(['--listen', '256.0.0.1:1'])).code, 0)
})

test('verify says of each signature whether it holds, and ends with 1 if one does not', async (t) => {
  const items = path.join(tests, 'items')
  const page = await run(['verify', path.join(items, 'real-page.json'), path.join(items, 'real-page-15.json')])
  assert.equal(page.code, 0, page.err)
  const lines = page.out.trim().split('\n')
  assert.equal(lines.length, 34)
  for (const line of lines) assert.match(line, /^(valid [\w-]{43} 1|unverifiable [\w-]{43} 1 its anchor is not given.*)$/)
  assert.match(page.err, /^19 valid, 0 invalid, 15 unverifiable, 0 unreadable: 34 in [\d.]+ s, \d+ a second/)

  const directory = await mkdtemp(path.join(tmpdir(), 'verify-'))
  t.after(() => rm(directory, { recursive: true }))
  const golden = JSON.parse(await readFile(path.join(items, 'arbundles.json'), 'utf8'))
  const bundle = Buffer.from(golden.bundle.raw, 'base64url')
  const files = { bundle, changed: Buffer.from(bundle), cut: bundle.subarray(0, -1), other: Buffer.from('neither') }
  // The last byte of the first item, whose length stands first in the table of three.
  files.changed[32 + 3 * 64 + Number(bundle.readBigUInt64LE(32)) - 1] ^= 1
  for (const [name, bytes] of Object.entries(files)) await writeFile(path.join(directory, name), bytes)
  const good = await run(['verify', path.join(directory, 'bundle')])
  assert.deepEqual([good.code, good.out], [0, golden.bundle.ids.map((id) => `valid ${id} 1\n`).join('')])
  const changed = await run(['verify', path.join(directory, 'changed')])
  assert.equal(changed.code, 1)
  assert.match(changed.out, /^invalid [\w-]{43} 1 the signature is not the owner's over this content\nvalid .*\nvalid .*\n$/)
  const cut = await run(['verify', path.join(directory, 'cut')])
  assert.equal(cut.code, 1)
  assert.match(cut.err, /cut: bundle ends inside item 2/)
  const other = await run(['verify', path.join(directory, 'other'), path.join(directory, 'missing')])
  assert.equal(other.code, 1)
  assert.match(other.err, /other: data item has the unknown signature type[\s\S]*missing: No such file/)
})

// Lavapipe, which tests/run installs, is a GPU that is a program on the processor.
test('gpu shows the adapters, measures one, and its kernels agree with the processor', { timeout: 300_000 }, async (t) => {
  const done = await run(['gpu', '--signatures', '64'], { seconds: 240 })
  assert.equal(done.code, 0, done.out + done.err)
  if (/^no adapters/m.test(done.out)) {
    assert.ok(!process.env.LOCKSTEP_REQUIRE_GPU, 'there has to be a GPU')
    return t.skip('no GPU here')
  }
  for (const line of [/^adapter +\S/m, /^ +driver +(vulkan|metal|dx12), /m, /^ +features 64-bit integers (yes|no), subgroups /m, /^ +limits +\d+ MiB/m, /^variants +RSA-PSS \d+-bit limbs, (32|64)-bit sums.*; Ed25519 \d+-bit .*; secp256k1 \d+-bit /m]) assert.match(done.out, line)
  for (const scheme of ['rsa_pss', 'ed25519', 'secp256k1']) assert.match(done.out, new RegExp(`^${scheme} +CPU, \\d+ threads +GPU\n +1 +\\d+/s +\\d+/s\n`, 'm'))
  assert.equal(done.out.match(/^ {2}(batches of \d+ and more go to the GPU|all batches go to the processor)$/mg).length, 3)
  assert.equal(done.out.match(/ 64 signatures, 32 valid, 0 disagreements$/mg).length, 4)
  assert.match(done.out, /the GPU agrees with the processor\n$/)
})

test('a GPU that is required and not there is named at the start; by default its absence is no fault', async (t) => {
  const without = { VK_DRIVER_FILES: '/nowhere', VK_ICD_FILENAMES: '/nowhere' }
  const data = temporary(t)
  const serve = (args) => run(['serve', '--listen', '127.0.0.1:0', '--data', data, ...args], { env: without, seconds: 20 })
  for (const [gpu, what] of [['required', '"required"'], ['Radeon 9', 'the name "Radeon 9"']]) {
    const done = await serve(['--gpu', gpu])
    assert.equal(done.code, 1, done.err)
    assert.ok(done.err.includes(`cannot open the unit: no GPU: no adapter fits ${what}; this machine has: none`), done.err)
  }
  const shown = await run(['gpu'], { env: without })
  assert.deepEqual([shown.code, shown.out], [0, 'no adapters: the processor verifies all signatures\n'])
})
