// An Arweave wallet of the test run's own (RSA 4096), made once and kept in tests/.cache; and data items signed with it.
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { cache, peer } from './paths.mjs'

export function wallet (name = 'wallet') {
  const file = path.join(cache, `${name}.json`)
  if (!fs.existsSync(file)) {
    const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 4096, publicExponent: 65537 })
    fs.mkdirSync(cache, { recursive: true })
    fs.writeFileSync(`${file}.${process.pid}`, JSON.stringify(privateKey.export({ format: 'jwk' })))
    fs.renameSync(`${file}.${process.pid}`, file)
  }
  return JSON.parse(fs.readFileSync(file, 'utf8'))
}

/** The Arweave address of a wallet: SHA-256 of its modulus. */
export const address = (jwk) => crypto.createHash('sha256').update(Buffer.from(jwk.n, 'base64url')).digest('base64url')

/** Uploads a signed data item to a bundler; answers its id. */
export async function upload (bundlerUrl, jwk, data, tags) {
  const { ArweaveSigner, createData } = peer('@dha-team/arbundles')
  const signer = new ArweaveSigner(jwk)
  const item = createData(new Uint8Array(data), signer, { tags })
  await item.sign(signer)
  const res = await fetch(`${bundlerUrl}/tx`, { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: item.getRaw() })
  if (!res.ok) throw new Error(`bundler: ${res.status} ${await res.text()}`)
  return item.id
}
