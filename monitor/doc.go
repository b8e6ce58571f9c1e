// Package monitor watches relays from outside and writes evidence.
//
// Every hour each relay of the roster is probed at a second that it cannot
// predict (schedule.go, secrets.go), by the ladder of package probe (round.go).
// What was seen goes into the log of package evidence before it counts; when an
// hour has closed it is sealed (monitor.go), and other monitors cosign it
// (witnessing.go, package witness). From the log come the month's bundle
// (bundle.go) and the status pages (pages.go, package web), which are served on
// loopback, behind a relay, or under a name of the monitor's own (listen.go).
//
// A monitor writes; it judges nothing. Its pages show verdicts as package bounty
// computes them for everybody.
package monitor
