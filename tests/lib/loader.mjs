// The npm loader (@permaweb/ao-loader), run as the reference compute unit folds its answers: the memory of a message with an
// Error, or of one that threw, is not fed on. Every message gets a fresh loader instance, so the guest clock starts at 10000.
import crypto from 'node:crypto'
import { peer } from './paths.mjs'

export const loaders = { '0.0.49': '@permaweb/ao-loader', '0.0.44': '@permaweb/ao-loader-0.0.44' }

export const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex')

/** The loader replaces these for the whole node process and does not always put them back. */
async function withGlobalsKept (run) {
  const kept = [Date.now, Math.random, console.log]
  try { return await run() } finally { [Date.now, Math.random, console.log] = kept }
}

/**
 * One process: evaluates messages in order and yields a record for each:
 * `{msg, result?, thrown?, memory_bytes?, memory_sha256?, kept}`. `gasLimit` counts only in the metering formats.
 */
export async function * evaluateFresh ({ wasm, format, env, messages, gasLimit = 9e15, loader = '0.0.49', hash = true }) {
  const load = peer(loaders[loader])
  let state = null
  for (const msg of messages) {
    yield await withGlobalsKept(async () => {
      const handle = await load(wasm, { format, computeLimit: gasLimit })
      try {
        const { Memory, ...result } = await handle(state, msg, env)
        const kept = !result.Error
        if (kept) state = Memory
        return { msg, result, memory_bytes: Memory.length, ...(hash && { memory_sha256: sha256(Memory) }), kept }
      } catch (thrown) {
        return { msg, thrown, kept: false }
      }
    })
  }
}
