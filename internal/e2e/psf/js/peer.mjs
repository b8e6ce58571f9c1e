// A PSF peer: helia-coord as npm publishes it, with the wiring of
// ipfs-service-provider. It is driven by lines of JSON on stdin and answers each
// with one on stdout. Only what would leave the machine is replaced: the list of
// relays, and the question for the public IPv4 address.
//
//   node --import ./register.mjs peer.mjs '{"dir":..,"tcpPort":..,"wsPort":..,"seeds":[..]}'
import { createHash, randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import IpfsCoord from 'helia-coord'
import CreateHeliaNode from 'helia-coord/create-helia-node'
import { CID } from 'multiformats/cid'
import SlpWallet from 'minimal-slp-wallet'

const config = JSON.parse(process.argv[2])
const publicIp = async () => config.ip ?? '127.0.0.1'
const sink = '/psf-harness/sink/1.0.0'
const inbox = []

// The wallet only gives the key for private messages.
const wallet = new SlpWallet(undefined, { interface: 'consumer-api', restURL: 'http://127.0.0.1:1' })
await wallet.walletInfoPromise

const helia = new CreateHeliaNode({
  ipfsDir: config.dir,
  tcpPort: config.tcpPort,
  wsPort: config.wsPort,
  isCircuitRelay: config.relay,
  bootstrapPeers: config.seeds,
  getSeed: async () => 'the password of a key that lives as long as a test'
})
helia.publicIp = publicIp
// Peers behind NAT reach no other peer's own addresses, which are all 127.0.0.1 here.
const createLibp2p = helia.createLibp2p
helia.createLibp2p = options => createLibp2p({
  ...options,
  connectionGater: { denyDialMultiaddr: addr => addr.toString().startsWith('/ip4/127.0.0.1/') }
})
const ipfs = await helia.start()
const libp2p = ipfs.libp2p
// js-libp2p asks a relay once, and gives up after 5 s, which is too short on a busy machine.
const stores = libp2p.components.transportManager.getTransports().map(t => t.reservationStore).filter(Boolean)
if (stores.length !== 1 || !stores[0].reservationCompletionTimeout) throw new Error('want one transport that reserves')
stores[0].reservationCompletionTimeout = 60_000

const coord = new IpfsCoord({
  ipfs,
  wallet,
  type: 'node.js',
  nodeType: 'external',
  debugLevel: 2,
  tcpPort: config.relay ? config.tcpPort : undefined,
  isCircuitRelay: config.relay,
  circuitRelayInfo: config.relay ? { ip4: config.ip, tcpPort: config.tcpPort, crDomain: '' } : {},
  privateLog: (text, from) => { inbox.push({ text, from: from.toString() }) },
  announceJsonLd: { '@context': 'https://schema.org/', '@type': 'WebAPI', name: config.name, version: '1.0.0', protocol: 'generic-service', description: 'a peer of the test' }
})
coord.adapters.gist.getCRList2 = async () => ({ node: [], browser: [], recommendedPeers: config.seeds.map(multiaddr => ({ multiaddr })) })
coord.useCases.thisNode.publicIp = publicIp
if (config.seconds) { // else the timing of upstream: 120 s, 122 s, 124 s
  const timer = coord.controllers.timer
  timer.circuitRelayTimerInterval = config.seconds * 1000
  timer.announceTimerInterval = config.seconds * 1000 + 300
  timer.peerTimerInterval = config.seconds * 1000 + 600
}
// A receiver: counts what arrives and answers with the number and the SHA-256.
await libp2p.handle(sink, ({ stream }) => {
  stream.sink((async function * () {
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of stream.source) {
      const data = chunk.subarray()
      hash.update(data)
      bytes += data.length
    }
    yield Buffer.from(JSON.stringify({ bytes, sha256: hash.digest('hex') }))
  })()).catch(err => console.error('sink:', err))
}, { runOnLimitedConnection: true })
// A guest has the same software, but takes no part in the PSF network.
if (!config.guest) await coord.start()

const commands = {
  async state () {
    return {
      id: libp2p.peerId.toString(),
      addrs: libp2p.getMultiaddrs().map(String),
      connections: libp2p.getConnections().map(c => ({ peer: c.remotePeer.toString(), addr: c.remoteAddr.toString(), limited: c.limits != null })),
      // What gossipsub thinks of its neighbours; it stops listening to one below -10.
      scores: Object.fromEntries(libp2p.getPeers().map(p => [p.toString(), libp2p.services.pubsub.score.score(p.toString())])),
      relays: (coord.thisNode?.relayData ?? []).map(r => ({ id: r.ipfsId, addr: r.multiaddr, connected: r.connected, samples: r.metrics.aboutLatency, score: r.latencyScore })),
      peers: (coord.thisNode?.peerData ?? []).map(p => p.from),
      inbox
    }
  },

  // As a relay: who holds a place, and who of them is still connected.
  async places () {
    const held = [...libp2p.services.relay.reservations.keys()]
    return { held: held.map(String), connected: held.filter(p => libp2p.getConnections(p).length > 0).length }
  },

  // Opens a connection to an address.
  async dial ({ addr }) {
    const connection = await libp2p.dial(multiaddr(addr), { signal: AbortSignal.timeout(20_000) })
    return { addr: connection.remoteAddr.toString() }
  },

  // Moves bytes to a peer over the circuit that is open to it.
  async push ({ to, bytes }) {
    const connection = libp2p.getConnections(peerIdFromString(to)).find(c => c.remoteAddr.toString().includes('/p2p-circuit'))
    if (connection == null) throw new Error('no circuit to ' + to)
    const stream = await connection.newStream(sink, { runOnLimitedConnection: true, signal: AbortSignal.timeout(20_000) })
    const hash = createHash('sha256')
    const start = performance.now()
    await stream.sink((async function * () {
      for (let left = bytes; left > 0;) {
        const chunk = randomBytes(Math.min(left, 64 * 1024))
        hash.update(chunk)
        left -= chunk.length
        yield chunk
      }
    })())
    let answer = ''
    for await (const chunk of stream.source) answer += Buffer.from(chunk.subarray()).toString()
    const milliseconds = performance.now() - start
    await stream.close()
    return { ...JSON.parse(answer), sent: hash.digest('hex'), via: connection.remoteAddr.toString(), limited: connection.limits != null, milliseconds }
  },

  // Keeps a file in blocks, for others to fetch by bitswap.
  async keep ({ bytes }) {
    const data = randomBytes(bytes)
    return { cid: (await ipfs.fs.addBytes(data)).toString(), sha256: createHash('sha256').update(data).digest('hex') }
  },

  // Fetches a file by bitswap from whoever is connected.
  async fetch ({ cid, seconds }) {
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of ipfs.fs.cat(CID.parse(cid), { signal: AbortSignal.timeout(seconds * 1000) })) {
      hash.update(chunk)
      bytes += chunk.length
    }
    return { bytes, sha256: hash.digest('hex') }
  },

  // Sends an encrypted private message, as helia-coord does for its users.
  async say ({ to, text }) {
    await coord.useCases.peer.sendPrivateMessage(to, text, coord.thisNode)
    return {}
  }
}

const answer = value => process.stdout.write(JSON.stringify(value) + '\n')
process.on('uncaughtException', err => console.error('uncaughtException:', err))
process.on('unhandledRejection', err => console.error('unhandledRejection:', err))
createInterface({ input: process.stdin }).on('line', async line => {
  const { n, cmd, ...args } = JSON.parse(line)
  try {
    answer({ n, value: await commands[cmd](args) })
  } catch (err) {
    answer({ n, error: `${err.name}: ${err.message}` })
  }
}).on('close', () => process.exit(0))
answer({ n: 0, value: {} })
