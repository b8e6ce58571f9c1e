// The steps that a browser takes through a relay, in the order in which one
// stands on the other.
import { announced } from './address.js'
import { explain } from './explain.js'
import { askLimits } from './limits.js'
import { HOP, bounce, circuitAddr, fault, openEcho, reserve, startPeer } from './peer.js'

// What the page shows before anything is known.
export const titles = {
  dial: 'Connect',
  identify: 'Identify',
  reserve: 'Reserve a place',
  circuit: 'Reach a second peer through the relay',
  echo: 'Send bytes there and back',
  webtransport: 'Connect by WebTransport',
  'webrtc-direct': 'Connect by WebRTC'
}

const CHAIN = ['dial', 'identify', 'reserve', 'circuit', 'echo']
const EXTRA = { webtransport: () => 'WebTransport' in globalThis, 'webrtc-direct': () => 'RTCPeerConnection' in globalThis }
const ECHO_BYTES = 4096

// In milliseconds. Patient enough for a phone far away from the relay.
const patience = { dial: 15_000, identify: 10_000, reserve: 12_000, circuit: 15_000, echo: 10_000, webtransport: 15_000, 'webrtc-direct': 20_000 }

// check takes the steps and returns the outcome; changed is told it each time that
// there is something new to show.
export async function check (relay, changed = () => {}) {
  const result = {
    name: relay.name,
    peer_id: relay.peerId,
    addrs: relay.addrs.map(a => a.text),
    ok: false,
    done: false,
    steps: CHAIN.map(name => ({ name, outcome: 'waiting' }))
  }
  const peers = []
  const newPeer = async () => {
    const peer = await startPeer()
    peers.push(peer)
    return peer
  }

  // step runs one step and keeps what came of it.
  const step = async (name, addr, run) => {
    let s = result.steps.find(s => s.name === name)
    if (s == null) result.steps.push(s = { name, optional: true })
    if (addr != null) s.addr = addr.text
    s.outcome = 'running'
    changed(result)
    const began = performance.now()
    try {
      s.detail = await within(patience[name], run)
      s.outcome = 'ok'
    } catch (err) {
      s.outcome = 'fail'
      Object.assign(s, explain(name, err, { addr, result }))
    }
    s.duration_ms = Math.round((performance.now() - began) * 10) / 10
    changed(result)
    return s.outcome === 'ok'
  }

  const main = await chain(relay, result, step, newPeer)
  if (main != null) {
    for (const [kind, supported] of Object.entries(EXTRA)) {
      const addr = extra(relay, result, main, kind)
      if (addr == null) continue
      if (!supported()) {
        result.steps.push({ name: kind, optional: true, outcome: 'skipped', addr: addr.text, detail: 'this browser does not have it' })
        continue
      }
      await step(kind, addr, async signal => {
        const peer = await newPeer()
        await peer.dial(addr.ma, { signal })
        return `round trip ${ms(await peer.services.ping.ping(addr.ma, { signal }))}`
      })
    }
  }
  for (const s of result.steps) {
    if (s.outcome === 'waiting') Object.assign(s, { outcome: 'skipped', class: 'below-failed' })
  }
  result.ok = CHAIN.every(name => result.steps.find(s => s.name === name).outcome === 'ok')
  result.done = true
  delete result.announced
  changed(result)
  for (const peer of peers) peer.stop().catch(() => {})
  return result
}

// chain runs the steps that all must pass; it returns the address they went by, or
// nothing when none could be dialled.
async function chain (relay, result, step, newPeer) {
  const main = ['wss', 'webtransport', 'webrtc-direct'].map(kind => relay.addrs.find(a => a.kind === kind)).find(a => a != null)
  let a, conn, relayId, toA, stream
  const passed = await step('dial', main ?? relay.addrs[0], async signal => {
    if (relay.fault != null) throw fault('BadAddress', relay.fault)
    if (main == null) {
      throw relay.addrs.some(r => r.kind === 'ws')
        ? fault('PlainWebSocket', 'this is a WebSocket without TLS')
        : fault('NotForBrowsers', 'browsers cannot dial this kind of address')
    }
    a = await newPeer()
    conn = await a.dial(main.ma, { signal })
    relayId = conn.remotePeer
    return { wss: 'over WSS', webtransport: 'over WebTransport', 'webrtc-direct': 'over WebRTC' }[main.kind]
  }) && await step('identify', null, async signal => {
    const id = await a.services.identify.identify(conn, { signal })
    result.agent_version = printable(id.agentVersion ?? '')
    result.announced = { addrs: id.listenAddrs.map(ma => announced(ma, relay.peerId)), hop: id.protocols.includes(HOP) }
    const rtt = await a.services.ping.ping(relayId, { signal })
    return `${result.agent_version || 'no name given'}, round trip ${ms(rtt)}`
  }) && await step('reserve', null, async signal => {
    if (!result.announced.hop) throw fault('NoHop', 'the peer does not offer circuit relay v2')
    const granted = await reserve(a, main.ma, relayId)
    // A relay that does not like to be asked again has answered what matters.
    const limits = await askLimits(conn, { signal }).catch(() => {})
    return describe(granted, limits, result)
  }) && await step('circuit', null, async signal => {
    const b = await newPeer()
    toA = await b.dial(circuitAddr(a, main.ma), { signal })
    // Below a small data limit the connection is made and ends in the same breath.
    stream = await openEcho(toA, { signal })
    return 'from within this page'
  }) && await step('echo', null, async signal => {
    await bounce(stream, ECHO_BYTES, { signal })
    return `${ECHO_BYTES / 1024} KiB came back unchanged`
  })
  return passed || conn != null ? main : undefined
}

// extra chooses an address of another kind to try besides: one that was given, else
// one that the relay announces to everybody.
function extra (relay, result, main, kind) {
  if (main.kind === kind) return
  const fits = a => a?.kind === kind
  return relay.addrs.find(fits) ?? result.announced?.addrs.find(a => fits(a) && a.public && !a.host.includes(':'))
}

function describe (granted, limits, result) {
  const expires = Number(granted.expire) * 1000
  result.reservation = { expires: new Date(expires).toISOString() }
  const time = `for ${Math.round((expires - Date.now()) / 60_000)} min`
  if (limits == null) return time
  result.reservation.limit_bytes = limits.bytes
  result.reservation.limit_seconds = limits.seconds
  const bounds = [limits.bytes > 0 ? size(limits.bytes) : '', limits.seconds > 0 ? `${limits.seconds} s` : ''].filter(b => b !== '')
  return `${time}; ${bounds.length > 0 ? `a circuit may carry ${bounds.join(' in ')}` : 'circuits without a limit'}`
}

async function within (limit, run) {
  const stop = new AbortController()
  let timer
  const late = new Promise((resolve, reject) => {
    timer = setTimeout(() => {
      stop.abort()
      // What was asked to stop may know better why it had to.
      setTimeout(() => reject(fault('TimeoutError', `nothing came within ${limit / 1000} s`)), 200)
    }, limit)
  })
  try {
    return await Promise.race([run(stop.signal), late])
  } finally {
    clearTimeout(timer)
  }
}

export function ms (t) {
  return t < 1000 ? `${Math.round(t)} ms` : `${(t / 1000).toFixed(1)} s`
}

function size (n) {
  if (n >= 1 << 20) return `${Math.round(n / (1 << 20))} MiB`
  return n >= 1024 ? `${Math.round(n / 1024)} KiB` : `${n} bytes`
}

// printable bounds what a stranger chose.
export function printable (text) {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 80)
}
