// Package evidence is what a monitor holds of the relays it watches, and the
// format in which a stranger can check it: attempts, records, hour blocks, a
// Merkle log with signed and cosigned checkpoints, and exported months.
//
// The format is specified in docs/evidence-format.md, with test vectors in docs/vectors;
// nothing else is needed to write a second verifier.
//
// Package store keeps such a log on disk. [Export] makes the month of a relay of it, or of
// a mirror, and a verifier needs [VerifyMonth]. All here is pure: no clock, no network, no
// files.
package evidence
