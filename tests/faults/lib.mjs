// What the fault tests share: the modules, and a process with some messages.
import fs from 'node:fs'
import path from 'node:path'
import { Network } from '../lib/network.mjs'
import { tests } from '../lib/paths.mjs'

export const wasm = (name) => fs.readFileSync(path.join(tests, ['counter', 'token', 'miner'].includes(name) ? 'processes' : 'faults/modules', `${name}.wasm`))

/** A network with one counter process and `n` increments: `{net, pid, ids}`, ids[0] being the process itself. */
export function counting (n, { label = 'counter', net = new Network(), bare = false } = {}) {
  const module = net.module('counter', wasm('counter'))
  const pid = net.process(label, module, {}, { bare })
  const ids = bare ? [] : [pid]
  for (let i = 0; i < n; i++) ids.push(net.message(pid, { Action: 'Increment' }))
  return { net, module, pid, ids }
}

/** Evaluations so far of scheduled messages, from the unit's metrics. */
export async function evaluations (unit) {
  const n = (await unit.metric('ao_cu_ao_process_total_evaluations_total')) ?? (await unit.metric('ao_cu_ao_process_total_evaluations'))
  return n ?? 0
}

export const output = (answer) => answer.json?.Output?.data
