// Package statement holds what the operator of a relay tells the bounty's
// committee, signed by the relay's own host key: that the relay enrols, that it
// moves to another address, where a payment shall go, or that he objects to how a month
// was counted or decided.
//
// A statement is a libp2p signed envelope (the form in which libp2p signs peer
// records and vouchers), so that every relay that has an identity can make one.
// Its domain is [Domain], its payload type [Codec], its payload the JSON of
// [Statement] in the order of the struct's fields without white space, times in
// UTC at full seconds. In an appeal, which is a text, the characters <, > and & are
// written as they are, elsewhere as \u003c, \u003e and \u0026. [Open] accepts exactly what
// [Sign] writes.
//
// A program prints it in base64 on one line; there it is read by people, sent by
// mail and copied into the roster.
package statement

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
)

// Domain keeps a statement's signature from being taken for any other.
const Domain = "psf-relay-statement"

// Codec is the payload type: a code of multicodec's private range (0x300510) as a varint.
var Codec = []byte{0x90, 0x8a, 0xc0, 0x01}

// maxBytes bounds the envelope of an enrolment or a move; an RSA-4096 key and signature
// fit well. That of an appeal may have as many bytes more as a text can take.
const (
	maxBytes  = 4096
	maxAppeal = maxBytes + 2*MaxText
)

// MaxText is how many bytes an appeal's text may have.
const MaxText = 4096

// Kind is what a statement is for.
type Kind string

// The kinds.
const (
	Enrol Kind = "enrol" // the relay enters the bounty at From
	Move  Kind = "move"  // its address changes at From
	// Appeal is the operator's objection to how Month was counted or decided, in his own
	// words. It has no address, region, payout and From.
	Appeal Kind = "appeal"
)

// Statement is what is signed.
type Statement struct {
	Kind    Kind   `json:"kind"`
	Network string `json:"network"` // psf or lab: one is never taken for the other
	PeerID  string `json:"peer_id"`
	// Operator is the name under which the roster lists him.
	Operator string `json:"operator"`
	IPv4     string `json:"ipv4,omitempty"`
	TCPPort  int    `json:"tcp_port,omitempty"`
	Domain   string `json:"domain,omitempty"`
	WSSPort  int    `json:"wss_port,omitempty"`
	// Region is the country in which the operator says the relay stands, as an
	// ISO 3166-1 code; empty: he says nothing of it.
	Region string `json:"region"`
	// Payout is where a payment goes; empty: nowhere.
	Payout string `json:"payout"`
	// From is the hour at which it takes effect.
	From time.Time `json:"from,omitzero"`
	// Month is that of an appeal, as 2026-11, and Text what it says.
	Month string `json:"month,omitempty"`
	Text  string `json:"text,omitempty"`
	// Made is the operator's clock when it was signed.
	Made time.Time `json:"made"`
}

// Sign puts s into an envelope of the relay's host key.
func Sign(s Statement, key crypto.PrivKey) ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("sign the relay's statement: %w", err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("sign the relay's statement: %w", err)
	}
	if id.String() != s.PeerID {
		return nil, fmt.Errorf("sign the relay's statement: it is about %s, the key is that of %s", s.PeerID, id)
	}
	envelope, err := record.Seal(&payload{s}, key)
	if err != nil {
		return nil, fmt.Errorf("sign the relay's statement: %w", err)
	}
	return envelope.Marshal()
}

// Open reads an envelope and checks that the relay it speaks of has signed it.
func Open(envelope []byte) (Statement, error) {
	if len(envelope) > maxAppeal {
		return Statement{}, fmt.Errorf("read the relay's statement: %d bytes, at most %d are read", len(envelope), maxAppeal)
	}
	var p payload
	e, err := record.ConsumeTypedEnvelope(envelope, &p)
	if err != nil {
		return Statement{}, fmt.Errorf("read the relay's statement: want the whole line as relayd printed it: %w", err)
	}
	// Protobuf has many spellings of one message; only ours is accepted.
	again, err := e.Marshal()
	if err != nil || !bytes.Equal(again, envelope) {
		return Statement{}, errors.New("read the relay's statement: the envelope is not in its canonical form")
	}
	if !bytes.Equal(e.PayloadType, Codec) {
		return Statement{}, fmt.Errorf("read the relay's statement: payload type %x, want %x", e.PayloadType, Codec)
	}
	if p.Kind != Appeal && len(envelope) > maxBytes {
		return Statement{}, fmt.Errorf("read the relay's statement: %d bytes, at most %d are read of one of kind %s", len(envelope), maxBytes, p.Kind)
	}
	id, err := peer.IDFromPublicKey(e.PublicKey)
	if err != nil {
		return Statement{}, fmt.Errorf("read the relay's statement: %w", err)
	}
	if id.String() != p.PeerID {
		return Statement{}, fmt.Errorf("read the relay's statement: it is about %s, but %s signed it", p.PeerID, id)
	}
	return p.Statement, nil
}

// Text is the envelope as one line of base64.
func Text(envelope []byte) string { return base64.StdEncoding.EncodeToString(envelope) }

// FromText reads what [Text] writes; white space around it does not matter.
func FromText(s string) ([]byte, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return nil, errors.New("read the relay's statement: nothing is there, want the line that relayd printed")
	}
	if most := base64.StdEncoding.EncodedLen(maxAppeal); len(s) > most {
		return nil, fmt.Errorf("read the relay's statement: %d bytes of base64, at most %d are read", len(s), most)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("read the relay's statement: want one line of base64: %w", err)
	}
	return b, nil
}

func (s Statement) validate() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(s.Kind == Enrol || s.Kind == Move || s.Kind == Appeal, "kind: want enrol, move or appeal, not %q", s.Kind)
	want(s.Network == "psf" || s.Network == "lab", "network: want psf or lab, not %q", s.Network)
	id, err := peer.Decode(s.PeerID)
	want(err == nil && id.String() == s.PeerID, "peer_id: want a peer ID such as 12D3KooW... or Qm..., not %q", s.PeerID)
	want(s.Operator != "" && len(s.Operator) <= 100, "operator: want 1 to 100 bytes")
	want(s.Made.Location() == time.UTC && s.Made.Equal(s.Made.Truncate(time.Second)) && s.Made.Unix() > 0, "made: want a UTC time at a full second")
	if s.Kind == Appeal {
		s.validateAppeal(want)
		return errors.Join(faults...)
	}
	ip, err := netip.ParseAddr(s.IPv4)
	want(err == nil && ip.Is4(), "ipv4: want an IPv4 address, not %q", s.IPv4)
	want(s.TCPPort > 0 && s.TCPPort < 1<<16, "tcp_port: want 1 to 65535, not %d", s.TCPPort)
	want(s.Domain != "" && len(s.Domain) <= 253, "domain: want a DNS name")
	want(s.WSSPort > 0 && s.WSSPort < 1<<16, "wss_port: want 1 to 65535, not %d", s.WSSPort)
	want(s.Region == "" || isCountry(s.Region), "region: want two capital letters such as SG (ISO 3166-1), not %q", s.Region)
	want(len(s.Payout) <= 200, "payout: longer than 200 bytes")
	want(s.From.Location() == time.UTC && s.From.Equal(s.From.Truncate(time.Hour)) && s.From.Unix() > 0, "from: want a full UTC hour")
	want(s.Month == "" && s.Text == "", "month, text: a statement of kind %s has none", s.Kind)
	return errors.Join(faults...)
}

// validateAppeal looks at what an appeal alone has, and at what it has not.
func (s Statement) validateAppeal(want func(ok bool, format string, args ...any)) {
	month, err := time.Parse(monthLayout, s.Month)
	if want(err == nil && month.Year() >= 1970 && month.Format(monthLayout) == s.Month, "month: want YYYY-MM such as 2026-11, not %q", s.Month); err == nil {
		want(!month.After(s.Made), "month: %s has not begun at %s, when this was made", s.Month, s.Made.Format(time.RFC3339))
	}
	err = CheckText(s.Text, MaxText)
	want(err == nil, "text: %w", err)
	rest := s
	rest.Kind, rest.Network, rest.PeerID, rest.Operator, rest.Made, rest.Month, rest.Text = "", "", "", "", time.Time{}, "", ""
	want(rest == Statement{}, "an appeal has no address, region, payout and from")
}

const monthLayout = "2006-01"

func isCountry(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// payload makes a Statement a libp2p record.
type payload struct{ Statement }

var _ record.Record = (*payload)(nil)

func (*payload) Domain() string { return Domain }

func (*payload) Codec() []byte { return Codec }

func (p *payload) MarshalRecord() ([]byte, error) {
	if p.Kind != Appeal {
		return json.Marshal(p.Statement)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(p.Statement)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func (p *payload) UnmarshalRecord(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p.Statement); err != nil {
		return err
	}
	if err := p.validate(); err != nil {
		return err
	}
	again, err := p.MarshalRecord()
	if err != nil || !bytes.Equal(again, b) {
		return errors.New("not in its canonical form")
	}
	return nil
}
