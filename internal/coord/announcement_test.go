package coord

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// fixedID is the same peer in every run: seeds of a fuzz test must not change.
func fixedID(t testing.TB) peer.ID {
	t.Helper()
	key, err := crypto.UnmarshalEd25519PublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sample(id peer.ID) Announcement {
	return Announcement{
		APIInfo:          "https://relay.example/",
		BroadcastedAt:    time.Date(2026, 11, 22, 8, 37, 16, 787e6, time.UTC),
		PeerID:           id,
		Type:             "node.js",
		Multiaddrs:       []string{"/ip4/203.0.113.7/tcp/4001/p2p/" + id.String()},
		ConnectPref:      "direct",
		IsCircuitRelay:   true,
		CircuitRelayInfo: RelayInfo{IP4: "203.0.113.7", TCPPort: 4001, CRDomain: "relay.example"},
		EncryptPubKey:    "03" + strings.Repeat("ea", 32),
		JSONLD:           JSONLD{Name: "my-relay", Version: "1.2.3", Protocol: "circuit-relay"},
	}
}

func double(t testing.TB, inner any) []byte {
	t.Helper()
	b, err := json.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := inner.(string); ok {
		b = []byte(s)
	}
	out, err := json.Marshal(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnnouncementRoundTrip(t *testing.T) {
	a := sample(randomID(t))
	b, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseAnnouncement(b)
	if err != nil {
		t.Fatal(err)
	}
	want := a
	want.CryptoAddresses = []CryptoAddress{{"BCH", "cashAddr", ""}, {"BCH", "slpAddr", ""}}
	want.JSONLD.Context, want.JSONLD.Type, want.JSONLD.Identifier = "https://schema.org/", "WebAPI", a.PeerID.String()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// What a receiver parses after its two JSON.parse calls, field by field: the
// names and JSON types that helia-coord, ipfs-service-provider and
// ipfs-service-metrics read.
func TestEncodeShape(t *testing.T) {
	id := randomID(t)
	b, err := Announcement{PeerID: id, BroadcastedAt: time.Unix(1.7e9, 0), IsCircuitRelay: true, Type: "node.js", ConnectPref: "direct"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var inner string
	if err := json.Unmarshal(b, &inner); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(inner), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiName": "ipfs-coord-announce", "apiVersion": "1.3.2", "apiInfo": "",
		"broadcastedAt": "2023-11-14T22:13:20.000Z", "ipfsId": id.String(), "type": "node.js",
		"ipfsMultiaddrs": []any{}, "orbitdb": "", "ipfsConnectPref": "direct", "circuitRelays": []any{},
		"isCircuitRelay":   true,
		"circuitRelayInfo": map[string]any{"ip4": "", "tcpPort": 0.0, "crDomain": ""},
		"cryptoAddresses": []any{
			map[string]any{"blockchain": "BCH", "type": "cashAddr", "address": ""},
			map[string]any{"blockchain": "BCH", "type": "slpAddr", "address": ""},
		},
		"encryptPubKey": "",
		"jsonLd": map[string]any{"@context": "https://schema.org/", "@type": "WebAPI", "name": "", "version": "",
			"protocol": "", "description": "", "identifier": id.String()},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestEncodeRefuses(t *testing.T) {
	id := randomID(t)
	long := sample(id)
	long.APIInfo = strings.Repeat("x", MaxAnnouncement)
	timeless := sample(id)
	timeless.BroadcastedAt = time.Time{}
	for name, a := range map[string]Announcement{"no peer ID": sample(""), "no time": timeless, "too long": long} {
		if _, err := a.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestParseAnnouncementTolerates(t *testing.T) {
	id := randomID(t).String()
	base := func() map[string]any {
		return map[string]any{"broadcastedAt": "2026-11-22T08:37:16.787Z", "ipfsId": id, "ipfsMultiaddrs": []string{}}
	}
	for name, tc := range map[string]struct {
		change func(map[string]any)
		check  func(Announcement) bool
	}{
		"nothing else":         {func(m map[string]any) {}, func(a Announcement) bool { return a.PeerID.String() == id }},
		"port as number":       {func(m map[string]any) { m["circuitRelayInfo"] = map[string]any{"tcpPort": 4001} }, func(a Announcement) bool { return a.CircuitRelayInfo.TCPPort == 4001 }},
		"port as string":       {func(m map[string]any) { m["circuitRelayInfo"] = map[string]any{"tcpPort": "4001"} }, func(a Announcement) bool { return a.CircuitRelayInfo.TCPPort == 4001 }},
		"port out of range":    {func(m map[string]any) { m["circuitRelayInfo"] = map[string]any{"tcpPort": 70000} }, func(a Announcement) bool { return a.CircuitRelayInfo.TCPPort == 0 }},
		"flag is true":         {func(m map[string]any) { m["isCircuitRelay"] = true }, func(a Announcement) bool { return a.IsCircuitRelay }},
		"flag is a string":     {func(m map[string]any) { m["isCircuitRelay"] = "true" }, func(a Announcement) bool { return !a.IsCircuitRelay }},
		"flag in another case": {func(m map[string]any) { m["ISCIRCUITRELAY"] = true }, func(a Announcement) bool { return !a.IsCircuitRelay }},
		"jsonLd null":          {func(m map[string]any) { m["jsonLd"] = nil }, func(a Announcement) bool { return a.JSONLD == JSONLD{} }},
		"jsonLd odd":           {func(m map[string]any) { m["jsonLd"] = map[string]any{"name": 3, "version": "1"} }, func(a Announcement) bool { return a.JSONLD.Version == "1" && a.JSONLD.Name == "" }},
		"unknown keys":         {func(m map[string]any) { m["more"] = []any{1, "x"} }, func(a Announcement) bool { return true }},
	} {
		m := base()
		tc.change(m)
		a, err := ParseAnnouncement(double(t, m))
		if err != nil || !tc.check(a) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestParseAnnouncementRefuses(t *testing.T) {
	good := `{"broadcastedAt":"2026-11-22T08:37:16.787Z","ipfsId":"` + randomID(t).String() + `","ipfsMultiaddrs":[]}`
	many, _ := json.Marshal(make([]string, maxAddrs+1))
	for name, data := range map[string][]byte{
		"empty":            nil,
		"encoded once":     []byte(good),
		"not an object":    double(t, `[]`),
		"no time":          double(t, strings.Replace(good, "broadcastedAt", "x", 1)),
		"odd time":         double(t, strings.Replace(good, "2026-11-22T", "yesterday", 1)),
		"no peer ID":       double(t, strings.Replace(good, "12D3", "", 1)),
		"addresses null":   double(t, strings.Replace(good, "[]", "null", 1)),
		"addresses object": double(t, strings.Replace(good, "[]", "{}", 1)),
		"address number":   double(t, strings.Replace(good, "[]", "[7]", 1)),
		"many addresses":   double(t, strings.Replace(good, "[]", string(many), 1)),
		"long address":     double(t, strings.Replace(good, "[]", `["`+strings.Repeat("a", maxAddr+1)+`"]`, 1)),
		"too long":         double(t, strings.Replace(good, "[]", `[],"x":"`+strings.Repeat("a", MaxAnnouncement)+`"`, 1)),
		"trailing bytes":   append(double(t, good), "{}"...),
	} {
		if _, err := ParseAnnouncement(data); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseAnnouncement(double(t, good)); err != nil {
		t.Fatalf("the unchanged one: %v", err)
	}
}

// testdata/announcement.json is what helia-coord 2.0.2 sent, byte for byte, in its
// own relay mode (internal/e2e/psf runs it).
func TestParseAnnouncementOfUpstream(t *testing.T) {
	data, err := os.ReadFile("testdata/announcement.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseAnnouncement(data)
	if err != nil {
		t.Fatal(err)
	}
	const id = "12D3KooWBMFiDfv82ayNqDkBBDZpkYNAoLgWmuLBYRKZ3ShJTHfF"
	want := Announcement{
		APIInfo:          "You should put an IPFS hash or web URL here to your documentation.",
		BroadcastedAt:    time.Date(2026, 11, 23, 2, 35, 46, 718e6, time.UTC),
		Type:             "node.js",
		Multiaddrs:       []string{},
		ConnectPref:      "cr",
		IsCircuitRelay:   true,
		CircuitRelayInfo: RelayInfo{IP4: "203.0.113.7", TCPPort: 4001},
		CryptoAddresses: []CryptoAddress{
			{"BCH", "cashAddr", "bitcoincash:qrrn6wes6p52rgqjq6p4xg3xjyduz37gwsj2qh7utv"},
			{"BCH", "slpAddr", "simpleledger:qrrn6wes6p52rgqjq6p4xg3xjyduz37gws73tvtu4j"},
		},
		EncryptPubKey: "02faed14e06504437fbba66e8350d387858c1542b4f72d444639622e72fd5b5aa1",
		JSONLD: JSONLD{Context: "https://schema.org/", Type: "WebAPI", Name: "carol", Version: "1.0.0",
			Protocol: "generic-service", Description: "a peer of the test", Identifier: id},
	}
	if want.PeerID, err = peer.Decode(id); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	if _, err := parsePublic(got.EncryptPubKey); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseAnnouncement(f *testing.F) {
	if data, err := os.ReadFile("testdata/announcement.json"); err == nil {
		f.Add(data)
	}
	b, err := sample(fixedID(f)).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`"{}"`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseAnnouncement(data)
		if err != nil {
			return
		}
		b, err := a.Encode()
		if err != nil {
			return // our own spelling may be longer than the sender's
		}
		again, err := ParseAnnouncement(b)
		if err != nil {
			t.Fatalf("encoded, but cannot be parsed: %v", err)
		}
		if again.PeerID != a.PeerID || !again.BroadcastedAt.Equal(a.BroadcastedAt.Truncate(time.Millisecond)) || again.CircuitRelayInfo != a.CircuitRelayInfo {
			t.Fatalf("%+v became %+v", a, again)
		}
	})
}
