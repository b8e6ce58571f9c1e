// WebRTC is replaced by transports that neither listen nor dial: its native module
// is fetched from the network by an install script, and no relay needs it.
const stub = `
const transport = name => () => () => ({
  [Symbol.toStringTag]: name,
  [Symbol.for('@libp2p/transport')]: true,
  dial: async () => { throw new Error('webrtc is not part of this test') },
  createListener: () => { throw new Error('webrtc is not part of this test') },
  listenFilter: () => [],
  dialFilter: () => []
})
export const webRTC = transport('webrtc')
export const webRTCDirect = transport('webrtc-direct')
`

export async function resolve (specifier, context, next) {
  if (specifier === '@libp2p/webrtc') {
    return { url: 'data:text/javascript,' + encodeURIComponent(stub), shortCircuit: true }
  }
  return next(specifier, context)
}
