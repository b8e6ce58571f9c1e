// Package tiles is the public form of a log: what anybody may read of it, over HTTP
// (package tileserver) or as plain files ([Export]), under the same names.
//
// It is C2SP tlog-tiles (https://c2sp.org/tlog-tiles), so that clients which others wrote
// can follow a log, with three folders of our own beside it:
//
//	checkpoint                  the last checkpoint, with its cosignatures
//	tile/<L>/<N>[.p/<W>]        hashes of the log's tree, 256 a tile
//	tile/entries/<N>[.p/<W>]    entries: canonical headers, 256 a bundle, each with its
//	                            length in two bytes, big-endian, before it
//	records/<block>.jsonl       the canonical records of a block, one a line; there is no
//	                            file of a block without records
//	checkpoints/<size>          each checkpoint that was signed, with its cosignatures
//	certificates/<SHA-256>.der  the certificates that the records name
//
// L is the level of a tile; N is its number, in groups of three digits, all but the last
// with an x before them (x001/067); W is how many of its 256 places are filled, if not all
// are. Block and size have eight digits at least. Block i is entry i of the log, and is
// under each checkpoint of a size above i.
//
// Nothing is shown that is not under a signed checkpoint. A name whose content can change
// is "checkpoint" or "checkpoints/<size>" (cosignatures come in); all others stay as they
// are for ever.
package tiles
