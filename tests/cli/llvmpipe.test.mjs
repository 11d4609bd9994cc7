// Lavapipe, which tests/run installs: how many bits its vectors have in the command, and whose compiled kernels it takes.
import assert from 'node:assert/strict'
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { tests } from '../lib/paths.mjs'
import { run, temporary } from '../lib/unit.mjs'

const drivers = '/usr/share/vulkan/icd.d'
const lavapipe = existsSync(drivers) && readdirSync(drivers).find((name) => /^lvp_icd.*\.json$/.test(name))
const skip = !lavapipe && !process.env.LOCKSTEP_REQUIRE_GPU && 'no lavapipe here'
// Variables that are undefined are not given to the command.
const alone = { VK_DRIVER_FILES: path.join(drivers, String(lavapipe)), LP_NATIVE_VECTOR_WIDTH: undefined, GALLIVM_PERF: undefined }

const flags = existsSync('/proc/cpuinfo') ? new Set(readFileSync('/proc/cpuinfo', 'utf8').match(/^flags\s*:(.*)$/m)?.[1].split(' ')) : new Set()
const avx512 = ['avx512f', 'avx512bw', 'avx512dq', 'avx512vl'].every((flag) => flags.has(flag))

/** Bits of a vector, as the adapter's name says. `auto` takes no program on the processor, so that nothing is measured. */
async function bits (env) {
  const done = await run(['gpu', '--gpu', 'auto'], { env: { ...alone, ...env }, seconds: 60 })
  assert.equal(done.code, 0, done.out + done.err)
  const name = /^adapter +llvmpipe \(LLVM [\d.]+, (\d+) bits\)$/m.exec(done.out)
  assert.ok(name, done.out)
  return Number(name[1])
}

test('vectors have 512 bits where the processor has AVX-512, and what the environment says where it says so', { skip }, async () => {
  const found = await bits({})
  if (avx512) assert.equal(found, 512)
  else assert.ok(found <= 256, `${found} bits without AVX-512`)
  assert.equal(await bits({ GALLIVM_PERF: 'brilinear' }), found)
  for (const width of [128, 256]) assert.equal(await bits({ LP_NATIVE_VECTOR_WIDTH: String(width) }), width)
})

test('kernels compiled for one width are not taken for the other', { skip: skip || (!avx512 && 'there is one width only without AVX-512'), timeout: 300_000 }, async (t) => {
  const cache = temporary(t, 'shaders')
  const kept = () => readdirSync(cache, { recursive: true }).map((name) => statSync(path.join(cache, name))).reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0)
  const processes = path.join(tests, 'processes')
  const evaluate = async (env) => {
    const done = await run(['eval', '--module', path.join(processes, 'counter.wasm'), '--format', 'wasm32-unknown-emscripten4', '--guest-env', 'empty', '--engine', 'lanes', '--lanes', '1', path.join(processes, 'counter.json')],
      { env: { ...alone, MESA_SHADER_CACHE_DIR: cache, MESA_SHADER_CACHE_DISABLE: undefined, ...env } })
    assert.equal(done.code, 0, done.out + done.err)
    return kept()
  }
  const narrow = await evaluate({ LP_NATIVE_VECTOR_WIDTH: '256' })
  assert.ok(narrow > 0, 'Mesa keeps what it compiles')
  const both = await evaluate({})
  assert.ok(both > narrow, 'what was compiled for 256 bits is not taken for 512')
  assert.equal(await evaluate({}), both, 'what was compiled for 512 bits is')
})
