// The npm loader (@permaweb/ao-loader), run as the reference compute unit folds its answers: the memory of a message with an
// Error, or of one that threw, is not fed on. Every message gets a fresh loader instance, so the guest clock starts at 10000.
import crypto from 'node:crypto'
import { peer } from './paths.mjs'

export const loaders = { '0.0.49': '@permaweb/ao-loader', '0.0.44': '@permaweb/ao-loader-0.0.44' }

export const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex')

/** The loader replaces these for the whole node process and does not always put them back. */
export async function withGlobalsKept (run) {
  const kept = [Date.now, Math.random, console.log]
  try { return await run() } finally { [Date.now, Math.random, console.log] = kept }
}

/** What the reference stores and sends for a thrown value: JavaScript errors have no members of their own. */
export const foldThrown = (thrown) => ({ Error: JSON.parse(JSON.stringify(thrown) ?? 'null') })

/**
 * A loader that hands out fresh instances of one module. The first one is made by the loader alone, metering included; the bytes
 * it then gives to WebAssembly are kept compiled for the later ones, because metering a module takes seconds.
 */
export function loaderOf (wasm, format, { loader = '0.0.49', gasLimit = 9e15 } = {}) {
  const load = peer(loaders[loader])
  let compiled = null
  return async () => {
    if (compiled) {
      return load((imports, done) => { WebAssembly.instantiate(compiled, imports).then((instance) => done(instance, compiled)); return {} }, { format, computeLimit: gasLimit })
    }
    const instantiate = WebAssembly.instantiate
    let bytes
    WebAssembly.instantiate = (source, imports) => { bytes = source; return instantiate(source, imports) }
    try {
      const handle = await load(wasm, { format, computeLimit: gasLimit })
      if (loader === '0.0.49' && !(bytes instanceof WebAssembly.Module)) compiled = new WebAssembly.Module(bytes)
      return handle
    } finally { WebAssembly.instantiate = instantiate }
  }
}

/**
 * One process: evaluates messages in order and yields a record for each, in the shape of a vector file:
 * `{msg, result, thrown, memory_bytes?, memory_sha256?, kept}`. `gasLimit` counts only in the metering formats.
 */
export async function * evaluateFresh ({ wasm, format, env, messages, gasLimit, loader, hash = true }) {
  const fresh = loaderOf(wasm, format, { loader, gasLimit })
  let state = null
  for (const msg of messages) {
    yield await withGlobalsKept(async () => {
      const handle = await fresh()
      try {
        const { Memory, ...result } = await handle(state, msg, env)
        const kept = !result.Error
        if (kept) state = Memory
        return { msg, result, thrown: false, memory_bytes: Memory.length, ...(hash && { memory_sha256: sha256(Memory) }), kept }
      } catch (thrown) {
        return { msg, result: foldThrown(thrown), thrown: true, kept: false }
      }
    })
  }
}
