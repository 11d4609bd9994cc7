// Vector files, and what `lockstep eval --check` says about them.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { tests } from './paths.mjs'
import { run } from './unit.mjs'

export const golden = {
  'aos2_0_6.wasm': { file: path.join(tests, 'vectors', 'aos-2.0.6-wasm64.json'), plain: 'wasm64-unknown-emscripten-draft_2024_02_15', metered: 'wasm64-unknown-emscripten-draft_2024_10_16-metering' },
  'aos2_0_4_32.wasm': { file: path.join(tests, 'vectors', 'aos-2.0.4-wasm32.json'), plain: 'wasm32-unknown-emscripten4', metered: 'wasm32-unknown-emscripten-metering' }
}

// compiled code is kept for this test file's own runs, so that a module is compiled once
const code = fs.mkdtempSync(path.join(os.tmpdir(), 'lockstep-code-'))
process.on('exit', () => fs.rmSync(code, { recursive: true, force: true }))

export const readVectors = (file) => JSON.parse(fs.readFileSync(file, 'utf8'))

export function writeVectors (file, head, records) {
  fs.writeFileSync(file, JSON.stringify({ ...head, records: records.map(({ thrown, ...record }) => record) }))
  return file
}

/** Runs the check; answers `{code, out, err, differences, outputs: [n, m], memory: [n, m], gas: [n, m]}`, the counts of its last line. */
export async function check (module, format, file, more = []) {
  const done = await run(['eval', '--module', module, '--format', format, '--guest-env', 'empty', '--cache', code, '--check', ...more, file])
  const last = done.out.trimEnd().split('\n').at(-1)
  const counts = {}
  for (const [, n, m, what] of last.matchAll(/(\d+)\/(\d+) (outputs|memory|gas)/g)) counts[what] = [+n, +m]
  const differences = done.out.split('\n').filter((line) => line && !line.startsWith('{')).map((line) => line.slice(0, 600)).slice(0, 12).join('\n') + done.err.slice(-500)
  return { ...done, last, ...counts, differences }
}
