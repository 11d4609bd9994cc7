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
const names = ['counter', 'token', 'miner', 'pricing', 'matvec', 'nbody']
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

test('the miner that keeps its schedule in memory answers as the miner does', async () => {
  const { env, format, records } = vectors('miner')
  let n = 0
  for await (const got of evaluateFresh({ wasm: wasm('miner-array'), format, env, messages: records.map((r) => r.msg) })) {
    const want = records[n++].result
    for (const name of ['Output', 'Error', 'Messages']) assert.deepEqual(got.result[name], want[name], `message ${n}`)
  }
  assert.equal(n, records.length)
})

const tagOf = (msg, name) => msg.Tags.find((t) => t.name === name)?.value
const numberOf = (msg, name) => Number(tagOf(msg, name))
const hex = (n, digits = 8) => n.toString(16).padStart(digits, '0')
const xorshift32 = (x) => { x ^= x << 13; x ^= x >>> 17; return (x ^ (x << 5)) >>> 0 }
const fnv = (hash, word) => Math.imul(hash ^ word, 16777619) >>> 0

test('options cost what the same walk costs in JavaScript, and about what Black and Scholes say', () => {
  let checked = 0
  for (const { msg, result } of vectors('pricing').records) {
    if (result.Error || tagOf(msg, 'Action') !== 'Price') continue
    const [spot, strike, volatility, steps, paths] = ['Spot', 'Strike', 'Volatility', 'Steps', 'Paths'].map((name) => BigInt(tagOf(msg, name)))
    let bound = (strike << 24n) / spot
    if (bound >= 1n << 32n) bound = (1n << 32n) - 1n
    let [random, check, paid] = [numberOf(msg, 'Seed'), 2166136261, 0n]
    for (let path = 0n; path < paths; path++) {
      let price = 1n << 24n
      for (let step = 0n; step < steps; step++) {
        random = xorshift32(random)
        const z = (random & 255) + (random >>> 8 & 255) + (random >>> 16 & 255) + (random >>> 24) - 510
        price += price * volatility * 2906n * BigInt(z) >> 32n
        if (price >= 1n << 32n) price = (1n << 32n) - 1n
      }
      if (price > bound) paid += price - bound
      check = fnv(check, Number(price))
    }
    const mean = paid / paths * spot
    const millionths = (mean >> 24n) * 1000000n + ((mean & 0xffffffn) * 1000000n >> 24n)
    assert.equal(result.Output.data, `price ${millionths / 1000000n}.${String(millionths % 1000000n).padStart(6, '0')} check ${hex(check)}`)
    checked++
  }
  assert.equal(checked, 6)
  // 1000 paths of 16 steps of 1%, at the money: 0.4 sd, and the mean's own error is 0.584 sd / sqrt(1000).
  const [price] = vectors('pricing').records.find((r) => !r.result.Error && tagOf(r.msg, 'Action') === 'Price').result.Output.data.match(/[0-9.]+/)
  assert.ok(Math.abs(price - 0.3989 * 4) < 4 * 0.584 * 4 / Math.sqrt(1000), price)
})

test('products of the layer are what JavaScript makes of the same bytes', () => {
  const bytes = (count, random) => Array.from({ length: count }, () => (random = xorshift32(random)) >> 24)
  let weights
  let checked = 0
  for (const { msg, result } of vectors('matvec').records) {
    if (result.Error) continue
    if (tagOf(msg, 'Action') === 'Load') {
      weights = bytes(160 * 160, numberOf(msg, 'Seed'))
      assert.equal(result.Output.data, `check ${hex(weights.reduce((check, weight) => fnv(check, weight & 255), 2166136261))}`)
      checked++
    } else if (tagOf(msg, 'Action') === 'Multiply') {
      let vector = bytes(160, numberOf(msg, 'Seed'))
      let [check, sums] = [2166136261]
      for (let n = 0; n < numberOf(msg, 'Repeats'); n++) {
        sums = vector.map((_, row) => vector.reduce((sum, x, i) => sum + x * weights[160 * row + i], 0))
        check = sums.reduce(fnv, check)
        vector = sums.map((sum) => Math.max(-128, Math.min(127, sum >> 9)))
      }
      assert.equal(result.Output.data, `check ${hex(check)} first ${sums.slice(0, 4).map((sum) => hex(sum >>> 0)).join(' ')}`)
      checked++
    }
  }
  assert.equal(checked, 6)
})

test('planets move as they do with JavaScript\'s numbers, to the bit', () => {
  const [year, sun] = [365.24, 4 * Math.PI * Math.PI]
  const body = (at, speed, mass) => ({ at, speed: speed.map((v) => v * year), mass: mass * sun })
  const bodies = [
    body([0, 0, 0], [0, 0, 0], 1),
    body([4.84143144246472090, -1.16032004402742839, -0.103622044471123109], [0.00166007664274403694, 0.00769901118419740425, -0.0000690460016972063023], 0.000954791938424326609),
    body([8.34336671824457987, 4.12479856412430479, -0.403523417114321381], [-0.00276742510726411899, 0.00499852801234917238, 0.0000230417297573763929], 0.000285885980666130812),
    body([12.8943695621391310, -15.1111514016986312, -0.223307578892655734], [0.00296460137564761618, 0.00237847173959480950, -0.0000296589568540237556], 0.0000436624404335156298),
    body([15.3796971148509165, -25.9193146099879641, 0.179258772950371181], [0.00268067772490389322, 0.00162824170038242295, -0.0000951592254519715870], 0.0000515138902046611451)
  ]
  bodies[0].speed = [0, 1, 2].map((k) => -bodies.reduce((sum, b) => sum + b.speed[k] * b.mass, 0) / sun)
  const apart = (a, b) => a.at.map((x, k) => x - b.at[k])
  const squared = ([x, y, z]) => x * x + y * y + z * z
  const pairs = bodies.flatMap((a, i) => bodies.slice(i + 1).map((b) => [a, b]))
  const advance = () => {
    for (const [a, b] of pairs) {
      const way = apart(a, b)
      const square = squared(way)
      const pull = 0.01 / (square * Math.sqrt(square))
      const [ofA, ofB] = [a.mass * pull, b.mass * pull]
      way.forEach((d, k) => { a.speed[k] -= d * ofB; b.speed[k] += d * ofA })
    }
    for (const a of bodies) a.at = a.at.map((x, k) => x + 0.01 * a.speed[k])
  }
  const energy = () => bodies.reduce((sum, a, i) => bodies.slice(i + 1).reduce(
    (sum, b) => sum - a.mass * b.mass / Math.sqrt(squared(apart(a, b))), sum + 0.5 * a.mass * squared(a.speed)), 0)
  const bits = (number) => { const at = new DataView(new ArrayBuffer(8)); at.setFloat64(0, number); return hex(at.getBigUint64(0), 16) }
  const names = ['sun', 'jupiter', 'saturn', 'uranus', 'neptune']
  let checked = 0
  for (const { msg, result } of vectors('nbody').records) {
    if (result.Error || !['Advance', 'State'].includes(tagOf(msg, 'Action'))) continue
    for (let n = 0; n < Number(tagOf(msg, 'Steps') ?? 0); n++) advance()
    assert.equal(result.Output.data, `energy ${bits(energy())} ${bodies.map((b, i) => `${names[i]} ${b.at.map(bits).join(' ')}`).join(' ')}`)
    checked++
  }
  assert.equal(checked, 6)
  // What the benchmarks game prints for 1000 steps.
  for (let n = 100; n < 1000; n++) advance()
  assert.equal(energy().toFixed(9), '-0.169087605')
})

test('the committed wasm is what the sources build to', (t) => {
  let version
  try { version = execFileSync('clang', ['--version'], { encoding: 'utf8' }) } catch { return t.skip('no clang here') }
  if (!/version 14\./.test(version)) return t.skip('another clang than 14')
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-processes-'))
  try {
    for (const f of fs.readdirSync(here).filter((f) => /\.(c|h|s|sh)$/.test(f))) fs.cpSync(path.join(here, f), path.join(copy, f))
    execFileSync(path.join(copy, 'build.sh'))
    for (const name of [...names, 'miner-array']) assert.ok(fs.readFileSync(path.join(copy, `${name}.wasm`)).equals(wasm(name)), `${name}.wasm differs`)
  } finally { fs.rmSync(copy, { recursive: true }) }
})
