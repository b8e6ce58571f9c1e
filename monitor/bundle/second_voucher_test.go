package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math/big"
	"strings"
	"time"
)

// The second verifier's word on vouchers of Ed25519 relays, from the section Vouchers of
// the package comment of evidence. It knows no drand: the golden relays signed what a
// witness had cosigned.

type secondReservation struct {
	Peer     string `json:"peer"`
	Salt     []byte `json:"salt"`
	Beacon   []byte `json:"beacon"`
	Cosigned string `json:"cosigned"`
	Voucher  []byte `json:"voucher"`
}

// secondBase58 decodes the name of a peer.
func secondBase58(s string) []byte {
	n, zeros := new(big.Int), 0
	for i, c := range []byte(s) {
		if c == '1' && zeros == i {
			zeros++
		}
		n.Mul(n, big.NewInt(58))
		n.Add(n, big.NewInt(int64(strings.IndexByte("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", c))))
	}
	return append(make([]byte, zeros), n.Bytes()...)
}

// secondFields reads a protobuf message of length-delimited and varint fields.
func secondFields(b []byte) (bytesOf map[int][]byte, numbers map[int]uint64) {
	bytesOf, numbers = map[int][]byte{}, map[int]uint64{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		b = b[n:]
		v, n := binary.Uvarint(b)
		b = b[n:]
		if tag&7 == 0 {
			numbers[int(tag>>3)] = v
			continue
		}
		bytesOf[int(tag>>3)], b = b[:v], b[v:]
	}
	return bytesOf, numbers
}

// proven says whether the relay's signature shows that it answered the monitor in the
// hour: its own, for this very identity, valid for three hours at most, and, on the real
// network, with something in it that nobody could know before.
func (s *second) proven(monitor, relayName string, hour, started, ended time.Time, r *secondReservation) bool {
	if r == nil || len(r.Beacon) > 0 {
		return false
	}
	relay := secondBase58(relayName)
	envelope, _ := secondFields(r.Voucher)
	pub, typ := secondFields(envelope[1])
	if typ[1] != 1 || !bytes.Equal(envelope[2], []byte{3, 2}) {
		return false
	}
	var signed []byte
	for _, f := range [][]byte{[]byte("libp2p-relay-rsvp"), envelope[2], envelope[3]} {
		signed = append(binary.AppendUvarint(signed, uint64(len(f))), f...)
	}
	if !ed25519.Verify(pub[2], signed, envelope[5]) || !bytes.Equal(relay, append([]byte{0, 36}, envelope[1]...)) {
		return false
	}
	logKey, operator := "", ""
	for _, m := range s.roster.Monitors {
		if m.Name == monitor {
			logKey, operator = m.LogKey, m.Operator
		}
	}
	var seed []byte
	for _, f := range [][]byte{[]byte("relaymon/probe-id/v1"), r.Beacon, []byte(r.Cosigned), []byte(logKey), relay,
		binary.BigEndian.AppendUint64(nil, uint64(hour.Unix()/3600)), r.Salt} {
		seed = append(binary.BigEndian.AppendUint32(seed, uint32(len(f))), f...)
	}
	sum := sha256.Sum256(seed)
	self := append([]byte{0, 36, 8, 1, 18, 32}, ed25519.NewKeyFromSeed(sum[:]).Public().(ed25519.PublicKey)...)
	v, numbers := secondFields(envelope[3])
	expires := time.Unix(int64(numbers[3]), 0)
	if !bytes.Equal(v[1], relay) || !bytes.Equal(v[2], self) || !bytes.Equal(secondBase58(r.Peer), self) ||
		expires.Before(started.Truncate(time.Second)) || expires.After(ended.Add(3*time.Hour)) {
		return false
	}
	if r.Cosigned == "" {
		return s.roster.Network == "lab"
	}
	text, line, _ := strings.Cut(r.Cosigned, "\n\n")
	origin, _, _ := strings.Cut(logKey, "+")
	if !strings.HasPrefix(text, origin+"\n") || strings.Count(text, "\n") != 2 || len(r.Cosigned) > 1024 {
		return false
	}
	for _, m := range s.roster.Monitors {
		w, err := parseVKey(m.WitnessKey)
		if err != nil {
			continue
		}
		sig, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(line, "— "+w.name+" "), "\n"))
		if err != nil || len(sig) != 4+8+ed25519.SignatureSize {
			continue
		}
		msg := "cosignature/v1\ntime " + new(big.Int).SetBytes(sig[4:12]).String() + "\n" + text + "\n"
		at := time.Unix(int64(binary.BigEndian.Uint64(sig[4:])), 0)
		if ed25519.Verify(w.key, []byte(msg), sig[12:]) {
			return !at.Before(hour.Add(-time.Hour)) && !at.After(started.Add(5*time.Second)) && (m.Operator != operator || s.roster.Network == "lab")
		}
	}
	return false
}
