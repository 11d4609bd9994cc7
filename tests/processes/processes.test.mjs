// The shipped processes themselves: small, without imports, and right by other means than their own vectors.
import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { evaluateFresh } from '../lib/loader.mjs'
import { tests } from '../lib/paths.mjs'

const here = path.join(tests, 'processes')
const names = ['counter', 'token', 'miner']
const wasm = (name) => fs.readFileSync(path.join(here, `${name}.wasm`))
const vectors = (name) => JSON.parse(fs.readFileSync(path.join(here, `${name}.json`)))

for (const name of names) {
  test(`${name} imports nothing and is under 20 KB`, () => {
    const bytes = wasm(name)
    assert.ok(bytes.length < 20_000, `${bytes.length} bytes`)
    assert.deepEqual(WebAssembly.Module.imports(new WebAssembly.Module(bytes)), [])
  })

  test(`${name} answers the same under loader 0.0.44, which the reference runs`, async () => {
    const { env, format, records } = vectors(name)
    let n = 0
    for await (const got of evaluateFresh({ wasm: wasm(name), format, env, messages: records.map((r) => r.msg), loader: '0.0.44' })) {
      const { Patches, ...want } = records[n].result
      assert.deepEqual({ ...got.result }, { ...got.result, ...want })
      assert.equal(got.memory_sha256, records[n].memory_sha256, `memory after message ${n}`)
      n++
    }
    assert.equal(n, records.length)
  })
}

test('the miner finds the nonce that node\'s own SHA-256 says is best', () => {
  const hash = (header, nonce) => {
    const bytes = Buffer.concat([header, Buffer.alloc(4)])
    bytes.writeUInt32LE(nonce, 76)
    const twice = crypto.createHash('sha256').update(crypto.createHash('sha256').update(bytes).digest()).digest()
    return twice.reverse().toString('hex')
  }
  let checked = 0
  for (const { msg, result } of vectors('miner').records) {
    const tag = (name) => msg.Tags.find((t) => t.name === name)?.value
    if (result.Error || tag('Action') !== 'Mine') continue
    const header = Buffer.from(tag('Header'), 'hex')
    const tries = Array.from({ length: +tag('Count') }, (_, i) => (+tag('First') + i) >>> 0).map((nonce) => [hash(header, nonce), nonce])
    const [best, nonce] = tries.reduce((a, b) => (b[0] < a[0] ? b : a))
    assert.equal(result.Output.data, `${nonce} ${best}`)
    checked++
  }
  assert.equal(checked, 6)
})

test('the committed wasm is what the sources build to', (t) => {
  let version
  try { version = execFileSync('clang', ['--version'], { encoding: 'utf8' }) } catch { return t.skip('no clang here') }
  if (!/version 14\./.test(version)) return t.skip('another clang than 14')
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-processes-'))
  try {
    for (const f of fs.readdirSync(here).filter((f) => /\.(c|h|s|sh)$/.test(f))) fs.cpSync(path.join(here, f), path.join(copy, f))
    execFileSync(path.join(copy, 'build.sh'))
    for (const name of names) assert.ok(fs.readFileSync(path.join(copy, `${name}.wasm`)).equals(wasm(name)), `${name}.wasm differs`)
  } finally { fs.rmSync(copy, { recursive: true }) }
})
