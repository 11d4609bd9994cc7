// Messages as a compute unit gives them to a guest: exactly these keys in this order, with ids that are a function of a label.
import crypto from 'node:crypto'

/** An id: 43 characters of base64url, the same for the same label. */
export const id = (label) => crypto.createHash('sha256').update(label).digest('base64url')

export const tags = (pairs) => Object.entries(pairs).flatMap(([name, value]) => [value].flat().map((v) => ({ name, value: v })))

export const owner = id('owner')
export const authority = id('authority')
export const stranger = id('stranger')

/** The environment of a process of this module format. */
export function environment (label, format, processTags = {}) {
  return {
    Process: {
      Id: id(`${label} process`),
      Owner: owner,
      Tags: tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Process', Module: id(`${label} module`), Scheduler: id('scheduler'), Authority: authority, Name: label, ...processTags })
    },
    Module: {
      Id: id(`${label} module`),
      Owner: owner,
      Tags: tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: 'Module', 'Module-Format': format, 'Input-Encoding': 'JSON-V1', 'Output-Encoding': 'JSON-V1', 'Memory-Limit': '1-gb', 'Compute-Limit': '9000000000000' })
    }
  }
}

/**
 * The schedule of one process: the Process itself, then each of `steps` as a message. A step is
 * `{tags, data?, from?, signer?}`; `from` other than `signer` is a pushed message (From-Process).
 */
export function schedule (env, steps) {
  const pid = env.Process.Id
  const boot = { id: pid, type: 'Process', own: env.Process.Tags }
  return [boot, ...steps].map((step, nonce) => {
    const mid = step.id ?? id(`${pid} ${nonce}`)
    const signer = step.signer ?? owner
    const from = step.from ?? signer
    const forwarded = from !== signer
    const own = step.own ?? tags({ 'Data-Protocol': 'ao', Variant: 'ao.TN.1', Type: step.type ?? 'Message', ...(forwarded && { 'From-Process': from }), ...step.tags })
    return {
      Id: mid,
      Signature: `sig-${mid}`,
      Data: step.data ?? '',
      Owner: signer,
      Target: pid,
      Anchor: String(nonce).padStart(32, '0'),
      From: from,
      ...(forwarded && { 'Forwarded-By': signer }),
      Tags: own,
      Epoch: 0,
      Nonce: nonce,
      Timestamp: 1700000000000 + nonce * 1000,
      'Block-Height': 1500000 + nonce,
      'Hash-Chain': id(`chain ${pid} ${nonce}`),
      Cron: false,
      'Read-Only': false
    }
  })
}
