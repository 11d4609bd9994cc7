// Gas, side by side: the npm loader 0.0.49 and Lockstep evaluate the same messages in the metering formats, and must agree to
// the unit on every message, and on the very unit at which gas runs out.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { evaluateFresh } from '../lib/loader.mjs'
import { aosModule } from '../lib/paths.mjs'
import { temporary } from '../lib/unit.mjs'
import { check, golden, readVectors, writeVectors } from '../lib/vectors.mjs'

const collect = async (records) => { const all = []; for await (const r of records) all.push(r); return all }

for (const [file, { file: vectors, metered: format }] of Object.entries(golden)) {
  test(`${file}: gas and limits as the loader's`, { timeout: 600_000 }, async (t) => {
    const module = aosModule(file)
    const wasm = fs.readFileSync(module)
    const { env, records: plain } = readVectors(vectors)
    const of = (data) => plain.find((r) => r.msg.Data.startsWith(data)).msg
    // without those that build strings of tens of megabytes or exhaust the stack: minutes in the loader, when metered
    const all = plain.map((r) => r.msg).filter(({ Data }) => !/BIG|return f\(\) \+ 1/.test(Data))
    const dir = temporary(t, 'gas')
    let records

    await t.test(`${all.length} messages, gas equal to the unit`, async () => {
      assert.ok(all.length >= 40)
      records = await collect(evaluateFresh({ wasm, format, env, messages: all, hash: false }))
      assert.ok(records.every((r) => r.result.GasUsed > 0), 'the loader metered every message')
      const done = await check(module, format, writeVectors(path.join(dir, 'all.json'), { env }, records))
      assert.equal(done.code, 0, done.differences)
      assert.deepEqual(done.gas, [all.length, all.length], done.last)
      assert.deepEqual(done.outputs, [all.length, all.length], done.last)
      const used = (data) => records.find((r) => r.msg.Data.startsWith(data)).result.GasUsed
      console.log(`# ${file}: boot ${records[0].result.GasUsed}, return 1+1 ${used('return 1+1')}, 1e6 loop ${used('local s=0')}, fib(24) ${used('local function fib')}`)
    })

    await t.test('one unit of gas more or less than expected is a difference', async () => {
      const few = structuredClone(records.slice(0, 3))
      few[1].result.GasUsed += 1
      const done = await check(module, format, writeVectors(path.join(dir, 'off-by-one.json'), { env }, few))
      assert.equal(done.code, 1)
      assert.deepEqual(done.gas, [2, 3], done.last)
    })

    // boot, 1+1, the loop, 1+1: the limit is what the loop needs, and then one unit less; both more than boot needs
    const messages = [all[0], of('return 1+1'), of('local s=0'), of('return "done"')]
    const loop = (await collect(evaluateFresh({ wasm, format, env, messages, hash: false })))[2].result.GasUsed
    for (const [limit, out] of [[loop, false], [loop - 1, true]]) {
      await t.test(`a limit of ${limit}: ${out ? 'out of gas in the loop, and the next message runs' : 'the loop just fits'}`, async () => {
        const limited = await collect(evaluateFresh({ wasm, format, env, messages, gasLimit: limit, hash: false }))
        assert.deepEqual(limited.map((r) => r.thrown), [false, false, out, false], 'by the loader')
        const done = await check(module, format, writeVectors(path.join(dir, `limit-${limit}.json`), { env }, limited), ['--gas-limit', String(limit)])
        assert.equal(done.code, 0, done.differences)
        assert.deepEqual(done.outputs, [4, 4], done.last)
      })
    }
  })
}
