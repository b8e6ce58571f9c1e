// Package bounty holds the rules by which a month of evidence becomes a verdict.
//
// It is pure: no clock, no I/O, no network. What happened comes in as records
// that package evidence has verified, the time of the judgement comes in as a
// value, and the same input gives the same verdict on every machine. That is
// what lets a stranger recompute a decision about money.
//
// The rules have numbers, R1 to R19, and BOUNTY.md says them in plain words.
// Their figures are the fields of [Rules]; rules.yaml is the one place where
// each is described. Who measures and who is measured stands in the [Roster].
//
// The steps, each usable by itself:
//
//	VoteOf   one monitor's record of one hour    -> a vote         R4 R5 R6
//	Sealed   when was it cosigned, which clock   -> counts or not  R9
//	Fleet    the votes of all monitors           -> up, down, ...  R7
//	Uptime   the hours of the month              -> PASS, FAIL ..  R8 R10
//	Judge    all of it, and R11 to R19           -> a [Verdict]
//
// Every conclusion carries its reasons in words and the hours behind it.
package bounty
