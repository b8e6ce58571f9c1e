package coord

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Bounds of an announcement. Real ones have about 1,300 bytes and five addresses.
const (
	MaxAnnouncement = 16 << 10
	maxAddrs        = 128
	maxAddr         = 512
)

// MaxAge is how old an announcement may be: helia-coord ignores older ones.
const MaxAge = 10 * time.Minute

// The words that helia-coord puts into every announcement. apiVersion is part of
// the protocol and says nothing about the sender's software.
const (
	apiName    = "ipfs-coord-announce"
	apiVersion = "1.3.2"
)

// Announcement is what a peer says about itself on the coordination topic.
type Announcement struct {
	APIInfo          string
	BroadcastedAt    time.Time // written with milliseconds
	PeerID           peer.ID   // must be the peer that signed the message
	Type             string    // "node.js" or "browser"
	Multiaddrs       []string  // as sent: not every one is a multiaddr that we can parse
	ConnectPref      string    // "direct" or "cr"
	IsCircuitRelay   bool
	CircuitRelayInfo RelayInfo
	CryptoAddresses  []CryptoAddress
	EncryptPubKey    string // 33-byte compressed secp256k1 point in hex, or empty
	JSONLD           JSONLD
}

// RelayInfo is where peers find a relay that they cannot reach by Multiaddrs:
// they try /ip4/IP4/tcp/TCPPort and /dns4/CRDomain/tcp/443/wss.
type RelayInfo struct {
	IP4      string `json:"ip4"`
	TCPPort  int    `json:"tcpPort"`
	CRDomain string `json:"crDomain"`
}

// CryptoAddress is an address on a block chain; the network only shows it.
type CryptoAddress struct {
	Blockchain string `json:"blockchain"`
	Type       string `json:"type"`
	Address    string `json:"address"`
}

// JSONLD says what service the peer offers. Name, version, protocol and
// description are read by ipfs-service-provider and ipfs-service-metrics.
type JSONLD struct {
	Context       string    `json:"@context"`
	Type          string    `json:"@type"`
	Name          string    `json:"name"`
	Version       string    `json:"version"`
	Protocol      string    `json:"protocol"`
	Description   string    `json:"description"`
	Documentation string    `json:"documentation,omitempty"`
	Provider      *Provider `json:"provider,omitempty"`
	Identifier    string    `json:"identifier"`
}

// Provider is who runs the service.
type Provider struct {
	Type string `json:"@type"`
	Name string `json:"name"`
	URL  string `json:"url"`
}

const isoMillis = "2006-01-02T15:04:05.000Z"

// Encode writes the announcement as it goes over the wire: a JSON string that
// holds the JSON object. Receivers parse twice, and drop a plain object silently.
func (a Announcement) Encode() ([]byte, error) {
	if err := a.PeerID.Validate(); err != nil {
		return nil, fmt.Errorf("encode announcement: peer ID: %w", err)
	}
	if a.BroadcastedAt.IsZero() {
		return nil, errors.New("encode announcement: without broadcastedAt every peer ignores it")
	}
	ld := a.JSONLD
	ld.Identifier = a.PeerID.String()
	if ld.Context == "" {
		ld.Context = "https://schema.org/"
	}
	if ld.Type == "" {
		ld.Type = "WebAPI"
	}
	crypto := a.CryptoAddresses
	if len(crypto) == 0 {
		// Both entries are always there, whether or not the peer has a wallet.
		crypto = []CryptoAddress{{Blockchain: "BCH", Type: "cashAddr"}, {Blockchain: "BCH", Type: "slpAddr"}}
	}
	inner, err := json.Marshal(map[string]any{
		"apiName":          apiName,
		"apiVersion":       apiVersion,
		"apiInfo":          a.APIInfo,
		"broadcastedAt":    a.BroadcastedAt.UTC().Format(isoMillis),
		"ipfsId":           a.PeerID.String(),
		"type":             a.Type,
		"ipfsMultiaddrs":   append([]string{}, a.Multiaddrs...), // null would break the receiver
		"orbitdb":          "",
		"ipfsConnectPref":  a.ConnectPref,
		"circuitRelays":    []string{},
		"isCircuitRelay":   a.IsCircuitRelay,
		"circuitRelayInfo": a.CircuitRelayInfo,
		"cryptoAddresses":  crypto,
		"encryptPubKey":    a.EncryptPubKey,
		"jsonLd":           ld,
	})
	if err != nil {
		return nil, fmt.Errorf("encode announcement: %w", err)
	}
	outer, err := json.Marshal(string(inner))
	if err != nil {
		return nil, fmt.Errorf("encode announcement: %w", err)
	}
	if len(outer) > MaxAnnouncement || len(a.Multiaddrs) > maxAddrs {
		return nil, fmt.Errorf("encode announcement: %d bytes and %d addresses, at most %d and %d are read by others: announce fewer addresses",
			len(outer), len(a.Multiaddrs), MaxAnnouncement, maxAddrs)
	}
	return outer, nil
}

// ParseAnnouncement reads what Encode and helia-coord write. The time, the peer
// ID and the list of addresses must be right, since every receiver relies on
// them; any other field that has another type than ours reads as absent, because
// nobody upstream checks it either.
func ParseAnnouncement(data []byte) (Announcement, error) {
	if len(data) > MaxAnnouncement {
		return Announcement{}, fmt.Errorf("parse announcement: %d bytes, at most %d are read", len(data), MaxAnnouncement)
	}
	var inner string
	if err := json.Unmarshal(data, &inner); err != nil {
		return Announcement{}, fmt.Errorf("parse announcement: not a JSON string: %w", err)
	}
	// A map and not a struct: encoding/json matches a struct's keys in any case.
	var f fields
	if err := json.Unmarshal([]byte(inner), &f); err != nil {
		return Announcement{}, fmt.Errorf("parse announcement: the JSON string holds no JSON object: %w", err)
	}

	var a Announcement
	var at, id string
	for name, into := range map[string]any{"broadcastedAt": &at, "ipfsId": &id, "ipfsMultiaddrs": &a.Multiaddrs} {
		raw := f[name]
		if raw == nil || bytes.Equal(raw, []byte("null")) {
			return Announcement{}, fmt.Errorf("parse announcement: %s is missing", name)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return Announcement{}, fmt.Errorf("parse announcement: %s: %w", name, err)
		}
	}
	var err error
	if a.BroadcastedAt, err = time.Parse(time.RFC3339, at); err != nil {
		return Announcement{}, fmt.Errorf("parse announcement: broadcastedAt: %w", err)
	}
	a.BroadcastedAt = a.BroadcastedAt.UTC()
	if y := a.BroadcastedAt.Year(); y < 1 || y > 9999 {
		return Announcement{}, fmt.Errorf("parse announcement: broadcastedAt: year %d", y)
	}
	if a.PeerID, err = peer.Decode(id); err != nil {
		return Announcement{}, fmt.Errorf("parse announcement: ipfsId: %w", err)
	}
	if len(a.Multiaddrs) > maxAddrs {
		return Announcement{}, fmt.Errorf("parse announcement: %d addresses, at most %d are read", len(a.Multiaddrs), maxAddrs)
	}
	for _, addr := range a.Multiaddrs {
		if len(addr) > maxAddr {
			return Announcement{}, fmt.Errorf("parse announcement: an address of %d bytes, at most %d are read", len(addr), maxAddr)
		}
	}

	a.APIInfo = f.text("apiInfo")
	a.Type = f.text("type")
	a.ConnectPref = f.text("ipfsConnectPref")
	a.EncryptPubKey = f.text("encryptPubKey")
	_ = json.Unmarshal(f["isCircuitRelay"], &a.IsCircuitRelay)
	info := f.object("circuitRelayInfo")
	a.CircuitRelayInfo = RelayInfo{IP4: info.text("ip4"), TCPPort: info.port("tcpPort"), CRDomain: info.text("crDomain")}
	if json.Unmarshal(f["cryptoAddresses"], &a.CryptoAddresses) != nil {
		a.CryptoAddresses = nil
	}
	ld := f.object("jsonLd")
	a.JSONLD = JSONLD{
		Context:       ld.text("@context"),
		Type:          ld.text("@type"),
		Name:          ld.text("name"),
		Version:       ld.text("version"),
		Protocol:      ld.text("protocol"),
		Description:   ld.text("description"),
		Documentation: ld.text("documentation"),
		Identifier:    ld.text("identifier"),
	}
	if p := ld.object("provider"); p != nil {
		a.JSONLD.Provider = &Provider{Type: p.text("@type"), Name: p.text("name"), URL: p.text("url")}
	}
	return a, nil
}

// fields is a JSON object of which only some fields have a known type.
type fields map[string]json.RawMessage

func (f fields) text(name string) (s string) {
	if json.Unmarshal(f[name], &s) != nil {
		return ""
	}
	return s
}

func (f fields) object(name string) (o fields) {
	if json.Unmarshal(f[name], &o) != nil {
		return nil
	}
	return o
}

// port reads a port that is a number for some senders and a string for others.
func (f fields) port(name string) int {
	raw := string(f[name])
	if s := f.text(name); s != "" {
		raw = s
	}
	n, err := strconv.ParseUint(raw, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}
