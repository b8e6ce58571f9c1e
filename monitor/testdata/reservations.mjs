// The reservation store of js-libp2p's relay, as npm publishes it, by a clock that
// jumps from one reservation to the next.
//
//   node reservations.mjs NODE_MODULES < [[{"at": ms, "peer": ID}, ..], ..]
//
// For each list, which is sorted by time, it prints how many places were held at
// most, and how many reservations were refused.
import { text } from 'node:stream/consumers'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { mock } from 'node:test'

const load = path => import(pathToFileURL(join(process.argv[2], path)))
// Not among the package's exports, but what its server is made with.
const { ReservationStore } = await load('@libp2p/circuit-relay-v2/dist/src/server/reservation-store.js')
const { peerIdFromString } = await load('@libp2p/peer-id/dist/src/index.js')
const lists = JSON.parse(await text(process.stdin))

mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 0 })
// The store's timers are signals, which Node.js 20 does not mock.
AbortSignal.timeout = ms => {
  const controller = new AbortController()
  setTimeout(() => controller.abort(), ms)
  return controller.signal
}

const results = lists.map(list => {
  mock.timers.setTime(0)
  const store = new ReservationStore({ logger: { forComponent: () => () => {} } })
  let most = 0
  let refused = 0
  for (const { at, peer } of list) {
    mock.timers.tick(at - Date.now())
    if (store.reserve(peerIdFromString(peer)).status !== 'OK') refused++
    most = Math.max(most, store.reservations.size)
  }
  mock.timers.tick(3 * 60 * 60 * 1000)
  return { most, refused, left: store.reservations.size }
})
process.stdout.write(JSON.stringify(results))
