package coord

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestPrivateRoundTrip(t *testing.T) {
	from, to := randomID(t), randomID(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	data, err := newPrivate(from, to, key.private.PubKey(), "", []byte("hello"), time.Date(2026, 11, 1, 2, 3, 4, 5e6, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	var shape map[string]string
	if err := json.Unmarshal(data, &shape); err != nil {
		t.Fatal(err)
	}
	if shape["timestamp"] != "2026-11-01T02:03:04.005Z" || shape["sender"] != from.String() || shape["receiver"] != to.String() || len(shape["uuid"]) != 36 || len(shape) != 5 {
		t.Fatalf("%v", shape)
	}
	id, sealed, err := parsePrivate(data, from)
	if err != nil || id != shape["uuid"] {
		t.Fatalf("%q, %v", id, err)
	}
	plain, err := key.decrypt(sealed)
	if err != nil || string(plain) != "hello" {
		t.Fatalf("%q, %v", plain, err)
	}
	if _, _, err := parsePrivate(data, to); err == nil {
		t.Fatal("accepted a message in another peer's name")
	}
}

func TestParsePrivateRefuses(t *testing.T) {
	from := randomID(t)
	good := `{"uuid":"u","sender":"` + from.String() + `","payload":"00ff"}`
	if _, _, err := parsePrivate([]byte(good), from); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty":         ``,
		"no uuid":       strings.Replace(good, `"u"`, `""`, 1),
		"long uuid":     strings.Replace(good, `"u"`, `"`+strings.Repeat("u", maxWord+1)+`"`, 1),
		"payload":       strings.Replace(good, "00ff", "00f", 1),
		"encoded twice": string(double(t, good)),
		"too long":      good + strings.Repeat(" ", MaxMessage),
	} {
		if _, _, err := parsePrivate([]byte(data), from); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAbout(t *testing.T) {
	id, ok := parseAbout([]byte(`{"jsonrpc":"2.0","id":"metrics4711","method":"about"}`))
	if !ok || id != "metrics4711" {
		t.Fatalf("%q, %v", id, ok)
	}
	for _, s := range []string{`{"id":"4711","method":"about"}`, `{"id":"metrics1","method":"other"}`, `{"id":7,"method":"about"}`, `metrics about`,
		`{"method":"about","id":"metrics` + strings.Repeat("1", maxWord) + `"}`} {
		if id, ok := parseAbout([]byte(s)); ok {
			t.Errorf("%s: read as a call with id %q", s, id)
		}
	}
	to := fixedID(t)
	b, err := aboutAnswer("metrics4711", to, map[string]int{"n": 1})
	want := `{"jsonrpc":"2.0","id":"metrics4711","result":{"method":"about","receiver":"` + to.String() + `","value":{"n":1}}}`
	if err != nil || string(b) != want {
		t.Fatalf("%s, %v, want %s", b, err, want)
	}
}

func FuzzParsePrivate(f *testing.F) {
	from := fixedID(f)
	f.Add([]byte(`{"timestamp":"2026-11-22T08:37:16.787Z","uuid":"5e0f","sender":"` + from.String() + `","receiver":"x","payload":"04ab"}`))
	f.Add([]byte(`{"apiName":"ACK"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, sealed, err := parsePrivate(data, from)
		if err == nil && (id == "" || len(id) > maxWord || 2*len(sealed) > len(data)) {
			t.Fatalf("accepted %q with %d bytes", id, len(sealed))
		}
		if id, ok := parseAbout(data); ok && len(id) > maxWord {
			t.Fatalf("accepted the id %q", id)
		}
	})
}
