// Package witness is both ends of C2SP tlog-witness (https://c2sp.org/tlog-witness)
// over HTTP: [Handler] serves a monitor's own witness to other monitors, [Client]
// asks theirs.
//
// What a witness may sign, and what it remembers of it, is package evidence's
// matter; here are the wire, its bounds, and the words of its errors.
package witness
