// Package bundle writes and verifies the archive of one relay's month: all the
// evidence, the rules it was judged by and the verdict, so that a stranger can
// recompute it with no network and no clock.
//
// # The archive
//
// A bundle is a ZIP file named relay-<peer ID>-<YYYY-MM>.zip. Its entries are
// stored, not compressed; sorted by name; without folders, comments, extra
// fields, attributes or data descriptors; dated 1980-01-01 00:00; of version 2.0.
// There is exactly one way to pack given files, and a file that was not packed
// in that way is refused.
//
//	VERIFY.md                    how to check this bundle
//	inputs/rules.yaml            the rules, as signed by the committee
//	inputs/roster.yaml           the roster, likewise
//	inputs/releases.yaml         the release list, if there was one
//	inputs/roots.pem             the root certificates of the monitors, if given
//	forks/<n>.txt                checkpoints that prove that a monitor signed two histories
//	logs/<key>/...               what a monitor's log shows; see package evidence
//	report.json                  the verdict: canonical JSON (RFC 8785) of bounty.Verdict
//	report.html, report.md       the same for people
//	report.dsse.json             an in-toto statement over all files above, in a DSSE envelope
//
// <key> is the first 16 hex digits of the SHA-256 of the log's verifier key.
//
// # Verifying
//
// Rules and roster come from outside: a bundle that brought its own judges would
// prove nothing. [Verify] goes through these steps and stops at the first that fails:
//
//  1. the archive's form and its limits;
//  2. the committee's signatures of rules and roster; the bundle's copies are the
//     verifier's, byte for byte; the release list is the one the roster names;
//  3. the DSSE envelope: signed by the log key of a monitor of the roster, its
//     subjects are all other files with their SHA-256, no more and no fewer;
//  4. each log: see evidence.VerifyMonth;
//  5. the verdict is recomputed, and report.json compared byte for byte.
//
// report.html and report.md are covered by step 3 only, since later versions
// draw them better; where they are not what this version draws, the result
// carries a warning.
package bundle
