// Package psf tries the relay with the network's own software: helia-coord 2.0.2
// as npm publishes it, in a network namespace that has nothing but loopback.
//
//	go test -v ./internal/e2e/psf              three minutes, without npm ci
//	PSF_FULL=1 go test -v -timeout 30m ./internal/e2e/psf
//	                                           and once with upstream's own timers
//
// Two peers know nobody but a third one, which is no relay. They must find the
// relay by its announcement, use it as helia-coord does, and find it again after
// kill -9. The peers stand behind NAT in so far as they cannot dial one another.
//
// Peers with nothing but js-libp2p's gossipsub send large messages through the relay,
// and meet on the topic of ipfs-coord.
//
// The other relays that the network has, helia-coord's own relay mode and the one of
// go-libp2p, stand beside relayd before the monitor's probe and the bounty's rules:
// how each is voted for, and why, is tested too.
//
// Two nodes of helia that are no members fetch a file by bitswap through the relay: it
// comes through with guest_circuit_data: 0, and does not over a circuit with a limit.
//
// RELAYD names a program to try instead of the one that is built, PSF_LOGS a
// folder in which the logs of all programs are kept.
package psf
