// Package evidence is what a monitor holds of the relays it watches, and the
// format in which a stranger can check it: attempts, records, hour blocks, a
// Merkle log with signed and cosigned checkpoints, and exported months.
//
// A monitor uses [Create], [Open] and [Log]; a verifier needs [VerifyMonth],
// which is pure: no clock, no network, no files. What follows is the format's
// specification; nothing else is needed to write a second verifier.
//
// # Canonical JSON
//
// All JSON here is canonical as of RFC 8785: members sorted, no white space, one
// spelling of every string and number. A reader accepts exactly what a writer
// writes: it decodes, encodes again, and compares the bytes. Unknown members are
// refused. Integers stay within ±2^53. The members and their meaning are those of
// the types of this package; a member marked omitempty is absent when it is empty
// or zero, an empty list without it is null or []. Binary members ([]byte and hashes) are standard base64 with padding.
//
// An instant is written "2026-11-03T14:05:06.789Z", always with milliseconds, an
// hour by its start, "2026-11-03T14:00:00Z", a month "2026-11", all in UTC.
// "Lines" are texts each ended by one newline, U+000A.
//
// # Records
//
// An [Attempt] is one climb of the probe ladder: facts, no judgement. It belongs to
// the hour in which the first attempt of its row started; retries may start until
// 16 minutes after the hour's end. A [Record] is all that one monitor holds of one
// relay and one hour. It has at least one attempt; all are on the record's peer
// ID, in the order of their start, the first within the hour, none before it or
// later than the 16 minutes. Each has results for exactly tcp4, wss and relay. An
// attempt is marked stepped if the monitor's clock was set, or its machine slept, while
// it was under way.
//
// A failure on the way by the relay's name is one only if the name led to the address
// of tcp4_addr and no other, or if resolvers agree on the name. For that the monitor
// asks those that its operator has chosen, over TLS, and facts
// have the member lookups: its own resolver's word, "own", and that of each other
// one. Another resolver agrees if it has all the addresses of the first or, where
// the first has none, none either: name-not-found and no-a-record are one,
// name-lookup only agrees with itself. A resolver that says nothing has the class
// resolver, and neither agrees nor disagrees. If none agrees, or one disagrees, the
// outcome is blind and its class resolver; facts then hold no addresses, certificate
// or HTTP status, since they may be another's. Nobody is dialled at an address that
// only another resolver gave.
//
// A relay is named by its peer ID in base58 ("12D3Koo...", "Qm...").
//
// # Blocks
//
// The hour is closed 16 minutes after its end. Its records, sorted by peer ID as
// bytes, are then the leaves of a Merkle tree as of RFC 6962:
//
//	leaf hash = SHA-256(0x00 || canonical record)
//	node hash = SHA-256(0x01 || left || right)
//	root of no leaves = SHA-256()
//
// and the [Header], with their number and root, is the head of the hour's block.
// State "gap" is an hour the monitor did not watch (no records), "ok" one that it
// watched, if only for a part. A relay without a record in a block is unknown in
// that hour.
//
// The member clock sums up how the monitor's clock went from when it began to watch
// the hour until the hour closed. The wall clock is compared with one that nobody can
// set and that goes on while the machine sleeps: drift_ms is the largest difference
// of the two less the smallest, within one boot of the machine. A move of a second or
// more between two looks is a step: at is the wall clock after it, by_ms how far it
// went, below 0 if back, and no further than drift_ms. A step between two hours, or
// between two runs of the monitor in one boot, stands in each hour that was begun
// before it and not closed by then. No more than 16 steps are told. A time service
// that only slews the clock slews both, and makes no drift. synchronised says that by
// the kernel a time service kept the clock, in every sample or in the next one with no
// step in between; right after a step the kernel is not asked.
//
// The member missed is the number of attempts, first ones and retries on all relays
// together, that were due in the hour and not made since the monitor was overloaded:
// too many others were under way. It is absent if there were none, as in every gap,
// and at most 3200000. A relay without a record in a block with this member counts as
// one that was missed.
//
// The member schedule publishes when attempts were due: the SHA-256 of the secret
// of a day stands in a header before or at the start of that day, the secret
// itself in that of the day's last hour, which is sealed when the day is over, or
// in a later one. The first attempt at a relay is due at the second
//
//	HMAC-SHA-256(secret, hour || relay), first 8 bytes, big-endian, mod 3600
//
// of the hour: the hour is the number of hours since 1970 in 8 bytes, big-endian,
// the relay its name. A monitor that begins on a day commits to the rest of it, and
// one that has lost the secret commits to another: the last hash up to and with
// the header of an hour is the hour's, but none is if that header changes it.
//
// # Log
//
// The canonical headers are in turn the leaves of one Merkle tree (RFC 6962), the
// log. There is one block for every hour from the log's first on, so that block i
// is of hour first+i. Member previous is the leaf hash of the block before, 32 zero
// bytes in the first block.
//
// A log's origin is <name>/relaymon/<network>; the name is the monitor's, of
// lower-case letters, digits, dots, dashes and underscores, the network lab or
// psf. Its key is an Ed25519 key of C2SP signed-note (https://c2sp.org/signed-note)
// with the origin as the key's name; the verifier key is
//
//	<origin>+<8 hex digits: first 4 bytes of SHA-256(origin || "\n" || 0x01 || key)>+<base64(0x01 || key)>
//
// A checkpoint is a signed note as of C2SP tlog-checkpoint
// (https://c2sp.org/tlog-checkpoint): origin, number of blocks, root in base64, a
// line each; no extension lines. A checkpoint of size i+1 exists if and only if
// member signed of block i is true; the last block of a month is always signed.
// Hours that are sealed together, after the monitor was away, have one checkpoint.
//
// # Cosignatures
//
// A witness's signature line under a checkpoint is a cosignature/v1 of C2SP
// tlog-cosignature (https://c2sp.org/tlog-cosignature), Ed25519 only: the
// signature's bytes after the key hash are the time (seconds since 1970, 8 bytes
// big-endian) and the signature of "cosignature/v1\ntime <seconds>\n" and the
// checkpoint's text. The key hash of a witness is made as above with type 0x04; a
// verifier key of type 0x01 means the same witness.
//
// # Signed notes in one spelling
//
// The format of signed notes has some freedom, which would let bytes change unseen.
// Here a note has the author's signature line first, then the others sorted by key
// name and key hash, one a key; base64 is the one spelling a standard encoder
// writes (unused bits zero); a line by a key that the verifier does not know, or
// that does not verify, makes the note bad.
//
// # Vouchers
//
// A reservation voucher of circuit relay v2 is a libp2p signed envelope (domain
// "libp2p-relay-rsvp", payload type 0x0302) over relay, reserving peer and
// expiration, signed by the relay's host key. It holds no nonce; the reserving
// peer ID is the nonce: that of the Ed25519 key with the seed
//
//	SHA-256(f("relaymon/probe-id/v1") || f(beacon) || f(cosigned) || f(monitor key) || f(relay) || f(hour) || f(salt))
//
// f being the length in 4 bytes, big-endian, and the bytes; the beacon is empty or
// a round of a public source of randomness, cosigned empty or a note as said below, the
// monitor key the log's verifier key as text, the relay its binary peer ID, the hour the
// record's, as the number of hours since 1970 in 8 bytes, big-endian, the salt 32 bytes.
// Salt, beacon, cosigned and envelope stand in the [Reservation].
//
// A voucher is bad unless the envelope's signature, domain and payload type are
// good, its signer and member relay are the record's relay, its member peer equals
// the reservation's peer and follows from the salt, and it expires no earlier than
// the second in which the attempt started and no later than 24 hours after that.
// Else it is bound: the relay signed it for this monitor and this hour. The envelope has
// 16384 bytes at most. A bad or missing voucher is a fact to be reported, not an error.
//
// That the relay did not sign it beforehand shows what could not be known before: the
// beacon or the cosignature. One that is there and not as follows makes the voucher bad.
//
// A beacon is checked by a [BeaconVerifier]; without one it counts as absent. It is a
// round of drand's chain quicknet
// (52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971): its number in 8
// bytes, big-endian, and its signature, 48 bytes. It must be the first round at or
// after the start of the hour.
//
// The member cosigned is text, 1024 bytes at most: a signed note in the one spelling,
// whose text is that of a checkpoint of this log (the first line is its origin) and which
// has exactly one signature line, a cosignature/v1 by a witness that the verifier knows.
// The time in it is not before the start of the hour before the record's, and not later than 5 s
// after the attempt's start. Of which size and root the checkpoint is does not matter here.
//
// # Exported months
//
// A [MonitorMonth] is what one log shows of one relay in one month, as of a time.
// As files ([MonitorMonth.Files]):
//
//	month.json            format "relaymon-month/v1", origin, key (the log's verifier key), month, relay,
//	                      as_of, start_size, frontier, records: for each line of records.jsonl its
//	                      hour, index in the block and proof. One line of canonical JSON.
//	start                 the checkpoint of size start_size; absent if start_size is 0
//	blocks.jsonl          the headers of the month's blocks
//	checkpoints           all checkpoints over them, an empty line between two
//	records.jsonl         the relay's records, by hour
//	certificates/H.der    each certificate that a record or open hour refers to; H its SHA-256 in hex
//	open/YYYY-MM-DDTHH.jsonl  attempts on the relay in an hour not sealed yet, one a line; may be none
//	note                  signed by the log's key alone
//
// The note's text is "relaymon-month/v1", the origin, "<month> <relay> <as_of>", and
// for every other file, sorted by name, "<SHA-256 in hex> <name>", a line each. So
// nothing can be left out or changed by whoever passes an export on.
//
// start_size is the number of the log's blocks before the month (all blocks, if
// the log does not come to the month; 0, if it begins in it or later). frontier
// are the hashes of the perfect subtrees that a tree of so many leaves consists
// of, largest first; folded from the right they are its root. With them and the
// headers the root of every later checkpoint is rebuilt.
//
// A verifier brings the log's verifier key and those of the witnesses, and checks:
//
//  1. month.json's key is that key, its name is the origin, and the note is signed
//     by it over exactly these files.
//  2. start has the size start_size, and as its root that of frontier.
//  3. The headers are canonical and follow each other: hour +1, previous; the first
//     is the month's first hour, or, if start_size is 0, has a zero previous; all are
//     of the month; none was sealed before its hour had closed, nor after as_of;
//     the last is signed.
//  4. There is exactly one checkpoint for each signed header, in order; its size is
//     start_size plus the headers so far, its root is that of the tree.
//  5. Each record is a leaf of its header's tree (RFC 6962 audit path, lowest
//     sibling first, as golang.org/x/mod/sumdb/tlog does), canonical, of this relay
//     and hour, and as said under Records. Hours ascend.
//  6. Each certificate is referred to, and each reference has its certificate, whose
//     issuer, names and dates are as the record says ([NewCertificate]).
//  7. Open hours ascend, come after the last block, are of the month, and would make
//     a record; no attempt started after as_of.
//
// Facts that come of it, hour by hour: the record; when each witness first cosigned
// a checkpoint that covers the hour (a time more than 5 s before the sealing of the
// checkpoint's last block is wrong, by one clock or the other: it stands for the
// hours that no checkpoint before covers, and for no others); when the first attempt
// was due, if the month's headers hold its commitment and its secret; the vouchers; and whether the monitor's clock
// is to be trusted: at least one sample, all of them synchronised, drift below 2 s,
// fewer than 16 steps, and no witness cosigned the first checkpoint over the hour more than 5 s before
// the time at which the monitor says it sealed it.
//
// # Statements
//
// [Log.SignStatement] puts an in-toto statement into a DSSE envelope, payload type
// application/vnd.in-toto+json, with one Ed25519 signature by the log's key, whose
// key ID is <origin>+<key hash>. The envelope is canonical JSON.
//
// # On disk
//
//	log.json                      format, origin, first hour, verifier keys; written last at creation
//	log.key, witness.key          signer keys, mode 0600, made once
//	lock                          flock of the one writer
//	wal/<hour>.jsonl              hours not sealed: begin, attempt, mark; fsync before an entry counts
//	blocks/<month>.jsonl          headers, one a line: the leaves of the log
//	blocks/<month>/<hour>.jsonl   records, one a line; absent if there is none
//	checkpoints/<size, 8 digits>  signed notes, with cosignatures as they come in
//	certs/<SHA-256>.der           certificates, each once
//	restored                      there if the log came out of a backup and was not compared yet
//	witness/<SHA-256 of the key>  the last checkpoint cosigned of each other log, by its verifier key
//	witness/<...>.fork            a checkpoint of that log with another root for a size cosigned before
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
// stretch would cosign another history of a log. Nothing here prevents that yet:
// it takes the log's own dishonesty as well, and the other witnesses see it.
//
// # Worked example
//
// A lab log of one hour: the secret keys (Ed25519 seeds) of log, relay and witness
// are 32 bytes of 0x01, 0x03 and 0x05, the salt is 32 bytes of 0x04.
//
// Log's verifier key:
//
//	monitor.example.org/relaymon/lab+824672aa+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c
//
// Witness's verifier key:
//
//	witness.example.net+6467e1ed+BG56HN0psLeP0Tr0xVmP7/TvKpcWbjym8uT7/M2AUFvx
//
// Relay, and the identity that reserved:
//
//	12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba
//	12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt
//
// Record, and its leaf hash:
//
//	{"attempts":[{"facts":{"hop_reserve":100,"reservation":{"expires":"2026-11-01T01:01:30.000Z","peer":"12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt","salt":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=","voucher":"CiQIARIg7UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9ESAgMCGlYKJgAkCAESIO1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfREiYAJAgBEiA5Pb6sLByx3fBfYHXnBI63+7AQzwJTHlUcnai42158+RjqnprXBipAwpGAh00PXMc51bw00Jc+LusDdLUGgt4MqPR7Bn1rUYC5ThnAaEVvrYnBwRfCO2XDFj8tZnJmbwD/KHmqw30tCQ=="}},"level":1,"peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba","results":{"relay":{"duration_us":2500,"outcome":"ok"},"tcp4":{"duration_us":1500,"outcome":"ok"},"wss":{"duration_us":0,"outcome":"skipped"}},"rungs":[{"component":"tcp4","duration_us":1500,"name":"tcp4","offset_us":0,"outcome":"ok"}],"started":"2026-11-01T00:01:30.000Z","tcp4_addr":"/ip4/127.0.0.2/tcp/4001/p2p/12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"}],"hour":"2026-11-01T00:00:00Z","peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"}
//	P8BkrEbh+dwUqOMoPM8Fw/J3u2Y9YU0TvSUCrHK7bUM=
//
// Header, and its leaf hash:
//
//	{"clock":{"drift_ms":0,"samples":1,"synchronised":true},"hour":"2026-11-01T00:00:00Z","previous":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","records":1,"root":"P8BkrEbh+dwUqOMoPM8Fw/J3u2Y9YU0TvSUCrHK7bUM=","sealed_at":"2026-11-01T01:16:00.000Z","signed":true,"software":"relaymon/0.1.0","state":"ok"}
//	kaw7KoUN/iXW31L5FMhfTqXmmS7H/GvWR64uW2QwAzY=
//
// Checkpoint with a cosignature:
//
//	monitor.example.org/relaymon/lab
//	1
//	kaw7KoUN/iXW31L5FMhfTqXmmS7H/GvWR64uW2QwAzY=
//
//	— monitor.example.org/relaymon/lab gkZyquqirwxER7gvuVnWxfGMp8L4NBc/3XSLcV/L6RhtsBd+O7+NjQJDmGcvnKfHH1kFCwVTSUt+mFaAjDpe/7ghjwk=
//	— witness.example.net ZGfh7QAAAABq5pMMLEXOJpnhcsVL5RRE7qLQWyw6brcqylzVsbBQ/c3C0t5H7BOX/AR347f5wQtFlLQEiXFEDchrwnfL1V6i9YuIAw==
//
// Note of the month:
//
//	relaymon-month/v1
//	monitor.example.org/relaymon/lab
//	2026-11 12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba 2026-11-01T02:16:00.000Z
//	3547968ca9df5c48301c0fd6337606d8be59993d2ac74d542f0d7b69e6582062 blocks.jsonl
//	debbd1b6021bda316e6f7b5f4941fd56f0fce61949935da0082f596e61ff0a6b checkpoints
//	73d9de74f6e5fd60e11f60c46a3d8da319746c95e73922adad97f5d0aca48b7c month.json
//	f8fcc85fd29712cb03e5de85988e63bf97f2a0482a635ef11f6bbd0aa8473408 records.jsonl
//
//	— monitor.example.org/relaymon/lab gkZyqnfjoD62oOMJRHnxB3DhFKkEh0XuKoFHK9/lmflO5WrsuPdKfXP+cVkh0SU7vKKmj7N0mhG2lBrvxLtE638i3A4=
package evidence
