// Package schedule decides when a monitor looks at a relay, and in whose name.
//
// A [Planner] says which attempts are due now, as far as there are places, and never
// asks for one twice (rule R2). Each hour a new identity reserves at a relay
// ([Identities]), with something in it that nobody could know before the hour: a round of
// public randomness ([Beacons]) or a witness's cosignature ([News]). At relays with few
// places monitors take turns ([Seat]). Time is read from two clocks, of which one cannot
// be set ([Machine]).
//
// It writes nothing: what it must know after a restart it is told from the log.
package schedule
