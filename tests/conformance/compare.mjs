// Compares answers of a unit with the recorded ones of the reference, by value: the same status; JSON bodies equal with object
// keys sorted and cursors decoded; binary bodies equal in length and in SHA-256.
import fs from 'node:fs'
import path from 'node:path'
import { sha256 } from '../lib/loader.mjs'
import { tests } from '../lib/paths.mjs'

export const recorded = () => fs.readFileSync(path.join(tests, 'network', 'answers.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l))

const decoded = (cursor) => { try { return JSON.parse(Buffer.from(cursor, 'base64').toString()) } catch { return cursor } }
const sorted = (v) => (Array.isArray(v) ? v.map(sorted) : v && typeof v === 'object' ? Object.fromEntries(Object.keys(v).sort().map((k) => [k, sorted(k === 'cursor' ? decoded(v[k]) : v[k])])) : v)
const byValue = (text) => { try { return JSON.stringify(sorted(JSON.parse(text))) } catch { return text } }

/** What differs, as one line; empty if nothing does. `got` is an answer of lib/unit.mjs. */
export function difference (want, got) {
  if (got.status !== want.status) return `status ${got.status}, reference ${want.status}`
  if (want.body?.sha256) {
    if (got.body.length !== want.body.bytes) return `${got.body.length} bytes, reference ${want.body.bytes}`
    return sha256(got.body) === want.body.sha256 ? '' : 'other bytes of the same length'
  }
  return byValue(got.body.toString()) === byValue(want.body) ? '' : want.status === 200 ? 'body' : `error text ${got.body}, reference ${want.body}`
}
