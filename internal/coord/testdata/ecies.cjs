'use strict'
// Prints test vectors for the cipher of private messages, made by bch-encrypt-lib
// 2.1.1 (eccrypto-js 5.3.0, wif 2.0.6) as npm publishes them:
//   npm install bch-encrypt-lib@2.1.1 && node ecies.cjs > ecies.json
// Keys, ephemeral keys and ivs are hashes of a counter, so that a second run
// prints the same bytes, but for sealed_by_library. Each sealed text is opened again
// by the library itself.
const { createHash } = require('crypto')
const eccrypto = require('eccrypto-js')
const wif = require('wif')
const Lib = require('bch-encrypt-lib')

const bytes = (...name) => createHash('sha256').update(name.join(' ')).digest()
const plains = ['', 'x', '{"apiName":"ACK"}', '{"jsonrpc":"2.0","id":"metrics4711","method":"about"}',
  'sixteen bytes...', 'grüße, 世界 ', 'long '.repeat(1000)]

async function main () {
  const { encryption } = new Lib({ bchjs: {} }) // bchjs looks up keys only
  const out = []
  let n = 0
  let short = 0 // with a leading zero in the shared X coordinate
  for (let i = 0; n < plains.length + 1; i++) {
    const key = bytes('key', i)
    const ephemeral = bytes('ephemeral', i)
    const shared = await eccrypto.derive(key, eccrypto.getPublic(ephemeral))
    const zero = shared[0] === 0
    if (n === plains.length && !zero) continue
    const plain = n === plains.length ? 'shared secret with a leading zero' : plains[n]
    const parts = await eccrypto.encrypt(eccrypto.getPublicCompressed(key), Buffer.from(plain, 'utf8'),
      { ephemPrivateKey: ephemeral, iv: bytes('iv', i).subarray(0, 16) })
    const sealed = Buffer.concat([parts.ephemPublicKey, parts.iv, parts.ciphertext, parts.mac]).toString('hex')
    const opened = await encryption.decryptFile(wif.encode(128, key, true), sealed)
    if (Buffer.from(opened, 'hex').toString('utf8') !== plain) throw new Error(`vector ${i} does not open`)
    // What the library seals by itself, with an ephemeral key that nobody knows.
    const random = n === 3 ? await encryption.encryptFile(eccrypto.getPublicCompressed(key).toString('hex'), Buffer.from(plain).toString('hex')) : undefined
    out.push({ key: key.toString('hex'), public: eccrypto.getPublicCompressed(key).toString('hex'), ephemeral: ephemeral.toString('hex'),
      iv: bytes('iv', i).subarray(0, 16).toString('hex'), plain, sealed, sealed_by_library: random })
    n++
    if (zero) short++
  }
  if (short === 0) throw new Error('no short secret')
  console.log(JSON.stringify(out, null, 1))
}
main().catch(err => { console.error(err); process.exit(1) })
