// Package bounty holds the rules by which a month of evidence becomes a verdict.
//
// It is pure: no clock, no I/O, no network. What happened comes in as records
// that package evidence has verified, the time of the judgement follows from them,
// and the same input gives the same verdict on every machine. That is
// what lets a stranger recompute a decision about money.
//
// The rules have numbers, R1 to R21, and BOUNTY.md says them in plain words.
// Their figures are the fields of [Rules]; rules.yaml is the one place where
// each is described. Who measures and who is measured stands in the [Roster].
//
// The steps, each usable by itself:
//
//	VoteOf   one monitor's record of one hour    -> a vote         R4 R5 R6
//	Sealed   when was it cosigned, which clock   -> counts or not  R9
//	Fleet    the votes of all monitors           -> up, down, ...  R7
//	Uptime   the hours of the month              -> PASS, FAIL ..  R8 R10
//	Judge    all of it, and R11 to R20           -> a [Verdict]
//
// Every conclusion carries its reasons in words and the hours behind it.
//
// # What the numbers leave to be said
//
// A second implementation needs these as well:
//
//   - A control counts after a failure if it started from the end of the component's last
//     rung that was climbed (the one that ends last, skipped ones left out) up to and with
//     control_within later; beside it, from that rung's begin up to its end (R5). "Took at
//     least control_beside" is that rung's own duration.
//   - An attempt belongs to its record's hour if it is the first and started in the hour,
//     or started no earlier than the hour and before its end plus attempt_close (R1, R2).
//   - A record without a good plan makes a vote unknown, whatever else it holds (R2). A lab
//     is not asked.
//   - A first attempt is early if it started clock_drift or more before it was due, and late,
//     which is only told, if it started more than attempt_close after that (R2). A lab
//     and an hour in which the clock was set are not asked.
//   - Who is due where monitors are chosen, [Rules.Due] says (R21).
//   - Two addresses are one if their multiaddrs are, where /tls/ws/ and /wss/ are the same and
//     /ipfs/ is an old name of /p2p/.
//   - A voucher is presigned if it expires more than voucher_valid after the end of the
//     attempt's last rung that is part of a vote (R6).
//   - The witnesses of a monitor are those of the roster, in force in the hour, whose
//     operator is not the monitor's. A monitor or witness without an operator stands for itself.
//   - A log reaches up to the end of the last hour that a checkpoint covers, but no further than
//     the latest cosignature by such a witness; where the roster has none in the month, the
//     blocks alone tell. The verdict is as of the hour up to which the farthest log of a
//     monitor that may judge the relay, and that did not sign two histories, reaches; where there
//     is none, as of the month's begin. Hours that end later are still to come (R10). ELIGIBLE
//     is final only if a log of the committee's reaches as far as rule R16 asks.
//   - A log ends early if it does not cover all hours up to the end of its monitor's term or,
//     while that goes on, to the month's end plus seal_within in full hours; while the
//     month runs, up to as_of less so much. A recused monitor's log is not asked for.
//   - Two disks of R14 add up if their places are no further from one another, on a sphere of
//     6371 km, than their vacuum radii together, and neither is further from a disk of the
//     committee's. Radii are rounded up to full km.
//   - What a relay calls itself in an hour is heard from monitors whose vote is not unknown (R13).
//   - A checkpoint beside another one of the same log and size with another root voids all that
//     its monitor wrote.
package bounty
