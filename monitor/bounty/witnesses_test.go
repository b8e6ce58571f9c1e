package bounty

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	formats "github.com/transparency-dev/formats/note"
)

// The example of docs/witnesses.md is part of a roster.
func TestWitnessesOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../../docs/witnesses.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/witnesses.md has no example in YAML")
	}
	r, err := ParseRoster("docs/witnesses.md", []byte("version: 1\nnetwork: psf\n"+example))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Witnesses) != 2 {
		t.Errorf("it names %d witnesses, want 2", len(r.Witnesses))
	}
	m := &Monitor{Name: "m1", Operator: r.Witnesses[0].Operator}
	if got, want := r.Independent(m, r.Witnesses[0].From), []string{r.Witnesses[1].Key}; !slices.Equal(got, want) {
		t.Errorf("for a monitor of %s the witnesses with keys %q count, want %q", m.Operator, got, want)
	}
}

// A roster names witnesses by every kind of key that a witness may have, and no others.
func TestKindsOfWitnessKeys(t *testing.T) {
	_, pq, err := formats.GenerateMLDSAKey("witness.example.org/pq")
	if err != nil {
		t.Fatal(err)
	}
	const ed = "witness.example.net+fe45e128+BLeFN5NVSAexz/UViqT6M0YHkBVQtv3KwNn9ejiI8ecz"
	for _, c := range []struct {
		name, key, want string // want: part of the error; empty: none
	}{
		{"Ed25519", ed, ""},
		{"ML-DSA-44", pq, ""},
		{"a wrong hash", strings.Replace(ed, "fe45e128", "fe45e129", 1), "hash"},
		{"a wrong hash of ML-DSA-44", strings.Replace(pq, "org/pq", "org/qp", 1), "hash"},
		{"another spelling", ed + "=", "want"},
		{"ECDSA", "w+" + "00000000+AmFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh", "hash"},
		{"nothing", "", "want"},
	} {
		_, err := ParseRoster("roster", []byte("network: lab\nwitnesses:\n- {name: w, operator: o, url: \"https://w.example\", from: 2026-12-01T00:00:00Z, key: \""+c.key+"\"}\n"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// One who cosigns is not two witnesses of two operators: as two spellings of a key, in a
// cosignature nobody can tell them apart.
func TestOneKeyOfTwoWitnesses(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spelled := func(name string, typ byte) string {
		material := append([]byte{typ}, pub...)
		sum := sha256.Sum256(append([]byte(name+"\n"), material...))
		return fmt.Sprintf("%s+%x+%s", name, sum[:4], base64.StdEncoding.EncodeToString(material))
	}
	roster := "network: lab\nwitnesses:\n"
	for i, key := range []string{spelled("w.example.org", 4), spelled("w.example.org", 1)} {
		roster += fmt.Sprintf("- {name: w%d, operator: o%d, url: \"https://w.example\", from: 2026-12-01T00:00:00Z, key: %q}\n", i, i, key)
	}
	if _, err := ParseRoster("roster", []byte(roster)); err == nil || !strings.Contains(err.Error(), `its key is also that of witnesses[0] "w0"`) {
		t.Errorf("got %v", err)
	}
}
