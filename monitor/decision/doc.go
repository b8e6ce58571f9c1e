// Package decision is the committee's log of decisions: whom it paid for which month, whom
// it refused and why, and what operators had to say of it.
//
// The log is a Merkle tree (RFC 6962) whose leaves are of two kinds ([Entry]): a decision,
// and an appeal that a relay's own key signed. Its checkpoints are signed with the
// committee's key, the one that signs roster and rules, under the log's origin as its name
// ([Origin]): so nobody needs another key, and witnesses can cosign them. It lies in a
// folder in the form of C2SP tlog-tiles, see package tiles; the format of the leaves is
// specified in docs/evidence-format.md.
//
// These rules hold for every log, whoever reads or writes it ([Read], [Open]):
//
//   - A relay's month is decided once. A later decision names, in replaces, the leaf hash of
//     the one that stands, and says why. So the decisions of a month are a chain.
//   - An appeal stands open until a decision of its relay and month answers it. A decision
//     answers all appeals that stand open, and no others.
//   - Nothing is paid on a verdict that is NOT_ELIGIBLE or PROVISIONAL. What is paid without
//     a plain ELIGIBLE (REVIEW, a log that was done without, a payout address that the relay
//     did not sign) says why.
//   - There are no more than [MaxAppeals] appeals of a relay and month, none of them twice.
//
// # What is written when
//
// One process at a time writes ([Open] takes a lock). An entry's tiles come first. Then the
// new checkpoint is signed and kept beside the key; then it takes the place of the one
// before. Whoever is killed in between leaves the old log or the new one: what no signature
// covers is cut off by the next [Open], and what was signed is completed. So nothing is
// signed that is then forgotten.
//
// What is kept beside the key also tells when the folder is an older copy, restored from a
// backup: nothing is signed then. It cannot tell if it was itself restored along with the
// folder, or if the key is used elsewhere, too. Then only others know better who hold a
// later checkpoint: witnesses that cosigned one, and whoever keeps a copy.
package decision
