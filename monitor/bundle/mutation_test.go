package bundle

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// smallMonth is two monitors and two hours, so that every byte can be tried.
func smallMonth(t testing.TB) (*scene.Scene, Input) {
	w := twoHours(t)
	w.Watch(nil)
	return w, inputOf(w)
}

// twoHours is a scene of two monitors whose logs begin two hours before the month's end.
func twoHours(t testing.TB) *scene.Scene {
	w := scene.New(t, evidence.PSF, 0)
	w.First += 4
	w.Hours = 2
	w.Join(0)
	w.Join(1)
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
	b := bundleOf(w, in)
	if _, err := verify(b, optionsOf(w, in)); err != nil {
		t.Fatal(err)
	}
	each(len(b), func(i int) {
		if testing.Short() && i%11 != 0 {
			return
		}
		bad := flipped{bytes.NewReader(b), int64(i), 1 << (i % 8)}
		if _, err := open(bad, int64(len(b))); err == nil {
			t.Errorf("byte %d of %d changed: accepted", i, len(b))
		}
	})
	// That open refuses is what Verify says.
	for i := 0; i < len(b); i += len(b) / 50 {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := verify(bad, optionsOf(w, in)); err == nil {
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
	b := bundleOf(w, in)
	each(len(b), func(i int) {
		if testing.Short() && i%11 != 0 {
			return
		}
		if _, err := open(bytes.NewReader(b[:i]), int64(i)); err == nil {
			t.Errorf("cut to %d of %d bytes: accepted", i, len(b))
		}
	})
	if _, err := open(bytes.NewReader(append(bytes.Clone(b), 0)), int64(len(b)+1)); err == nil {
		t.Error("a byte behind the end: accepted")
	}
	if _, err := open(bytes.NewReader(append([]byte{0}, b...)), int64(len(b)+1)); err == nil {
		t.Error("a byte before the start: accepted")
	}
}

// opened is a bundle's files, and what it takes to look at them again.
func opened(t testing.TB) (w *scene.Scene, in Input, files map[string][]byte, roster *bounty.Roster) {
	w, in = smallMonth(t)
	b := bundleOf(w, in)
	f, err := open(bytes.NewReader(b), int64(len(b)))
	w.Must(err)
	files = map[string][]byte{}
	for _, x := range f {
		files[x.name], err = x.read()
		w.Must(err)
	}
	roster, _, err = bounty.OpenRoster("roster", in.Roster, "")
	w.Must(err)
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
			if _, _, err := verifyStatement(folderOf(bad), roster); err == nil {
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
		w.Must(pack(&b, bad))
		_, err := verify(b.Bytes(), optionsOf(w, in))
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
func resigned(t testing.TB, files map[string][]byte, signer *scene.Watcher) map[string][]byte {
	return restated(t, files, signer, func(*predicate) {})
}

// restated says something else about them.
func restated(t testing.TB, files map[string][]byte, signer *scene.Watcher, change func(*predicate)) map[string][]byte {
	t.Helper()
	p := predicateIn(t, files)
	change(&p)
	s, err := statementOver(folderOf(files), p)
	if err != nil {
		t.Fatal(err)
	}
	out := maps.Clone(files)
	if out[dsseFile], err = signer.Log.SignStatement(s); err != nil {
		t.Fatal(err)
	}
	return out
}

// predicateIn is what the statement among the files says.
func predicateIn(t testing.TB, files map[string][]byte) predicate {
	t.Helper()
	var e struct{ Payload []byte }
	var s inTotoStatement
	if err := errors.Join(json.Unmarshal(files[dsseFile], &e), json.Unmarshal(e.Payload, &s)); err != nil {
		t.Fatal(err)
	}
	var p predicate
	if err := evidence.Decode(s.Predicate, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDishonestMaker changes files and signs them anew with a monitor's key: what
// the other monitor's log, the committee or the rules say must hold all the same.
func TestDishonestMaker(t *testing.T) {
	w, in, files, roster := opened(t)
	maker, victim := w.Monitors[0], w.Monitors[1]
	theirs := logDir(victim.Log.Key())
	o := optionsOf(w, in)

	if _, err := verifyFiles(folderOf(resigned(t, files, maker)), o); err != nil {
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
				logs, err := verifiedLogs(folderOf(bad), roster, in.Month, nil)
				w.Must(err)
				refused, sealed := false, 0
				for _, log := range logs {
					_, err := log.Read(func(h evidence.VerifiedHour) error {
						sealed += len(h.Cosigned)
						return nil
					})
					refused = refused || err != nil
				}
				// Nobody signs an export: its date is a word, and a cosignature of which no
				// header tells yet may be left out. It seals the last hour only.
				harmless := strings.HasSuffix(name, "/month.json") || strings.HasSuffix(name, "/tip") || strings.HasSuffix(name, "/checkpoints")
				if !refused && (!harmless || sealed < 3) {
					t.Errorf("%s: byte %d changed: accepted, with %d of 4 cosignatures", name, i, sealed)
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
		{"a verdict with white space", func(f map[string][]byte) { f[jsonFile] = append(bytes.Clone(f[jsonFile]), '\n') }, "is not what the evidence shows"},
		{"no verdict", func(f map[string][]byte) { f[jsonFile] = []byte("{}") }, "report.json is not what the evidence shows"},
		{"another log left out", func(f map[string][]byte) {
			for name := range f {
				if strings.HasPrefix(name, theirs) {
					delete(f, name)
				}
			}
		}, "is not what the evidence shows"},
		{"a file of the log left out", func(f map[string][]byte) { delete(f, theirs+"records.jsonl") }, "missing"},
		{"a file added to the log", func(f map[string][]byte) { f[theirs+"more"] = nil }, "no bundle has a file of that name"},
		{"a log in another folder", func(f map[string][]byte) {
			for name, data := range f {
				if rest, ok := strings.CutPrefix(name, theirs); ok {
					f[logsDir+"0000000000000000/"+rest] = data
					delete(f, name)
				}
			}
		}, "no monitor of the roster has a log of that name"},
		{"a log twice", func(f map[string][]byte) {
			for name, data := range f {
				if rest, ok := strings.CutPrefix(name, theirs); ok {
					f[logsDir+"0000000000000000/"+rest] = data
				}
			}
		}, "no monitor of the roster has a log of that name"},
		{"a file beside the logs", func(f map[string][]byte) { f[logsDir+"stray"] = nil }, "no bundle has a file of that name"},
		{"root certificates", func(f map[string][]byte) { f["inputs/roots.pem"] = nil }, "no bundle has a file of that name"},
		{"more inputs", func(f map[string][]byte) { f["inputs/more.yaml"] = nil }, "no bundle has a file of that name"},
		{"a fork without a number", func(f map[string][]byte) { f[forksDir+"0.txt"] = nil }, "no bundle has a file of that name"},
		{"a second report", func(f map[string][]byte) { f["report.txt"] = f[mdFile] }, "no bundle has a file of that name"},
		{"a release list of its own", func(f map[string][]byte) { f[releasesFile] = []byte(releaseList) }, "is not the release list"},
		{"a broken release list", func(f map[string][]byte) { f[releasesFile] = []byte("products: 1") }, "is not the release list"},
		{"a fork that is none", func(f map[string][]byte) { f[forksDir+"1.txt"] = []byte("hello\n") }, "contradicts no log"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := maps.Clone(files)
			tc.change(bad)
			_, err := verifyFiles(folderOf(resigned(t, bad, maker)), o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	// What follows from the verdict is made anew, and each byte counts.
	for _, name := range []string{verifyFile, htmlFile, mdFile, jsonFile} {
		t.Run("another "+name, func(t *testing.T) {
			bad := maps.Clone(files)
			bad[name] = append(bytes.Clone(files[name]), ' ')
			_, err := verifyFiles(folderOf(resigned(t, bad, maker)), o)
			if err == nil || !strings.Contains(err.Error(), name+" is not what") || strings.Contains(err.Error(), "that version") {
				t.Errorf("got %v", err)
			}
			// Of another version's drawings nothing is known; a report is not drawn.
			res, err := verifyFiles(folderOf(restated(t, bad, maker, func(p *predicate) { p.DrawnBy = "v9.8.7" })), o)
			if name == jsonFile {
				if err == nil || !strings.Contains(err.Error(), "it was made by version v9.8.7, this is version "+buildinfo.Version()+": use that version") {
					t.Errorf("of another version: got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := res.NotChecked; n == nil || !slices.Equal(n.Files, []string{name}) || n.DrawnBy != "v9.8.7" {
				t.Errorf("of another version: got %+v, want %s of v9.8.7", n, name)
			}
			if said := strings.Join(res.Warnings, "\n"); !strings.Contains(said, "NOT CHECKED: "+name+" in the bundle, drawn by version v9.8.7, while this is version "+buildinfo.Version()) {
				t.Errorf("warnings: got %q", said)
			}
		})
	}
	// The statement binds a drawing all the same.
	t.Run("a drawing of another version that was changed", func(t *testing.T) {
		bad := restated(t, files, maker, func(p *predicate) { p.DrawnBy = "v9.8.7" })
		bad[htmlFile] = append(bytes.Clone(bad[htmlFile]), ' ')
		if _, err := verifyFiles(folderOf(bad), o); err == nil || !strings.Contains(err.Error(), htmlFile+" was changed") {
			t.Errorf("got %v", err)
		}
	})
	for name, tc := range map[string]struct {
		change func(p *predicate)
		want   string
	}{
		"relay":                  {func(p *predicate) { p.Relay = "nobody" }, "relay nobody is not in the roster"},
		"month":                  {func(p *predicate) { p.Month++ }, "is about 2026-10"},
		"network":                {func(p *predicate) { p.Network = evidence.Lab }, "its predicate is not what the evidence shows"},
		"time":                   {func(p *predicate) { p.AsOf.Time = p.AsOf.Add(time.Second) }, "is not what the evidence shows"},
		"headline":               {func(p *predicate) { p.Headline = "ELIGIBLE" }, "its predicate is not what the evidence shows"},
		"version that is none":   {func(p *predicate) { p.DrawnBy = "v1 <script>" }, "is no version of a program"},
		"no version":             {func(p *predicate) { p.DrawnBy = "" }, "is no version of a program"},
		"version that is a book": {func(p *predicate) { p.DrawnBy = "v" + strings.Repeat("1", 101) }, "is no version of a program"},
	} {
		t.Run("a predicate with another "+name, func(t *testing.T) {
			_, err := verifyFiles(folderOf(restated(t, files, maker, tc.change)), o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("another version that draws the same", func(t *testing.T) {
		res, err := verifyFiles(folderOf(restated(t, files, maker, func(p *predicate) { p.DrawnBy = "v9.8.7" })), o)
		if err != nil || res.NotChecked != nil {
			t.Errorf("got %+v, %v", res.NotChecked, err)
		}
	})
	// The envelope has one spelling, and so has the statement.
	for name, change := range map[string]func(string) string{
		"a space":        func(s string) string { return s + " " },
		"another member": func(s string) string { return `{"a":1,` + s[1:] },
		"a member twice": func(s string) string {
			return strings.Replace(s, `"predicate":`, `"predicate":{"headline":"ELIGIBLE"},"predicate":`, 1)
		},
		"a subject twice": func(s string) string {
			return strings.Replace(s, `"subject":[`, `"subject":[`+s[strings.Index(s, `"subject":[`)+11:strings.Index(s, `},{"digest"`)+2], 1)
		},
		"a predicate's member in the wrong place": func(s string) string { return strings.Replace(s, `"headline":`, `"z":"","headline":`, 1) },
		"a predicate's number beyond 2^53":        func(s string) string { return strings.Replace(s, `"headline":`, `"e":9007199254740994,"headline":`, 1) },
		"a predicate's headline in another case": func(s string) string {
			return strings.Replace(strings.Replace(s, `"headline":`, `"x":`, 1), `"as_of":`, `"Headline":"ELIGIBLE","as_of":`, 1)
		},
	} {
		t.Run("a statement with "+name, func(t *testing.T) {
			s, err := statementOver(folderOf(files), predicateIn(t, files))
			w.Must(err)
			bad := maps.Clone(files)
			bad[dsseFile], err = maker.Log.SignStatement([]byte(change(string(s))))
			w.Must(err)
			if _, err := verifyFiles(folderOf(bad), o); err == nil || !strings.Contains(err.Error(), dsseFile) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("a predicate with members from the future", func(t *testing.T) {
		s, err := statementOver(folderOf(files), predicateIn(t, files))
		w.Must(err)
		grown := maps.Clone(files)
		more := strings.NewReplacer(`"as_of":`, `"Headline":"ELIGIBLE","approved":{"by":[1,{"a":null}]},"as_of":`).Replace(string(s))
		grown[dsseFile], err = maker.Log.SignStatement([]byte(more))
		w.Must(err)
		plain, err := verifyFiles(folderOf(files), o)
		w.Must(err)
		res, err := verifyFiles(folderOf(grown), o)
		if err != nil || res.Verdict.Headline != plain.Verdict.Headline {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a report of a higher version", func(t *testing.T) {
		bad := maps.Clone(files)
		bad[jsonFile] = []byte(`{"version":2}`)
		for range 2 {
			z := packed(t, resigned(t, bad, maker))
			_, err := Verify(bytes.NewReader(z), int64(len(z)), o)
			if want := "report.json is of version 2: it needs relayaudit of at least version 2; this one reads version 1"; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			bad["new.txt"] = []byte("of a newer format\n")
		}
	})
	t.Run("a statement about something else", func(t *testing.T) {
		bad := maps.Clone(files)
		s, err := statementOver(folderOf(files), predicateIn(t, files))
		w.Must(err)
		bad[dsseFile], err = maker.Log.SignStatement(bytes.Replace(s, []byte("relay-month"), []byte("cake-recipe"), 1))
		w.Must(err)
		if _, err := verifyFiles(folderOf(bad), o); err == nil || !strings.Contains(err.Error(), "none about a relay's month") {
			t.Errorf("got %v", err)
		}
	})
}

// TestOtherKeys signs each thing with a key that is not the right one.
func TestOtherKeys(t *testing.T) {
	w, in, files, _ := opened(t)
	stranger := scene.New(t, evidence.PSF, 1)
	o := optionsOf(w, in)

	t.Run("the statement", func(t *testing.T) {
		_, err := verifyFiles(folderOf(resigned(t, files, stranger.Monitors[0])), o)
		if err == nil || !strings.Contains(err.Error(), "signed by no monitor of the roster") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the rules and the roster", func(t *testing.T) {
		bad := o
		bad.Committee = stranger.CommitteeKey
		_, err := verify(bundleOf(w, in), bad)
		var input *InputError
		if err == nil || !strings.Contains(err.Error(), "no signature by the committee's key") || !asInput(err, &input) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the logs", func(t *testing.T) {
		// A roster of other log keys, signed by the right committee.
		theirs := in
		w2 := *w
		w2.Monitors = []*scene.Watcher{stranger.Monitors[0], w.Monitors[1]}
		theirs.Roster = w2.Signed(w2.RosterYAML())
		var b bytes.Buffer
		_, err := Write(&b, theirs)
		// Whichever log is looked at first: one's key is missing, the other's witness is.
		if err == nil || !strings.Contains(err.Error(), "no monitor of the roster has a log of that name") && !strings.Contains(err.Error(), "by a key that is not known") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the cosignatures", func(t *testing.T) {
		// The same roster, but m1's witness has another key than it signed with.
		theirs, w2 := in, *w
		m1 := *w.Monitors[0]
		_, m1.CosignKey = scene.NewWitness(t, m1.Name+"-witness")
		w2.Monitors = []*scene.Watcher{&m1, w.Monitors[1]}
		theirs.Roster = w2.Signed(w2.RosterYAML())
		// What nobody of the roster signed means nothing: m2's hours were cosigned by nobody.
		v, err := Write(&bytes.Buffer{}, theirs)
		if err != nil || v.Hours.Up != 0 {
			t.Errorf("got %v, want no hour up", err)
		}
	})
	t.Run("the vouchers", func(t *testing.T) {
		// Signed by another relay: the log is sound, but nothing makes the hours up.
		w := twoHours(t)
		forger := scene.New(t, evidence.PSF, 0)
		w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
			a := w.Attempt(m, h, time.Minute)
			theirs := *forger
			theirs.Monitors, theirs.RelayID = w.Monitors, w.RelayID
			a.Facts.Reservation = theirs.Attempt(m, h, time.Minute).Facts.Reservation
			return []evidence.Attempt{a}
		})
		in := inputOf(w)
		res, err := verify(bundleOf(w, in), optionsOf(w, in))
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
	b := bundleOf(w, in)
	good := optionsOf(w, in)
	_, key, err := note.GenerateKey(rand.Reader, "somebody")
	w.Must(err)
	for name, tc := range map[string]struct {
		change func(o *Options)
		want   string
	}{
		"nobody vouches":     {func(o *Options) { o.Committee = "" }, "whose rules and roster"},
		"another committee":  {func(o *Options) { o.Committee = key }, "no signature"},
		"no rules":           {func(o *Options) { o.Rules = []byte("a: b") }, "unknown key"},
		"unreadable rules":   {func(o *Options) { o.Rules = []byte("a: b"); o.Committee = ""; o.Unsigned = true }, "unknown key"},
		"a roster of a lab":  {func(o *Options) { o.Rules = w.Signed(scene.RulesOver(t, "network: lab")) }, "never mixed"},
		"unreadable roster":  {func(o *Options) { o.Roster = w.Signed("relays: 1\n") }, "want a list"},
		"key that is no key": {func(o *Options) { o.Committee = "x" }, "committee's key"},
		"roster without keys": {func(o *Options) {
			o.Roster = w.Signed("network: psf\nserial: 1\nmonitors: [{name: a, from: 2026-11-01T00:00:00Z}]\n")
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
	b := bundleOf(w, in)
	o := optionsOf(w, in)
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
