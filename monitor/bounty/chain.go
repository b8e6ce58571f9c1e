package bounty

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The committee's rules are a chain, and so are its rosters: each signed file carries a
// serial and the SHA-256 of the file before it. So a verifier sees that he was given an
// older file than he holds, and can still check what was judged by it.

// MaxBytes bounds a file of rules or a roster, signatures included.
const MaxBytes = config.MaxBytes

// Link is a file's place in its chain.
type Link struct {
	Serial   int    // 1, 2, ...; 0: it has none
	SHA256   string // of the file
	Previous string // the SHA-256 of the one before; empty: it is the first
}

// Link is the place of the rules among all that the committee has signed.
func (r *Rules) Link() Link { return Link{r.Serial, r.SHA256, r.Previous} }

// Link is the place of the roster among all that the committee has signed.
func (r *Roster) Link() Link { return Link{r.Serial, r.SHA256, r.Previous} }

// maxSerial is more than any committee signs.
const maxSerial = 1_000_000

// validateLink checks serial and previous; a signed file has them.
func validateLink(f *faults, l Link, signed bool) {
	f.want(l.Serial >= 0 && l.Serial <= maxSerial, "serial: want 1, 2, 3, ..., not %d", l.Serial)
	f.want(l.Serial != 0 || !signed, "serial: a signed file has one: \"relaymon roster sign\" writes it, with --previous or --first")
	if l.Serial <= 1 {
		f.want(l.Previous == "", "previous: there is no file before the first: leave it out, or mend the serial")
	} else {
		f.want(isHash(l.Previous), "previous: want the SHA-256 of the file with serial %d, in hex, not %q", l.Serial-1, l.Previous)
	}
}

// Chain is a part of the committee's chain, without gaps: the files that somebody holds.
type Chain struct {
	what  string
	links []Link // the oldest first
}

// ChainOf puts the links in order; what names the files in errors: "roster" or "rules".
// Files of which one does not follow the other are refused.
func ChainOf(what string, links ...Link) (*Chain, error) {
	links = slices.Clone(links)
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Serial, b.Serial) })
	links = slices.Compact(links) // the same file, given twice
	var f faults
	for i := range links[min(1, len(links)):] {
		old, l := links[i], links[i+1]
		switch {
		case old.Serial == 0:
			f.want(false, "%s %s has no serial: of files without one only one can be held", what, short(old.SHA256))
		case old.Serial == l.Serial:
			f.want(false, "two files of %s serial %d: SHA-256 %s and %s: ask the committee which of them it stands by", what, l.Serial, short(old.SHA256), short(l.SHA256))
		case old.Serial+1 < l.Serial:
			f.want(false, "%s serial %d is missing between serials %d and %d: bring it along", what, old.Serial+1, old.Serial, l.Serial)
		case l.Previous != old.SHA256:
			f.want(false, "%s serial %d does not follow the serial %d that is held: it names SHA-256 %s as the one before, not %s", what, l.Serial, old.Serial, short(l.Previous), short(old.SHA256))
		}
	}
	if len(links) == 0 {
		f.want(false, "%s: no file is held", what)
	}
	return &Chain{what, links}, errors.Join(f...)
}

// Newest is the link with the highest serial.
func (c *Chain) Newest() Link { return c.links[len(c.links)-1] }

// Find says how many files of the chain are newer than l, which is one of them or the
// one right before the oldest. Anything else is an error that says what to do.
func (c *Chain) Find(l Link) (newer int, err error) {
	oldest, newest := c.links[0], c.Newest()
	for i, own := range c.links {
		if own.SHA256 == l.SHA256 {
			return len(c.links) - 1 - i, nil
		}
	}
	switch {
	case l.Serial == 0 || newest.Serial == 0:
		return 0, fmt.Errorf("it was judged by another %s file than yours: SHA-256 %s, yours is %s, and without serials in both nothing tells how they belong together", c.what, short(l.SHA256), short(newest.SHA256))
	case l.Serial > newest.Serial:
		return 0, fmt.Errorf("the bundle's %s file is newer (serial %d) than yours (serial %d): get the committee's newest", c.what, l.Serial, newest.Serial)
	case l.Serial >= oldest.Serial:
		return 0, fmt.Errorf("the bundle's %s file, serial %d, is another file than yours of that serial: SHA-256 %s: the committee's chain has one file of each serial", c.what, l.Serial, short(l.SHA256))
	case l.Serial+1 < oldest.Serial:
		return 0, fmt.Errorf("the bundle's %s file has serial %d, and the oldest that you hold has %d: bring serial %d along, too", c.what, l.Serial, oldest.Serial, oldest.Serial-1)
	case l.SHA256 != oldest.Previous:
		return 0, fmt.Errorf("the bundle's %s file, serial %d, is not the one that your serial %d follows: SHA-256 %s, not %s", c.what, l.Serial, oldest.Serial, short(l.SHA256), short(oldest.Previous))
	}
	return len(c.links), nil
}

// short is the beginning of a hash.
func short(hash string) string { return hash[:min(16, len(hash))] }

// Succeeds says whether the file l may take the place of old in a program that goes on:
// it is that file, or a newer one.
func (l Link) Succeeds(old Link) error {
	switch {
	case l.SHA256 == old.SHA256 || old.Serial == 0:
		return nil
	case l.Serial < old.Serial:
		return fmt.Errorf("serial %d is older than serial %d, which was in force already: get the committee's newest", l.Serial, old.Serial)
	case l.Serial == old.Serial:
		return fmt.Errorf("serial %d is another file than the serial %d that was in force already, SHA-256 %s: ask the committee which of them it stands by", l.Serial, old.Serial, short(old.SHA256))
	case l.Serial == old.Serial+1 && l.Previous != old.SHA256:
		return fmt.Errorf("serial %d does not follow the serial %d that was in force, SHA-256 %s: ask the committee which of them it stands by", l.Serial, old.Serial, short(old.SHA256))
	}
	return nil
}

// Previous is the signed file that is in force when the committee signs another, nil:
// none is, and the new one is the first.
type Previous struct {
	Name string // for errors
	File []byte
	Key  string // the verifier key that signed it
}

// NextRoster writes into a roster that it follows the one before, and returns its text,
// ready to be signed. The error names all that it changes of hours before now. A member
// that this program does not know is an error: it is a typing mistake, or needs a newer program.
func NextRoster(name string, file []byte, before *Previous, now evidence.Hour) ([]byte, *Roster, error) {
	var old *Roster
	l := Link{Serial: 1}
	if before != nil {
		var err error
		if old, _, err = OpenRoster(before.Name, before.File, before.Key); err != nil {
			return nil, nil, err
		}
		l = Link{Serial: old.Serial + 1, Previous: old.SHA256}
	}
	text, err := setLink(name, file, l, func(r *Roster) (*int, *string) { return &r.Serial, &r.Previous })
	if err != nil {
		return nil, nil, err
	}
	r, err := parseRoster(name, text, text, false, (*Roster).Validate)
	if err != nil {
		return nil, nil, err
	}
	if old != nil {
		if err := r.Follows(old, now); err != nil {
			return nil, nil, fmt.Errorf("%s changes what was in force: %w", name, err)
		}
	}
	return text, r, nil
}

// NextRules is [NextRoster] for rules.
func NextRules(name string, file []byte, before *Previous, now evidence.Hour) ([]byte, *Rules, error) {
	var old *Rules
	l := Link{Serial: 1}
	if before != nil {
		var err error
		if old, _, err = OpenRules(before.Name, before.File, before.Key); err != nil {
			return nil, nil, err
		}
		l = Link{Serial: old.Serial + 1, Previous: old.SHA256}
	}
	text, err := setLink(name, file, l, func(r *Rules) (*int, *string) { return &r.Serial, &r.Previous })
	if err != nil {
		return nil, nil, err
	}
	r, err := parseRules(name, text, text, true, false)
	if err != nil {
		return nil, nil, err
	}
	if old != nil {
		if err := r.Follows(old, now); err != nil {
			return nil, nil, fmt.Errorf("%s changes what was in force: %w", name, err)
		}
	}
	return text, r, nil
}

// Follows says whether rules may replace others that were in force: months that have
// begun keep theirs.
func (r *Rules) Follows(old *Rules, now evidence.Hour) error {
	var f faults
	f.want(r.Network == old.Network, "network: it was %s", old.Network)
	f.want(r.From > old.From, "from: %s is not after %s, from which those before are in force", r.From, old.From)
	f.want(r.From > now.Month(), "from: %s has begun: the first month that new rules can judge is %s", r.From, now.Month()+1)
	return errors.Join(f...)
}

// RulesOf picks the rules of a month: those that are in force now, or the first of those
// before them, which come the newest first, that begin early enough. Where none is known,
// those of now.
func RulesOf(month evidence.Month, now *Rules, before []*Rules) *Rules {
	if now.From <= month {
		return now
	}
	if i := slices.IndexFunc(before, func(r *Rules) bool { return r.From <= month && r.Network == now.Network }); i >= 0 {
		return before[i]
	}
	return now
}

var linkLine = regexp.MustCompile(`^(serial|previous)[ \t]*:`)

// setLink writes serial and previous into the YAML of a file, signed or not. All other
// lines, the comments too, stay as they are; signatures go.
func setLink[T any](name string, file []byte, l Link, place func(*T) (serial *int, previous *string)) ([]byte, error) {
	text, _ := Text(file)
	lines := config.Lines(text)
	if n := lines["previous"]; n > 0 && l.Previous == "" {
		return nil, fmt.Errorf("%s:%d: previous: it follows another file, so it is not the first: say --previous FILE", name, n)
	}
	at := lines["version"] // behind which line they go; without a version before all keys
	if first, ok := firstLine(lines); ok && at == 0 {
		at = first - 1
	}
	own := fmt.Sprintf("serial: %d\n", l.Serial)
	if l.Previous != "" {
		own += fmt.Sprintf("previous: %s\n", l.Previous)
	}
	var out strings.Builder
	n := 0
	if at == 0 {
		out.WriteString(own)
	}
	for line := range strings.Lines(string(text)) {
		n++
		if m := linkLine.FindStringSubmatch(line); m == nil || lines[m[1]] != n {
			out.WriteString(line)
		}
		if n == at {
			if !strings.HasSuffix(line, "\n") {
				out.WriteString("\n")
			}
			out.WriteString(own)
		}
	}
	written := []byte(out.String())
	if err := linked(name, text, written, l, place); err != nil {
		return nil, err
	}
	return written, nil
}

// firstLine is that of the first key.
func firstLine(lines map[string]int) (first int, ok bool) {
	for _, line := range lines {
		if !ok || line < first {
			first, ok = line, true
		}
	}
	return first, ok
}

// linked reads back what was written: the link, and all else as it was.
func linked[T any](name string, before, after []byte, l Link, place func(*T) (serial *int, previous *string)) error {
	var was, is T
	if err := config.DecodeWith(name, before, &was, options(nil)); err != nil {
		return err
	}
	if err := config.Decode(name, after, &is); err != nil {
		return fmt.Errorf("serial and previous cannot be written into it: write them at its margin, one a line: %w", err)
	}
	serial, previous := place(&is)
	written := *serial == l.Serial && *previous == l.Previous
	*serial, *previous = 0, ""
	serial, previous = place(&was)
	*serial, *previous = 0, ""
	if !written || !reflect.DeepEqual(was, is) {
		return fmt.Errorf("%s: serial and previous cannot be written into it: write \"serial: %d\" and \"previous: %s\" at its margin, one a line", name, l.Serial, l.Previous)
	}
	return nil
}
