// Makes arbundles.json: data items and a bundle as the JavaScript signers of ao make them, with the fields they read back.
//   npm install --ignore-scripts arbundles@0.11.2 @dha-team/arbundles@1.0.4 && node make.mjs > arbundles.json
// The RSA key is made for this file: public, and good for nothing else.
import { createRequire } from 'node:module'
import crypto from 'node:crypto'

const require = createRequire(import.meta.url)
const old = require('arbundles')
const dha = require('@dha-team/arbundles')

const jwk = crypto.generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey.export({ format: 'jwk' })
const ETHEREUM_KEY = '11'.repeat(32)
const ED25519_SECRET = crypto.createPrivateKey({
  key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), Buffer.alloc(32, 7)]), format: 'der', type: 'pkcs8'
})
const ed25519Public = crypto.createPublicKey(ED25519_SECRET).export({ format: 'der', type: 'spki' }).subarray(-32)

const target = crypto.createHash('sha256').update('target').digest().toString('base64url')
const anchor = 'an anchor has thirty-two bytes..'
const tags = [
  { name: 'Data-Protocol', value: 'ao' }, { name: 'Type', value: 'Message' }, { name: 'Umlaut', value: 'größe ✓ 🚀' },
  { name: '', value: '' }, { name: 'Long', value: 'x'.repeat(300) }
]
const cases = [
  ['bare', 'hello', {}], ['everything', 'data: ✓', { target, anchor, tags }], ['no data', '', { target }],
  ['binary data', Buffer.from([0xff, 0xfe, 0, 1, 2]), { tags: tags.slice(0, 1) }], ['anchor only', 'x', { anchor }],
  ['a hundred tags', 'x', { tags: Array.from({ length: 100 }, (_, i) => ({ name: `n${i}`, value: `v${i}` })) }]
]

// A signer of another salt length than node's default.
const salted = (saltLength) => ({
  publicKey: Buffer.from(jwk.n, 'base64url'), signatureType: 1, signatureLength: 512, ownerLength: 512,
  sign: async (message) => crypto.sign('sha256', Buffer.from(message), {
    key: crypto.createPrivateKey({ key: jwk, format: 'jwk' }), padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength
  })
})
const ed25519 = (signatureType) => ({
  publicKey: ed25519Public, signatureType, signatureLength: 64, ownerLength: 32,
  sign: async (message) => crypto.sign(null, Buffer.from(message), ED25519_SECRET)
})

const describe = (name, maker, item) => ({
  name, maker, id: item.id, signatureType: item.signatureType, signature: item.signature, owner: item.owner, target: item.target,
  anchor: Buffer.from(item.rawAnchor).toString('base64url'), tags: item.tags, data: Buffer.from(item.rawData).toString('base64url'),
  raw: Buffer.from(item.getRaw()).toString('base64url')
})

const items = []; const signed = []
for (const [maker, lib] of [['arbundles 0.11.2', old], ['@dha-team/arbundles 1.0.4', dha]]) {
  const arweave = new lib.ArweaveSigner(jwk)
  const make = async (name, data, options, signer = arweave) => {
    const item = lib.createData(data, signer, options); await item.sign(signer)
    items.push(describe(name, maker, item)); if (signer === arweave) signed.push(item)
  }
  for (const c of cases) await make(...c)
  await make('ethereum', 'x', { target, tags }, new lib.EthereumSigner(ETHEREUM_KEY))
  await make('ed25519', 'x', { target, tags }, ed25519(2))
  await make('solana', 'x', { tags }, ed25519(4))
  for (const salt of [0, 20, 32]) await make(`salt of ${salt} bytes`, 'x', { tags }, salted(salt))
}
const bundle = await dha.bundleAndSignData(signed.slice(0, 3), new dha.ArweaveSigner(jwk))
process.stdout.write(JSON.stringify({
  made: 'by make.mjs beside this file, node ' + process.version, jwk, items,
  bundle: { ids: signed.slice(0, 3).map((i) => i.id), raw: Buffer.from(bundle.getRaw()).toString('base64url') }
}, null, 1) + '\n')
