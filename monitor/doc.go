// Package monitor watches relays from outside and writes evidence.
//
// Every hour each relay of the roster is probed at a second that it cannot
// predict (package schedule), by the ladder of package probe (round.go). What may be a trouble of the monitor's own is told
// from one of the relay by controls (controls.go), second resolvers (resolvers.go) and a
// clock that cannot be set (clock.go). Who is watched, and by which rules, the
// committee's files say (basis.go), which are read anew when they change (reread.go).
// What was seen goes into the log of package evidence before it counts; when an
// hour has closed it is sealed (monitor.go), and other monitors cosign it
// (witnessing.go, package witness). From the log come the month's bundle
// (bundle.go) and the status pages (pages.go, package web), which are served on
// loopback, behind a relay, or under a name of the monitor's own (listen.go); what
// they know of past hours is kept in memory by package history. A Prometheus on the
// same machine reads metrics (metrics.go, scrape.go), people are told when something
// is wrong (alerts.go, package alert), and what a month came to is published
// (report.go, publish.go).
//
// A monitor writes; it judges nothing. Its pages show verdicts as package bounty
// computes them for everybody.
package monitor
