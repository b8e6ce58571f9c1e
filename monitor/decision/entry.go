package decision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Version is the version of entries that this package writes and reads.
const Version = 1

// Bounds of what is in an entry, and of a log.
const (
	MaxText    = 2000                    // bytes of a reason
	MaxAppeals = 8                       // of one relay and month
	MaxEntry   = evidence.MaxHeaderBytes // bytes of an entry
	MaxEntries = 1<<16 - 1               // in a log: far more than there are months of relays
	MaxBytes   = 64 << 20                // of all entries together
	maxWithout = 100
	maxName    = 100
	maxPeer    = 128
	maxPayout  = 200
)

// Entry is a leaf of the log: a decision or an appeal.
type Entry struct {
	Version int              `json:"version"`
	Network evidence.Network `json:"network"`
	// At is the committee's clock when it was entered. The order in the log is what counts.
	At       evidence.Time `json:"at"`
	Decision *Decision     `json:"decision,omitempty"`
	Appeal   *Appeal       `json:"appeal,omitempty"`
}

// Verdict is what the committee's program found of the evidence, as bounty.Result has it.
type Verdict string

// The verdicts.
const (
	Eligible    Verdict = "ELIGIBLE"
	NotEligible Verdict = "NOT_ELIGIBLE"
	Review      Verdict = "REVIEW"
	LabVerdict  Verdict = "LAB"
)

// Decision is what the committee decided about a relay's month.
type Decision struct {
	Relay string         `json:"relay"` // peer ID
	Month evidence.Month `json:"month"`
	// Bundle is the evidence, Rules and Roster are by what it was judged: each a SHA-256.
	Bundle string `json:"bundle"`
	Rules  string `json:"rules"`
	Roster string `json:"roster"`
	// Verdict is what the bundle came to as of AsOf.
	Verdict     Verdict       `json:"verdict"`
	Provisional bool          `json:"provisional,omitempty"`
	AsOf        evidence.Time `json:"as_of"`
	// Without are the monitors whose logs were missing or ended early, and which the
	// committee did without.
	Without []string `json:"without,omitempty"`
	// Either Pay, or the reason of a refusal.
	Pay    *Payment `json:"pay,omitempty"`
	Refuse string   `json:"refuse,omitempty"`
	// Answers are the appeals that this decision answers ([Appeal.SHA256]), sorted.
	Answers []string `json:"answers,omitempty"`
	// Replaces is the leaf hash of the decision that stood before.
	Replaces string `json:"replaces,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Payment is a payment.
type Payment struct {
	TxID   string `json:"txid"`
	Payout string `json:"payout"` // the address, from the relay's enrolment
	// Signed says whether the relay's own key signed the address.
	Signed bool `json:"payout_signed,omitempty"`
}

// Appeal is an operator's objection, signed by the relay's key: see package statement.
type Appeal struct {
	Statement []byte `json:"statement"` // the envelope
}

// ParseAppeal reads the line that "relayd appeal" printed. [Appeal.Open] verifies it.
func ParseAppeal(line string) (Appeal, error) {
	envelope, err := statement.FromText(line)
	return Appeal{envelope}, err
}

// SHA256 is how an appeal is called: the hash of its envelope, in hex.
func (a Appeal) SHA256() string {
	sum := sha256.Sum256(a.Statement)
	return hex.EncodeToString(sum[:])
}

// Open verifies the relay's signature and tells what it says.
func (a Appeal) Open() (statement.Statement, error) {
	s, err := statement.Open(a.Statement)
	if err == nil && s.Kind != statement.Appeal {
		err = fmt.Errorf("this is a statement of kind %s, want one of kind %s, as \"relayd appeal\" prints it", s.Kind, statement.Appeal)
	}
	return s, err
}

// Encode is the canonical JSON of an entry that can be read again.
func Encode(e Entry) ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, fmt.Errorf("entry: %w", err)
	}
	b, err := evidence.Encode(e)
	if err == nil && len(b) > MaxEntry {
		err = fmt.Errorf("entry: it has %d bytes, want %d at most", len(b), MaxEntry)
	}
	return b, err
}

// Decode reads exactly what [Encode] writes. Who reads of money does not pass over what he
// does not know: a new member takes a new version.
func Decode(b []byte) (Entry, error) {
	var e Entry
	if len(b) > MaxEntry {
		return e, fmt.Errorf("entry: it has %d bytes, want %d at most", len(b), MaxEntry)
	}
	if err := evidence.NewerVersion("an entry of the committee's log", evidence.VersionIn(b), Version); err != nil {
		return e, err
	}
	if err := evidence.Decode(b, &e); err != nil {
		return e, fmt.Errorf("entry: %w", err)
	}
	if err := e.validate(); err != nil {
		return e, fmt.Errorf("entry: %w", err)
	}
	return e, nil
}

// Hash is the leaf hash of an entry's bytes in hex, by which a later decision names it.
func Hash(line []byte) string {
	h := tlog.RecordHash(line)
	return hex.EncodeToString(h[:])
}

type faults []error

func (f *faults) want(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// text wants a text of people's where there must be one.
func (f *faults) text(name, s string, most int) {
	if err := statement.CheckText(s, most); err != nil {
		*f = append(*f, fmt.Errorf("%s: %w", name, err))
	}
}

func (e Entry) validate() error {
	var f faults
	f.want(e.Version == Version, "version: want %d, not %d", Version, e.Version)
	f.want(e.Network == evidence.PSF || e.Network == evidence.Lab, "network: want %s or %s, not %q", evidence.PSF, evidence.Lab, e.Network)
	f.want(isTime(e.At), "at: want a time from 1970 to 9999")
	switch {
	case (e.Decision == nil) == (e.Appeal == nil):
		f.want(false, "want one of decision and appeal")
	case e.Decision != nil:
		e.Decision.validate(&f, e)
	default:
		s, err := e.Appeal.Open()
		if err != nil {
			f.want(false, "appeal: %w", err)
			break
		}
		f.want(s.Network == string(e.Network), "appeal: the relay signed it for network %s, this log is of network %s", s.Network, e.Network)
		month, err := evidence.ParseMonth(s.Month)
		f.want(err == nil && month <= evidence.MonthOf(e.At.Time), "appeal: month %s has not begun at %s", s.Month, e.At)
	}
	return errors.Join(f...)
}

func isTime(t evidence.Time) bool {
	return t.Unix() > 0 && t.UTC().Year() <= 9999 && t.Equal(evidence.TimeOf(t.Time).Time)
}

func (d *Decision) validate(f *faults, e Entry) {
	id, err := peer.Decode(d.Relay)
	f.want(err == nil && id.String() == d.Relay && len(d.Relay) <= maxPeer, "relay: want a peer ID, not %.200q", d.Relay)
	f.want(d.Month >= 1970*12 && d.Month <= evidence.MonthOf(e.At.Time), "month: %s has not begun at %s: is this machine's clock right?", d.Month, e.At)
	f.want(isTime(d.AsOf) && !d.AsOf.After(e.At.Time), "as_of: the logs reach to %s, and this was entered at %s: is this machine's clock right?", d.AsOf, e.At)
	hash := func(name, hash string) {
		f.want(evidence.IsSHA256Hex(hash), "%s: want a SHA-256 of 64 hex digits, not %.100q", name, hash)
	}
	hash("bundle", d.Bundle)
	hash("rules", d.Rules)
	hash("roster", d.Roster)
	switch d.Verdict {
	case LabVerdict:
		f.want(e.Network == evidence.Lab, "verdict: a month of a lab is decided in a lab's log only, this one is of network %s", e.Network)
	case Eligible, NotEligible, Review:
		f.want(e.Network != evidence.Lab, "verdict: %s in a lab's log, where all is %s", d.Verdict, LabVerdict)
	default:
		f.want(false, "verdict: want %s, %s, %s or %s, not %.100q", Eligible, NotEligible, Review, LabVerdict, d.Verdict)
	}
	f.want(len(d.Without) <= maxWithout && isSet(d.Without), "without: want %d names at most, sorted, each once", maxWithout)
	for _, name := range d.Without {
		f.text("without", name, maxName)
	}
	f.want(len(d.Answers) <= MaxAppeals && isSet(d.Answers), "answers: want %d at most, sorted, each once", MaxAppeals)
	for _, appeal := range d.Answers {
		hash("answers", appeal)
	}
	f.want(d.Replaces == "" || evidence.IsSHA256Hex(d.Replaces), "replaces: want a decision's hash of 64 hex digits, not %.100q", d.Replaces)
	if d.Why != "" {
		f.text("why", d.Why, MaxText)
	}
	f.want(d.Replaces == "" || d.Why != "", "why: a decision that replaces another one says why")
	switch {
	case (d.Pay == nil) == (d.Refuse == ""):
		f.want(false, "want one of pay and refuse")
	case d.Pay == nil:
		f.text("refuse", d.Refuse, MaxText)
	default:
		d.validatePayment(f)
	}
}

func (d *Decision) validatePayment(f *faults) {
	f.want(evidence.IsSHA256Hex(d.Pay.TxID), "txid: want the ID of a transaction, 64 hex digits in lower case, not %.100q", d.Pay.TxID)
	f.want(d.Pay.Payout != "", "payout: the relay's enrolment names no address to which a payment goes")
	f.want(len(d.Pay.Payout) <= maxPayout && !strings.ContainsFunc(d.Pay.Payout, func(r rune) bool { return r <= ' ' || r > '~' }), "payout: want an address, not %.300q", d.Pay.Payout)
	f.want(d.Verdict != NotEligible, "pay: the month is %s, which is never paid", NotEligible)
	f.want(!d.Provisional, "pay: the verdict is PROVISIONAL and may still change: wait, and take a bundle with all logs to 72 hours after the month's end")
	var doubts []string
	if d.Verdict == Review {
		doubts = append(doubts, "the verdict is "+string(Review))
	}
	if len(d.Without) > 0 {
		doubts = append(doubts, "it is without the logs of "+strings.Join(d.Without, ", "))
	}
	if !d.Pay.Signed {
		doubts = append(doubts, "the relay's own key did not sign the payout address")
	}
	f.want(len(doubts) == 0 || d.Why != "", "why: %s; a payment all the same is the committee's judgement, and says why", strings.Join(doubts, "; "))
}

// isSet says whether a list is sorted and holds nothing twice.
func isSet(list []string) bool {
	for i, s := range list[min(1, len(list)):] {
		if s <= list[i] {
			return false
		}
	}
	return true
}
