// Makes ed25519.json: what @noble/ed25519 1.6.1, the verifier of arbundles, says of signatures at the edges of the rule.
//   npm install --ignore-scripts arbundles@0.11.2 @noble/ed25519@1.6.1 && node make-ed25519.mjs > ed25519.json
// The keys are made for this file: public, and good for nothing else.
import crypto from 'node:crypto'
import { createRequire } from 'node:module'

const { CURVE, Point, getPublicKey, sign, utils, verify } = createRequire(import.meta.url)('@noble/ed25519')
const ORDER = CURVE.l
const P = CURVE.P
const bytes = (number) => Uint8Array.from({ length: 32 }, (_, i) => Number((number >> BigInt(8 * i)) & 255n))
const number = (bytes) => bytes.reduceRight((all, byte) => (all << 8n) | BigInt(byte), 0n)
const mod = (n, m) => ((n % m) + m) % m
const sha512 = (...parts) => crypto.createHash('sha512').update(Buffer.concat(parts)).digest()

// Every y that decodes to a point of small order, in every encoding: 0, 1, -1, and the two of order 8; y and y + p; both signs.
const eighth = number(Buffer.from('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', 'hex'))
const ys = [0n, 1n, P - 1n, P, P + 1n, eighth, mod(-eighth, P)]
const small = ys.flatMap((y) => [0n, 1n].map((sign) => bytes(y | (sign << 255n))))
const message = Buffer.from('lockstep')
const secret = Buffer.alloc(32, 9)
const publicKey = await getPublicKey(secret)
const { head } = await utils.getExtendedPublicKey(secret)
const scalar = mod(number(head), ORDER)

const cases = []
const add = async (name, key, signature, text = message) => {
  const valid = await verify(signature, text, key).catch(() => false)
  cases.push({ name, publicKey: Buffer.from(key).toString('hex'), signature: Buffer.from(signature).toString('hex'), message: Buffer.from(text).toString('hex'), valid })
}
for (const [i, a] of small.entries()) {
  for (const [j, r] of small.entries()) await add(`small order ${i} and ${j}, s of 0`, a, Buffer.concat([r, bytes(0n)]))
}
// R of small order under a real key: s = k a, with k over the bytes of R as they are, and with its sign bit cleared.
for (const [i, r] of small.entries()) {
  for (const cleared of [false, true]) {
    const hashed = Uint8Array.from(r)
    if (cleared) hashed[31] &= 0x7f
    const k = mod(number(sha512(hashed, publicKey, message)), ORDER)
    await add(`R of small order ${i}, ${cleared ? 'hashed without its sign' : 'hashed as it is'}`, publicKey, Buffer.concat([r, bytes(mod(k * scalar, ORDER))]))
  }
}
// A with a part of small order: a real key plus each point of small order.
for (const [i, torsion] of small.entries()) {
  let point
  try { point = Point.fromHex(torsion, false) } catch { continue }
  const mixed = Point.fromHex(publicKey).add(new Point(point.x, mod(point.y, P))).toRawBytes()
  const nonce = 12345n
  const R = Point.BASE.multiply(nonce).toRawBytes()
  const k = mod(number(sha512(R, mixed, message)), ORDER)
  await add(`a key with a part of small order ${i}`, mixed, Buffer.concat([R, bytes(mod(nonce + k * scalar, ORDER))]))
}
const good = Buffer.from(await sign(message, secret))
const s = number(good.subarray(32))
await add('honest', publicKey, good)
await add('of another message', publicKey, good, Buffer.from('lockstop'))
await add('s plus the order', publicKey, Buffer.concat([good.subarray(0, 32), bytes(s + ORDER)]))
await add('s of the order', publicKey, Buffer.concat([good.subarray(0, 32), bytes(ORDER)]))
await add('s minus one', publicKey, Buffer.concat([good.subarray(0, 32), bytes(s - 1n)]))
await add('y without a point, in A', bytes(2n), good)
await add('y without a point, in R', publicKey, Buffer.concat([bytes(2n), good.subarray(32)]))
process.stdout.write(JSON.stringify({ made: 'by make-ed25519.mjs beside this file, node ' + process.version, cases }, null, 0).replaceAll('},{', '},\n{') + '\n')
