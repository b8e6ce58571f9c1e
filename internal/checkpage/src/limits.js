// What a circuit through a relay may carry. The relay says so in its answer to a
// reservation (circuit relay v2, HopMessage), but js-libp2p does not pass it on. So
// it is asked for once more: for who holds a place already that takes no other.
import { lpStream } from '@libp2p/utils'
import { HOP } from './peer.js'

const RESERVE = new Uint8Array([0x08, 0x00])

export async function askLimits (conn, options) {
  const stream = await conn.newStream(HOP, options)
  try {
    const messages = lpStream(stream)
    await messages.write(RESERVE, options)
    const answer = fields((await messages.read(options)).subarray())
    const limit = fields(answer[4] ?? new Uint8Array())
    return { seconds: Number(limit[1] ?? 0), bytes: Number(limit[2] ?? 0) }
  } finally {
    stream.close().catch(() => {})
  }
}

// fields reads the top level of a protobuf message: numbers, and bytes as they are.
function fields (bytes) {
  const found = {}
  let at = 0
  const varint = () => {
    let n = 0n
    for (let shift = 0n; shift < 64n; shift += 7n) {
      if (at >= bytes.length) throw new RangeError('the message ends early')
      const b = bytes[at++]
      n |= BigInt(b & 0x7f) << shift
      if (b < 0x80) return n
    }
    throw new RangeError('a number is too long')
  }
  while (at < bytes.length) {
    const key = Number(varint())
    if ((key & 7) === 0) {
      found[key >> 3] = varint()
    } else if ((key & 7) === 2) {
      const end = Number(varint()) + at
      if (end > bytes.length) throw new RangeError('the message ends early')
      found[key >> 3] = bytes.subarray(at, at = end)
    } else {
      throw new TypeError('a field is of no known kind')
    }
  }
  return found
}
