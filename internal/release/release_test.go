package release

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
)

// example is the list of the package comment.
const example = `version: 1
valid_until: 2027-01-02T14:00:00Z
products:
  - name: "relay-appliance"
    agent: "relayd/*"
    releases:
      - version: "v1.0.0"
        published: 2026-10-05T09:00:00Z
      - version: "v1.1.0"
        published: 2026-11-03T14:00:00Z
`

func parsed(t testing.TB, file string) *List {
	t.Helper()
	l, err := Parse("list", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newKey(t testing.TB) (note.Signer, string) {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "releases.example.org")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s, public
}

func TestSignOpen(t *testing.T) {
	l := parsed(t, example)
	if got := string(l.encode()); got != example {
		t.Errorf("written again:\n%s", got)
	}
	signer, key := newKey(t)
	next, nextKey := newKey(t)
	_, stranger := newKey(t)
	file, err := l.Sign(signer, next)
	if err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]string{"the one": {key}, "the next": {nextKey}, "one of two": {stranger, key}} {
		got, err := Open("list", file, keys)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.SHA256 == l.SHA256 || len(got.SHA256) != 64 {
			t.Errorf("%s: the hash %s is not that of the signed file", name, got.SHA256)
		}
		got.SHA256 = l.SHA256
		if d := cmp.Diff(l, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
	for name, keys := range map[string][]string{"a stranger's": {stranger}, "none": nil, "no key": {"x"}} {
		if _, err := Open("list", file, keys); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Open("list", []byte(example), []string{key}); err == nil {
		t.Error("an unsigned list was opened")
	}
	if got, err := Parse("list", file); err != nil || len(got.Products) != 1 {
		t.Errorf("a signed list is not read without a key: %v", err)
	}
}

func TestEveryByteCounts(t *testing.T) {
	var file []byte
	var key string
	// Of a signature that ends so, the next digit stands for the same bytes.
	for !bytes.HasSuffix(file, []byte("4=\n")) {
		var signer note.Signer
		var err error
		signer, key = newKey(t)
		if file, err = parsed(t, example).Sign(signer); err != nil {
			t.Fatal(err)
		}
	}
	for i := range file {
		for _, flip := range []byte{0x01, 0x20, 0xff} {
			bad := bytes.Clone(file)
			bad[i] ^= flip
			if _, err := Open("list", bad, []string{key}); err == nil {
				t.Errorf("byte %d changed by %#x: accepted", i, flip)
			}
		}
		if _, err := Open("list", file[:i], []string{key}); err == nil {
			t.Errorf("cut after byte %d: accepted", i)
		}
	}
	if _, err := Open("list", make([]byte, MaxBytes+1), []string{key}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge list: %v", err)
	}
}

func TestFollows(t *testing.T) {
	old := parsed(t, example)
	without := strings.TrimSuffix(example, "      - version: \"v1.1.0\"\n        published: 2026-11-03T14:00:00Z\n")
	for _, tc := range []struct{ name, next, fault string }{
		{"the same", example, ""},
		{"one more", example + "      - version: \"v1.2.0\"\n        published: 2026-12-01T00:00:00Z\n", ""},
		{"another product", example + "  - name: other\n    agent: other/*\n    releases: [{version: \"1\", published: 2026-01-01T00:00:00Z}]\n", ""},
		{"signed anew", strings.Replace(example, "2027-01-02", "2027-02-02", 1), ""},
		{"older", without, "v1.1.0 was the newest"},
		{"another time", strings.Replace(example, "2026-11-03", "2026-11-04", 1), "never changed"},
		{"another version", strings.Replace(example, "v1.0.0", "v1.0.1", 1), "never changed"},
		{"renamed", strings.Replace(example, "relay-appliance", "x", 1), "is gone"},
		{"another agent", strings.Replace(example, "relayd/*", "x/*", 1), "is gone"},
		{"valid for a shorter time", strings.Replace(example, "2027-01-02", "2027-01-01", 1), "valid_until"},
		{"no end", strings.Replace(example, "valid_until: 2027-01-02T14:00:00Z\n", "", 1), "valid_until"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := parsed(t, tc.next).Follows(old)
			if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
				t.Errorf("got %v, want %q", err, tc.fault)
			}
		})
	}
}

func TestAdd(t *testing.T) {
	at := time.Date(2026, 12, 1, 0, 0, 0, 5, time.FixedZone("", 3600))
	l, old := parsed(t, example), parsed(t, example)
	if err := l.Add("relay-appliance", "relayd/*", "v1.2.0", at); err != nil {
		t.Fatal(err)
	}
	if err := l.Follows(old); err != nil {
		t.Errorf("the longer list does not follow: %v", err)
	}
	if n := l.Products[0].Newest(); n.Version != "v1.2.0" || n.Published.String() != "2026-11-30 23:00:00 +0000 UTC" {
		t.Errorf("newest: %+v", n)
	}
	if err := old.Follows(l); err == nil {
		t.Error("the shorter list follows: they share their memory, or nothing is compared")
	}
	fresh := &List{Version: 1}
	if err := fresh.Add("relay-appliance", "relayd/*", "v0.1.0", at); err != nil || len(fresh.Products) != 1 {
		t.Errorf("the first release: %v", err)
	}
	for _, version := range []string{"v1.2.0", "v1.1.9", "v1.3.0-rc.1", "1.3.0", "v1.3", ""} {
		if err := l.Add("relay-appliance", "relayd/*", version, at); err == nil {
			t.Errorf("%q was added", version)
		}
	}
	if err := l.Add("relay-appliance", "relayd/*", "v1.3.0", at.AddDate(0, -1, 0)); err == nil {
		t.Error("a release before the newest one was added")
	}
	if len(l.Products[0].Releases) != 3 {
		t.Errorf("what was refused is in it: %+v", l.Products[0].Releases)
	}
}

func TestFind(t *testing.T) {
	l := parsed(t, example+`  - name: quiet
    agent: "quiet-*-relay"
    releases: [{version: 3.0.0, published: 2026-01-01T00:00:00Z}]
`)
	for _, tc := range []struct {
		agent, product string
		index          int
	}{
		{"relayd/1.0.0", "relay-appliance", 0},
		{"relayd/v1.1.0", "relay-appliance", 1},
		{"relayd/9.9.9", "relay-appliance", -1},
		{"relayd/1.1.0/evil", "", -1},
		{"xrelayd/1.1.0", "", -1},
		{"quiet-3.0.0-relay", "quiet", 0},
		{"helia/2.0", "", -1},
		{"", "", -1},
	} {
		p, i := l.Find(tc.agent)
		name := ""
		if p != nil {
			name = p.Name
		}
		if name != tc.product || i != tc.index {
			t.Errorf("Find(%q) = %q, %d; want %q, %d", tc.agent, name, i, tc.product, tc.index)
		}
	}
}

func TestEnds(t *testing.T) {
	l := parsed(t, example)
	end := l.ValidUntil.Time
	for _, tc := range []struct {
		left time.Duration
		want string
	}{
		{RefreshBefore, ""},
		{RefreshBefore - time.Second, "for 19 days"},
		{time.Second, "for 0 days"},
		{0, "nothing new is accepted"},
	} {
		if got := l.Ends(end.Add(-tc.left)); got != tc.want && (tc.want == "" || !strings.Contains(got, tc.want)) {
			t.Errorf("%s before the end: %q, want %q", tc.left, got, tc.want)
		}
	}
	if got := (&List{}).Ends(end); got != "" {
		t.Errorf("a list that never ends: %q", got)
	}
}

func TestRefused(t *testing.T) {
	for name, file := range map[string]string{
		"no pattern":     "products: [{name: a, agent: a, releases: [{version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"a line break":   "products: [{name: \"a\\n\", agent: a/*, releases: [{version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"no name":        "products: [{agent: a/*, releases: [{version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"no releases":    "products: [{name: a, agent: a/*}]",
		"newest first":   "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01T00:00:00Z}, {version: 1, published: 2026-01-01T00:00:00Z}]}]",
		"twice":          "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01T00:00:00Z}, {version: 2, published: 2026-03-01T00:00:00Z}]}]",
		"product twice":  "products:\n" + strings.Repeat("- {name: a, agent: a/*, releases: [{version: 1, published: 2026-01-01T00:00:00Z}]}\n", 2),
		"no time":        "products: [{name: a, agent: a/*, releases: [{version: 2}]}]",
		"half a time":    "products: [{name: a, agent: a/*, releases: [{version: 2, published: 2026-02-01}]}]",
		"no end":         "valid_until: soon",
		"unknown key":    "product: []",
		"future version": "version: 2",
		"half a note":    example + "\n— x y\n",
	} {
		if _, err := Parse("list", []byte(file)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := (&List{Version: 1, Products: []Product{{}}}).Sign(); err == nil {
		t.Error("a list that nobody could read was signed")
	}
}

// What is read is the same when it was written again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("products: [{name: \"a\\x20\\\\\", agent: '*', releases: [{version: \"\\\"\", published: 2026-01-01T00:00:00.5+07:00}]}]"))
	signer, _ := newKey(f)
	if file, err := parsed(f, example).Sign(signer); err == nil {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		l, err := Parse("list", file)
		if err != nil {
			return
		}
		for _, p := range l.Products {
			l.Find(strings.Replace(p.Agent, "*", p.Newest().Version, 1))
			p.Due(p.Newest().Published.Time, time.Hour)
		}
		if err := l.Follows(l); err != nil {
			t.Errorf("a list does not follow itself: %v", err)
		}
		again, err := Parse("again", l.encode())
		if err != nil {
			t.Fatalf("not read again: %v\n%s", err, l.encode())
		}
		if !bytes.Equal(again.encode(), l.encode()) {
			t.Errorf("read again:\n%s\nwant:\n%s", again.encode(), l.encode())
		}
	})
}
