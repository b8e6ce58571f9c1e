package coord

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/google/uuid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// maxWord bounds the ids that a private message carries and we send back.
const maxWord = 128

// private is a message on the topic of the peer that is to read it. The payload
// is encrypted to its receiver; the rest is for everybody to see.
type private struct {
	Timestamp string `json:"timestamp"`
	UUID      string `json:"uuid"`
	Sender    string `json:"sender"`
	Receiver  string `json:"receiver"`
	Payload   string `json:"payload"` // hex
}

// parsePrivate reads a message that from has signed. Upstream believes the
// sender field; here it must name who signed.
func parsePrivate(data []byte, from peer.ID) (id string, sealed []byte, err error) {
	if len(data) > MaxMessage {
		return "", nil, fmt.Errorf("private message of %d bytes, at most %d are read", len(data), MaxMessage)
	}
	var m private
	if err := json.Unmarshal(data, &m); err != nil {
		return "", nil, fmt.Errorf("private message: %w", err)
	}
	if m.Sender != from.String() {
		return "", nil, errors.New("private message: sent in another peer's name")
	}
	if m.UUID == "" || len(m.UUID) > maxWord {
		return "", nil, errors.New("private message: uuid is missing or too long")
	}
	if sealed, err = hex.DecodeString(m.Payload); err != nil {
		return "", nil, fmt.Errorf("private message: payload: %w", err)
	}
	return m.UUID, sealed, nil
}

// newPrivate encrypts plain for a receiver. Without an id it gets one of its own.
func newPrivate(from, to peer.ID, key *secp256k1.PublicKey, id string, plain []byte, now time.Time) ([]byte, error) {
	sealed, err := encrypt(key, plain)
	if err != nil {
		return nil, err
	}
	if id == "" {
		id = uuid.NewString()
	}
	return json.Marshal(private{
		Timestamp: now.UTC().Format(isoMillis),
		UUID:      id,
		Sender:    from.String(),
		Receiver:  to.String(),
		Payload:   hex.EncodeToString(sealed),
	})
}

// The acknowledgement of a private message. Upstream recognises one by this very
// substring, and so must we, or two peers acknowledge each other for ever.
const ack = `{"apiName":"ACK"}`

func isAck(plain []byte) bool { return strings.Contains(string(plain), `"apiName":"ACK"`) }

// parseAbout reads the call by which upstream measures how fast a relay answers:
// {"jsonrpc":"2.0","id":"metrics<n>","method":"about"}.
func parseAbout(plain []byte) (id string, ok bool) {
	var call struct {
		ID     string `json:"id"`
		Method string `json:"method"`
	}
	if json.Unmarshal(plain, &call) != nil || call.Method != "about" || len(call.ID) > maxWord || !strings.Contains(call.ID, "metrics") {
		return "", false
	}
	return call.ID, true
}

// aboutAnswer is the answer to such a call of a peer.
func aboutAnswer(id string, to peer.ID, value any) ([]byte, error) {
	type result struct {
		Method   string `json:"method"`
		Receiver string `json:"receiver"`
		Value    any    `json:"value"`
	}
	return json.Marshal(struct {
		JSONRPC string `json:"jsonrpc"`
		ID      string `json:"id"`
		Result  result `json:"result"`
	}{"2.0", id, result{"about", to.String(), value}})
}
