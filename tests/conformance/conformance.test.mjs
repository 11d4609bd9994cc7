// The recorded network, replayed: a unit must answer all that the reference answered, but for the listed differences. A
// difference that is not listed fails, and so does a listed one that is no longer there, or is another than described.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { tests } from '../lib/paths.mjs'
import { serveUnit } from '../lib/unit.mjs'
import { difference, recorded } from './compare.mjs'
import { serveRecorded } from './replay.mjs'

const known = new Map(JSON.parse(fs.readFileSync(path.join(tests, 'conformance', 'known-differences.json'), 'utf8')).map((k) => [k.step, k]))

test('all recorded answers of the reference, but for the known differences', { timeout: 600_000 }, async (t) => {
  const upstream = await serveRecorded()
  t.after(upstream.close)
  // the reference's own limits; its guest environment is the default
  const unit = await serveUnit(t, upstream, { env: { HYDRATION_MODE_NONCE_LIMIT: '200' } })
  const rows = recorded()
  assert.equal(rows.length, 78)
  const wrong = []
  let equal = 0
  for (const { step, req, res } of rows) {
    const got = await unit.request(req.path, { method: req.method, body: req.body || undefined, timeout: 120_000 })
    const why = difference(res, got)
    const listed = known.get(step)
    known.delete(step)
    if (!why) equal++
    if (why && !listed) wrong.push(`${step}: ${why}${why === 'body' ? `\n  got  ${got.body.toString().slice(0, 1500)}\n  want ${String(res.body).slice(0, 1500)}` : ''}`)
    if (listed && !why) wrong.push(`${step}: listed as different, but equal`)
    if (listed && why && why !== listed.difference) wrong.push(`${step}: listed as "${listed.difference}", but ${why}`)
  }
  for (const step of known.keys()) wrong.push(`${step}: listed as different, but never asked`)
  console.log(`# ${equal} of ${rows.length} answers equal`)
  assert.deepEqual(wrong, [])
})
