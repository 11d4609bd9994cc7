// Checks the dependency tree against deny.toml: every package's licence can be met from the allowed ones, no banned package, and
// everything comes from crates.io or this repository. A small part of what cargo-deny does, for machines without it.
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { root } from './lib/paths.mjs'

const deny = fs.readFileSync(path.join(root, 'deny.toml'), 'utf8').replace(/#.*$/gm, '')
const table = (name) => deny.split(/^\[/m).find((part) => part.startsWith(`${name}]`))
const allowed = new Set([.../allow = \[([^\]]*)\]/.exec(table('licenses'))[1].matchAll(/"([^"]+)"/g)].map((m) => m[1]))
const banned = new Set([...table('bans').matchAll(/name = "([^"]+)"/g)].map((m) => m[1]))

const metadata = (...more) => JSON.parse(execFileSync('cargo', ['metadata', '--format-version', '1', '--locked', ...more], { cwd: root, maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] }))
let tree
try { tree = metadata() } catch { tree = metadata('--offline', '--filter-platform', 'x86_64-unknown-linux-gnu') } // no network: what is built here

/** Whether an SPDX expression can be met; `/` is an old way to write OR. */
export function met (expression, allowed) {
  const tokens = expression.replaceAll('/', ' OR ').match(/[()]|[^\s()]+/g)
  const any = () => { let ok = all(); while (tokens[0] === 'OR') { tokens.shift(); ok = all() || ok } return ok }
  const all = () => { let ok = one(); while (tokens[0] === 'AND') { tokens.shift(); ok = one() && ok } return ok }
  const one = () => {
    let name = tokens.shift()
    if (name === '(') { const ok = any(); tokens.shift(); return ok }
    if (tokens[0] === 'WITH') name += ` ${tokens.shift()} ${tokens.shift()}`
    return allowed.has(name)
  }
  return any()
}
for (const [expression, wanted] of [['MIT', true], ['GPL-3.0', false], ['GPL-3.0 OR MIT', true], ['GPL-3.0 AND MIT', false], ['(MIT OR X) AND Y', false], ['Apache-2.0 WITH LLVM-exception', true], ['X/MIT', true]]) {
  if (met(expression, new Set(['MIT', 'Apache-2.0 WITH LLVM-exception'])) !== wanted) throw new Error(`cannot read ${expression}`)
}

const used = new Set(tree.resolve.nodes.map((n) => n.id))
const packages = tree.packages.filter((p) => used.has(p.id))
const wrong = []
for (const p of packages) {
  const what = `${p.name} ${p.version}`
  if (!p.license) wrong.push(`${what}: no licence expression`)
  else if (!met(p.license, allowed)) wrong.push(`${what}: ${p.license} cannot be met`)
  if (banned.has(p.name)) wrong.push(`${what}: banned`)
  if (p.source !== null && !p.source.startsWith('registry+') ) wrong.push(`${what}: from ${p.source}`)
}
for (const line of wrong) console.log(line)
console.log(`${packages.length} packages checked, ${wrong.length} wrong`)
process.exit(wrong.length ? 1 : 0)
