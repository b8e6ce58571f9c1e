package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/schedule"
	"github.com/psf-relay/relay-appliance/monitor/web"
)

// reread looks for a new roster or new rules. Those that are good are in force for
// whatever begins from now on; an attempt that is under way ends with those that it
// began with, and is recorded. Those that are not good change nothing: the monitor
// goes on with what it has, and says so once.
func (m *Monitor) reread(ctx context.Context, now time.Time) {
	old := m.basis()
	if ctx.Err() != nil || isStill(m.cfg.Rules, old.files.rules) && isStill(m.cfg.Roster, old.files.roster) {
		m.refuse("")
		return
	}
	h := evidence.HourOf(now)
	b, fault := readFiles(m.cfg)
	if fault == nil {
		b, fault = shelfOf(m.cfg).settle(b, old, m.cfg, h)
		if bytes.Equal(b.files.rules, old.files.rules) && bytes.Equal(b.files.roster, old.files.roster) {
			b = nil // nothing of it is new
		}
	}
	if b != nil {
		if err := errors.Join(b.complete(m.cfg, m.store), m.checkPlace(b.roster, h)); err != nil {
			b, fault = nil, errors.Join(fault, err)
		}
	}
	if fault == nil {
		m.refuse("")
	} else {
		why := said(fault)
		if m.refuse(why) {
			m.log.Error("the committee's files, as they are now, are not used: going on with those read before", "err", why)
		}
	}
	if b == nil {
		return
	}
	m.adopt(b, h, now)
	m.shelve(b, h)
	m.log.Info("the committee's files have changed and are in force from now on", changes(old, b)...)
	m.tellUnknown(old, b)
	if m.warming != nil {
		m.warming() // nobody will ask for it again
	}
	ctx, m.warming = context.WithCancel(ctx)
	m.running.Go(func() { m.warm(ctx, b) })
}

// said is a fault of the committee's files in no more words than a page can show: each
// entry of a long roster may be at fault.
func said(fault error) string {
	why := fault.Error()
	if len(why) > mostSaid {
		why = strings.ToValidUTF8(why[:mostSaid], "") + " ..."
	}
	return why
}

// tellUnknown says, once for each file, which members of the committee's files this
// program does not know. Nil is the basis before the first.
func (m *Monitor) tellUnknown(old, b *basis) {
	if old == nil {
		old = &basis{rules: &bounty.Rules{}, roster: &bounty.Roster{}}
	}
	for _, f := range []struct {
		what, was, is string
		unknown       []string
	}{
		{"roster", old.roster.SHA256, b.roster.SHA256, b.roster.Unknown},
		{"rules", old.rules.SHA256, b.rules.SHA256, b.rules.Unknown},
	} {
		if len(f.unknown) > 0 && f.is != f.was {
			m.log.Warn("the "+f.what+" file has members that this relaymon does not know: they mean nothing to it", "members", strings.Join(f.unknown, ", "))
		}
	}
}

// shelve keeps the files that are in force. A monitor that cannot goes on: it would
// take older ones after a restart, and says so.
func (m *Monitor) shelve(b *basis, h evidence.Hour) {
	if err := shelfOf(m.cfg).remember(b, m.cfg, h); err != nil {
		m.log.Error("the committee's files could not be kept: after a restart older ones would be taken", "err", err)
	}
}

// refuse keeps why the committee's files are not used as they are; empty: they are. It
// says whether that is new.
func (m *Monitor) refuse(why string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	is := m.refused != why
	m.refused = why
	if why == "" {
		m.refusedLooks = 0
	} else {
		m.refusedLooks++
	}
	return is
}

// notUsed is why the committee's files are not used as they are. One that is being
// written just now is no matter: it takes two looks. The caller holds the lock.
func (m *Monitor) notUsed() string {
	if m.refusedLooks < 2 {
		return ""
	}
	return m.refused
}

// adopt puts b in force, together with all that follows the roster by itself.
func (m *Monitor) adopt(b *basis, h evidence.Hour, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.inForce.Swap(b)
	// An hour that was settled at the old address is not settled at the new one.
	m.planner.Reopen(func(j schedule.Job) bool {
		before, after := old.roster.Relay(j.Relay), b.roster.Relay(j.Relay)
		return before != nil && after != nil && before.At(j.Hour) != after.At(j.Hour)
	})
	if !m.begun.IsZero() {
		m.listen(h)
	}
	// As after a restart: of a relay that is gone the last day is remembered.
	for _, known := range []map[string]*evidence.Attempt{m.seen, m.latest} {
		maps.DeleteFunc(known, func(id string, a *evidence.Attempt) bool {
			return b.roster.Relay(id) == nil && now.Sub(a.Started.Time) > 24*time.Hour
		})
	}
	maps.DeleteFunc(m.warned, func(id string, _ []web.Warning) bool { return b.roster.Relay(id) == nil })
}

// isStill says whether a file holds what was read from it; without a name it is
// the program's own and does not change.
func isStill(name string, read []byte) bool {
	if name == "" {
		return true
	}
	now, err := bounded.ReadFile(name, bounty.MaxBytes)
	return err == nil && bytes.Equal(now, read)
}

// changes says for the log what is new.
func changes(old, b *basis) []any {
	out := []any{"roster", b.roster.SHA256, "rules", b.rules.SHA256}
	was, is := old.roster, b.roster
	relay := func(r bounty.Relay) string { return r.PeerID }
	monitor := func(m bounty.Monitor) string { return m.Name }
	witness := func(w bounty.Witness) string { return w.Name }
	control := func(c bounty.ControlHost) string { return c.Name }
	for _, c := range []struct {
		what    string
		was, is map[string]string
	}{
		{"relays", entries(was.Relays, relay), entries(is.Relays, relay)},
		{"monitors", entries(was.Monitors, monitor), entries(is.Monitors, monitor)},
		{"witnesses", entries(was.Witnesses, witness), entries(is.Witnesses, witness)},
		{"controls", entries(was.Controls, control), entries(is.Controls, control)},
	} {
		lists := map[string][]string{}
		for name, text := range c.is {
			if before, known := c.was[name]; !known {
				lists["added"] = append(lists["added"], name)
			} else if before != text {
				lists["changed"] = append(lists["changed"], name)
			}
		}
		for name := range c.was {
			if _, stays := c.is[name]; !stays {
				lists["removed"] = append(lists["removed"], name)
			}
		}
		for _, how := range slices.Sorted(maps.Keys(lists)) {
			out = append(out, c.what+"_"+how, some(lists[how]))
		}
	}
	return out
}

// entries are those of a list, by name; a monitor may have several of one name.
func entries[T any](list []T, name func(T) string) map[string]string {
	out := map[string]string{}
	for _, e := range list {
		text, _ := json.Marshal(e) // follows pointers
		out[name(e)] += string(text)
	}
	return out
}

// Bounds of what one line of the log says of files: names of a kind, and bytes of faults.
const (
	mostNamed = 10
	mostSaid  = 2000
)

// some names the first of a list and says how many there are besides.
func some(names []string) string {
	slices.Sort(names)
	if n := len(names) - mostNamed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), n)
	}
	return strings.Join(names, ", ")
}
