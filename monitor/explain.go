package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/history"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// Explain tells the story of one relay's hour as an auditor would find it in this
// monitor's log: with the cosignatures and the relay's own signatures checked. It
// reads the log beside a monitor that may be running.
func Explain(cfg Config, relay string, hour evidence.Hour, now time.Time) (story history.Story, err error) {
	by, err := judgedBy(cfg, hour.Month())
	if err != nil {
		return story, err
	}
	rules, roster := by.rules, by.roster
	entry := roster.Relay(relay)
	if entry == nil {
		return story, fmt.Errorf("relay %s is not in the roster %s", relay, cfg.Roster)
	}
	l, err := openForReading(cfg)
	if err != nil {
		return story, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if hour < l.First() {
		return story, fmt.Errorf("the log begins with %s: nothing is known of %s", l.First(), hour)
	}
	exported, err := export(l, roster, BundleRequest{Relay: relay, Month: hour.Month(), AsOf: now})
	if err != nil {
		return story, err
	}
	keys := evidence.Keys{Log: l.Key(), Plan: l.PlanKey(), Witnesses: roster.WitnessKeys(hour.Month()), Beacon: beacon.Quicknet()}
	month, err := evidence.VerifyMonth(exported, keys)
	if err != nil {
		return story, fmt.Errorf("the log does not verify: %w: see \"relaymon log check\"", err)
	}
	f := history.Facts{Monitor: cfg.Name, Rules: rules, Roster: roster, Relay: entry, Hour: hour, Now: now, Cosigned: true}
	if i := slices.IndexFunc(month.Hours, func(h evidence.VerifiedHour) bool { return h.Header.Hour == hour }); i >= 0 {
		f.Verified, f.Record, f.Vouchers = &month.Hours[i], month.Hours[i].Record, month.Hours[i].Vouchers
	}
	f.AgentBefore = agentBefore(month.Hours, hour)
	if slices.Contains(l.Unsealed(), hour) {
		if err := open(&f, l, keys); err != nil {
			return story, err
		}
	}
	// Of the other relays nobody asks here, and to judge them would take long.
	only := *roster
	only.Relays = []bounty.Relay{*entry}
	known, err := history.New(l, rules, &only, beacon.Quicknet()).Month(hour.Month())
	if err != nil {
		return story, err
	}
	sums := countAlone(cfg.Name, by, entry, hour.Month(), known.Of(relay), now).Hours
	f.Month = &sums
	return history.Tell(f), nil
}

// open adds what the log holds of an hour that is not sealed yet.
func open(f *history.Facts, l *store.Log, keys evidence.Keys) error {
	records, err := l.Records(f.Hour)
	if err != nil {
		return err
	}
	vouchers, err := evidence.NewVouchers(keys)
	if err != nil {
		return err
	}
	for i := range records {
		if r := &records[i]; r.PeerID == f.Relay.PeerID {
			clock := l.Clock(f.Hour)
			f.Record, f.Clock, f.Vouchers = r, &clock, history.Judged(vouchers, r)
		}
	}
	return nil
}

// agentBefore is the software that the relay reported last in a month before an hour.
func agentBefore(month []evidence.VerifiedHour, hour evidence.Hour) (agent string) {
	for _, h := range month {
		if h.Header.Hour >= hour || h.Record == nil {
			continue
		}
		for _, a := range h.Record.Attempts {
			agent = cmp.Or(a.Facts.AgentVersion, agent)
		}
	}
	return agent
}
