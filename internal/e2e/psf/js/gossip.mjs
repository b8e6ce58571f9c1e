// A peer that has nothing but js-libp2p's gossipsub, as helia-coord configures it. It
// is driven as peer.mjs is. What it says on a coordination topic has the schema of
// ipfs-coord, which helia-coord kept.
//
//   node --import ./register.mjs gossip.mjs '{"via":"/ip4/...","topics":[..]}'
import { createInterface } from 'node:readline'
import { gossipsub } from '@chainsafe/libp2p-gossipsub'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const config = JSON.parse(process.argv[2])
const inbox = []
const libp2p = await createLibp2p({
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }) }
})
const { pubsub } = libp2p.services
const id = libp2p.peerId.toString()
pubsub.addEventListener('message', ({ detail: m }) => {
  let announced
  try { announced = JSON.parse(JSON.parse(new TextDecoder().decode(m.data))).ipfsId } catch {}
  inbox.push({ topic: m.topic, from: m.from.toString(), bytes: m.data.length, announced })
})
for (const topic of [...config.topics, id]) pubsub.subscribe(topic)
const connection = await libp2p.dial(multiaddr(config.via), { signal: AbortSignal.timeout(20_000) })

const commands = {
  async state () {
    const topics = [...new Set([...pubsub.getTopics(), ...pubsub.topics.keys()])]
    return {
      id,
      inbox,
      open: libp2p.getConnections().length === 1 && libp2p.getConnections()[0] === connection,
      near: Object.fromEntries(topics.map(t => [t, pubsub.getSubscribers(t).map(String)]))
    }
  },
  async publish ({ topic, bytes }) {
    await pubsub.publish(topic, new Uint8Array(bytes).fill(120))
    return {}
  },
  async subscribe ({ topic }) {
    pubsub.subscribe(topic)
    return {}
  },
  async announce ({ topic }) {
    const said = {
      apiName: 'ipfs-coord-announce', apiVersion: '1.3.2', apiInfo: '', broadcastedAt: new Date().toISOString(), ipfsId: id, type: 'node.js',
      ipfsMultiaddrs: [], orbitdb: '', circuitRelays: [], isCircuitRelay: false, circuitRelayInfo: {}, cryptoAddresses: [], encryptPubKey: '', jsonLd: {}
    }
    await pubsub.publish(topic, new TextEncoder().encode(JSON.stringify(JSON.stringify(said))))
    return {}
  },
  // Resets the stream to the relay; js-libp2p does not notice.
  async reset () {
    pubsub.streamsOutbound.get(connection.remotePeer.toString()).rawStream.abort(new Error('reset by the test'))
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
