package bundle

import (
	"bytes"
	"crypto/rand"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// smallMonth is two monitors and two hours, so that every byte can be tried.
func smallMonth(t testing.TB) (*scene, Input) {
	w := twoHours(t)
	w.watch(nil)
	return w, w.input()
}

// twoHours is a scene of two monitors whose logs begin two hours before the month's end.
func twoHours(t testing.TB) *scene {
	w := newScene(t, evidence.PSF, 0)
	w.first += 4
	w.hours = 2
	w.join(0)
	w.join(1)
	return w
}

// each calls f for all i below n, on all processors.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for k := range workers {
		wg.Go(func() {
			for i := k; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}

// TestEveryByteOfTheArchive changes each byte of the file in turn, as a bad disk would.
func TestEveryByteOfTheArchive(t *testing.T) {
	w, in := smallMonth(t)
	b := w.bundle(in)
	if _, err := verify(b, w.options(in)); err != nil {
		t.Fatal(err)
	}
	each(len(b), func(i int) {
		if testing.Short() && i%11 != 0 {
			return
		}
		bad := flipped{bytes.NewReader(b), int64(i), 1 << (i % 8)}
		if _, err := unpack(bad, int64(len(b))); err == nil {
			t.Errorf("byte %d of %d changed: accepted", i, len(b))
		}
	})
	// That unpack refuses is what Verify says.
	for i := 0; i < len(b); i += len(b) / 50 {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := verify(bad, w.options(in)); err == nil {
			t.Errorf("byte %d of %d changed: verified", i, len(b))
		}
	}
}

// flipped is a file of which one byte was changed.
type flipped struct {
	r    *bytes.Reader
	at   int64
	flip byte
}

func (f flipped) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p, off)
	if i := f.at - off; i >= 0 && i < int64(n) {
		p[i] ^= f.flip
	}
	return n, err
}

func TestEveryTruncation(t *testing.T) {
	w, in := smallMonth(t)
	b := w.bundle(in)
	each(len(b), func(i int) {
		if testing.Short() && i%11 != 0 {
			return
		}
		if _, err := unpack(bytes.NewReader(b[:i]), int64(i)); err == nil {
			t.Errorf("cut to %d of %d bytes: accepted", i, len(b))
		}
	})
	if _, err := unpack(bytes.NewReader(append(bytes.Clone(b), 0)), int64(len(b)+1)); err == nil {
		t.Error("a byte behind the end: accepted")
	}
	if _, err := unpack(bytes.NewReader(append([]byte{0}, b...)), int64(len(b)+1)); err == nil {
		t.Error("a byte before the start: accepted")
	}
}

// opened is a bundle's files, and what it takes to look at them again.
func opened(t testing.TB) (w *scene, in Input, files map[string][]byte, roster *bounty.Roster) {
	w, in = smallMonth(t)
	b := w.bundle(in)
	files, err := unpack(bytes.NewReader(b), int64(len(b)))
	w.must(err)
	roster, _, err = bounty.OpenRoster("roster", in.Roster, "")
	w.must(err)
	return w, in, files, roster
}

// TestEveryByteOfEveryFile changes the files within a well-packed archive.
func TestEveryByteOfEveryFile(t *testing.T) {
	_, _, files, roster := opened(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		step := 7 // one hash is over all of its bytes
		if name == dsseFile || len(files[name]) < 1000 {
			step = 1
		}
		each(len(files[name])/step, func(k int) {
			i := k * step
			if testing.Short() && k%11 != 0 {
				return
			}
			bad := maps.Clone(files)
			bad[name] = bytes.Clone(files[name])
			bad[name][i] ^= 1 << (i % 8)
			if _, err := verifyStatement(bad, roster); err == nil {
				t.Errorf("%s: byte %d changed: accepted", name, i)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	w, in, files, _ := opened(t)
	refuse := func(name string, bad map[string][]byte, want string) {
		t.Helper()
		var b bytes.Buffer
		w.must(pack(&b, bad))
		_, err := verify(b.Bytes(), w.options(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		bad := maps.Clone(files)
		delete(bad, name)
		refuse("without "+name, bad, "is missing")

		bad = maps.Clone(files)
		bad[name] = files[name][:len(files[name])-1]
		refuse(name+" cut", bad, "")

		bad = maps.Clone(files)
		bad[name+".bak"] = files[name]
		refuse(name+" copied", bad, "was added")

		for _, other := range names {
			if other != name && !bytes.Equal(files[other], files[name]) {
				bad = maps.Clone(files)
				bad[name], bad[other] = files[other], files[name]
				refuse(name+" and "+other+" swapped", bad, "")
			}
		}
	}
}

// resigned signs the changed files anew, as a dishonest maker of a bundle could.
func resigned(t testing.TB, w *scene, files map[string][]byte, signer *watcher) map[string][]byte {
	t.Helper()
	s, err := statementOver(files, &bounty.Verdict{Month: w.first.Month()})
	w.must(err)
	out := maps.Clone(files)
	out[dsseFile], err = signer.log.SignStatement(s)
	w.must(err)
	return out
}

// TestDishonestMaker changes files and signs them anew with a monitor's key: what
// the other monitor's log, the committee or the rules say must hold all the same.
func TestDishonestMaker(t *testing.T) {
	w, in, files, roster := opened(t)
	maker, victim := w.monitors[0], w.monitors[1]
	theirs := logDir(victim.log.Key())
	o := w.options(in)

	if _, err := verifyFiles(resigned(t, w, files, maker), o); err != nil {
		t.Fatalf("nothing changed: %v", err)
	}
	t.Run("bytes of another monitor's log", func(t *testing.T) {
		for name, data := range files {
			if !strings.HasPrefix(name, theirs) {
				continue
			}
			each(60, func(k int) {
				i := k * len(data) / 60
				bad := maps.Clone(files)
				bad[name] = bytes.Clone(data)
				bad[name][i] ^= 1 << (k % 8)
				if _, err := verifyLogs(bad, roster, in.Month, nil); err == nil {
					t.Errorf("%s: byte %d changed: accepted", name, i)
				}
			})
		}
	})
	for _, tc := range []struct {
		name   string
		change func(map[string][]byte)
		want   string
	}{
		{"other rules", func(f map[string][]byte) { f[rulesFile] = append(bytes.Clone(f[rulesFile]), '\n') }, "another rules file than yours"},
		{"another roster", func(f map[string][]byte) { f[rosterFile] = append(bytes.Clone(f[rosterFile]), '\n') }, "another roster file than yours"},
		{"a better verdict", func(f map[string][]byte) {
			f[jsonFile] = bytes.Replace(f[jsonFile], []byte(`"result":"NOT_ELIGIBLE"`), []byte(`"result":"ELIGIBLE"`), 1)
		}, "is not what the evidence shows"},
		{"a verdict with white space", func(f map[string][]byte) { f[jsonFile] = append(bytes.Clone(f[jsonFile]), '\n') }, "canonical"},
		{"no verdict", func(f map[string][]byte) { f[jsonFile] = []byte("{}") }, "report.json: decode"},
		{"another log left out", func(f map[string][]byte) {
			for name := range f {
				if strings.HasPrefix(name, theirs) {
					delete(f, name)
				}
			}
		}, "is not what the evidence shows"},
		{"a file of the log left out", func(f map[string][]byte) { delete(f, theirs+"records.jsonl") }, "missing"},
		{"a file added to the log", func(f map[string][]byte) { f[theirs+"more"] = nil }, "not known"},
		{"a log in another folder", func(f map[string][]byte) {
			for name, data := range f {
				if rest, ok := strings.CutPrefix(name, theirs); ok {
					f[logsDir+"0000000000000000/"+rest] = data
					delete(f, name)
				}
			}
		}, "stands in another folder"},
		{"a log twice", func(f map[string][]byte) {
			for name, data := range f {
				if rest, ok := strings.CutPrefix(name, theirs); ok {
					f[logsDir+"0000000000000000/"+rest] = data
				}
			}
		}, "stands in another folder"},
		{"a file beside the logs", func(f map[string][]byte) { f[logsDir+"stray"] = nil }, "in the log's folder"},
		{"a release list of its own", func(f map[string][]byte) { f[releasesFile] = []byte(releaseList) }, "is not the release list"},
		{"a broken release list", func(f map[string][]byte) { f[releasesFile] = []byte("products: 1") }, "is not the release list"},
		{"a fork that is none", func(f map[string][]byte) { f[forksDir+"1.txt"] = []byte("hello\n") }, "contradicts no log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := maps.Clone(files)
			tc.change(bad)
			_, err := verifyFiles(resigned(t, w, bad, maker), o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("other drawings", func(t *testing.T) {
		bad := maps.Clone(files)
		bad[htmlFile] = []byte("<h1>ELIGIBLE</h1>")
		res, err := verifyFiles(resigned(t, w, bad, maker), o)
		if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], htmlFile) {
			t.Errorf("warnings %q, %v", res.Warnings, err)
		}
	})
	t.Run("a statement about something else", func(t *testing.T) {
		bad := maps.Clone(files)
		s, err := statementOver(files, &bounty.Verdict{Month: w.first.Month()})
		w.must(err)
		bad[dsseFile], err = maker.log.SignStatement(bytes.Replace(s, []byte("relay-month"), []byte("cake-recipe"), 1))
		w.must(err)
		if _, err := verifyFiles(bad, o); err == nil || !strings.Contains(err.Error(), "none about a relay's month") {
			t.Errorf("got %v", err)
		}
	})
}

// TestOtherKeys signs each thing with a key that is not the right one.
func TestOtherKeys(t *testing.T) {
	w, in, files, _ := opened(t)
	stranger := newScene(t, evidence.PSF, 1)
	o := w.options(in)

	t.Run("the statement", func(t *testing.T) {
		_, err := verifyFiles(resigned(t, w, files, stranger.monitors[0]), o)
		if err == nil || !strings.Contains(err.Error(), "signed by no monitor of the roster") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the rules and the roster", func(t *testing.T) {
		bad := o
		bad.Committee = stranger.committeeKey
		_, err := verify(w.bundle(in), bad)
		var input *InputError
		if err == nil || !strings.Contains(err.Error(), "no signature by the committee's key") || !asInput(err, &input) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the logs", func(t *testing.T) {
		// A roster of other log keys, signed by the right committee.
		theirs := in
		w2 := *w
		w2.monitors = []*watcher{stranger.monitors[0], w.monitors[1]}
		theirs.Roster = w2.signed(w2.rosterYAML())
		var b bytes.Buffer
		err := Write(&b, theirs)
		// Whichever log is looked at first: one's key is missing, the other's witness is.
		if err == nil || !strings.Contains(err.Error(), "no monitor of the roster has the key") && !strings.Contains(err.Error(), "by a key that is not known") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the cosignatures", func(t *testing.T) {
		// The same roster, but m1's witness has another key than it signed with.
		theirs, w2 := in, *w
		m1 := *w.monitors[0]
		_, m1.cosignKey = newWitness(t, m1.name+"-witness")
		w2.monitors = []*watcher{&m1, w.monitors[1]}
		theirs.Roster = w2.signed(w2.rosterYAML())
		err := Write(&bytes.Buffer{}, theirs)
		if err == nil || !strings.Contains(err.Error(), "log of monitor") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the vouchers", func(t *testing.T) {
		// Signed by another relay: the log is sound, but nothing makes the hours up.
		w := twoHours(t)
		forger := newScene(t, evidence.PSF, 0)
		w.watch(func(m *watcher, h evidence.Hour) []evidence.Attempt {
			a := w.attempt(m, h, time.Minute)
			theirs := *forger
			theirs.monitors, theirs.relayID = w.monitors, w.relayID
			a.Facts.Reservation = theirs.attempt(m, h, time.Minute).Facts.Reservation
			return []evidence.Attempt{a}
		})
		in := w.input()
		res, err := verify(w.bundle(in), w.options(in))
		if err != nil || res.Verdict.Hours.Up != 0 || res.Verdict.Hours.Unknown != 2 {
			t.Fatalf("got %+v, %v", res.Verdict, err)
		}
		if got := res.Verdict.Hourly[len(res.Verdict.Hourly)-1].Votes["m1.example.org"]; got != "unknown: bad voucher" {
			t.Errorf("got %q", got)
		}
	})
}

func TestOptions(t *testing.T) {
	w, in := smallMonth(t)
	b := w.bundle(in)
	good := w.options(in)
	_, key, err := note.GenerateKey(rand.Reader, "somebody")
	w.must(err)
	for name, tc := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"nobody vouches":     {func(o *Options) { o.Committee = "" }, "whose rules and roster"},
		"another committee":  {func(o *Options) { o.Committee = key }, "no signature"},
		"no rules":           {func(o *Options) { o.Rules = []byte("a: b") }, "unknown key"},
		"unreadable rules":   {func(o *Options) { o.Rules = []byte("a: b"); o.Committee = ""; o.Unsigned = true }, "unknown key"},
		"a roster of a lab":  {func(o *Options) { o.Rules = w.signed(rulesOver(t, "network: lab")) }, "never mixed"},
		"unreadable roster":  {func(o *Options) { o.Roster = w.signed("relays: 1\n") }, "want a list"},
		"key that is no key": {func(o *Options) { o.Committee = "x" }, "committee's key"},
		"roster without keys": {func(o *Options) {
			o.Roster = w.signed("network: psf\nserial: 1\nmonitors: [{name: a, from: 2026-11-01T00:00:00Z}]\n")
		}, "log_key"},
	} {
		o := good
		tc.change(&o)
		_, err := verify(b, o)
		var input *InputError
		if err == nil || !strings.Contains(err.Error(), tc.want) || !asInput(err, &input) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	o := good
	o.Committee, o.Unsigned = "", true
	res, err := verify(b, o)
	if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "unsigned") {
		t.Errorf("unsigned: %q, %v", res.Warnings, err)
	}
}

func asInput(err error, into **InputError) bool {
	e, ok := err.(*InputError)
	*into = e
	return ok
}

func FuzzVerify(f *testing.F) {
	w, in := smallMonth(f)
	b := w.bundle(in)
	o := w.options(in)
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte{})
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := verify(data, o); err == nil && !bytes.Equal(data, b) {
			t.Error("another archive verified")
		}
	})
}
