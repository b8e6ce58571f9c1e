package appliance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/upgrade"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// Progress is how far the machine has come since it was switched on: each step is as a
// requirement, met, or waited for (unknown), or in want of somebody (not met).
type Progress struct {
	Steps []Step `json:"steps"`
	// Ready is when all but a reservation was met for the first time, in seconds since the
	// kernel started; 0: not yet.
	Ready float64 `json:"ready_after_seconds,omitempty"`
}

// Step is one of them.
type Step struct {
	status.Requirement
	// After is when it was first met, in seconds since the kernel started; 0: not yet.
	After float64 `json:"after_seconds,omitempty"`
}

// inWords is a time since the kernel started: what firmware and boot loader took before
// that, nobody tells it.
func inWords(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// The names of the steps. The last one, a reservation, is not the machine's own doing.
const (
	stepNetwork     = "network"
	stepSetUp       = "set-up"
	stepRelay       = "relay"
	stepCertificate = "certificate"
	stepMonitor     = "monitor"
	stepReservation = "reservation"
	allReady        = "ready"
)

// facts is what the steps are judged by. Looking at them is cheap: it is done again every
// few seconds while the machine starts.
type facts struct {
	network status.Requirement
	boot    *Report
	role    Role
	relay   *status.Status // nil: it does not answer
	silent  error          // why not
	monitor error          // why it writes no evidence; nil: it does
}

// steps are in the order in which they are taken.
func (f facts) steps() []status.Requirement {
	out := []status.Requirement{f.network, f.setUp()}
	if f.role.Relays() {
		out = append(out, f.relays())
		if f.relay == nil || f.relay.Certificate != nil {
			out = append(out, f.certificate())
		}
	}
	if f.role.Monitors() {
		out = append(out, f.monitors())
	}
	if f.role.Relays() {
		out = append(out, f.reservation())
	}
	return out
}

func step(name, title string, o status.Outcome, found, cure string) status.Requirement {
	return status.Requirement{Name: name, Title: title, Outcome: o, Found: oneLine(found), Cure: oneLine(cure)}
}

func (f facts) setUp() status.Requirement {
	is := func(o status.Outcome, found, cure string) status.Requirement {
		return step(stepSetUp, "Set up as its settings say", o, found, cure)
	}
	switch b := f.boot; {
	case b == nil:
		return is(status.Unknown, "first boot is still to come: it waits for cloud-init and the network", "")
	case b.Running:
		said := "begins"
		if len(b.Said) > 0 {
			said = b.Said[len(b.Said)-1]
		}
		return is(status.Unknown, "under way: "+said, "")
	case b.Again:
		return is(status.Unknown, b.Fault, "")
	case b.Fault != "":
		return is(status.NotMet, b.Fault, "Mend it, then run: relay-appliance first-boot")
	case !b.Set:
		return is(status.NotMet, "there are no settings", "Write "+SettingsPath+", then run: relay-appliance first-boot")
	}
	return is(status.Met, "done", "")
}

// requirement is one of those that the relay knows about itself.
func (f facts) requirement(name string) status.Requirement {
	if f.relay == nil {
		return status.Status{}.Requirement(name)
	}
	return f.relay.Requirement(name)
}

func (f facts) relays() status.Requirement {
	is := func(o status.Outcome, found string) status.Requirement {
		return step(stepRelay, "The relay serves", o, found, "")
	}
	switch {
	case f.relay == nil && f.silent != nil:
		return is(status.Unknown, notYet("relayd", f.silent))
	case f.relay == nil:
		return is(status.Unknown, "relayd is not started yet")
	case !f.relay.Healthy:
		return is(status.Unknown, "relayd runs, but serves no reservations yet")
	}
	return is(status.Met, "relayd serves reservations")
}

func (f facts) certificate() status.Requirement {
	is := func(o status.Outcome, found, cure string) status.Requirement {
		return step(stepCertificate, "A certificate for browsers", o, found, cure)
	}
	if f.relay == nil {
		return is(status.Unknown, "relayd orders it as soon as it runs", "")
	}
	c, dns, its := f.relay.Certificate, f.requirement("records"), f.requirement("certificate")
	next := ""
	if !c.NextTry.IsZero() {
		next = "; next try at " + c.NextTry.UTC().Format("15:04:05 MST")
	}
	switch {
	case c.Valid(time.Now()):
		return is(status.Met, "valid until "+c.NotAfter.UTC().Format(time.DateOnly)+", by "+c.Issuer, "")
	case c.Loaded():
		return is(status.NotMet, "expired on "+c.NotAfter.UTC().Format(time.DateOnly)+next, its.Cure)
	case dns.Outcome == status.NotMet:
		return is(status.NotMet, "waiting for DNS: "+dns.Found+next, dns.Cure)
	case c.Error != "":
		return is(status.NotMet, c.Error+next, its.Cure)
	}
	return is(status.Unknown, "ordered; the CA checks that "+c.Domain+" leads here, by ports 443 and 80", "")
}

// notYet is why a program does not answer, without what is plain while it starts.
func notYet(program string, err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return program + " does not answer yet"
	}
	return err.Error()
}

func (f facts) monitors() status.Requirement {
	if f.monitor != nil {
		return step(stepMonitor, "The monitor writes evidence", status.Unknown, notYet("relaymon", f.monitor), "")
	}
	return step(stepMonitor, "The monitor writes evidence", status.Met, "relaymon writes evidence", "")
}

func (f facts) reservation() status.Requirement {
	q := f.requirement("service")
	switch found := q.Found; {
	case q.Outcome == status.Met:
		return step(stepReservation, "A reservation was given", status.Met, "one was given, to a peer or on trial", "")
	case q.Outcome == status.NotMet:
		return step(stepReservation, "A reservation was given", status.NotMet, found, q.Cure)
	}
	return step(stepReservation, "A reservation was given", status.Unknown, "relayd tries one itself, 20 seconds after its start", "")
}

// relayAt is how the relay is asked: its configuration, as relayd itself has it, and the
// file that this is of. A program is run for it only where the file has changed.
type relayAt struct{ file, config []byte }

// look gathers the facts.
func (m *Machine) look(ctx context.Context, s Settings, boot *Report, at *relayAt) facts {
	f := facts{network: network(m.interfaces()), boot: boot, role: s.Role}
	if boot == nil {
		f.monitor = errors.New("relaymon is not started yet")
		return f
	}
	if s.Role.Relays() {
		if r, err := m.askStatus(ctx, at); err != nil {
			f.silent = fmt.Errorf("ask relayd how it is: %w", err)
		} else {
			f.relay = &r
		}
	}
	if s.Role.Monitors() {
		f.monitor = m.health(ctx, s.monitorListen())
	}
	return f
}

// askStatus asks the relay that runs.
func (m *Machine) askStatus(ctx context.Context, at *relayAt) (status.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	const name = "/etc/relayd/relayd.yaml"
	file, err := m.readFile(name)
	if err != nil {
		return status.Status{}, err
	}
	if at.config == nil || !bytes.Equal(at.file, file) {
		r, err := m.run(ctx, Command{Args: []string{"relayd", "config", "--config", name}})
		if err == nil {
			err = r.failed("relayd config")
		}
		if err != nil {
			return status.Status{}, err
		}
		at.file, at.config = file, []byte(r.Stdout)
	}
	return upgrade.AskRelay(ctx, at.config)
}

// reached is when each step was first met, by its name, since the machine was switched on.
type reached map[string]float64

const progressPath = runDir + "/progress.json"

func (m *Machine) reached() (reached, error) {
	b, err := m.readFile(progressPath)
	if errors.Is(err, fs.ErrNotExist) {
		return reached{}, nil
	}
	r := reached{}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("read how the machine started: %w", err)
	}
	return r, nil
}

// note adds what is new at this moment, and says if anything is.
func (r reached) note(f facts, now float64) (news bool) {
	all := true
	add := func(name string, at float64) {
		if r[name] == 0 {
			r[name], news = at, true
		}
	}
	for _, q := range f.steps() {
		if q.Outcome != status.Met {
			all = all && q.Name == stepReservation
			continue
		}
		at := now
		if q.Name == stepSetUp {
			at = cmp.Or(f.boot.After, now)
		}
		add(q.Name, at)
	}
	if all {
		add(allReady, now)
	}
	return news
}

// noteProgress keeps what is new, and says how far the machine is.
func (m *Machine) noteProgress(f facts, now float64) (*Progress, error) {
	r, err := m.reached()
	if err != nil {
		return nil, err
	}
	if r.note(f, now) {
		text, err := json.Marshal(r)
		if err == nil {
			err = m.write(progressPath, append(text, '\n'), 0o644)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.progress(f), nil
}

// progress puts both together.
func (r reached) progress(f facts) *Progress {
	p := &Progress{Ready: r[allReady]}
	for _, q := range f.steps() {
		p.Steps = append(p.Steps, Step{q, r[q.Name]})
	}
	return p
}

// pending says whether there is a step that is not met.
func (p *Progress) pending() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Outcome != status.Met })
}

// text is one line of a machine that has come to its end, and all steps of another.
func (p *Progress) text(line func(string, ...any)) {
	if p.pending() {
		for i, s := range p.Steps {
			if s.Name == stepNetwork && s.Outcome == status.NotMet {
				continue // it stands above all
			}
			after := ""
			if s.Outcome == status.Met && s.After > 0 {
				after = fmt.Sprintf(" (after %s)", inWords(s.After))
			}
			line("  %-12s %-11s %s%s", []string{"Start", ""}[min(i, 1)], s.Name, s.Found, after)
			if s.Cure != "" && s.Outcome == status.NotMet {
				line("  %-12s             -> %s", "", s.Cure)
			}
		}
	}
	// Who sets a machine up that is on for long does not wait for its start.
	if p.Ready == 0 || p.Ready > 3600 {
		return
	}
	var parts []string
	for _, s := range p.Steps {
		if s.After > 0 {
			parts = append(parts, s.Name+" "+inWords(s.After))
		}
	}
	line("  %-12s %s after power-on (%s)", "Ready", inWords(p.Ready), strings.Join(parts, ", "))
}

// uptime is how long the kernel runs.
func (m *Machine) uptime() (float64, error) {
	b, err := m.readFile("/proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	s, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read /proc/uptime: %w", err)
	}
	return s, nil
}

// pace is how the start is followed.
type pace struct {
	every, until time.Duration
	// A machine that has no network at once is not complained of at once: the kernel
	// finds a card in the first of these times, and the network gives an address, once
	// somebody has switched the card on, in the second one.
	card, address time.Duration
	again         time.Duration // before first boot is run again that lacked the network
}

// startPace follows for a quarter of an hour at most. From then on a timer looks every
// ten minutes.
var startPace = pace{every: 3 * time.Second, until: 15 * time.Minute, card: 10 * time.Second, address: 20 * time.Second, again: time.Minute}

// Follow shows where one logs in how the machine is: while it starts, time and again, until
// nothing is waited for, then once all that can be found out. Each change of a step is
// told say. First boot that lacked the network is run again.
func (m *Machine) Follow(ctx context.Context, say func(string, ...any)) error {
	for {
		err := m.follow(ctx, startPace, say)
		before, _ := m.readFile(reportPath) // none: first boot is still to come
		if err == nil {
			var s Status
			if s, err = m.Status(ctx); err == nil {
				err = m.ShowPages(ctx, s)
			}
		}
		switch after, _ := m.readFile(reportPath); {
		case ctx.Err() != nil:
			return nil // the machine goes down
		case err != nil || bytes.Equal(before, after):
			return err
		}
		// Somebody has set the machine up meanwhile.
	}
}

// follower is what was seen of a start so far.
type follower struct {
	*Machine
	pace  pace
	say   func(string, ...any)
	began time.Time
	up    time.Time // when a card was seen switched on
	tried time.Time // when first boot was run again
	said  map[string]string
	shown string
	relay relayAt
}

func (m *Machine) follow(ctx context.Context, p pace, say func(string, ...any)) error {
	f := &follower{Machine: m, pace: p, say: say, began: time.Now(), said: map[string]string{}}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		more, err := f.once(ctx)
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// once looks, shows what is new, and says if there is more to come.
func (f *follower) once(ctx context.Context) (more bool, err error) {
	s, err := f.glance(ctx, &f.relay)
	if err != nil {
		return false, err
	}
	up, err := f.uptime()
	if err != nil {
		return false, err
	}
	young := up < f.pace.until.Seconds()
	if b := s.Boot; b != nil && !b.Again && up-b.After < f.pace.until.Seconds() {
		young = true
	}
	f.wait(s.Progress, young)
	more = young && s.waits() && time.Since(f.began) < f.pace.until
	for _, q := range s.Progress.Steps {
		// What is as it should be is no news in a machine that is on for long.
		if text := string(q.Outcome) + q.Found; f.said[q.Name] != text && (young || q.Outcome != status.Met) {
			f.said[q.Name] = text
			if q.Outcome == status.NotMet && q.Cure != "" {
				q.Found += " -> " + q.Cure
			}
			f.tell(up, q.Name+": "+q.Found)
		}
	}
	if p := s.Progress; young && p.Ready > 0 && f.said[allReady] == "" {
		f.said[allReady] = "said"
		f.tell(p.Ready, allReady)
	}
	// Where there is nothing to follow, the page with all that can be found out stays until
	// the next such page.
	if text := s.Text(); text != f.shown && (more || f.shown != "") {
		f.shown = text
		if err := f.ShowPages(ctx, s); err != nil {
			return false, err
		}
	}
	return more, f.setUpAgain(ctx, s, up)
}

// wait has patience with a network that is not there yet, in a machine that starts.
func (f *follower) wait(p *Progress, young bool) {
	q := &p.Steps[0]
	if q.Outcome != status.NotMet || !young {
		return
	}
	all, err := f.interfaces()
	if err != nil {
		return
	}
	until, text := f.began.Add(f.pace.card), "waits for a network card"
	for _, i := range all {
		if i.Loopback {
			continue
		}
		if i.Up && f.up.IsZero() {
			f.up = time.Now()
		}
		until, text = f.began.Add(2*f.pace.address), "waits for an address"
		if !f.up.IsZero() {
			until = f.up.Add(f.pace.address)
		}
	}
	if time.Now().Before(until) {
		q.Outcome, q.Found, q.Cure = status.Unknown, text, ""
	}
}

// setUpAgain runs first boot anew where it lacked the network and that has come.
func (f *follower) setUpAgain(ctx context.Context, s Status, up float64) error {
	b, pause := s.Boot, f.pace.again
	if b == nil || !b.Again || s.Progress.Steps[0].Outcome != status.Met || up-b.After < pause.Seconds() || time.Since(f.tried) < pause {
		return nil
	}
	f.tried = time.Now()
	f.say("%s", "first boot is run again")
	return f.do(ctx, "systemctl", "start", "--no-block", "relay-appliance-first-boot.service")
}

// waits says whether something may still come about by itself, or by what somebody does
// elsewhere. Who mends the settings runs first boot, which begins to follow anew.
func (s Status) waits() bool {
	steps := s.Progress.Steps
	if steps[1].Outcome == status.NotMet {
		steps = steps[:1]
	}
	return slices.ContainsFunc(steps, func(s Step) bool { return s.Outcome != status.Met })
}
