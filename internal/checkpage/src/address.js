// From pasted text to relays, each with the addresses that a browser can dial.
import { multiaddr } from '@multiformats/multiaddr'

export const MAX_RELAYS = 20

// parse groups addresses by peer ID: what belongs to one relay is one check. Text
// that is no relay's address comes back as a relay with a fault.
export function parse (texts) {
  const relays = new Map()
  for (const text of texts) {
    const addr = read(text)
    if (addr.fault != null) {
      relays.set(text, { name: text, peerId: '', addrs: [addr], fault: addr.fault })
      continue
    }
    const known = relays.get(addr.peerId)
    if (known == null) {
      relays.set(addr.peerId, { name: addr.host, peerId: addr.peerId, addrs: [addr] })
    } else if (!known.addrs.some(a => a.text === addr.text)) {
      known.addrs.push(addr)
    }
  }
  for (const r of relays.values()) {
    // People know the relay by its domain.
    r.name = (r.addrs.find(a => a.named) ?? r.addrs[0]).host ?? r.name
  }
  return [...relays.values()].slice(0, MAX_RELAYS)
}

export function split (text) {
  return text.split(/[\s,]+/).filter(t => t !== '')
}

function read (text) {
  let ma
  try {
    ma = multiaddr(text.replace('/ipfs/', '/p2p/'))
  } catch (err) {
    return { text, fault: `this is no multiaddr: ${err.message}` }
  }
  const parts = ma.getComponents()
  const names = parts.map(p => p.name)
  const peerId = parts.at(-1)?.name === 'p2p' ? parts.at(-1).value : ''
  if (names.includes('p2p-circuit')) return { text, fault: 'this is the address of a peer behind a relay, not of a relay' }
  if (peerId === '') return { text, fault: 'the address does not end in /p2p/ and the peer ID of the relay' }
  return {
    text: ma.toString(),
    ma,
    peerId,
    kind: kind(names),
    host: parts[0].value,
    named: names[0].startsWith('dns'),
    public: !isPrivate(parts[0].value)
  }
}

// announced reads an address that the relay itself gave, without its peer ID.
export function announced (ma, peerId) {
  const text = ma.toString()
  const addr = read(text.endsWith(`/p2p/${peerId}`) ? text : `${text}/p2p/${peerId}`)
  return addr.fault == null ? addr : undefined
}

function kind (names) {
  if (names.includes('certhash')) {
    if (names.includes('webtransport')) return 'webtransport'
    if (names.includes('webrtc-direct')) return 'webrtc-direct'
  }
  if (names.includes('wss') || (names.includes('ws') && names.includes('tls'))) return 'wss'
  if (names.includes('ws')) return 'ws'
  return 'other'
}

function isPrivate (host) {
  return /^(0\.|10\.|127\.|169\.254\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|::|f[cd]|fe[89ab])/i.test(host)
}

// origin is what the browser's address bar takes, to look at the relay's
// certificate there.
export function origin (addr) {
  const port = addr.ma.getComponents().find(p => p.name === 'tcp')?.value ?? '443'
  const host = addr.ma.getComponents().find(p => p.name === 'sni')?.value ?? addr.host
  const h = host.includes(':') ? `[${host}]` : host
  return `https://${h}${port === '443' ? '' : `:${port}`}/`
}
