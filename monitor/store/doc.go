// Package store is a monitor's evidence log on disk: what is written when, how an hour
// is sealed, and what is made good after a crash. What the bytes mean is said in package
// evidence.
//
// A monitor uses [Create], [Open] and [Log]; whoever looks on beside it uses [OpenRead].
//
// # On disk
//
//	log.json                      format, origin, first hour, verifier keys; written last at creation
//	log.key, witness.key          signer keys, mode 0600, made once
//	plan.key                      secret plan key: PRIVATE+BLS12381G1+ and 32 bytes in base64; as those
//	lock                          flock of the one writer
//	wal/<hour>.jsonl              hours not sealed: begin, attempt, mark; fsync before an entry counts
//	blocks/<month>.jsonl          headers, one a line: the leaves of the log
//	blocks/<month>/<hour>.jsonl   records, one a line; absent if there is none
//	checkpoints/<size, 8 digits>  signed notes, with cosignatures as they come in
//	certs/<SHA-256>.der           certificates, each once
//	restored                      there if the log came out of a backup and was not compared yet
//	witness/<SHA-256 of the key>  the last checkpoint cosigned of each other log, by its verifier key
//	witness/<...>.fork            two checkpoints of that log, of one size and with two roots: see [evidence.NewFork]
//
// Segments of lines that only grow, and files written once, are the only truth;
// there is no index. An hour is sealed in an order in which every crash is
// harmless: records (nothing refers to them yet), header (from now on it is a leaf
// and never changes), checkpoint (made once; its bytes follow from the leaves), and
// only then the write-ahead file goes. A torn last line was never acknowledged and
// does not count; hours nobody watched become gaps.
//
// A backup or snapshot that is restored knows nothing of what was signed after it.
// Going on from it would fork the log, which nobody can repair. So a monitor with
// witnesses calls [Log.Hold] after [Open] and signs nothing before [Log.Confront]
// has compared the log with the last checkpoint each witness remembers; a log that
// came out of [Restore] is held by itself, a snapshot of a machine cannot know.
// [Log.Adopt] brings in what a newer copy has beyond this one.
//
// A restored witness has forgotten what it cosigned after the backup, and for that
// stretch would cosign another history of a log. While its own restored log is held, the
// monitor answers nobody as a witness. After that nothing here prevents it yet: it takes
// the log's own dishonesty as well, and the other witnesses see it.
package store
