// From an error to what it means and what to do about it. The classes are those of
// the evidence log's format, so that a monitor can record them.
import { origin } from './address.js'

// violated is set when this page's own security policy stopped a connection.
let violated = false
globalThis.document?.addEventListener('securitypolicyviolation', e => {
  violated ||= e.effectiveDirective === 'connect-src'
})

export function explain (step, err, context) {
  const name = err?.name ?? ''
  // A browser's network errors are bare events: they say nothing, on purpose.
  const text = [err?.message, ...(err?.errors ?? []).map(e => e?.message)].filter(t => t).join('; ')
  const found = cases.find(c => (c.step == null || c.step.includes(step)) && c.when({ name, text, ...context }))
  return {
    class: found.class,
    detail: clip((found.say?.(context) ?? text) || 'the browser gives no reason'),
    advice: typeof found.advice === 'function' ? found.advice(context) : found.advice
  }
}

// classes lists all classes that a step can fail with.
export const classes = () => [...new Set(cases.map(c => c.class))]

const smallLimit = ({ result }) => {
  const limit = result.reservation?.limit_bytes ?? 0
  return limit > 0 && limit < 16_384
}
const timedOut = e => ['TimeoutError', 'AbortError'].includes(e.name) || /timed? ?out|aborted/i.test(e.text)
const connecting = ['dial', 'webtransport', 'webrtc-direct']

// The first case that fits says it.
const cases = [
  {
    class: 'own-fault',
    when: e => e.name === 'BadAddress',
    advice: 'Paste the address as the relay prints it, such as /dns4/relay.example.org/tcp/443/tls/ws/p2p/12D3Koo…'
  },
  {
    class: 'not-tls',
    when: e => e.name === 'PlainWebSocket',
    advice: 'Browsers refuse plain WebSockets on https pages. Give the relay a domain and a certificate, and use its address with /tls/ws (or /wss) instead of /ws.'
  },
  {
    class: 'not-asked',
    when: e => e.name === 'NotForBrowsers',
    advice: 'Browsers have no plain TCP or QUIC. Use the relay’s address with /tls/ws (or /wss), or one with /webtransport or /webrtc-direct and its /certhash.'
  },
  {
    class: 'own-fault',
    when: () => globalThis.isSecureContext === false,
    say: () => 'browsers encrypt for pages only that come over https',
    advice: 'Open this page over https, or on the very machine that serves it. It says nothing about the relay.'
  },
  {
    class: 'own-fault',
    when: () => violated,
    say: () => 'the security policy of this page does not allow the connection',
    advice: 'Whoever serves this page must allow “connect-src wss: https:” in its Content-Security-Policy.'
  },
  {
    class: 'own-fault',
    when: () => globalThis.navigator?.onLine === false,
    say: () => 'this device is offline',
    advice: 'Connect this device to the internet and check again. It says nothing about the relay.'
  },
  {
    class: 'wrong-peer',
    step: connecting,
    when: e => /peer ?id|remote peer|identity key|does not match|expected/i.test(e.text) && !timedOut(e),
    advice: 'Another peer answers at this address. Correct the peer ID at the end of the address, or restore the relay’s identity.'
  },
  {
    class: 'connect-failed',
    step: ['dial'],
    when: e => e.addr?.kind === 'wss' && (e.text === '' || timedOut(e)),
    say: ({ addr }) => `the browser could not open ${origin(addr).replace('https:', 'wss:')} and tells pages no reason`,
    advice: ({ addr }) => `Open ${origin(addr)} in a new tab: there the browser says what is wrong. Usual reasons: the certificate is not for this name, has expired or comes from no public CA; the domain’s A record leads elsewhere; the port is closed. If the relay is in your own network, the browser may ask for leave to reach local devices.`
  },
  {
    class: 'connect-failed',
    step: connecting,
    when: e => e.text === '' || timedOut(e) || e.addr?.kind !== 'wss',
    advice: 'Check that the UDP port is open in the firewall and in the provider’s security group. The /certhash in the address changes when the relay starts anew: take the address from the relay again. Some networks block UDP.'
  },
  {
    class: 'handshake-failed',
    step: ['dial'],
    when: () => true,
    advice: 'Something answers there, but not a libp2p relay with Noise and yamux. Check what listens on this port.'
  },
  {
    class: 'identify-timeout',
    step: ['identify'],
    when: timedOut,
    advice: 'The relay accepted the connection and then fell silent: check its load and its connection limits.'
  },
  {
    class: 'identify-failed',
    step: ['identify'],
    when: () => true,
    advice: 'The relay closed the connection or does not speak identify and ping: check its connection limits and block list, and update its software.'
  },
  {
    class: 'no-hop',
    step: ['reserve'],
    when: e => e.name === 'NoHop' || /UnsupportedProtocol|protocol selection failed/i.test(e.text),
    advice: 'The peer is no circuit relay. Switch its relay service on; in go-libp2p that also takes ForceReachabilityPublic.'
  },
  {
    class: 'reserve-refused',
    step: ['reserve'],
    when: e => /RESERVATION_REFUSED/.test(e.text),
    say: () => 'the relay has no place left (RESERVATION_REFUSED)',
    advice: 'The relay works but is full. Try again later, or use another relay; its operator can raise the number of reservations.'
  },
  {
    class: 'reserve-limit',
    step: ['reserve'],
    when: e => /RESOURCE_LIMIT_EXCEEDED/.test(e.text),
    say: () => 'the relay is at a limit (RESOURCE_LIMIT_EXCEEDED)',
    advice: 'The relay works but is busy. Try again later, or use another relay; its operator can raise its limits.'
  },
  {
    class: 'reserve-denied',
    step: ['reserve'],
    when: e => /PERMISSION_DENIED/.test(e.text),
    say: () => 'the relay does not let this peer reserve (PERMISSION_DENIED)',
    advice: 'The relay is not public, or your network is on its ban list. Its operator must take the allow list away.'
  },
  {
    class: 'reserve-timeout',
    step: ['reserve'],
    when: timedOut,
    advice: 'The relay does not answer the request in time: check its load.'
  },
  {
    class: 'reserve-failed',
    step: ['reserve'],
    when: () => true,
    advice: 'The relay’s answer makes no sense: update its software.'
  },
  {
    class: 'limit-too-small',
    step: ['circuit', 'echo'],
    when: smallLimit,
    say: ({ result }) => `the connection broke: the relay lets a circuit carry ${result.reservation.limit_bytes} bytes only`,
    advice: 'Raise the relay’s data limit for circuits: the handshake alone needs more. The circuit relay v2 default is 128 KiB (131072 bytes).'
  },
  {
    class: 'circuit-busy',
    step: ['circuit'],
    when: e => /RESOURCE_LIMIT_EXCEEDED/.test(e.text),
    say: () => 'the relay is at its limit of circuits (RESOURCE_LIMIT_EXCEEDED)',
    advice: 'The relay works but is busy. Try again later; its operator can raise its limits.'
  },
  {
    class: 'circuit-denied',
    step: ['circuit'],
    when: e => /PERMISSION_DENIED/.test(e.text),
    say: () => 'the relay lets nobody connect through it (PERMISSION_DENIED)',
    advice: 'The relay is not public, or your network is on its ban list. Its operator must take the allow list away.'
  },
  {
    class: 'circuit-no-reservation',
    step: ['circuit'],
    when: e => /NO_RESERVATION/.test(e.text),
    say: () => 'the relay forgot the place that it had just granted (NO_RESERVATION)',
    advice: 'Update the relay’s software.'
  },
  {
    class: 'circuit-not-connected',
    step: ['circuit'],
    when: e => /CONNECTION_FAILED/.test(e.text),
    say: () => 'the relay could not reach the peer that holds the place (CONNECTION_FAILED)',
    advice: 'Check the relay’s load, and check again.'
  },
  {
    class: 'circuit-timeout',
    step: ['circuit'],
    when: timedOut,
    advice: 'The relay does not open the circuit in time: check its load.'
  },
  {
    class: 'circuit-failed',
    step: ['circuit'],
    when: e => /failed to connect via relay/.test(e.text),
    advice: 'The relay’s answer makes no sense: update its software.'
  },
  {
    class: 'echo-altered',
    when: e => e.name === 'EchoAltered',
    advice: 'The channel is authenticated, so this device is at fault: check its memory.'
  },
  {
    class: 'circuit-cut',
    step: ['circuit', 'echo'],
    when: () => true,
    advice: 'The relay opened the circuit and then cut it: check its limits of data and duration, and its log.'
  },
  {
    class: 'own-fault',
    when: () => true,
    advice: 'This should not happen. Reload the page; if it stays, report the detail to whoever serves this page.'
  }
]

function clip (text) {
  return text.replace(/[^\x20-\x7e\u2010-\u201f]/g, '?').slice(0, 300)
}
