// Makes transactions.json: base-layer transactions as arweave-js makes them.
//   npm install --ignore-scripts arweave@1.15.7 && node make-transactions.mjs > transactions.json
// The RSA key is made for this file: public, and good for nothing else.
import crypto from 'node:crypto'
import { createRequire } from 'node:module'

const Arweave = createRequire(import.meta.url)('arweave')
const arweave = Arweave.init({ host: '127.0.0.1' })
const jwk = crypto.generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey.export({ format: 'jwk' })
const anchor = crypto.createHash('sha384').update('anchor').digest('base64url')

const transactions = {}
for (const [name, fields, tags] of [
  ['data and tags', { data: 'hello ✓' }, [['Content-Type', 'text/plain'], ['Umlaut', 'größe']]],
  ['a transfer', { target: crypto.createHash('sha256').update('t').digest('base64url'), quantity: '1234567890123456' }, []],
  ['two chunks, the last one small', { data: Buffer.alloc(256 * 1024 + 10, 7) }, []]
]) {
  const transaction = await arweave.createTransaction({ ...fields, last_tx: anchor, reward: '0' }, jwk)
  for (const [name, value] of tags) transaction.addTag(name, value)
  await arweave.transactions.sign(transaction, jwk)
  transactions[name] = transaction.toJSON()
  // Too long to keep: whoever reads this file puts as many sevens there.
  if (fields.data?.length > 1000) delete transactions[name].data
}

// The first format, which signs all of the data.
const old = await arweave.createTransaction({ format: 1, data: 'old ✓', target: crypto.createHash('sha256').update('t').digest('base64url'), quantity: '7', last_tx: anchor, reward: '1' }, jwk)
old.addTag('Content-Type', 'text/plain')
await arweave.transactions.sign(old, jwk)
const legacy = { 'data, a transfer and a tag': old.toJSON() }
process.stdout.write(JSON.stringify({ made: 'by make-transactions.mjs beside this file, node ' + process.version, transactions, legacy }, null, 1) + '\n')
