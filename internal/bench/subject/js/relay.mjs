// The relay of js-libp2p at the versions that PSF software pins, and nothing else
// of it: what those relays do at the least for each byte. Prints one line of JSON
// when it is up.
//
//   node relay.mjs IP PORT

// it-queue needs it; Node.js has it from version 22 on.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((res, rej) => { resolve = res; reject = rej })
  return { promise, resolve, reject }
}
const [{ createLibp2p }, { tcp }, { noise }, { yamux }, { identify }, { circuitRelayServer }] = await Promise.all([
  import('libp2p'), import('@libp2p/tcp'), import('@chainsafe/libp2p-noise'), import('@chainsafe/libp2p-yamux'),
  import('@libp2p/identify'), import('@libp2p/circuit-relay-v2')
])

const [ip, port] = process.argv.slice(2)
const many = 1 << 20
const node = await createLibp2p({
  addresses: { listen: [`/ip4/${ip}/tcp/${port}`] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    // Its limits are lifted: the defaults of PSF software let no more than 256
    // bytes through a circuit.
    relay: circuitRelayServer({
      maxInboundHopStreams: many,
      maxOutboundHopStreams: many,
      maxOutboundStopStreams: many,
      reservations: { maxReservations: many, applyDefaultLimit: false }
    })
  },
  // It cuts the connections of clients whose CPU is busy.
  connectionMonitor: { enabled: false },
  connectionManager: { maxConnections: many, maxIncomingPendingConnections: many, inboundConnectionThreshold: many }
})
process.on('SIGTERM', () => process.exit(0))
process.stdout.write(JSON.stringify({ ID: node.peerId.toString(), Addrs: { tcp: `${ip}:${port}` } }) + '\n')
