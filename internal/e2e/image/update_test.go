package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// next and worse are the versions of the releases that follow the image's.
const next, worse, worst = "9000.1.0", "9000.2.0", "9000.3.0"

// watchEvery is half as often as the status page answers one address.
const watchEvery = 200 * time.Millisecond

// updateState is what "relay-appliance updates status --json" says.
type updateState struct {
	Installed map[string]string
	Good      map[string]struct{ Version, File string }
	Held      []struct{ Package, Version string }
	Last      *struct {
		Result, Why, After string
		To                 map[string]string
	}
	Judging *struct{ Starts int }
}

func (a *appliance) updateState(ctx context.Context) (s updateState, err error) {
	out, err := a.Run(ctx, "relay-appliance updates status --json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// installedDebs are the files of the packages that the image was made of.
func (a *appliance) installedDebs(ctx context.Context, t *testing.T) (version string, debs []string) {
	t.Helper()
	version, err := a.Run(ctx, "dpkg-query --show --showformat='${Version}' relayd")
	if err != nil {
		t.Fatal(err)
	}
	debs, err = filepath.Glob(filepath.Join(top(t), "dist", "*_"+version+"_*.deb"))
	if err != nil || len(debs) < 4 {
		t.Fatalf("dist/ does not hold the image's packages, version %s: %q, %v", version, debs, err)
	}
	return version, debs
}

// subscribe makes the guest take its updates from the repository, at any time of day.
func (a *appliance) subscribe(ctx context.Context, t *testing.T, r *repository) {
	t.Helper()
	settings := labSettings("both") + fmt.Sprintf(`updates:
  window: "00:00-24:00"
  repository: %s/%s
  key: %s
  healthy_for: 20s
  healthy_within: 2m
`, filesURL, repositoryDir, keyringFile)
	err := errors.Join(a.writeFile(ctx, t, keyringFile, string(r.keyring)), a.writeFile(ctx, t, "/etc/relay-appliance/appliance.yaml", settings))
	if err != nil {
		t.Fatal(err)
	}
	// The distribution's mirrors are out of reach, and would only be waited for.
	out, err := a.Run(ctx, "chmod 644 "+keyringFile+` && relay-appliance first-boot &&
mkdir -p /root/sources && find /etc/apt/sources.list.d /etc/apt/sources.list -type f ! -name relay-appliance.sources -exec mv {} /root/sources/ ';'
systemctl start relay-appliance-gate`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// update does what the timers do each night: the lists, then unattended-upgrades.
func (a *appliance) update(ctx context.Context) error {
	_, err := a.Run(ctx, "systemctl start apt-daily.service && systemctl start apt-daily-upgrade.service")
	return err
}

// judged waits until the gate has judged the version.
func (a *appliance) judged(ctx context.Context, t *testing.T, version string) updateState {
	t.Helper()
	s, err := eventually(ctx, t, func() (updateState, error) {
		s, err := a.updateState(ctx)
		if err == nil && (s.Last == nil || s.Last.To["relayd"] != version || s.Judging != nil) {
			err = fmt.Errorf("%s is not judged yet", version)
		}
		return s, err
	})
	if err != nil {
		log, _ := a.Run(ctx, "journalctl --no-pager --output=short-monotonic --lines=60 --unit=relay-appliance-gate --unit=apt-daily --unit=apt-daily-upgrade; tail -n 30 /var/log/unattended-upgrades/*.log")
		t.Fatalf("%v\n%s", err, log)
	}
	return s
}

// evidence is what of the monitor's log must never change.
func (a *appliance) evidence(ctx context.Context, t *testing.T) (key, first string) {
	t.Helper()
	out, err := a.Run(ctx, "runuser -u relaymon -- relaymon log check --json --config /etc/relaymon/relaymon.yaml")
	if err != nil {
		t.Fatalf("the evidence log: %v", err)
	}
	var r struct{ Key, First string }
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Key == "" {
		t.Fatalf("the evidence log: %v in %s", err, out)
	}
	return r.Key, r.First
}

// stops are the jobs by which relayd was stopped since a cursor of the journal: "restart" if
// it was started again in the same breath, "stop" if it waited for something else.
func (a *appliance) stops(ctx context.Context, t *testing.T, cursor string) []string {
	t.Helper()
	// The message is systemd's UNIT_STOPPED.
	out, err := a.Run(ctx, "journalctl --no-pager --quiet --output=cat --output-fields=JOB_TYPE --after-cursor='"+cursor+"' _PID=1 UNIT=relayd.service MESSAGE_ID=9d1aaa27d60140bd96365438aad20286")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}

// cursor is the end of the journal.
func (a *appliance) cursor(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := a.Run(ctx, "journalctl --no-pager --lines=0 --show-cursor --quiet | sed -n 's/^-- cursor: //p'")
	if out = strings.TrimSpace(out); err != nil || out == "" {
		t.Fatalf("the journal's cursor: %v in %q", err, out)
	}
	return out
}

// watch asks the relay again and again whether it serves, until it is told to stop,
// and then says for how long at most it did not.
func (a *appliance) watch(ctx context.Context, t *testing.T) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	longest := make(chan time.Duration, 1)
	c := a.client(t)
	c.Timeout = time.Second
	go func() {
		var gap time.Duration
		last := time.Now()
		for ctx.Err() == nil {
			if status, _, _, err := get(ctx, c, "https://"+domain+"/healthz"); err == nil && status == http.StatusOK {
				gap = max(gap, time.Since(last))
				last = time.Now()
			}
			select {
			case <-ctx.Done():
			case <-time.After(watchEvery):
			}
		}
		longest <- max(gap, time.Since(last))
	}()
	return func() time.Duration { cancel(); return <-longest }
}

// updates has a machine update itself, first to a good release, then to a bad one.
func (a *appliance) updates(ctx context.Context, t *testing.T) {
	first, debs := a.installedDebs(ctx, t)
	r := newRepository(ctx, t, a, debs...)
	good := release(t, next)
	a.subscribe(ctx, t, r)
	key, since := a.evidence(ctx, t)
	same := func(t *testing.T) {
		t.Helper()
		if id := a.learnPeerID(ctx, t); id != a.peerID {
			t.Errorf("the peer ID became %s, was %s", id, a.peerID)
		}
		if k, s := a.evidence(ctx, t); k != key || s != since {
			t.Errorf("the evidence log is that of %s since %s, was %s since %s", k, s, key, since)
		}
	}
	updated := t.Run("update", func(t *testing.T) {
		r.add(ctx, t, good...)
		stop := a.watch(ctx, t)
		if _, err := a.Run(ctx, "systemctl restart relayd"); err != nil {
			t.Fatal(err)
		}
		restart, before := stop(), a.cursor(ctx, t)
		stop = a.watch(ctx, t)
		if err := a.update(ctx); err != nil {
			t.Fatal(err)
		}
		s := a.judged(ctx, t, next)
		down := stop()
		a.note(t, "updated from %s by unattended-upgrades: not served for %s at most, a restart for %s", first, down.Round(10*time.Millisecond), restart.Round(10*time.Millisecond))
		if s.Last.Result != "proven" || s.Installed["relayd"] != next || s.Good["relaymon"].Version != next {
			t.Errorf("it did not prove itself: %+v", s)
		}
		// While packages are unpacked and set up the relay serves: it is restarted in the end.
		if stops := a.stops(ctx, t, before); len(stops) == 0 || slices.Contains(stops, "stop") {
			t.Errorf("relayd was stopped by %q, want restarts alone", stops)
		}
		if _, body, _, err := get(ctx, a.client(t), "https://"+domain+"/status.json"); err != nil || !strings.Contains(body, `"version": "v`+next+`"`) {
			t.Errorf("the relay does not say that it is %s: %v\n%s", next, err, body)
		}
		same(t)
		a.probeUntilOK(ctx, t)
	})
	t.Run("bad update", func(t *testing.T) {
		// Minutes of waiting. What the gate decides is tested where it is, in internal/upgrade.
		full(t)
		if !updated {
			t.Fatal("there was no good update before")
		}
		a.takesBack(ctx, t, r, badRelease(t, good, worse, "deaf"), worse, "the rung identify of relaymon's probe|the rung tcp4 of relaymon's probe")
		same(t)
	})
}

// takesBack publishes a bad release and wants the machine to be as before.
func (a *appliance) takesBack(ctx context.Context, t *testing.T, r *repository, bad []string, version, why string) {
	t.Helper()
	r.add(ctx, t, bad...)
	if err := a.update(ctx); err != nil {
		t.Fatal(err)
	}
	s := a.judged(ctx, t, version)
	if s.Last.Result != "put back" || s.Last.After != "" || s.Installed["relayd"] != next || s.Installed["relaymon"] != next {
		t.Errorf("it was not put back: %+v, %+v", s, s.Last)
	}
	named := false
	for _, w := range strings.Split(why, "|") {
		named = named || strings.Contains(s.Last.Why, w)
	}
	if !named {
		t.Errorf("the reason is %q, want %q", s.Last.Why, why)
	}
	a.note(t, "%s taken back: %s", version, s.Last.Why)
	a.probeUntilOK(ctx, t)
	// Whoever looks at the console or at the relay's page is told.
	out, err := a.Run(ctx, "relay-appliance status")
	if err != nil || !strings.Contains(out, "UPDATE TAKEN BACK") {
		t.Errorf("the console does not say it: %v\n%s", err, out)
	}
	if _, body, _, err := get(ctx, a.client(t), "https://"+domain+"/"); err != nil || !strings.Contains(body, "The update to relayd "+version+" was taken back") {
		t.Errorf("the status page does not say it: %v\n%s", err, body)
	}
	// The next night it does not come again.
	if err := a.update(ctx); err != nil {
		t.Fatal(err)
	}
	if s, err := a.updateState(ctx); err != nil || s.Installed["relayd"] != next || len(s.Held) == 0 {
		t.Errorf("after the next night: %+v, %v", s, err)
	}
}

// works wants the machine to relay with its own identity, whatever was done to it,
// and dpkg to have nothing left to do.
func (a *appliance) works(ctx context.Context, t *testing.T) updateState {
	t.Helper()
	a.probeUntilOK(ctx, t)
	if id := a.learnPeerID(ctx, t); id != a.peerID {
		t.Errorf("the peer ID became %s, was %s", id, a.peerID)
	}
	a.evidence(ctx, t)
	s, err := eventually(ctx, t, func() (updateState, error) {
		s, err := a.updateState(ctx)
		if err == nil && s.Judging != nil {
			err = errors.New("it is being judged")
		}
		if err == nil {
			_, err = a.Run(ctx, `test -z "$(dpkg --audit)"`)
		}
		return s, err
	})
	if err != nil {
		t.Errorf("dpkg has something left to do: %v", err)
	}
	return s
}

// What can go wrong with an update besides the version itself.
func TestUpdatesThatFail(t *testing.T) {
	full(t)
	image := build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*bootTime)
	defer cancel()
	a := boot(ctx, t, bothLab(image), both...)
	first, debs := a.installedDebs(ctx, t)
	r := newRepository(ctx, t, a, debs...)
	good := release(t, next)
	a.subscribe(ctx, t, r)
	if err := a.update(ctx); err != nil { // there is nothing new yet
		t.Fatal(err)
	}
	stays := func(t *testing.T, version string) {
		t.Helper()
		if s := a.works(ctx, t); s.Installed["relayd"] != version || s.Installed["relaymon"] != version {
			t.Errorf("installed is %v, want %s", s.Installed, version)
		}
	}
	// What fails is up to apt; what counts is what it leaves.
	try := func(t *testing.T) {
		t.Helper()
		if err := a.update(ctx); err != nil {
			if exit := (*qemu.ExitError)(nil); !errors.As(err, &exit) {
				t.Fatal(err)
			}
			t.Log(err)
		}
	}
	for _, c := range a.badRepositories(ctx, r, good) {
		t.Run(c.name, func(t *testing.T) {
			c.spoil(t)
			try(t)
			stays(t, first)
			c.mend(t)
		})
	}
	t.Run("full disk", func(t *testing.T) {
		r.add(ctx, t, good...)
		a.fillDisk(ctx, t)
		try(t)
		stays(t, first)
		if _, err := a.Run(ctx, "rm /var/full; systemctl start relay-appliance-gate"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("power cut", func(t *testing.T) {
		a.cutPowerWhile(ctx, t, "systemctl start apt-daily.service; systemctl start --no-block apt-daily-upgrade.service")
		s := a.works(ctx, t)
		if v := s.Installed["relayd"]; v != first && v != next || s.Installed["relaymon"] != v {
			t.Errorf("installed is %v, want all %s or all %s", s.Installed, first, next)
		}
		a.note(t, "after a power cut in the middle of dpkg: %s", s.Installed["relayd"])
	})
	t.Run("at last", func(t *testing.T) {
		if err := a.update(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := eventually(ctx, t, func() (updateState, error) {
			s, err := a.updateState(ctx)
			if err == nil && s.Good["relayd"].Version != next {
				err = fmt.Errorf("%s is not proven yet", next)
			}
			return s, err
		}); err != nil {
			t.Fatal(err)
		}
		stays(t, next)
	})
	t.Run("crashes", func(t *testing.T) {
		a.takesBack(ctx, t, r, badRelease(t, good, worst, "crash"), worst, "relayd runs: it is")
	})
}
