package mirror

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// instead shows something else for the files whose name begins so.
func instead(of http.Handler, name string, show func(w http.ResponseWriter, r *http.Request, good []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/"+name) {
			of.ServeHTTP(w, r)
			return
		}
		good := httptest.NewRecorder()
		of.ServeHTTP(good, r)
		show(w, r, good.Body.Bytes())
	})
}

type show = func(w http.ResponseWriter, r *http.Request, good []byte)

func changed(w http.ResponseWriter, _ *http.Request, good []byte) {
	b := bytes.Clone(good)
	b[len(b)/2] ^= 1
	w.Write(b)
}

func shorter(w http.ResponseWriter, _ *http.Request, good []byte) { w.Write(good[:len(good)-1]) }

func longer(w http.ResponseWriter, _ *http.Request, good []byte) { w.Write(append(good, '\n')) }

func gone(w http.ResponseWriter, r *http.Request, _ []byte) { http.NotFound(w, r) }

func empty(http.ResponseWriter, *http.Request, []byte) {}

// endless counts how much of it was read.
func endless(read *atomic.Int64) show {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) {
		block := bytes.Repeat([]byte("x"), 64<<10)
		for {
			n, err := w.Write(block)
			read.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
}

// A server that shows something else than the log's own is refused, whatever it shows, and
// the copy stays as it was; after that the log itself is mirrored as if nothing had been.
func TestHostileServer(t *testing.T) {
	w, m := watched(t)
	good := handler(m.Log)
	begun := t.TempDir()
	early := filepath.Join(t.TempDir(), "early")
	must(t, os.CopyFS(early, os.DirFS(m.Dir)))
	synced(t, of(m, serve(t, good).url, begun))
	more(t, w, m)
	want := whole(t, m)
	at := m.Log.First().Start().Add(400 * time.Hour)
	for _, name := range []string{"checkpoint", "tile/0/", "tile/1/", "tile/entries/", "records/", "certificates/", "checkpoints/"} {
		for what, show := range map[string]show{"changed": changed, "shorter": shorter, "longer": longer, "gone": gone, "empty": empty} {
			t.Run(strings.ReplaceAll(name, "/", "-")+what, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "copy")
				if name != "certificates/" { // which is held already
					must(t, os.CopyFS(dir, os.DirFS(begun)))
				}
				before := map[string]string{}
				if name != "certificates/" {
					before = files(t, dir)
				}
				o := of(m, "", dir, w.Monitors[1].CosignKey)
				o.now = func() time.Time { return at }
				o.From = serve(t, instead(good, name, show)).url
				_, err := sync_(t, o)
				if err == nil {
					t.Fatalf("%s that is %s was taken", name, what)
				}
				var fork *ForkError
				if errors.As(err, &fork) {
					t.Errorf("the log is blamed: %v", err)
				}
				for file, b := range files(t, dir) {
					if want[file] != b && before[file] != b {
						t.Errorf("%s holds %.40q", file, b)
					}
				}
				o.From = serve(t, handler(m.Log)).url
				synced(t, o)
				same(t, files(t, dir), want)
			})
		}
	}
}

// No more is read than a file may have, nor kept.
func TestEndlessBodies(t *testing.T) {
	_, m := watched(t)
	good := handler(m.Log)
	bomb := func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		block := make([]byte, 1<<20)
		for range 4096 {
			if _, err := z.Write(block); err != nil {
				return
			}
		}
		z.Close()
	}
	said := func(w http.ResponseWriter, r *http.Request, _ []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		w.Write(make([]byte, 1<<20))
	}
	for _, name := range []string{"checkpoint", "tile/0/", "tile/entries/", "records/", "certificates/", "checkpoints/"} {
		var read atomic.Int64
		for what, show := range map[string]show{"endless": endless(&read), "a bomb": bomb, "said to be huge": said} {
			dir := t.TempDir()
			_, err := sync_(t, of(m, serve(t, instead(good, name, show)).url, dir))
			if err == nil {
				t.Errorf("%s that is %s was taken", name, what)
			}
			total := 0
			for file, b := range files(t, dir) {
				total += len(b)
				if strings.HasPrefix(filepath.Base(file), ".") {
					t.Errorf("%s is left over", file)
				}
			}
			if total > 1<<20 {
				t.Errorf("%s that is %s left %d bytes", name, what, total)
			}
		}
		if n := read.Load(); n > 64<<20 {
			t.Errorf("%s: %d bytes were read", name, n)
		}
	}
}

// What a signed log has too much of is refused as well: its key may be in wrong hands.
func TestLogsThatCannotBe(t *testing.T) {
	_, m := watched(t)
	secret, err := os.ReadFile(filepath.Join(m.Dir, "log.key"))
	must(t, err)
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	must(t, err)
	good := handler(m.Log)
	for size, why := range map[int64]string{0: "want 1 to", 1 << 31: "want 1 to", 1 << 40: "malformed", 400_000: "tile"} {
		raw, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", m.Log.Origin(), size, strings.Repeat("A", 43)+"=")}, signer)
		must(t, err)
		s := serve(t, instead(good, "checkpoint", func(w http.ResponseWriter, r *http.Request, b []byte) {
			if r.URL.Path == "/checkpoint" {
				b = raw
			}
			w.Write(b)
		}))
		dir := t.TempDir()
		if _, err := sync_(t, of(m, s.url, dir)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("a log of %d blocks: %v, want %q", size, err, why)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Errorf("a log of %d blocks left %d files", size, len(got))
		}
		if n := len(s.requests()); n > 20 {
			t.Errorf("a log of %d blocks took %d requests", size, n)
		}
	}
	// One that is ahead of the time.
	o := of(m, serve(t, good).url, t.TempDir())
	o.now = func() time.Time { return m.Log.First().Start() }
	if _, err := sync_(t, o); err == nil || !strings.Contains(err.Error(), "ahead of the time") {
		t.Errorf("a log that is ahead: %v", err)
	}
	o.noRoom = func(string) error { return errors.New("no room") }
	if _, err := sync_(t, o); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a full disk: %v", err)
	}
}

// The spare room is looked at before each file, and while a long one comes in; where there
// is room again the mirror goes on.
func TestRoom(t *testing.T) {
	w := scene.New(t, evidence.Lab, 1)
	w.Hours = 12
	w.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		a := w.Attempt(m, h, 10*time.Minute)
		for range 25 {
			a.Facts.Reservation.Addrs = append(a.Facts.Reservation.Addrs, strings.Repeat("x", 1024))
		}
		return []evidence.Attempt{a}
	})
	m, dir := w.Monitors[0], t.TempDir()
	o := of(m, serve(t, unpaced(m.Log)).url, dir)
	const limit, read = 100_000, 32 << 10
	most := 0
	o.noRoom = func(string) error {
		size := 0
		for _, b := range files(t, dir) {
			size += len(b)
		}
		if most = max(most, size); size > limit {
			return errors.New("no room")
		}
		return nil
	}
	for range 2 { // what is there is gone on with, and there is no more
		if _, err := sync_(t, o); err == nil || !strings.Contains(err.Error(), "no room") {
			t.Errorf("a disk that is full: %v", err)
		}
		if most < limit || most > limit+2*read {
			t.Errorf("the copy came to %d bytes, of %d that there is room for", most, limit)
		}
	}
	o.noRoom = of(m, "", "").noRoom
	synced(t, o)
	same(t, files(t, dir), whole(t, m))
}

func TestManners(t *testing.T) {
	_, m := watched(t)
	good := handler(m.Log)
	other := serve(t, good)
	s := serve(t, nil)

	s.is(http.RedirectHandler(other.url+"/checkpoint", http.StatusFound))
	if _, err := sync_(t, of(m, s.url, t.TempDir())); err == nil || !strings.Contains(err.Error(), "redirects to "+other.url) || len(other.requests()) > 0 {
		t.Errorf("a redirect to elsewhere: %v, %d requests there", err, len(other.requests()))
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("a redirect was asked for %d times", n)
	}
	s.is(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/there") {
			http.Redirect(w, r, "/there"+r.URL.Path, http.StatusFound)
			return
		}
		http.StripPrefix("/there", good).ServeHTTP(w, r)
	}))
	if _, err := sync_(t, of(m, s.url, t.TempDir())); err != nil {
		t.Errorf("a redirect within the site: %v", err)
	}

	// A server that is busy is asked again, and is given up in the end.
	busy := 0
	s.is(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if busy++; busy%2 == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		good.ServeHTTP(w, r)
	}))
	if _, err := sync_(t, of(m, s.url, t.TempDir())); err != nil {
		t.Errorf("a server that is busy every other time: %v", err)
	}
	s.is(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	if _, err := sync_(t, of(m, s.url, t.TempDir())); !errors.Is(err, errBusy) {
		t.Errorf("a server that is always busy: %v", err)
	}
	if n := len(s.requests()); n != tries {
		t.Errorf("it was asked %d times, want %d", n, tries)
	}

	// One that never ends what it begins.
	s.is(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("m"))
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	o := of(m, s.url, t.TempDir())
	o.within = 50 * time.Millisecond
	if _, err := sync_(t, o); err == nil || !strings.Contains(err.Error(), "too slowly") {
		t.Errorf("a server that never ends: %v", err)
	}

	// Nothing of the machine's is read through a link in a folder.
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(m.Dir, "log.key"), filepath.Join(dir, "checkpoint")))
	if _, err := sync_(t, of(m, dir, t.TempDir())); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a link out of the folder: %v", err)
	}
}

// Requests are spread over time.
func TestPerSecond(t *testing.T) {
	_, m := watched(t)
	o := of(m, serve(t, handler(m.Log)).url, t.TempDir())
	o.PerSecond = 0
	p, err := placeOf(o.From, o)
	must(t, err)
	if got := p.(*site).pace; float64(got.Limit()) != defaultPerSecond || got.Burst() != 1 {
		t.Errorf("%v requests a second, %d at a stroke; want %d and 1", got.Limit(), got.Burst(), defaultPerSecond)
	}
	if _, _, err := p.open(t.Context(), "checkpoint", "", 1); err == nil || !strings.Contains(err.Error(), "1 at most") {
		t.Errorf("more bytes than are wanted: %v", err)
	}
}

// twins are two copies of a log that go on with different histories, each by so many hours.
func twins(t *testing.T, m *scene.Watcher, hours ...int) []*store.Log {
	t.Helper()
	var out []*store.Log
	for i, n := range hours {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		must(t, os.CopyFS(dir, os.DirFS(m.Dir)))
		l, err := store.Open(dir)
		must(t, err)
		t.Cleanup(func() { l.Close() })
		grow(t, l, fmt.Sprintf("twin/%d", i), n)
		out = append(out, l)
	}
	return out
}

// grow seals so many hours more, without anything in them.
func grow(t *testing.T, l *store.Log, software string, hours int) {
	t.Helper()
	for range hours {
		h := l.First() + evidence.Hour(l.Size())
		must(t, l.Begin(h, h.Start(), software))
		_, err := l.Seal(h.End().Add(17 * time.Minute))
		must(t, err)
	}
}

func TestFork(t *testing.T) {
	_, m := watched(t)
	for what, c := range map[string]struct {
		ours, theirs int
		hide         string // of the other history
		pair         bool
		size         int64
	}{
		"of one size":                      {3, 3, "", true, 307},
		"longer":                           {3, 5, "", true, 307},
		"shorter":                          {5, 3, "", true, 307},
		"longer, and hides one checkpoint": {3, 5, "checkpoints/00000307", true, 306},
		"longer, and hides its old ones":   {3, 5, "checkpoints/", false, 309},
	} {
		t.Run(what, func(t *testing.T) {
			logs := twins(t, m, c.ours, c.theirs)
			s := serve(t, handler(logs[0]))
			dir := t.TempDir()
			synced(t, of(m, s.url, dir))
			before := files(t, dir)
			other := handler(logs[1])
			if c.hide != "" {
				other = instead(other, c.hide, gone)
			}
			s.is(other)
			for range 2 { // it is found again, and not kept twice
				_, err := sync_(t, of(m, s.url, dir))
				var fork *ForkError
				if !errors.As(err, &fork) {
					t.Fatalf("the log that has two histories: %v", err)
				}
				if fork.Pair != c.pair || fork.Size != c.size || !strings.Contains(err.Error(), "TWO HISTORIES") {
					t.Errorf("%+v, want pair %v of size %d: %v", fork, c.pair, c.size, err)
				}
				after := files(t, dir)
				maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, "forks/") })
				if !maps.Equal(before, after) {
					t.Error("the copy was changed")
				}
				kept, err := os.ReadFile(fork.File)
				must(t, err)
				if c.pair {
					f, err := evidence.OpenFork(kept, m.Log.Key())
					if err != nil || f.Size != c.size {
						t.Errorf("the proof is of size %d, %v; want %d", f.Size, err, c.size)
					}
				} else if tree, _, err := evidence.ReadCheckpoint(kept, m.Log.Key()); err != nil || tree.N != c.size {
					t.Errorf("the checkpoint that is kept is of size %d, %v; want %d", tree.N, err, c.size)
				}
			}
			src, err := Open(dir, m.Log.Key())
			must(t, err)
			forks, err := src.Forks()
			if want := map[bool]int{true: 1}[c.pair]; err != nil || len(forks) != want {
				t.Errorf("%d proofs, %v; want %d", len(forks), err, want)
			}
			// The mirror goes on with the history that it holds.
			s.is(handler(logs[0]))
			synced(t, of(m, s.url, dir))
		})
	}
}

// A checkpoint of another tree than the one that the log's last checkpoint is of.
func TestForkAmongOldCheckpoints(t *testing.T) {
	_, m := watched(t)
	logs := twins(t, m, 3, 3)
	wrong, err := logs[1].CheckpointOf(306)
	must(t, err)
	dir := t.TempDir()
	s := serve(t, instead(handler(logs[0]), "checkpoints/00000306", func(w http.ResponseWriter, r *http.Request, _ []byte) { w.Write(wrong) }))
	var fork *ForkError
	if _, err := sync_(t, of(m, s.url, dir)); !errors.As(err, &fork) || fork.Size != 306 {
		t.Errorf("while it is mirrored: %v", err)
	}
	dir = t.TempDir()
	synced(t, of(m, serve(t, handler(logs[0])).url, dir))
	if _, err := sync_(t, of(m, s.url, dir)); !errors.As(err, &fork) || !fork.Pair || fork.Size != 306 {
		t.Errorf("after it was mirrored: %v", err)
	}
}

// The checkpoints of a look that broke off are proof as well, although the copy does not
// hold their blocks.
func TestForkOfWhatIsNotHeldYet(t *testing.T) {
	_, m := watched(t)
	logs := twins(t, m, 3, 4)
	s := serve(t, handler(m.Log))
	dir := t.TempDir()
	synced(t, of(m, s.url, dir))
	s.is(instead(handler(logs[0]), "checkpoints/00000307", gone))
	if _, err := sync_(t, of(m, s.url, dir)); err == nil {
		t.Fatal("a log without its last checkpoint")
	}
	s.is(handler(logs[1]))
	for range 2 {
		var fork *ForkError
		if _, err := sync_(t, of(m, s.url, dir)); !errors.As(err, &fork) || !fork.Pair || fork.Size != 305 {
			t.Fatalf("a log that shows another history: %v", err)
		} else if kept, err := os.ReadFile(fork.File); err != nil {
			t.Error(err)
		} else if _, err := evidence.OpenFork(kept, m.Log.Key()); err != nil {
			t.Error(err)
		}
	}
}

func TestShrunk(t *testing.T) {
	w, m := watched(t)
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(m.Dir)))
	more(t, w, m)
	s := serve(t, handler(m.Log))
	dir := t.TempDir()
	synced(t, of(m, s.url, dir))
	before := files(t, dir)
	old, err := store.Open(older)
	must(t, err)
	defer old.Close()
	s.is(handler(old))
	if _, err := sync_(t, of(m, s.url, dir)); !errors.Is(err, ErrShrunk) {
		t.Errorf("a log that shrank: %v", err)
	}
	if !maps.Equal(before, files(t, dir)) {
		t.Error("the copy was changed")
	}
}

// Follow goes on after errors, and ends with a fork.
func TestFollow(t *testing.T) {
	_, m := watched(t)
	logs := twins(t, m, 1, 2)
	s := serve(t, handler(logs[0]))
	mir, err := New(of(m, s.url, t.TempDir()))
	must(t, err)
	defer mir.Close()
	said := 0
	err = mir.Follow(t.Context(), time.Millisecond, func(r Report, err error) {
		switch said++; said {
		case 1:
			if err != nil || r.Size != 305 {
				t.Errorf("the first look: %+v %v", r, err)
			}
			s.is(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "junk") }))
		case 2:
			if err == nil {
				t.Error("junk was taken")
			}
			s.is(handler(logs[1]))
		case 3:
			if err == nil {
				t.Error("a fork was taken")
			}
		default:
			t.Errorf("look %d: %+v %v", said, r, err)
		}
	})
	var fork *ForkError
	if !errors.As(err, &fork) || said != 3 {
		t.Errorf("it ended after %d looks with %v", said, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mir.Follow(ctx, time.Hour, func(Report, error) {}); err != nil {
		t.Errorf("when it is told to end: %v", err)
	}
}

// A server without any key leaves out who cosigned, or writes nonsense under their names.
// The log's own server makes that good, as soon as the mirror asks it; under nonsense, when
// the mirror knows the witnesses.
func TestCosignaturesOfTheServers(t *testing.T) {
	w, m := watched(t)
	o := w.Monitors[1]
	junk, _ := scene.NewWitness(t, "junk")
	good := handler(m.Log)
	for what, lines := range map[string]func(checkpoint []byte) []byte{
		"left out": func([]byte) []byte { return nil },
		"nonsense": func(b []byte) []byte {
			at := w.First.End().Add(20 * time.Minute)
			return scene.Cosign(junk, o.CosignKey, b, at)
		},
	} {
		dir := t.TempDir()
		bad := instead(good, "checkpoint", func(out http.ResponseWriter, _ *http.Request, good []byte) {
			text, signatures, _ := strings.Cut(string(good), "\n\n")
			own, _, _ := strings.Cut(signatures, "\n")
			out.Write(append([]byte(text+"\n\n"+own+"\n"), lines(good)...))
		})
		synced(t, of(m, serve(t, bad).url, dir))
		synced(t, of(m, serve(t, good).url, dir, o.CosignKey))
		s, err := Open(dir, m.Log.Key())
		must(t, err)
		month, err := evidence.Export(s, w.First.Month(), w.RelayID, w.AsOf, o.CosignKey)
		must(t, err)
		if _, err := evidence.VerifyMonth(month, evidence.Keys{Log: m.Log.Key(), Witnesses: []string{o.CosignKey}}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A server without any key adds lines of its own, as many as it likes, or shows another
// cosignature than the log's. The copy can be opened, exported from and gone on with all the
// same; and it has the log's own cosignatures again, once it knows the witnesses.
func TestLinesOfTheServers(t *testing.T) {
	w, m := watched(t)
	o := w.Monitors[1]
	good := unpaced(m.Log)
	strangers := func(kind string) http.Handler {
		return instead(good, "checkpoint", func(out http.ResponseWriter, r *http.Request, good []byte) {
			kind := kind
			if r.URL.Path == "/checkpoint" {
				kind += "last"
			}
			for i := range 60 {
				good = fmt.Appendf(good, "— %s%02d AAAAAAAA\n", kind, i)
			}
			out.Write(good)
		})
	}
	cosigned := func(by ed25519.PrivateKey) http.Handler {
		return instead(good, "checkpoint", func(out http.ResponseWriter, _ *http.Request, good []byte) {
			text, signatures, _ := strings.Cut(string(good), "\n\n")
			own, _, _ := strings.Cut(signatures, "\n")
			out.Write(append([]byte(text+"\n\n"+own+"\n"), scene.Cosign(by, o.CosignKey, good, w.First.End().Add(20*time.Minute))...))
		})
	}
	junk, _ := scene.NewWitness(t, "junk")
	for what, shows := range map[string][]http.Handler{
		"strangers, others at each look":        {strangers("A"), strangers("B"), strangers("C")},
		"a wrong one, then one of another time": {cosigned(junk), cosigned(o.Cosigner)},
		"after the log itself":                  {good, cosigned(junk), strangers("A")},
	} {
		for _, known := range [][]string{nil, {o.CosignKey}} {
			dir := t.TempDir()
			s := serve(t, nil)
			for _, show := range append(shows, good) {
				s.is(show)
				synced(t, of(m, s.url, dir, known...))
			}
			export := func() evidence.MonitorMonth {
				src, err := Open(dir, m.Log.Key())
				must(t, err)
				month, err := evidence.Export(src, w.First.Month(), w.RelayID, w.AsOf, o.CosignKey)
				if err != nil {
					t.Fatalf("%s, %d known: %v", what, len(known), err)
				}
				return month
			}
			export()
			synced(t, of(m, s.url, dir, o.CosignKey))
			month := export()
			if _, err := evidence.VerifyMonth(month, evidence.Keys{Log: m.Log.Key(), Witnesses: []string{o.CosignKey}}); err != nil {
				t.Errorf("%s, %d known: %v", what, len(known), err)
			}
		}
	}
}
