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
//	forks/<n>.txt                proofs that a monitor signed two histories
//	logs/<key>/...               what a monitor's log shows; see package evidence
//	report.json                  the verdict: canonical JSON (RFC 8785) of bounty.Verdict
//	report.html, report.md       the same for people
//	report.dsse.json             an in-toto statement over all files above, in a DSSE envelope
//
// A file of any other name is refused. <key> is the first 16 hex digits of the
// SHA-256 of the log's verifier key.
//
// A fork is two checkpoints of one size with different roots, both signed by the key of
// one of the logs: see evidence.NewFork. It needs nothing else, so that the size may be
// of any time. n is 1, 2, ... without holes, in the order of the files' bytes, and there
// is no more than one for a log.
//
// The statement is canonical JSON. Its subjects are all other files, sorted by name, each
// with its SHA-256; its predicate has the members relay, network, month, as_of and
// headline, which are those of report.json, and drawn_by: the version of the program that
// made the bundle, a "v" and at most 100 letters, digits, dots, plus signs and dashes.
// That version is the one thing in a bundle that nobody can check. The predicate may have
// more members, which mean nothing to who does not know them. The envelope is canonical
// JSON with one signature.
//
// # Verifying
//
// Rules and roster come from outside: a bundle that brought its own judges would
// prove nothing. [Verify] goes through these steps and stops at the first that fails:
//
//  1. the archive's form, the names of its files, and their limits;
//  2. the committee's signatures of the verifier's newest rules and roster, and the chain
//     from these to older ones; the bundle's copies are one of each, byte for byte, or the
//     one right before the oldest, by its hash;
//  3. the DSSE envelope: signed by the log key of a monitor of the roster that its key
//     ID names, its subjects are all other files with their SHA-256, no more and no fewer;
//  4. relay and month of its predicate are those that the verifier asked for, if he did; the
//     rules are those in force in that month; the release list is the one the roster names;
//  5. each log is one of a monitor of the roster: see evidence.VerifyMonth; each fork
//     convicts one of them;
//  6. the verdict is recomputed from the logs and the forks;
//  7. report.json and the predicate are made anew, and compared byte for byte; so are the
//     drawings of the verdict: report.html, report.md and VERIFY.md.
//
// Drawings change with the program. Where drawn_by names another version than the
// verifier's, and a drawing differs from his own, the bundle verifies, and that drawing is
// named as not checked: see [NotChecked]. A report.json of a higher version needs a newer
// verifier, and nothing else is said of it.
//
// Where the verifier holds a newer roster than the bundle's, the month is judged once more
// by that one, and that verdict counts. If the newer one names another release list, the
// verifier brings that along, or the verdict is REVIEW at most.
//
// Whoever makes a bundle may leave a fork out. A fork that the verifier brings along
// ([Options] Forks) convicts as one in the bundle does: the month is judged once more with
// it, and that verdict counts. Step 7 still compares with the bundle's own files.
//
// So nothing in a bundle that verified is unverified. Another version may draw the
// reports in another way: the error of step 7 then says which version made them. The
// evidence is not lost: any monitor of the roster can put it into a new bundle.
//
// # Limits
//
// They are looked at in the archive's directory, before any file is read. Bytes:
//
//	the archive                      600 MiB
//	inputs/..., report.dsse.json     4 MiB each
//	report.json, report.md           8 MiB each
//	report.html                      16 MiB
//	VERIFY.md                        64 KiB
//	a fork                           4 KiB
//	a log, and each of its files     see package evidence
//
// There are no more than 10,000 files, 100 logs and 100 forks; a name has no more than
// 200 bytes. A month of 15 monitors, each of which fails three times an hour and notes
// all of it, has about 180 MB. No more than one log is in memory at a time.
package bundle
