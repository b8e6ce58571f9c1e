package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Beacons are the rounds of public randomness that go into challenges: with one,
// a relay's signature cannot be older than the hour. Where none can be had, what a
// witness signed does instead, see [News].
type Beacons struct {
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
	err  error // of the last one
}

const (
	// drandTimeout bounds one question to one server.
	drandTimeout = 5 * time.Second
	// drandPatience is how long a server is waited for before the next is asked, too.
	drandPatience = time.Second
	// maxRoundAnswer is far more than a round in JSON.
	maxRoundAnswer = 4 << 10
)

// NewBeacons asks the servers at the URLs for rounds of the chain.
func NewBeacons(chain *beacon.Chain, urls []string, client *http.Client, log *slog.Logger) *Beacons {
	return &Beacons{chain: chain, urls: urls, http: client, log: log, rounds: map[evidence.Hour][]byte{}, tries: map[evidence.Hour]tries{}}
}

// Of is the beacon of an hour; nil if it is not at hand.
func (b *Beacons) Of(h evidence.Hour) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rounds[h]
}

// Fault says why an hour's round is not at hand.
func (b *Beacons) Fault(h evidence.Hour) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.tries[h].err; err != nil {
		return fmt.Sprintf("no drand server gave the hour's round (%v)", err)
	}
	return "no drand server was asked for the hour's round yet"
}

// Fetch gets the round of each of the hours that is not at hand yet, if its next
// try is due.
func (b *Beacons) Fetch(ctx context.Context, hours []evidence.Hour, now time.Time) {
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
func (b *Beacons) note(h evidence.Hour, round []byte, err error, now time.Time) {
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
	t.err = err
	// A round is out a second or two after its time: the first tries come quickly.
	t.next = now.Add(min(time.Second<<min(t.n, 10), 5*time.Minute))
	b.tries[h] = t
	if t.n == 5 {
		b.log.Warn("no drand round for an hour; until there is one, its identities have the cosignature of a witness of another operator, if there is one", "hour", h, "err", err)
	}
}

// ask gets an hour's round from the first server that has it. The next one is asked
// when one has failed or lets wait, so that one that hangs costs a second.
func (b *Beacons) ask(ctx context.Context, h evidence.Hour) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the others
	type answer struct {
		round []byte
		err   error
	}
	answers := make(chan answer, len(b.urls))
	next := func(url string) {
		round, err := b.askOne(ctx, url, h)
		if err != nil {
			err = fmt.Errorf("%s: %w", url, err)
		}
		answers <- answer{round, err}
	}
	var faults []error
	for asked := 0; len(faults) < len(b.urls); {
		var patience <-chan time.Time
		if asked < len(b.urls) {
			go next(b.urls[asked])
			asked++
			patience = time.After(drandPatience)
		}
		select {
		case a := <-answers:
			if a.err == nil {
				return a.round, nil
			}
			faults = append(faults, a.err)
		case <-patience:
		}
	}
	return nil, errors.Join(faults...)
}

func (b *Beacons) askOne(ctx context.Context, url string, h evidence.Hour) ([]byte, error) {
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

// PublicDrand are servers of the League of Entropy's chains, those of distinct operators
// first (https://docs.drand.love/developer/http-api).
var PublicDrand = []string{
	"https://api.drand.sh",                  // Protocol Labs
	"https://drand.cloudflare.com",          // Cloudflare
	"https://api.drand.secureweb3.com:6875", // StorSwift
	"https://api2.drand.sh",
	"https://api3.drand.sh",
}
