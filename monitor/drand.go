package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// beacons are the rounds of public randomness that go into challenges: with one,
// a relay's signature cannot be older than the hour. Where none can be had the
// challenge goes without, and the salt alone makes it unpredictable.
type beacons struct {
	chain *beacon.Chain
	urls  []string
	http  *http.Client
	log   *slog.Logger

	mu     sync.Mutex
	rounds map[evidence.Hour][]byte
	tries  map[evidence.Hour]tries
}

// tries is how often an hour's round was not to be had.
type tries struct {
	n    int
	next time.Time
}

const (
	// drandTimeout bounds one question to one server.
	drandTimeout = 5 * time.Second
	// maxRoundAnswer is far more than a round in JSON.
	maxRoundAnswer = 4 << 10
)

func newBeacons(chain *beacon.Chain, urls []string, client *http.Client, log *slog.Logger) *beacons {
	return &beacons{chain: chain, urls: urls, http: client, log: log, rounds: map[evidence.Hour][]byte{}, tries: map[evidence.Hour]tries{}}
}

// of is the beacon of an hour; nil if it is not at hand.
func (b *beacons) of(h evidence.Hour) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rounds[h]
}

// fetch gets the round of each of the hours that is not at hand yet, if its next
// try is due.
func (b *beacons) fetch(ctx context.Context, hours []evidence.Hour, now time.Time) {
	for _, h := range hours {
		b.mu.Lock()
		wanted := b.rounds[h] == nil && !now.Before(b.tries[h].next) && !now.Before(h.Start())
		b.mu.Unlock()
		if !wanted {
			continue
		}
		round, err := b.ask(ctx, h)
		if ctx.Err() != nil {
			return
		}
		b.note(h, round, err, now)
	}
}

// note keeps what became of a try.
func (b *beacons) note(h evidence.Hour, round []byte, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for old := range b.rounds {
		if old < h-48 {
			delete(b.rounds, old)
		}
	}
	for old := range b.tries {
		if old < h-48 {
			delete(b.tries, old)
		}
	}
	if err == nil {
		b.rounds[h] = round
		delete(b.tries, h)
		return
	}
	t := b.tries[h]
	t.n++
	// A round is out a second or two after its time: the first tries come quickly.
	t.next = now.Add(min(time.Second<<min(t.n, 10), 5*time.Minute))
	b.tries[h] = t
	if t.n == 5 {
		b.log.Warn("no drand round for an hour; its challenges go without until there is one", "hour", h, "err", err)
	}
}

// ask gets an hour's round from the first server that has it.
func (b *beacons) ask(ctx context.Context, h evidence.Hour) ([]byte, error) {
	var faults []error
	for _, url := range b.urls {
		round, err := b.askOne(ctx, url, h)
		if err == nil {
			return round, nil
		}
		faults = append(faults, fmt.Errorf("%s: %w", url, err))
	}
	return nil, errors.Join(faults...)
}

func (b *beacons) askOne(ctx context.Context, url string, h evidence.Hour) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, drandTimeout)
	defer cancel()
	path := strings.TrimSuffix(url, "/") + "/" + b.chain.Path(b.chain.First(h.Start()))
	body, err := download.Get(ctx, b.http, path, buildinfo.Agent("relaymon"), maxRoundAnswer)
	if err != nil {
		return nil, err
	}
	round, err := beacon.Decode(body)
	if err != nil {
		return nil, err
	}
	// A server is not believed: only the chain's own signature counts.
	return round.Bytes(), b.chain.VerifyBeacon(round.Bytes(), h.Start())
}

// fetchBeacons gets the beacons of the identities that may be needed in this hour.
func (m *Monitor) fetchBeacons(ctx context.Context) {
	if m.beacons == nil || ctx.Err() != nil {
		return
	}
	now := time.Now()
	this := evidence.HourOf(now)
	hours := []evidence.Hour{this}
	b := m.basis()
	m.mu.Lock()
	for i := range b.roster.Relays {
		relay := &b.roster.Relays[i]
		if !relay.EnrolledAt(this) {
			continue
		}
		if h := m.identityHour(b.roster, relay, this); !slices.Contains(hours, h) {
			hours = append(hours, h)
		}
	}
	m.mu.Unlock()
	m.beacons.fetch(ctx, hours, now)
}
