// Makes NAME.json and NAME-metered.json for the shipped processes: what the npm loader 0.0.49 answers, message by message.
//   TZ=UTC node make-vectors.mjs [NAME...]     (needs `npm ci` in tests/clients)
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { authority, environment, id, owner, schedule, stranger } from '../lib/messages.mjs'
import { evaluateFresh, sha256 } from '../lib/loader.mjs'

if (process.env.TZ !== 'UTC') throw new Error('run with TZ=UTC: the loader gives the guest the time zone of the host')

const here = path.dirname(fileURLToPath(import.meta.url))
const act = (Action, more = {}, rest = {}) => ({ tags: { Action, ...more }, ...rest })
const peer = id('another process')
const pushed = (by) => ({ from: peer, signer: by })

// Bitcoin's first block (2009-01-03), without its nonce 2083236893.
const genesis = '01000000' + '00'.repeat(32) + '3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a' + '29ab5f49' + 'ffff001d'
const mine = (First, Count, Header = genesis) => act('Mine', { Header, First: String(First), Count: String(Count) })

const price = (Spot, Strike, Volatility, Steps, Paths, Seed) =>
  act('Price', Object.fromEntries(Object.entries({ Spot, Strike, Volatility, Steps, Paths, Seed }).map(([name, n]) => [name, String(n)])))

const steps = {
  counter: [
    act('Get'), act('Increment'), act('Increment', { By: '41' }), act('Get'),
    act('Increment', { By: '-1' }), act('Increment', { By: '' }), act('Increment', { By: '1e3' }), act('Increment', { By: '99999999999999999999' }),
    act('Increment', { By: '0' }), act('Decrement'), act('Say "no"\\\n\t\u0001é€😀'), { tags: {} }, act('A'.repeat(63)), act('A'.repeat(64)),
    act('Reset', {}, { signer: stranger }), act('Get', {}, { signer: stranger }), act('Reset'), act('Get'),
    act('Increment', { By: '18446744073709551615' }), act('Increment'), act('Get'), act('Reset'),
    act('Increment', {}, pushed(authority)), act('Increment', {}, pushed(stranger)), act('Reset', {}, pushed(authority)),
    act('Increment', { By: ['2', '3'] }), act('Increment', {}, { data: 'ünïcödé 😀 \u0000 "quoted" \\ / {"nested":["json"]}' }),
    act('Increment', {}, { data: 'x'.repeat(40000) }), act('Get')
  ],
  token: [
    act('Info'), act('Balance'), act('Mint', { Quantity: '1000' }), act('Balance'), act('Info'),
    act('Mint', { Quantity: '1000' }, { signer: stranger }), act('Mint', { Quantity: '0' }), act('Mint', { Quantity: '1.5' }), act('Mint', {}),
    act('Transfer', { Recipient: stranger, Quantity: '300' }), act('Balance', { Recipient: stranger }), act('Balance'),
    act('Transfer', { Recipient: owner, Quantity: '700' }), act('Balance'), act('Transfer', { Recipient: stranger, Quantity: '701' }),
    act('Transfer', { Recipient: stranger, Quantity: '-5' }), act('Transfer', { Quantity: '5' }), act('Transfer', { Recipient: '', Quantity: '5' }),
    act('Transfer', { Recipient: 'r'.repeat(56), Quantity: '5' }), act('Transfer', { Recipient: 'r'.repeat(55), Quantity: '5' }),
    act('Transfer', { Recipient: peer, Quantity: '100' }, { signer: stranger }), act('Transfer', { Recipient: '"quoted"\\\n', Quantity: '1' }, { signer: stranger }),
    act('Transfer', { Recipient: owner, Quantity: '60' }, pushed(authority)), act('Transfer', { Recipient: owner, Quantity: '1' }, pushed(stranger)),
    act('Balance', { Recipient: peer }), act('Balance', { Recipient: 'nobody' }), act('Mint', { Quantity: '18446744073709551615' }),
    act('Mint', { Quantity: '18446744073709550615', Recipient: peer }), act('Info'), act('Burn', { Quantity: '1' }), { tags: {} },
    ...Array.from({ length: 20 }, (_, i) => act('Transfer', { Recipient: id(`account ${i}`), Quantity: String(i + 1) })), act('Info')
  ],
  miner: [
    act('Best'), mine(2083236893 - 50, 100), act('Best'), mine(0, 200), act('Best'), mine(4294967290, 12), mine(2083236893, 1), act('Best'),
    mine(0, 50, 'ff'.repeat(76)), mine(0, 0), mine(0, 4194305), mine(-1, 5), mine(4294967296, 5), mine(0, 5, 'zz'.repeat(76)), mine(0, 5, '00'), act('Mine'),
    act('Sleep'), { tags: {} }, mine(1000000, 1000, genesis.toUpperCase()), act('Best', {}, { signer: stranger }), act('Best', {}, pushed(stranger))
  ],
  pricing: [
    act('Last'), price(100, 100, 100, 16, 1000, 1), act('Last'), price(100, 110, 100, 252, 200, 4294967295), price(999, 1, 1000, 64, 100, 7),
    price(1, 1000000, 1000, 64, 50, 8), price(1000000, 999999, 0, 1, 1, 9), price(3, 2, 1000, 4096, 5, 10), act('Last'),
    price(0, 100, 100, 16, 10, 1), price(100, 1000001, 100, 16, 10, 1), price(100, 100, 1001, 16, 10, 1), price(100, 100, -1, 16, 10, 1),
    price(100, 100, 100, 0, 10, 1), price(100, 100, 100, 4097, 10, 1), price(100, 100, 100, 16, 0, 1), price(100, 100, 100, 16, 1048577, 1),
    price(100, 100, 100, 16, 10, 0), act('Price'), act('Sleep'), { tags: {} }, act('Last', {}, { signer: stranger })
  ],
  matvec: [
    act('Multiply', { Seed: '1', Repeats: '1' }), act('Load', { Seed: '1' }), act('Multiply', { Seed: '1', Repeats: '1' }),
    act('Multiply', { Seed: '2', Repeats: '3' }), act('Load', { Seed: '4294967295' }), act('Multiply', { Seed: '1', Repeats: '1' }),
    act('Load', { Seed: '0' }), act('Load'), act('Multiply', { Seed: '0', Repeats: '1' }), act('Multiply', { Seed: '1', Repeats: '0' }),
    act('Multiply', { Seed: '1', Repeats: '4097' }), act('Sleep'), { tags: {} }, act('Multiply', { Seed: '77', Repeats: '2' }, { signer: stranger })
  ],
  nbody: [
    act('State'), act('Advance', { Steps: '1' }), act('Advance', { Steps: '9' }), act('Advance', { Steps: '0' }), act('Advance', { Steps: '1000001' }),
    act('Advance'), act('State', {}, { signer: stranger }), act('Advance', { Steps: '90' }), act('Sleep'), { tags: {} }, act('State')
  ]
}

const formats = { '': 'wasm32-unknown-emscripten4', '-metered': 'wasm32-unknown-emscripten-metering' }

for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(steps)) {
  const wasm = fs.readFileSync(path.join(here, `${name}.wasm`))
  for (const [suffix, format] of Object.entries(formats)) {
    const env = environment(name, format)
    const records = []
    for await (const { thrown, ...record } of evaluateFresh({ wasm, format, env, messages: schedule(env, steps[name]) })) {
      if (thrown) throw new Error(`${name} record ${records.length} threw`)
      records.push(record)
    }
    const head = {
      module: `${name}.wasm`, module_sha256: sha256(wasm), format, loader: '@permaweb/ao-loader 0.0.49', TZ: 'UTC', mode: 'fresh',
      rule: 'a fresh loader instance for every message; it is given the memory of the last record without Error', env
    }
    // one record a line, so that a change shows as the lines it changes
    const text = JSON.stringify({ ...head, records: [] }, null, 1).replace(/\[\]\n}$/, `[\n${records.map((r) => JSON.stringify(r)).join(',\n')}\n]\n}\n`)
    JSON.parse(text)
    fs.writeFileSync(path.join(here, `${name}${suffix}.json`), text)
    console.log(`${name}${suffix}.json: ${records.length} records, ${records.filter((r) => r.kept).length} kept, gas ${records.reduce((n, r) => n + r.result.GasUsed, 0)}`)
  }
}
