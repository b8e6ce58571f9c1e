// Package release is the list of a program's releases: which versions there are,
// and since when. The bounty's rule R13 is judged by such a list, and relayd and
// relaymon read the one that the project publishes to say what is the newest.
//
// A list is YAML:
//
//	version: 1
//	valid_until: 2027-01-02T14:00:00Z
//	products:
//	  - name: "relay-appliance"
//	    agent: "relayd/*"
//	    releases:
//	      - version: "v1.0.0"
//	        published: 2026-10-05T09:00:00Z
//	      - version: "v1.1.0"
//	        published: 2026-11-03T14:00:00Z
//
// Releases go from the oldest to the newest. The agent is what the program
// announces in libp2p's identify, a * standing for the version, with or without
// its v. Times are those of RFC 3339. Unknown keys are refused.
//
// Signed, a list is a note (golang.org/x/mod/sumdb/note): the YAML, an empty line,
// and a line for each signature. While one key replaces another there are two of
// them; one that is known is enough.
//
// A list that is published only grows: see [List.Follows]. valid_until bounds for
// how long somebody who holds newer lists back is believed; a list that is kept
// for a judgement (the roster names its SHA-256) has no use for it.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/config"
)

// MaxBytes bounds a list with its signatures.
const MaxBytes = 1 << 20

// List is a list of releases.
type List struct {
	Version int `yaml:"version"`
	// ValidUntil is until when the list may be taken for the newest; the zero time:
	// it does not say.
	ValidUntil Time      `yaml:"valid_until"`
	Products   []Product `yaml:"products"`

	// SHA256 is the hash of the file, signatures included.
	SHA256 string `yaml:"-"`
}

// Product is one program.
type Product struct {
	Name     string    `yaml:"name"`
	Agent    string    `yaml:"agent"`
	Releases []Release `yaml:"releases"`
}

// Release is one version.
type Release struct {
	Version   string `yaml:"version"`
	Published Time   `yaml:"published"`
}

// Time is a time in UTC, written as RFC 3339 has it.
type Time struct{ time.Time }

// UnmarshalText reads a time.
func (t *Time) UnmarshalText(b []byte) (err error) {
	if t.Time, err = time.Parse(time.RFC3339, string(b)); err != nil {
		return fmt.Errorf("want a time such as 2026-11-03T14:00:00Z, not %q", b)
	}
	t.Time = t.UTC()
	return nil
}

// Parse reads a list, signed or not; no signature is looked at.
func Parse(name string, file []byte) (*List, error) {
	if len(file) > MaxBytes {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, len(file), MaxBytes)
	}
	text := file
	if bytes.Contains(file, []byte("\n\n— ")) {
		n, err := note.Open(file, note.VerifierList())
		if unverified := new(note.UnverifiedNoteError); errors.As(err, &unverified) {
			n, err = unverified.Note, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		text = []byte(n.Text)
	}
	return parse(name, file, text)
}

// Open reads a list that one of the keys has signed.
func Open(name string, file []byte, keys []string) (*List, error) {
	var known []note.Verifier
	for _, k := range keys {
		v, err := note.NewVerifier(k)
		if err != nil {
			return nil, fmt.Errorf("the release list's key %q: %w", k, err)
		}
		known = append(known, v)
	}
	if len(file) > MaxBytes {
		return nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, len(file), MaxBytes)
	}
	n, err := note.Open(file, note.VerifierList(known...))
	if err != nil {
		return nil, fmt.Errorf("%s: no signature by a key that is known: %w", name, err)
	}
	for _, s := range slices.Concat(n.Sigs, n.UnverifiedSigs) {
		// The bits that are left over in the last letter are read by nobody.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return nil, fmt.Errorf("%s: the signature by %s is not written as it was made: %w", name, s.Name, err)
		}
	}
	return parse(name, file, []byte(n.Text))
}

// CheckKey says whether a text is a verifier key.
func CheckKey(key string) error {
	_, err := note.NewVerifier(key)
	return err
}

// parse reads text, which is the file or what a signed file vouches for.
func parse(name string, file, text []byte) (*List, error) {
	l := &List{Version: 1}
	if err := config.Decode(name, text, l); err != nil {
		return nil, err
	}
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.Sum256(file)
	l.SHA256 = hex.EncodeToString(sum[:])
	return l, nil
}

var plain = regexp.MustCompile(`^[ -~]{1,100}$`)

func (l *List) validate() error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(l.Version == 1, "version: this program reads version 1, not %d", l.Version)
	products := map[[2]string]bool{}
	for i, p := range l.Products {
		where := fmt.Sprintf("products[%d] %q", i, p.Name)
		want(!products[[2]string{p.Name, p.Agent}], "%s: it stands twice", where)
		products[[2]string{p.Name, p.Agent}] = true
		want(plain.MatchString(p.Name), "%s: name: want the program's name, in ASCII", where)
		want(plain.MatchString(p.Agent) && strings.Count(p.Agent, "*") == 1, "%s: agent: want one * where the version stands, as in \"relayd/*\"", where)
		want(len(p.Releases) > 0, "%s: releases: want at least one", where)
		seen := map[string]bool{}
		for j, r := range p.Releases {
			want(plain.MatchString(r.Version) && !r.Published.IsZero(), "%s: releases[%d]: want version and published", where, j)
			want(j == 0 || !r.Published.Before(p.Releases[j-1].Published.Time), "%s: releases[%d]: older than the one before it: list the oldest first", where, j)
			want(!seen[r.Version], "%s: version %s stands twice", where, r.Version)
			seen[r.Version] = true
		}
	}
	return errors.Join(faults...)
}

// Follows says whether l may take the place of old, which was published before it:
// nothing that was released is gone or changed, and l is not valid for a shorter
// time. So nobody can put a client back to an older list.
func (l *List) Follows(old *List) error {
	var faults []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	want(!l.ValidUntil.Before(old.ValidUntil.Time), "valid_until: %s is before %s, which was signed already", text(l.ValidUntil), text(old.ValidUntil))
	for _, o := range old.Products {
		i := slices.IndexFunc(l.Products, func(p Product) bool { return p.Name == o.Name && p.Agent == o.Agent })
		if i < 0 {
			want(false, "product %q is gone", o.Name)
			continue
		}
		p := l.Products[i]
		want(len(p.Releases) >= len(o.Releases) && slices.EqualFunc(p.Releases[:min(len(o.Releases), len(p.Releases))], o.Releases, func(a, b Release) bool {
			return a.Version == b.Version && a.Published.Equal(b.Published.Time)
		}), "product %q: releases are added, never changed: %s was the newest", o.Name, o.Newest().Version)
	}
	return errors.Join(faults...)
}

// Add enters a version of a product, which is new if it is not there yet.
func (l *List) Add(name, agent, version string, published time.Time) error {
	if semver.Canonical(version) != version || semver.Prerelease(version) != "" {
		return fmt.Errorf("add a release: want a version such as v1.2.3, not %q", version)
	}
	next := *l
	next.Products = slices.Clone(l.Products)
	i := slices.IndexFunc(next.Products, func(p Product) bool { return p.Name == name && p.Agent == agent })
	if i < 0 {
		i = len(next.Products)
		next.Products = append(next.Products, Product{Name: name, Agent: agent})
	}
	p := &next.Products[i]
	if n := len(p.Releases); n > 0 && semver.Compare(p.Releases[n-1].Version, version) >= 0 {
		return fmt.Errorf("add a release: %s is not newer than %s, which is published", version, p.Releases[n-1].Version)
	}
	p.Releases = append(slices.Clone(p.Releases), Release{version, Time{published.UTC().Truncate(time.Second)}})
	if err := next.validate(); err != nil {
		return fmt.Errorf("add a release: %w", err)
	}
	*l = next
	return nil
}

// Sign writes the list as a note with a signature by each of the keys.
func (l *List) Sign(signers ...note.Signer) ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, fmt.Errorf("sign the release list: %w", err)
	}
	return note.Sign(&note.Note{Text: string(l.encode())}, signers...)
}

func (l *List) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "version: %d\n", l.Version)
	if !l.ValidUntil.IsZero() {
		fmt.Fprintf(&b, "valid_until: %s\n", text(l.ValidUntil))
	}
	fmt.Fprint(&b, "products:\n")
	for _, p := range l.Products {
		fmt.Fprintf(&b, "  - name: %s\n    agent: %s\n    releases:\n", strconv.Quote(p.Name), strconv.Quote(p.Agent))
		for _, r := range p.Releases {
			fmt.Fprintf(&b, "      - version: %s\n        published: %s\n", strconv.Quote(r.Version), text(r.Published))
		}
	}
	return b.Bytes()
}

func text(t Time) string { return t.Format(time.RFC3339) }

// Find maps an agent string to a product and the index of its release. The index
// is -1 where the product is known, but not the version, the product nil where
// nothing is.
func (l *List) Find(agent string) (product *Product, index int) {
	for i := range l.Products {
		p := &l.Products[i]
		before, after, _ := strings.Cut(regexp.QuoteMeta(p.Agent), `\*`)
		m := regexp.MustCompile("^" + before + `v?([^/\s]+)` + after + "$").FindStringSubmatch(agent)
		if m == nil {
			continue
		}
		if product == nil {
			product = p
		}
		for j, r := range p.Releases {
			if strings.TrimPrefix(r.Version, "v") == m[1] {
				return p, j
			}
		}
	}
	return product, -1
}

// Newest is the last release.
func (p *Product) Newest() Release { return p.Releases[len(p.Releases)-1] }

// Due is the index of the newest release that was published at least grace before
// t; -1: there is none.
func (p *Product) Due(t time.Time, grace time.Duration) int {
	for i := len(p.Releases) - 1; i >= 0; i-- {
		if !p.Releases[i].Published.Add(grace).After(t) {
			return i
		}
	}
	return -1
}

// RefreshBefore is how long before the end of a list's time somebody has to be
// told that it wants to be signed anew.
const RefreshBefore = 20 * 24 * time.Hour

// Ends says until when the list holds, if that is near or past; else it is empty.
func (l *List) Ends(now time.Time) string {
	switch left := l.ValidUntil.Sub(now); {
	case l.ValidUntil.IsZero() || left >= RefreshBefore:
		return ""
	case left <= 0:
		return fmt.Sprintf("what is published for updates was signed until %s, and nothing new is accepted: its maintainers have to sign it anew (make repo-refresh)", l.ValidUntil.Format(time.DateOnly))
	default:
		return fmt.Sprintf("what is published for updates is signed until %s only, for %d days: its maintainers have to sign it anew (make repo-refresh)", l.ValidUntil.Format(time.DateOnly), int(left.Hours()/24))
	}
}
