// Many peers as browsers have them: js-libp2p that can dial WSS and nothing else.
// They hold reservations on one relay, and come back when they have lost it.
//
//   node peers.mjs RELAY_MULTIADDR NUMBER NAME ADDRESS
//
// Each change is a line on stdout: {"reserved": NUMBER_OF_PEERS}; after the first
// time that all have a place, also {"ids": [...]}. Ends when stdin does.
import dns from 'node:dns'
import net from 'node:net'

const [relay, number, name, address] = process.argv.slice(2)

// The name is the test's own.
const { lookup } = dns
dns.lookup = (host, options, done) => host === name
  ? (done ?? options)(null, options?.all ? [{ address, family: net.isIP(address) }] : address, net.isIP(address))
  : lookup(host, options, done)

// Node.js has it from release 22 on.
Promise.withResolvers ??= function () {
  const all = {}
  all.promise = new this((resolve, reject) => Object.assign(all, { resolve, reject }))
  return all
}

const { createLibp2p } = await import('libp2p')
const { webSockets } = await import('@libp2p/websockets')
const { circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { noise } = await import('@libp2p/noise')
const { yamux } = await import('@libp2p/yamux')
const { multiaddr } = await import('@multiformats/multiaddr')

const addr = multiaddr(relay)
const peers = []

async function start () {
  const peer = await createLibp2p({
    addresses: { listen: ['/p2p-circuit'] }, // a place on any relay that it is connected with
    transports: [webSockets(), circuitRelayTransport({ reservationCompletionTimeout: 60_000 })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() },
    connectionManager: { dialTimeout: 60_000 },
    connectionGater: { denyDialMultiaddr: () => false }
  })
  peers.push(peer)
  stay(peer)
}

// Few dial at once: they share a process, and on a busy machine a hundred handshakes at
// a time would all take longer than the relay waits for one, again and again.
const DIAL_AT_ONCE = 10
let dialling = 0

// stay dials the relay again whenever the connection is gone, as applications do.
async function stay (peer) {
  for (;;) {
    if (peer.getConnections().length === 0 && dialling < DIAL_AT_ONCE) {
      dialling++
      await peer.dial(addr).catch(() => {})
      dialling--
    }
    await pause(250 + 500 * Math.random())
  }
}

const pause = ms => new Promise(resolve => { setTimeout(resolve, ms) })
const say = what => { process.stdout.write(JSON.stringify(what) + '\n') }

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))

let last = -1
setInterval(() => {
  const reserved = peers.filter(p => p.getMultiaddrs().some(a => a.toString().includes('/p2p-circuit/'))).length
  if (reserved !== last) say({ reserved })
  if (reserved === Number(number) && last !== reserved) say({ ids: peers.map(p => p.peerId.toString()) })
  last = reserved
}, 100)

for (let i = 0; i < Number(number); i++) await start()
