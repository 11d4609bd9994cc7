// Serves the recorded network for use by hand:
//   node tests/conformance/replay.mjs
//   lockstep serve --su-url ... --gateway-url ... (printed)
import path from 'node:path'
import { Network, serveNetwork } from '../lib/network.mjs'
import { tests } from '../lib/paths.mjs'

/** The recorded scheduler pages by timestamp, ends its pages exactly, and looks at process-id. */
export const serveRecorded = () => serveNetwork(Network.load(path.join(tests, 'network')), { noncePaging: false, fullPageSaysMore: false, ignoresProcessId: false })

if (import.meta.filename === process.argv[1]) {
  const { suUrl, gatewayUrl } = await serveRecorded()
  console.log(`--su-url ${suUrl} --gateway-url ${gatewayUrl} --graphql-url ${gatewayUrl}/graphql`)
}
