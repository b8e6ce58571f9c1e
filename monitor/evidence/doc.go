// Package evidence is what a monitor holds of the relays it watches, and the
// format in which a stranger can check it: attempts, records, hour blocks, a
// Merkle log with signed and cosigned checkpoints, and exported months.
//
// Package store keeps such a log on disk; a verifier needs [VerifyMonth]. All here
// is pure: no clock, no network, no files. What follows is the format's
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
// Nothing in an attempt takes less than no time or more than an hour: each offset_us,
// duration_us and ping_us is 0 to 3600000000. A control starts no more than an hour
// before or after the attempt beside which it stands, unless that is marked stepped. A
// reservation does not expire before 1970.
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
// The hour is closed 16 minutes after its end. Each of its records then has a place in
// a Merkle prefix tree, which follows from the relay alone:
//
//	key   = SHA-256(peer ID, as text)
//	value = SHA-256(canonical record)
//
// The root is T(all places, 0), and bit 0 of a key is the highest bit of its first byte:
//
//	T(no place, depth)  = SHA-256()
//	T(one place, depth) = SHA-256(0x00 || key || value)
//	T(more, depth)      = SHA-256(0x01 || T(those with bit depth of the key 0, depth+1)
//	                                   || T(those with bit depth of the key 1, depth+1))
//
// So there is one way from the root to where a relay's record must be, and at its end
// stands that record, the one of another relay, or nothing. Whoever has the root can be
// shown which of the three it is, by the hashes beside the way, and never two of them,
// also by a monitor that has sealed a tree of its own making. Those hashes, and the place
// of one other record at most, are all that is shown of other relays.
//
// The [Header], with the number of the records and the root, is the head of the hour's
// block. The number is 0 if and only if the root is that of no place.
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
// # Plans
//
// When the first attempt of an hour is due nobody can know beforehand but the monitor,
// which cannot choose it. The member plan of a record, 48 bytes, is a BLS signature on the
// curve BLS12-381 as of draft-irtf-cfrg-bls-signature, minimal-signature-size, basic scheme,
// suite BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_, by the monitor's plan key, over the lines
//
//	relaymon-plan/v1
//	<origin>
//	<hour, as in the record>
//	<relay's peer ID>
//
// The public key is a point of G2, 96 bytes compressed; in rosters and log.json it stands
// in base64. For one key and text there is one signature, and it counts in one spelling only: a
// compressed point of G1, of the group of order r, not infinity. The first attempt at the
// relay is due at the second
//
//	SHA-256(plan), first 8 bytes, big-endian, mod 3600
//
// of the hour. A record without a plan, or with one that is not by the key, is a fact to
// be reported, not an error: on the real network no vote comes of it (rule R2). A log has
// one plan key from its first hour on.
//
// # Log
//
// The canonical headers are in turn the leaves of one Merkle tree as of RFC 6962, the
// log: its leaf hash is SHA-256(0x00 || header), its node hash SHA-256(0x01 || left ||
// right). There is one block for every hour from the log's first on, so that block i
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
// verifier key of type 0x01 means the same witness. No time is after the year 9999.
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
// 16384 bytes at most; an RSA key in it has 4096 bits at most, and the exponent 65537 at
// most, since larger ones take long to verify. A bad or missing voucher is a fact to be reported, not an error.
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
//	                      as_of, start_size, frontier, tip_proof. One line of canonical JSON.
//	start                 the checkpoint of size start_size; absent if start_size is 0
//	blocks.jsonl          the headers of the month's blocks
//	checkpoints           all checkpoints over them, an empty line between two
//	tip                   a later checkpoint of the log, if there is one
//	proofs.jsonl          for each block with records, in order, what it holds of the relay
//	records.jsonl         the relay's records, by hour
//	certificates/H.der    each certificate that a record or open hour refers to; H its SHA-256 in hex
//	open/YYYY-MM-DDTHH.jsonl  attempts on the relay in an hour not sealed yet, one a line; may be none
//	note                  signed by the log's key alone
//
// The note's text is "relaymon-month/v1", the origin, "<month> <relay> <as_of>", and
// for every other file but the certificates, sorted by name, "<SHA-256 in hex> <name>",
// a line each. The hashes of certificates stand in the records. So nothing can be left
// out or changed by whoever passes an export on.
//
// start_size is the number of the log's blocks before the month (all blocks, if
// the log does not come to the month; 0, if it begins in it or later). frontier
// are the hashes of the perfect subtrees that a tree of so many leaves consists
// of, largest first; folded from the right they are its root. With them and the
// headers the root of every later checkpoint is rebuilt.
//
// A line of proofs.jsonl has the hour of the block, present, path, and maybe other. Path
// are the hashes beside the way to the relay's place, the one next to the root first. If
// present is true, the relay's record is at the end of the way, and is the next line of
// records.jsonl. If it is false, the block has none: there stands the place other, with
// its key and value, which is another relay's, or, without this member, nothing. A
// monitor can thus neither leave a record out of an export nor move it.
//
// The tip says how far the log reached when the month was exported. There is none unless
// the month's blocks come to its end and a later checkpoint was signed by then. A monitor
// takes the last that has a cosignature by a witness for whom it exports, or, where none
// has, the last. tip_proof is the consistency proof (RFC 6962) from the month's last
// checkpoint to it, and empty without a tip. Without a tip the log reached as far as the
// month's last block; without any block of the month it is not known how far.
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
//     start_size plus the headers so far, its root is that of the tree. No witness
//     cosigned it, or start or tip, after as_of.
//  5. tip is a checkpoint of a larger size, and tip_proof shows that the blocks under the
//     month's last one are under it, too. It covers no hour that had not closed by as_of.
//  6. Each block with records has its line in proofs.jsonl, in order, and no other has.
//     With the hash of what stands at the end of the way (T of one place or of none) the
//     path leads to the header's root. The key of other is not the relay's, and has the
//     same bits as that from the first on, as many as the path has hashes.
//  7. Each line of records.jsonl is such a record, canonical, of this relay and hour, and
//     as said under Records.
//  8. Each certificate is referred to, and each reference has its certificate, whose
//     issuer, names and dates are as the record says ([NewCertificate]).
//  9. Open hours ascend, come after the last block, are of the month, and would make
//     a record; no attempt started after as_of.
//
// Facts that come of it: how far the log reached, and who cosigned that checkpoint when
// (a monitor's own word on it is worth as much as these times); and hour by hour: the record; when each witness first cosigned
// a checkpoint that covers the hour (a time more than 5 s before the sealing of the
// checkpoint's last block is wrong, by one clock or the other: it stands for the
// hours that no checkpoint before covers, and for no others); when the first attempt
// was due by the record's plan, if the verifier has the plan key; the vouchers; and whether the monitor's clock
// is to be trusted: at least one sample, all of them synchronised, drift below 2 s,
// fewer than 16 steps, and no witness cosigned the first checkpoint over the hour more than 5 s before
// the time at which the monitor says it sealed it.
//
// # Limits
//
// A verifier refuses what is larger, before it decodes anything of it; a monitor writes
// nothing that is. Bytes of the files of a month:
//
//	all together                                64 MiB
//	month.json                                  8 KiB and its newline
//	note                                        128 KiB
//	a checkpoint, also start and tip            16 KiB
//	a line of blocks.jsonl                      32 KiB
//	a line of proofs.jsonl                      8 KiB
//	a line of records.jsonl, a file in open/    128 KiB
//	an attempt                                  48 KiB
//	a certificate                               16 KiB
//
// There are no more than 744 lines in a file, 744 checkpoints and open hours, and 11904
// certificates. In a line no more than 8 lists and objects stand in each other, and each
// has no more than 256 members. In detail, at most:
//
//	record               16 attempts
//	attempt              32 rungs, 128 controls, addresses of 1024 bytes
//	rung                 name and class of 64 bytes, detail of 300; 1000 tries
//	facts                agent of 256 bytes, 128 protocols of 256, 16 IPv4 addresses and pings,
//	                     9 look-ups of 16 addresses each, 1000 look-ups made again, HTTP status 999
//	reservation          32 addresses of 1024 bytes, a voucher of 16 KiB, a salt of 64 bytes, a
//	                     beacon and a peer of 256
//	certificate          100 names of 256 bytes, an issuer of 256
//	control              a name of 100 bytes, 2^30 packets
//	header               100000 records, 16 steps, software of 256 bytes
//	proof                128 hashes (more take two relays whose keys have 128 bits in common)
//	peer ID              128 bytes
//
// A month in which each hour has three attempts, and each of these all controls of nine
// hosts twice, long details and many look-ups, has about 38 MiB. A relay can make its own months larger, by much that it
// says of itself; where an attempt is too large, a monitor leaves its facts out and keeps
// its outcome.
//
// # Statements
//
// [SignStatement] puts an in-toto statement into a DSSE envelope, payload type
// application/vnd.in-toto+json, with one Ed25519 signature by the log's key, whose
// key ID is <origin>+<key hash>. The envelope is canonical JSON.
//
// # Worked example
//
// A lab log of one hour: the secret keys (Ed25519 seeds) of log, relay and witness
// are 32 bytes of 0x01, 0x03 and 0x05, the salt is 32 bytes of 0x04. The plan key comes, by
// the draft's KeyGen, from 32 bytes of 0x06.
//
// Log's verifier key:
//
//	monitor.example.org/relaymon/lab+824672aa+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c
//
// Witness's verifier key:
//
//	witness.example.net+6467e1ed+BG56HN0psLeP0Tr0xVmP7/TvKpcWbjym8uT7/M2AUFvx
//
// Plan key:
//
//	i0nKysUe28k5CIk+nKrfNTaVIGGno6S2Cie5RRRI0c+jAvdgWfUnkv2imzo+T3FGCh81cHkiAvZkQEcIaEUZ5bbyQLSY7JglydDa8fW6UPXp6y3Hae05cehZXNug/9Bt
//
// Relay, and the identity that reserved:
//
//	12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba
//	12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt
//
//	Record:
//
//	{"attempts":[{"facts":{"hop_reserve":100,"reservation":{"expires":"2026-11-01T01:01:30.000Z","peer":"12D3KooWDfp1pkFbosxQWT9yk7iRLm73ZLaiwkYiptsesdDRYzzt","salt":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=","voucher":"CiQIARIg7UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9ESAgMCGlYKJgAkCAESIO1JKMYo0cLG6ukDOJBZlWEpWSc6XGP5NjbBRhSshzfREiYAJAgBEiA5Pb6sLByx3fBfYHXnBI63+7AQzwJTHlUcnai42158+RjqnprXBipAwpGAh00PXMc51bw00Jc+LusDdLUGgt4MqPR7Bn1rUYC5ThnAaEVvrYnBwRfCO2XDFj8tZnJmbwD/KHmqw30tCQ=="}},"level":1,"peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba","results":{"relay":{"duration_us":2500,"outcome":"ok"},"tcp4":{"duration_us":1500,"outcome":"ok"},"wss":{"duration_us":0,"outcome":"skipped"}},"rungs":[{"component":"tcp4","duration_us":1500,"name":"tcp4","offset_us":0,"outcome":"ok"}],"started":"2026-11-01T00:01:30.000Z","tcp4_addr":"/ip4/127.0.0.2/tcp/4001/p2p/12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"}],"hour":"2026-11-01T00:00:00Z","peer_id":"12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba","plan":"qIm8GjiHmBY84v2gFUdPTfMJwL6Ipo7SqLsatUTr6T9XY9itXq+GFHqHBxQVZgtx"}
//
// Key and value of its place in the block, and their hash, which is the root:
//
//	u24w2Bb88TSsYWdhsGGMPBnSu8OrCMe/n9H9zLrS5a0=
//	yp2g9lrtjJ0CfXFkGXcET0Tri5Pm0B7pTvxdgkmRGqI=
//	OJjfkxlcK9cJvxJQ/fg0+9iCUUyQcCh/wZWw9cj0LFk=
//
// Proof of it:
//
//	{"hour":"2026-11-01T00:00:00Z","path":[],"present":true}
//
// Proof that the block has no record of the identity that reserved:
//
//	{"hour":"2026-11-01T00:00:00Z","other":{"key":"u24w2Bb88TSsYWdhsGGMPBnSu8OrCMe/n9H9zLrS5a0=","value":"yp2g9lrtjJ0CfXFkGXcET0Tri5Pm0B7pTvxdgkmRGqI="},"path":[],"present":false}
//
// Header, and its leaf hash:
//
//	{"clock":{"drift_ms":0,"samples":1,"synchronised":true},"hour":"2026-11-01T00:00:00Z","previous":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","records":1,"root":"OJjfkxlcK9cJvxJQ/fg0+9iCUUyQcCh/wZWw9cj0LFk=","sealed_at":"2026-11-01T01:16:00.000Z","signed":true,"software":"relaymon/0.1.0","state":"ok"}
//	OYNIQSH4WZ/ioZeRDfTRruieVhZinJfgh88wzdoiz4A=
//
// Checkpoint with a cosignature:
//
//	monitor.example.org/relaymon/lab
//	1
//	OYNIQSH4WZ/ioZeRDfTRruieVhZinJfgh88wzdoiz4A=
//
//	— monitor.example.org/relaymon/lab gkZyqilOg1VhzSIh9O7Lupzgub435C3huOaTvvm01CBgElN0tun65o1c3befeEi+mLMZwxPCSks+rvix7vI0aOw8hwo=
//	— witness.example.net ZGfh7QAAAABq5pMM67ZZdBk6N1fYQjrzktTQB0uEW/QoDA+ijcIx4f/dztGEeUcwnBHRlIbqnrs5nF2yN3zZRH79xRUcXj5IcQMBCQ==
//
// Note of the month:
//
//	relaymon-month/v1
//	monitor.example.org/relaymon/lab
//	2026-11 12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba 2026-11-01T02:16:00.000Z
//	07b97634b43e43d244b241e06ba8bdfc5469249e3ef1cd650a70c85d968a30eb blocks.jsonl
//	0ab0b010c41b1c3aa2860825c773bc17190941937d376ea8de90441f416d05ad checkpoints
//	a8e5fc494aa6b8777069a480da0d20faf3cf1eea49a2858994d91611b9f32f5d month.json
//	87f318caada20b53a0c92722d3be0d9ab791f5276f980ca281f2e598baa1e213 proofs.jsonl
//	6f6c20674737b146ba0e1363dea38292aa8cf1702e72ac3a15d8377a25974abf records.jsonl
//
//	— monitor.example.org/relaymon/lab gkZyqq/xHC7eSXR8WizmhFCxW9PS/huOAqD+tXTbjyLAW7f93JRdZI1Rxp31IYJZKx4nWwqyLlDHv7XpkEVw3JvjigQ=
package evidence
