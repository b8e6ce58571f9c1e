// Two visitors, each in a browser of its own, meet through a relay. Nothing on the
// page calls these; they are for whoever drives two browsers.
import { parse } from './address.js'
import { bounce, circuitAddr, openEcho, reserve, startPeer } from './peer.js'
import { multiaddr } from '@multiformats/multiaddr'

// hold reserves a place and keeps it; it resolves with the address to hand over.
export async function hold (text) {
  const [{ addrs: [relay] }] = parse([text])
  const peer = await startPeer()
  const conn = await peer.dial(relay.ma)
  await reserve(peer, relay.ma, conn.remotePeer)
  return circuitAddr(peer, relay.ma).toString()
}

// reach dials such an address and sends bytes there and back.
export async function reach (address, size, milliseconds) {
  const signal = AbortSignal.timeout(milliseconds)
  const peer = await startPeer()
  const conn = await peer.dial(multiaddr(address), { signal })
  await bounce(await openEcho(conn, { signal }), size, { signal })
  const over = conn.remoteAddr.toString()
  await peer.stop()
  return over
}

// ping resolves with the round trip to a peer behind a relay, in milliseconds.
export async function ping (address, milliseconds) {
  const signal = AbortSignal.timeout(milliseconds)
  const peer = await startPeer()
  await peer.dial(multiaddr(address), { signal })
  const rtt = await peer.services.ping.ping(multiaddr(address), { signal })
  await peer.stop()
  return rtt
}
