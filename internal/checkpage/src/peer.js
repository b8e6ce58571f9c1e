// A libp2p peer in this page, as any libp2p application in a browser has one.
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { webTransport } from '@libp2p/webtransport'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

export const HOP = '/libp2p/circuit/relay/0.2.0/hop'
const ECHO = '/relay-check/echo/1.0.0'

export async function startPeer () {
  const peer = await createLibp2p({
    transports: [
      webSockets(),
      webTransport(),
      webRTCDirect(),
      // js-libp2p's own default of 2 s would call a slow line a refusal.
      circuitRelayTransport({ reservationCompletionTimeout: 10_000 })
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // What is asked for is asked for once and timed, so nothing runs by itself.
    services: { identify: identify({ runOnConnectionOpen: false, runOnSelfUpdate: false }), ping: ping() },
    connectionMonitor: { enabled: false },
    // js-libp2p does not dial private addresses; whoever pastes one means it.
    connectionGater: { denyDialMultiaddr: () => false }
  })
  await peer.handle(ECHO, echo, { runOnLimitedConnection: true })
  return peer
}

// reserve makes the peer reachable through a relay that it is connected with, and
// returns what the relay granted.
export async function reserve (peer, relayAddr, relayId) {
  const { transportManager } = peer.components
  await transportManager.listen([relayAddr.encapsulate('/p2p-circuit')])
  for (const t of transportManager.getTransports()) {
    const granted = t.reservationStore?.getReservation(relayId)
    if (granted != null) return granted
  }
  throw new Error('the reservation was gone as soon as it was made')
}

// circuitAddr is where others find the peer through the relay.
export function circuitAddr (peer, relayAddr) {
  return multiaddr(`${relayAddr}/p2p-circuit/p2p/${peer.peerId}`)
}

// openEcho opens the stream on which the other peer sends all bytes back.
export function openEcho (conn, options) {
  return conn.newStream(ECHO, { ...options, runOnLimitedConnection: true })
}

// bounce sends random bytes and resolves once they have all come back; the
// promise rejects when they differ or the stream ends before.
export async function bounce (stream, size, { signal }) {
  const sent = crypto.getRandomValues(new Uint8Array(size))
  let received = 0
  const back = new Promise((resolve, reject) => {
    stream.addEventListener('message', ({ data }) => {
      for (const byte of data.subarray()) {
        if (byte !== sent[received++]) return reject(fault('EchoAltered', `byte ${received} came back changed`))
      }
      if (received === size) resolve()
    })
    const cut = () => reject(fault('CircuitCut', `the connection ended after ${received} of ${size} bytes had come back`))
    stream.addEventListener('close', cut)
    stream.addEventListener('remoteCloseWrite', cut)
    // A sender is not told when the relay cuts the circuit at the other end.
    signal.addEventListener('abort', () => reject(fault('CircuitCut', `only ${received} of ${size} bytes came back in time`)))
  })
  back.catch(() => {}) // it may reject while the bytes are still being sent
  for (let at = 0; at < size; at += 1024) {
    if (!stream.send(sent.subarray(at, at + 1024))) {
      await Promise.race([stream.onDrain({ signal }), back])
    }
  }
  await back
}

export function fault (name, message) {
  return Object.assign(new Error(message), { name })
}

function echo (stream) {
  stream.addEventListener('message', ({ data }) => {
    // A circuit that is cut at this very moment is for the other end to report.
    try { stream.send(data) } catch {}
  })
  stream.addEventListener('remoteCloseWrite', () => { stream.close().catch(() => {}) })
}
