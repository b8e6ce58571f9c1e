package decision

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Decided is a decision in the log.
type Decided struct {
	Index int64         `json:"index"` // its place in the log
	Hash  string        `json:"hash"`  // of its leaf, see [Hash]
	At    evidence.Time `json:"at"`
	Decision
	// ReplacedBy is the hash of the one that took its place; empty: it stands.
	ReplacedBy string `json:"replaced_by,omitempty"`
}

// Appealed is an appeal in the log.
type Appealed struct {
	Index  int64               `json:"index"`
	Hash   string              `json:"hash"`   // of its leaf
	SHA256 string              `json:"sha256"` // how decisions name it
	At     evidence.Time       `json:"at"`
	Says   statement.Statement `json:"says"`
	// AnsweredBy is the hash of the decision that answered it; empty: it stands open.
	AnsweredBy string `json:"answered_by,omitempty"`
}

// Month is all that the log says of one relay's month.
type Month struct {
	Relay     string         `json:"relay"`
	Month     evidence.Month `json:"month"`
	Decisions []*Decided     `json:"decisions"` // in order: the last one stands
	Appeals   []*Appealed    `json:"appeals"`   // in order
}

// Standing is the decision that stands; nil: there is none.
func (m *Month) Standing() *Decided {
	if len(m.Decisions) == 0 {
		return nil
	}
	return m.Decisions[len(m.Decisions)-1]
}

// Open are the appeals that no decision has answered.
func (m *Month) Open() (open []*Appealed) {
	for _, a := range m.Appeals {
		if a.AnsweredBy == "" {
			open = append(open, a)
		}
	}
	return open
}

func (m *Month) appeal(sha256 string) *Appealed {
	for _, a := range m.Appeals {
		if a.SHA256 == sha256 {
			return a
		}
	}
	return nil
}

// place is where an entry belongs.
type place struct {
	month evidence.Month
	relay string
}

// book holds what the entries up to now say.
type book struct {
	network evidence.Network
	months  map[place]*Month
}

func newBook(n evidence.Network) *book { return &book{n, map[place]*Month{}} }

// find is the month of a place; an empty one if nothing is known of it.
func (b *book) find(p place) *Month {
	if m := b.months[p]; m != nil {
		return m
	}
	return &Month{Relay: p.relay, Month: p.month, Decisions: []*Decided{}, Appeals: []*Appealed{}}
}

// list are the months in order.
func (b *book) list() []*Month {
	return slices.SortedFunc(maps.Values(b.months), func(x, y *Month) int {
		return cmp.Or(cmp.Compare(x.Month, y.Month), strings.Compare(x.Relay, y.Relay))
	})
}

func (e Entry) place() (place, statement.Statement, error) {
	if e.Decision != nil {
		return place{e.Decision.Month, e.Decision.Relay}, statement.Statement{}, nil
	}
	s, err := e.Appeal.Open()
	if err != nil {
		return place{}, s, err
	}
	month, err := evidence.ParseMonth(s.Month)
	return place{month, s.PeerID}, s, err
}

// check says what keeps a good entry from being the next one.
func (b *book) check(e Entry) error {
	var f faults
	f.want(e.Network == b.network, "network: the entry is of network %s, the log of %s", e.Network, b.network)
	p, says, err := e.place()
	if err != nil {
		return err
	}
	m := b.find(p)
	if e.Decision != nil {
		m.checkDecision(e.Decision, &f)
		return errors.Join(f...)
	}
	for _, a := range m.Appeals {
		f.want(a.Says != says, "appeal: it is in the log already, as %s", a.SHA256)
	}
	f.want(len(m.Appeals) < MaxAppeals, "appeal: there are %d of %s in %s already, which are all that are taken", len(m.Appeals), p.relay, p.month)
	return errors.Join(f...)
}

func (m *Month) checkDecision(d *Decision, f *faults) {
	standing := m.Standing()
	switch {
	case standing == nil && d.Replaces != "":
		f.want(false, "replaces: %s in %s has not been decided, so there is nothing to replace", d.Relay, d.Month)
	case standing != nil && d.Replaces == "":
		f.want(false, "%s in %s is decided already: %s; another decision names that one (--replace %s) and says why", d.Relay, d.Month, standing.Words(), standing.Hash)
	case standing != nil && d.Replaces != standing.Hash:
		what := "is no decision about it"
		for _, old := range m.Decisions {
			if old.Hash == d.Replaces {
				what = "was replaced already"
			}
		}
		f.want(false, "replaces: %s %s; the decision that stands is %s", d.Replaces, what, standing.Hash)
	}
	for _, hash := range d.Answers {
		switch a := m.appeal(hash); {
		case a == nil:
			f.want(false, "answers: there is no appeal %s of %s in %s in the log", hash, d.Relay, d.Month)
		case a.AnsweredBy != "":
			f.want(false, "answers: appeal %s was answered already, by %s", hash, a.AnsweredBy)
		}
	}
	for _, a := range m.Open() {
		f.want(slices.Contains(d.Answers, a.SHA256), "answers: appeal %s stands open: a decision answers all that do (--answer %s)", a.SHA256, a.SHA256)
	}
}

// Words say what was decided, on one line.
func (d *Decision) Words() string {
	if d.Pay != nil {
		return fmt.Sprintf("paid to %s by transaction %s", d.Pay.Payout, d.Pay.TxID)
	}
	return "refused: " + strings.Join(strings.Fields(d.Refuse), " ")
}

// enter puts an entry that was checked into the book.
func (b *book) enter(index int64, hash string, e Entry) error {
	p, says, err := e.place()
	if err != nil {
		return err
	}
	m := b.find(p)
	b.months[p] = m
	if e.Appeal != nil {
		m.Appeals = append(m.Appeals, &Appealed{Index: index, Hash: hash, SHA256: e.Appeal.SHA256(), At: e.At, Says: says})
		return nil
	}
	if standing := m.Standing(); standing != nil {
		standing.ReplacedBy = hash
	}
	for _, answered := range e.Decision.Answers {
		if a := m.appeal(answered); a != nil {
			a.AnsweredBy = hash
		}
	}
	m.Decisions = append(m.Decisions, &Decided{Index: index, Hash: hash, At: e.At, Decision: *e.Decision})
	return nil
}
