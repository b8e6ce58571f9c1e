package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/probe"
)

// tried is a try that took so long and had this rung.
func tried(o evidence.Outcome, c evidence.Class) try {
	return try{started: time.Date(2026, 11, 3, 14, 0, 0, 0, time.UTC), attempt: evidence.Attempt{
		PeerID: "ID", Rungs: []evidence.Rung{{Name: "tcp4", Component: evidence.TCP4, Outcome: o, Class: c}, {Name: "wss", Component: evidence.WSS, Outcome: evidence.Skipped, Class: evidence.NotAsked}},
		Results: map[evidence.Component]evidence.Result{
			evidence.TCP4:  {Outcome: o, Class: c, DurationUS: 12_300},
			evidence.WSS:   {Outcome: evidence.Skipped, Class: evidence.NotAsked},
			evidence.Relay: {Outcome: evidence.Skipped, Class: evidence.NotAsked},
		},
	}}
}

func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		var began []time.Duration
		once := func(ctx context.Context) try {
			began = append(began, time.Since(start))
			switch len(began) {
			case 2:
				time.Sleep(15 * time.Second)
				return tried(evidence.Fail, evidence.Refused)
			case 4:
				cancel()
				return tried(evidence.OK, "") // was cut off
			}
			time.Sleep(time.Second)
			return tried(evidence.Busy, evidence.CircuitBusy)
		}
		told := 0
		last, err := repeat(ctx, 10*time.Second, once, func(try) error { told++; return nil })
		// One that takes longer than that is followed at once.
		if want := []time.Duration{0, 10 * time.Second, 25 * time.Second, 35 * time.Second}; !slices.Equal(began, want) {
			t.Errorf("tries at %v, want %v", began, want)
		}
		if err != nil || last != evidence.Busy || told != 3 {
			t.Errorf("got %s, %v after %d tries; want %s after 3", last, err, told, evidence.Busy)
		}
	})
	// What cannot be written ends it.
	full := errors.New("no space")
	if _, err := repeat(t.Context(), time.Hour, func(context.Context) try { return try{} }, func(try) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	// An interrupt ends the wait.
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		last, err := repeat(ctx, time.Hour, func(context.Context) try { return tried(evidence.OK, "") }, func(try) error { return nil })
		if took := time.Since(start); last != evidence.OK || err != nil || took != time.Minute {
			t.Errorf("got %s, %v after %s; want ok after 1m", last, err, took)
		}
	})
}

func TestWatchLines(t *testing.T) {
	var out bytes.Buffer
	w := &watch{out: &out, signs: signsFor(&out)}
	gone := try{err: errors.New("the relay is gone\nstart it"), started: tried("", "").started}
	blind := try{err: fmt.Errorf("%w: no network", probe.ErrBlind), started: gone.started}
	for _, tr := range []try{tried(evidence.OK, ""), tried(evidence.Fail, evidence.Refused), tried(evidence.Fail, evidence.Refused), tried(evidence.OK, ""), gone, blind} {
		if err := w.tell(tr); err != nil {
			t.Fatal(err)
		}
	}
	const at = "2026-11-03T14:00:00Z  "
	want := "relay ID\n" +
		at + "tcp4 ok 12 ms, wss skipped, relay skipped  +  1 of 1 ok\n" +
		at + "tcp4 failed (refused) 12 ms, wss skipped, relay skipped  +-  1 of 2 ok\n" +
		"  tcp4 failed (refused): nobody listens on the port\n    to do: start the relay, or correct its port in the multiaddr\n" +
		at + "tcp4 failed (refused) 12 ms, wss skipped, relay skipped  +--  1 of 3 ok\n" +
		at + "tcp4 ok 12 ms, wss skipped, relay skipped  +--+  2 of 4 ok\n" +
		at + "not tried  +--+-  2 of 5 ok\n  the relay is gone\n  start it\n" +
		at + "not tried  +--+-?  2 of 6 ok, 1 unknown\n  nothing is known of the relay: no network\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	for range 100 {
		w.count(evidence.OK)
	}
	if len(w.recent) != keepRecent || w.all != 106 {
		t.Errorf("%d signs of %d tries, want %d of 106", len(w.recent), w.all, keepRecent)
	}
}

func TestOutcomeOfATry(t *testing.T) {
	missing := tried(evidence.OK, "")
	missing.found.Missing = []string{"a port"}
	both := tried(evidence.Blind, evidence.Resolver)
	both.attempt.Rungs = append(both.attempt.Rungs, evidence.Rung{Outcome: evidence.Busy, Class: evidence.ReserveRefused}, evidence.Rung{Outcome: evidence.Skipped, Class: evidence.BelowFailed})
	stopped := tried(evidence.OK, "")
	stopped.attempt.Rungs = append(stopped.attempt.Rungs, evidence.Rung{Outcome: evidence.Skipped, Class: evidence.Stopped})
	for name, tc := range map[string]struct {
		try  try
		want evidence.Outcome
	}{
		"ok, and one was not asked for": {tried(evidence.OK, ""), evidence.OK},
		"failed":                        {tried(evidence.Fail, evidence.Refused), evidence.Fail},
		"an address is missing":         {missing, evidence.Fail},
		"blind and busy":                {both, evidence.Busy},
		"stopped":                       {stopped, evidence.Blind},
		"no addresses":                  {try{err: errors.New("gone")}, evidence.Fail},
		"this machine":                  {try{err: probe.ErrBlind}, evidence.Blind},
	} {
		if got := tc.try.outcome(); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// firstLine ends a watch at its first line.
type firstLine struct {
	text bytes.Buffer
	end  func()
}

func (u *firstLine) Write(p []byte) (int, error) {
	u.end()
	return u.text.Write(p)
}

func TestWatchDomain(t *testing.T) {
	ca := newAuthority(t)
	h := startRelay(t, nil, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")
	site := startSite(t, ca.leaf(t, ca.root.NotAfter), h, func(wss string) []string { return []string{tcp4Of(h), wss} })
	for name, asJSON := range map[string]bool{"line": false, "JSON": true} {
		t.Run(name, func(t *testing.T) {
			p := probeCmd{Watch: true, JSON: asJSON, AllowPrivate: true, Resolve: []string{"relay.test:127.0.0.1"}, Addr: []string{site}}
			l, err := p.read()
			if err != nil {
				t.Fatal(err)
			}
			if *p.Every != usualEvery {
				t.Errorf("every %s, want %s", *p.Every, usualEvery)
			}
			l.opts.ExtraCAs, err = probe.ParseCAs(ca.pem)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &firstLine{end: cancel}
			var stderr bytes.Buffer
			if err := p.watch(ctx, &cli.IO{Stdout: out, Stderr: &stderr}, l); err != nil {
				t.Errorf("got %v, want no error", err)
			}
			if l.opts.ProbeKey == nil {
				t.Error("each try reserves under an identity of its own")
			}
			if asJSON {
				var r resultJSON
				if err := json.Unmarshal(out.text.Bytes(), &r); err != nil || r.PeerID != h.ID().String() || r.From == nil || strings.Count(out.text.String(), "\n") != 1 {
					t.Errorf("got %v: %s, want one line of JSON", err, out.text.String())
				}
			} else if got := out.text.String(); !strings.HasPrefix(got, "addresses as the relay itself gives them: https://"+site+"/status.json\nrelay "+h.ID().String()) || !strings.HasSuffix(got, "  +  1 of 1 ok\n") {
				t.Errorf("got %s", got)
			}
		})
	}
}

// After a failure the relay is asked again, and what it gave before is kept if it does not
// answer, or if somebody else may have answered.
func TestAddressesThatChange(t *testing.T) {
	ca := newAuthority(t)
	h := startRelay(t, nil, "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws")
	good := startSite(t, ca.leaf(t, ca.root.NotAfter), h, func(wss string) []string { return []string{tcp4Of(h), wss} })
	expired := startSite(t, ca.leaf(t, time.Now().Add(-time.Minute)), h, func(wss string) []string { return []string{wss} })
	l := &look{opts: probe.Options{AllowPrivate: true, Resolve: map[string]netip.Addr{"relay.test": netip.MustParseAddr("127.0.0.1")}}}
	var err error
	if l.opts.ExtraCAs, err = probe.ParseCAs(ca.pem); err != nil {
		t.Fatal(err)
	}
	at := func(site string) probe.Domain {
		t.Helper()
		d, err := probe.ParseDomain(site)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	find := func(site string, failed bool) string {
		t.Helper()
		d := at(site)
		l.domain, l.failed = &d, failed
		if err := l.find(t.Context()); err != nil {
			t.Fatal(err)
		}
		return l.found.Page
	}
	first := "https://" + expired + "/status.json"
	if got := find(expired, false); got != first || l.found.Unverified != evidence.CertExpired {
		t.Errorf("got %s (%s), want %s", got, l.found.Unverified, first)
	}
	if got := find(good, false); got != first {
		t.Errorf("after a try that was ok: got %s, want %s", got, first)
	}
	second := "https://" + good + "/status.json"
	if got := find(good, true); got != second {
		t.Errorf("after a failure: got %s, want %s", got, second)
	}
	if got := find(expired, true); got != second {
		t.Errorf("from a page that is not verified: got %s, want %s", got, second)
	}
	if got := find("relay.test:1", true); got != second {
		t.Errorf("when nobody answers: got %s, want %s", got, second)
	}
}

// Every rung of the ladder and every outcome has its lesson.
func TestLessons(t *testing.T) {
	var names []string
	for _, l := range lessons {
		names = append(names, l.rung)
	}
	if want := probe.Rungs(); !slices.Equal(names, want) {
		t.Errorf("lessons of %v, want of %v", names, want)
	}
}
