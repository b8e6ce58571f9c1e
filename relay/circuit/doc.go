// Package circuit is the relay's side of Circuit Relay v2, by its specification:
// https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md
//
// hop.go answers the requests of peers, RESERVE and CONNECT. Before a request is served it
// is admitted: by the list of bans (bans.go), and by what the peer and its address may
// spend (budget.go). reservations.go has who holds a reservation, circuit.go what is
// carried and until when, scheduler.go in whose turn.
package circuit
