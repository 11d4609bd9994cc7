// `lockstep eval --check`: outputs byte for byte, memory hashes, gas; and that the check itself can fail.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { aosModule, tests } from '../lib/paths.mjs'
import { run, temporary } from '../lib/unit.mjs'
import { check, golden, readVectors, writeVectors } from '../lib/vectors.mjs'

for (const [file, { file: vectors, plain }] of Object.entries(golden)) {
  test(`${file}: every output and every memory of the golden evaluations`, { timeout: 300_000 }, async () => {
    const { module_sha256: wanted, records } = readVectors(vectors)
    const n = records.length
    assert.equal(crypto.createHash('sha256').update(fs.readFileSync(aosModule(file))).digest('hex'), wanted, 'the module is the one recorded')
    const done = await check(aosModule(file), plain, vectors)
    assert.equal(done.code, 0, done.differences)
    assert.deepEqual([done.outputs, done.memory], [[n, n], [n, n]], done.last)
    console.log(`# ${file}: ${done.last}; ${done.err.trim().split('\n').at(-1)}`)
  })
}

for (const name of ['counter', 'token', 'miner', 'pricing', 'matvec', 'nbody']) {
  for (const [suffix, format] of Object.entries({ '': 'wasm32-unknown-emscripten4', '-metered': 'wasm32-unknown-emscripten-metering' })) {
    test(`${name}${suffix}: outputs, memory and gas`, async () => {
      const file = path.join(tests, 'processes', `${name}${suffix}.json`)
      const n = readVectors(file).records.length
      const done = await check(path.join(tests, 'processes', `${name}.wasm`), format, file)
      assert.equal(done.code, 0, done.differences)
      assert.deepEqual([done.outputs, done.memory, done.gas], [[n, n], [n, n], [n, n]], done.last)
    })
  }
}

test('a wrong output, memory or gas is found, named, and ends with 1', async (t) => {
  const { env, records } = readVectors(path.join(tests, 'processes', 'counter-metered.json'))
  const changed = structuredClone(records)
  changed[2].result.Output.data = 'not this'
  changed[3].memory_sha256 = '0'.repeat(64)
  changed[9].result.GasUsed += 1
  const { Output, ...others } = changed[16].result
  changed[16].result = { ...others, Output } // the same members in another order
  const done = await check(path.join(tests, 'processes', 'counter.wasm'), 'wasm32-unknown-emscripten-metering', writeVectors(path.join(temporary(t), 'changed.json'), { env }, changed))
  const n = records.length
  assert.equal(done.code, 1)
  assert.deepEqual([done.memory, done.gas], [[n - 1, n], [n - 1, n]], done.last)
  assert.ok(done.outputs[0] === n - 1 || done.outputs[0] === n - 2, done.last)
})

test('bad vector files and modules are errors that name them', async (t) => {
  const dir = temporary(t)
  const write = (name, text) => { const f = path.join(dir, name); fs.writeFileSync(f, text); return f }
  const module = path.join(tests, 'processes', 'counter.wasm')
  const vectors = path.join(tests, 'processes', 'counter.json')
  const format = 'wasm32-unknown-emscripten4'
  const cases = [
    [write('not.json', 'not json'), module, format, /not\.json/],
    [write('empty.json', '{}'), module, format, /empty\.json|records/],
    [path.join(dir, 'absent.json'), module, format, /absent\.json/],
    [vectors, write('not.wasm', 'not wasm'), format, /not\.wasm|wasm/],
    [vectors, path.join(dir, 'absent.wasm'), format, /absent\.wasm/],
    [vectors, module, 'wasm128', /wasm128/]
  ]
  for (const [file, wasm, format, names] of cases) {
    const done = await run(['eval', '--module', wasm, '--format', format, '--guest-env', 'empty', '--check', file])
    assert.notEqual(done.code, 0, `${file} ${wasm} ${format}`)
    assert.match(done.err, names)
    assert.doesNotMatch(done.err, /panicked/)
  }
})
