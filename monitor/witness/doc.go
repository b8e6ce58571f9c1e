// Package witness is both ends of C2SP tlog-witness (https://c2sp.org/tlog-witness):
// [Witness] cosigns the checkpoints of other monitors' logs and remembers what it
// cosigned, [Handler] serves it to them over HTTP, [Client] asks theirs.
package witness
