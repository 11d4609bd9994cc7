// Makes signers.json: an item of every signer that the JavaScript library has, some at the edges of its verifier, and what
// that verifier says of each.
//   npm install --ignore-scripts arbundles@0.11.2 @dha-team/arbundles@1.0.4 && node make-signers.mjs > signers.json
// The keys are made for this file: public, and good for nothing else.
import crypto from 'node:crypto'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const bs58 = require('bs58')
const noble = require('@noble/ed25519')
const target = crypto.createHash('sha256').update('target').digest().toString('base64url')
const options = { target, anchor: 'an anchor has thirty-two bytes..', tags: [{ name: 'Data-Protocol', value: 'ao' }, { name: 'Umlaut', value: 'größe' }] }
const jwk = crypto.generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey.export({ format: 'jwk' })
const seed = (n) => Buffer.alloc(32, n)
const keyPair = async (n) => Buffer.concat([seed(n), await noble.getPublicKey(seed(n))])
const hex = (bytes) => '0x' + Buffer.from(bytes).toString('hex')
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n

const items = []
const record = async (lib, maker, name, item) => items.push({
  name, maker, id: item.id, signatureType: item.signatureType, accepted: await lib.DataItem.verify(item.getRaw()).catch(() => false),
  raw: Buffer.from(item.getRaw()).toString('base64url')
})
for (const [maker, lib] of [['arbundles 0.11.2', require('arbundles')], ['@dha-team/arbundles 1.0.4', require('@dha-team/arbundles')]]) {
  const solana = await keyPair(3)
  const aptosWallet = (pair) => ({
    signMessage: async ({ message, nonce }) => ({
      signature: Buffer.from(await noble.sign(Buffer.from(`APTOS\nmessage: ${message}\nnonce: ${nonce}`), pair.subarray(0, 32))).toString('hex')
    })
  })
  // Two of three, the threshold in the last byte.
  const members = await Promise.all([5, 6, 7].map(keyPair))
  const multiKey = Buffer.alloc(1025)
  members.forEach((pair, i) => multiKey.set(pair.subarray(32), i * 32))
  multiKey[1024] = 2
  const multi = (bitmap) => new lib.MultiSignatureAptosSigner(multiKey, async (message) => ({
    signatures: await Promise.all(bitmap.map(async (i) => Buffer.from(await noble.sign(message, members[i].subarray(0, 32))))), bitmap
  }))
  const signers = {
    arweave: new lib.ArweaveSigner(jwk),
    ethereum: new lib.EthereumSigner('11'.repeat(32)),
    polygon: new lib.PolygonSigner('12'.repeat(32)),
    'typed ethereum': new lib.TypedEthereumSigner('13'.repeat(32)),
    solana: new lib.SolanaSigner(bs58.encode(solana)),
    'solana, as hex': new lib.HexSolanaSigner(bs58.encode(solana)),
    near: new lib.NearSigner('ed25519:' + bs58.encode(solana)),
    algorand: new lib.AlgorandSigner(solana, solana.subarray(32)),
    aptos: new lib.AptosSigner(hex(solana.subarray(0, 32)), hex(solana.subarray(32))),
    'injected aptos': new lib.InjectedAptosSigner(aptosWallet(solana), solana.subarray(32)),
    'multi aptos': multi([0, 2]),
    'multi aptos below its threshold': multi([1]),
    'multi aptos of nobody': multi([])
  }
  const make = async (signer, data = 'data: ✓') => {
    const item = lib.createData(data, signer, options)
    await item.sign(signer)
    return item
  }
  for (const [name, signer] of Object.entries(signers)) await record(lib, maker, name, await make(signer))

  // A signature by an Ethereum key with other last bytes, and with its other half.
  const changed = async (name, signer, change) => {
    const item = await make(signer)
    const raw = Buffer.from(item.getRaw())
    change(raw.subarray(2, 67))
    await record(lib, maker, name, new lib.DataItem(raw))
  }
  const otherHalf = (signature) => {
    const s = BigInt(hex(signature.subarray(32, 64)))
    signature.set(Buffer.from((ORDER - s).toString(16).padStart(64, '0'), 'hex'), 32)
    signature[64] = 55 - signature[64]
  }
  for (const kind of ['ethereum', 'typed ethereum']) {
    await changed(`${kind}, v less 27`, signers[kind], (signature) => { signature[64] -= 27 })
    await changed(`${kind}, v plus 2`, signers[kind], (signature) => { signature[64] += 2 })
    await changed(`${kind}, the other v`, signers[kind], (signature) => { signature[64] = 55 - signature[64] })
    await changed(`${kind}, v of 26`, signers[kind], (signature) => { signature[64] = 26 })
    await changed(`${kind}, the other half of s`, signers[kind], otherHalf)
  }
  // The owner of typed data is an address in text.
  for (const [name, respell] of [['in capitals', (text) => '0x' + text.slice(2).toUpperCase()], ['with one capital', (text) => text.replace(/[a-f]/, (c) => c.toUpperCase())]]) {
    class Respelt extends lib.TypedEthereumSigner {
      get publicKey () { return Buffer.from(respell(super.publicKey.toString())) }
    }
    await record(lib, maker, `typed ethereum, ${name}`, await make(new Respelt('13'.repeat(32))))
  }
}
process.stdout.write(JSON.stringify({ made: 'by make-signers.mjs beside this file, node ' + process.version, items }, null, 0).replaceAll('},{', '},\n{') + '\n')
