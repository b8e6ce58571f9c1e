package web

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

const (
	// perPage is how many relays a page of the overview shows.
	perPage = 100
	// sharedFor is how long an answer is good for others, too: a crowd of visitors costs
	// as much as one, and nobody sees anything that is much older than the way to him.
	sharedFor = time.Second
)

// Need is why somebody should look at a relay.
type Need string

// The needs, the most urgent first.
const (
	NeedDown        Need = "down"
	NeedUnknown     Need = "unknown"
	NeedCertificate Need = "certificate near its end"
	NeedMonth       Need = "month at risk"
	NeedUpdate      Need = "outdated"
)

var needs = []Need{NeedDown, NeedUnknown, NeedCertificate, NeedMonth, NeedUpdate}

// Totals count relays by how they stand now.
type Totals struct {
	Relays  int `json:"relays"`
	Up      int `json:"up"`
	Busy    int `json:"busy"`
	Down    int `json:"down"`
	Unknown int `json:"unknown"`
	// Needy are those that somebody should look at.
	Needy int `json:"needy"`
}

// Total counts them.
func Total(relays []Relay) Totals {
	t := Totals{Relays: len(relays)}
	for i := range relays {
		switch relays[i].Standing() {
		case bounty.Up:
			t.Up++
		case bounty.Busy:
			t.Busy++
		case bounty.Down:
			t.Down++
		default:
			t.Unknown++
		}
		if len(relays[i].Needs) > 0 {
			t.Needy++
		}
	}
	return t
}

// Standing is the vote of the current hour or, while there is none, of the last before for
// which this monitor was due (rule R21).
func (r *Relay) Standing() bounty.Value {
	n := len(r.Hours)
	if n > 1 && r.Hours[n-1].Vote == bounty.Unknown {
		n--
	}
	for n > 1 && r.Hours[n-1].Why == bounty.NotDue.String() {
		n--
	}
	if n == 0 {
		return bounty.Unknown
	}
	return r.Hours[n-1].Vote
}

// part is a page of the overview: its relays are some of all.
type part struct {
	Overview
	Page  int `json:"page"`
	Pages int `json:"pages"`
}

// Previous and Next are the pages beside this one; 0: there is none.
func (p part) Previous() int { return p.Page - 1 }

// Next is the page after this one; 0: there is none.
func (p part) Next() int {
	if p.Page == p.Pages {
		return 0
	}
	return p.Page + 1
}

// Words are those that the page's relays show: in their hours, or in their months.
func (p part) Words() (w wordsShown) {
	for _, r := range p.Relays {
		w.Unknown, w.Busy = w.Unknown || r.Count.Unknown > 0, w.Busy || r.Count.Busy > 0
		for _, h := range r.Hours {
			w.Unknown, w.Busy = w.Unknown || h.Vote == bounty.Unknown, w.Busy || h.Vote == bounty.Busy
		}
	}
	return w
}

// byNeed puts those first that somebody should look at.
func byNeed(relays []Relay) []Relay {
	rank := func(r Relay) int {
		if len(r.Needs) == 0 {
			return len(needs)
		}
		return slices.Index(needs, r.Needs[0])
	}
	relays = slices.Clone(relays)
	slices.SortStableFunc(relays, func(a, b Relay) int { return cmp.Compare(rank(a), rank(b)) })
	return relays
}

// asIs keeps the roster's order: whoever reads page after page misses none.
func asIs(relays []Relay) []Relay { return relays }

// overview serves a page of the overview: relays in this order, written like that.
func (h *handler) overview(kind string, order func([]Relay) []Relay, write func(*bytes.Buffer, part) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := 1
		if s := r.URL.Query().Get("page"); s != "" {
			var err error
			if n, err = strconv.Atoi(s); err != nil || n < 1 || strconv.Itoa(n) != s {
				http.NotFound(w, r)
				return
			}
		}
		answer, err := h.shared.answer(kind+" "+strconv.Itoa(n), func() ([]byte, error) {
			o, err := h.shared.overview(h.source)
			if err != nil {
				return nil, err
			}
			p := part{o, n, max(1, (len(o.Relays)+perPage-1)/perPage)}
			if n > p.Pages {
				return nil, ErrNotFound
			}
			p.Relays = order(o.Relays)[(n-1)*perPage : min(n*perPage, len(o.Relays))]
			var b bytes.Buffer
			err = write(&b, p)
			return b.Bytes(), err
		})
		if h.failed(w, err) {
			return
		}
		body := answer.body
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			body = answer.zipped
			w.Header().Set("Content-Encoding", "gzip")
		}
		_, _ = w.Write(body)
	}
}

// shared are answers that are good for everybody who asks within a moment. One is made
// at a time.
type shared struct {
	mu    sync.Mutex
	known map[string]sharedAnswer
	all   Overview  // of which the answers are parts
	seen  time.Time // when all was looked up
}

// overview is looked up once in a moment, whatever parts of it are asked for, those
// that do not exist included. The caller holds the lock.
func (s *shared) overview(from Source) (Overview, error) {
	if !s.seen.IsZero() && time.Since(s.seen) < sharedFor {
		return s.all, nil
	}
	o, err := from.Overview()
	if err == nil {
		s.all, s.seen = o, time.Now()
	}
	return o, err
}

type sharedAnswer struct {
	made         time.Time
	body, zipped []byte
}

func (s *shared) answer(key string, produce func() ([]byte, error)) (sharedAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The monotonic clock: a step of the other keeps no answer for longer.
	if a, ok := s.known[key]; ok && time.Since(a.made) < sharedFor {
		return a, nil
	}
	known := map[string]sharedAnswer{}
	for k, a := range s.known {
		if time.Since(a.made) < sharedFor {
			known[k] = a
		}
	}
	s.known = known
	body, err := produce()
	if err != nil {
		return sharedAnswer{}, err
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(body); err != nil {
		return sharedAnswer{}, err
	}
	if err := z.Close(); err != nil {
		return sharedAnswer{}, err
	}
	a := sharedAnswer{s.seen, body, zipped.Bytes()}
	s.known[key] = a
	return a, nil
}
