package mirror

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
	"github.com/psf-relay/relay-appliance/monitor/tiles/tileserver"
)

// watched is a real log of 304 hours: six of them watched, then the monitor was off, and
// then it watched three more. It is cosigned.
func watched(t *testing.T) (*scene.Scene, *scene.Watcher) {
	t.Helper()
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	for range 3 {
		more(t, w, m)
	}
	return w, m
}

// more is an hour more.
func more(t *testing.T, w *scene.Scene, m *scene.Watcher) {
	t.Helper()
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)})
	w.Seal(m, h.End().Add(17*time.Minute))
}

// server is a log on the web, of which a test can change what it shows.
type server struct {
	url   string
	mu    sync.Mutex
	show  http.Handler
	asked []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	show := s.show
	s.asked = append(s.asked, strings.TrimPrefix(r.URL.Path, "/"))
	s.mu.Unlock()
	show.ServeHTTP(w, r)
}

// is puts another handler in place, and forgets what was asked for.
func (s *server) is(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.show, s.asked = h, nil
}

func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func serve(t *testing.T, h http.Handler) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	must(t, err)
	s := &server{url: "http://" + l.Addr().String(), show: h}
	web := &http.Server{Handler: s}
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	return s
}

func handler(src tiles.Source) http.Handler {
	return tileserver.Handler(src, slog.New(slog.DiscardHandler))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// of are the options for a test's mirror.
func of(m *scene.Watcher, from, dir string, witnesses ...string) Options {
	return Options{From: from, Dir: dir, Key: m.Log.Key(), Witnesses: witnesses, Agent: "relaymon/test", PerSecond: 1000, pause: time.Millisecond,
		noRoom: func(string) error { return nil }}
}

func sync_(t *testing.T, o Options) (Report, error) {
	t.Helper()
	m, err := New(o)
	if err != nil {
		return Report{}, err
	}
	defer m.Close()
	return m.Sync(t.Context())
}

func synced(t *testing.T, o Options) Report {
	t.Helper()
	r, err := sync_(t, o)
	must(t, err)
	return r
}

// files are those of a folder, without those that are no part of the log.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ".lock" {
			return err
		}
		b, err := os.ReadFile(path)
		name, rel := filepath.Rel(dir, path)
		out[filepath.ToSlash(name)] = string(b)
		return errors.Join(err, rel)
	}))
	return out
}

// whole is what an export of the log has.
func whole(t *testing.T, m *scene.Watcher) map[string]string {
	t.Helper()
	dir := t.TempDir()
	_, err := tiles.Export(t.Context(), m.Log, dir, nil)
	must(t, err)
	return files(t, dir)
}

// same says where two folders differ. Partial tiles of before may be left over.
func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: %d bytes, want %d, or others", name, len(got[name]), len(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok && !strings.Contains(name, ".p/") {
			t.Errorf("%s is there", name)
		}
	}
}

func TestMirror(t *testing.T) {
	w, m := watched(t)
	s := serve(t, handler(m.Log))
	dir := filepath.Join(t.TempDir(), "of", "m1")
	witness := w.Monitors[1].CosignKey
	r := synced(t, of(m, s.url, dir, witness))
	if want := (Report{Origin: m.Log.Origin(), Size: 304, Blocks: 304, Records: 9, Certificates: 1, Checkpoints: 11}); r != want {
		t.Errorf("%+v, want %+v", r, want)
	}
	want := whole(t, m)
	same(t, files(t, dir), want)

	// From a folder, and from a mirror that is served, comes the same.
	src, err := Open(dir, m.Log.Key())
	must(t, err)
	for _, from := range []string{dir, serve(t, handler(src)).url} {
		again := t.TempDir()
		synced(t, of(m, from, again, witness))
		same(t, files(t, again), want)
	}
}

// What a record says of a certificate is the monitor's word: the copy is made all the same.
func TestMirrorTakesTheWordOnCertificates(t *testing.T) {
	w, m := watched(t)
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	a := w.Attempt(m, h, 10*time.Minute)
	said := *w.Cert
	said.SHA256, said.Issuer = evidence.SHA256Hex([]byte("no certificate")), "CN=somebody"
	a.Facts.Certificate = &said
	must(t, m.Log.Append(h, a, []byte("no certificate")))
	w.Seal(m, h.End().Add(17*time.Minute))
	dir := t.TempDir()
	if r := synced(t, of(m, serve(t, handler(m.Log)).url, dir)); r.Certificates != 2 {
		t.Errorf("%+v: want 2 certificates", r)
	}
	same(t, files(t, dir), whole(t, m))
}

// A mirror asks for what is new, and whether cosignatures came in.
func TestMirrorGoesOn(t *testing.T) {
	w, m := watched(t)
	s := serve(t, handler(m.Log))
	dir := t.TempDir()
	mir, err := New(of(m, s.url+"/", dir))
	must(t, err)
	defer mir.Close()
	_, err = mir.Sync(t.Context())
	must(t, err)
	late := []string{"checkpoint", "checkpoints/00000301", "checkpoints/00000302", "checkpoints/00000303", "checkpoints/00000304"}
	for range 2 {
		s.is(handler(m.Log))
		r, err := mir.Sync(t.Context())
		if want := (Report{Origin: m.Log.Origin(), Size: 304}); err != nil || r != want {
			t.Errorf("with nothing new: %+v %v, want %+v", r, err, want)
		}
		if got := s.requests(); !slices.Equal(got, late) {
			t.Errorf("with nothing new it asks for %v, want %v", got, late)
		}
	}
	key, vkey := scene.NewWitness(t, "late.example.org")
	for _, size := range []int64{302, 304} {
		old, err := m.Log.CheckpointOf(size)
		must(t, err)
		must(t, m.Log.AddCosignatures(size, scene.Cosign(key, vkey, old, w.AsOf), vkey))
	}
	more(t, w, m)
	s.is(handler(m.Log))
	r, err := mir.Sync(t.Context())
	if want := (Report{Origin: m.Log.Origin(), Size: 305, Blocks: 1, Records: 1, Checkpoints: 3}); err != nil || r != want {
		t.Errorf("an hour later: %+v %v, want %+v", r, err, want)
	}
	want := append([]string{"tile/0/001.p/49", "tile/1/000.p/1", "tile/entries/001.p/49", "records/00000304.jsonl", "checkpoints/00000305"}, late...)
	got := s.requests()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("an hour later it asks for %v, want %v", got, want)
	}
	same(t, files(t, dir), whole(t, m))
}

// The server is asked whether a checkpoint has changed, not for the same one again.
func TestMirrorAsksConditionally(t *testing.T) {
	_, m := watched(t)
	h := handler(m.Log)
	var sent int
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("User-Agent"); got != "relaymon/test" {
			t.Errorf("it calls itself %q", got)
		}
		if strings.HasPrefix(r.URL.Path, "/checkpoints/") && r.Header.Get("If-None-Match") == "" {
			sent++
		}
		h.ServeHTTP(w, r)
	}))
	mir, err := New(of(m, s.url, t.TempDir()))
	must(t, err)
	defer mir.Close()
	for range 3 {
		_, err = mir.Sync(t.Context())
		must(t, err)
	}
	if sent != 11 {
		t.Errorf("%d checkpoints were asked for whatever they are, want 11: each once", sent)
	}
}

// A cosignature that is held is not lost when the log no longer shows it.
func TestMirrorKeepsCosignatures(t *testing.T) {
	w, m := watched(t)
	dir := t.TempDir()
	synced(t, of(m, serve(t, handler(m.Log)).url, dir))
	full, err := m.Log.CheckpointOf(304)
	must(t, err)
	bare := bytes.Join(bytes.SplitAfter(full, []byte("\n"))[:5], nil)
	if bytes.Equal(bare, full) || !bytes.Contains(full, []byte("— m2.example.org-witness ")) {
		t.Fatalf("%s: want one with a cosignature", full)
	}
	_, other := scene.NewWitness(t, "m2.example.org-witness")
	forged := append(bytes.Clone(bare), scene.Cosign(w.Monitors[1].Cosigner, other, full, w.AsOf)...)
	for what, shown := range map[string][]byte{"without": bare, "by a key that nobody knows": forged} {
		s := serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "304") {
				rw.Write(shown)
				return
			}
			handler(m.Log).ServeHTTP(rw, r)
		}))
		synced(t, of(m, s.url, dir, w.Monitors[1].CosignKey))
		got := files(t, dir)
		if !strings.Contains(got["checkpoints/00000304"], string(full[len(bare):])) {
			t.Errorf("%s: the cosignature is lost:\n%s", what, got["checkpoints/00000304"])
		}
		if got["checkpoint"] != got["checkpoints/00000304"] {
			t.Errorf("%s: checkpoint is\n%s", what, got["checkpoint"])
		}
	}
}

// A cosignature that came in after the last look is there with the first header that tells
// of it, also if the line breaks later on, and the next look begins many blocks after it.
func TestMirrorFetchesLateCosignatures(t *testing.T) {
	w, m := watched(t)
	l := twins(t, m, 1)[0]
	dir, from := t.TempDir(), serve(t, handler(l))
	o := of(m, from.url, dir, w.Monitors[1].CosignKey)
	synced(t, o)
	checkpoint, err := l.Checkpoint()
	must(t, err)
	at := (l.First() + evidence.Hour(l.Size())).Start().Add(20 * time.Minute)
	must(t, l.AddCosignatures(305, scene.Cosign(w.Monitors[1].Cosigner, w.Monitors[1].CosignKey, checkpoint, at), w.Monitors[1].CosignKey))
	_, err = l.Seal((l.First() + 499).End().Add(17 * time.Minute)) // it was away
	must(t, err)
	grow(t, l, "twin/0", 20)
	from.is(instead(handler(l), "checkpoints/00000520", gone))
	if r, err := sync_(t, o); err == nil || r.Size != 512 {
		t.Fatalf("%+v, %v; want the first bundle, and an error", r, err)
	}
	from.is(handler(l))
	synced(t, o)
	want := t.TempDir()
	_, err = tiles.Export(t.Context(), l, want, nil)
	must(t, err)
	same(t, files(t, dir), files(t, want))
}

// A mirror says of each part what the log itself says.
func TestSource(t *testing.T) {
	w, m := watched(t)
	dir := t.TempDir()
	synced(t, of(m, serve(t, handler(m.Log)).url, dir))
	src, err := Open(dir, m.Log.Key())
	must(t, err)
	type all struct {
		Origin, Key  string
		First        evidence.Hour
		Size         int64
		Headers      [][]byte
		Records      [][][]byte
		Checkpoints  []string
		Certificate  []byte
		Root, Middle evidence.Hash
	}
	of := func(s tiles.Source) all {
		a := all{Origin: s.Origin(), Key: s.Key(), First: s.First(), Size: s.Size()}
		var err error
		a.Headers, err = s.HeaderLines(0, a.Size)
		must(t, err)
		for i := range a.Size {
			lines, err := s.RecordLines(i)
			must(t, err)
			a.Records = append(a.Records, lines)
			raw, err := s.CheckpointOf(i + 1)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			a.Checkpoints = append(a.Checkpoints, string(raw))
		}
		a.Certificate, err = s.CertificateOf(w.Cert.SHA256)
		must(t, err)
		h, err := s.ReadHashes([]int64{600, 17})
		must(t, err)
		a.Root, a.Middle = h[0], h[1]
		return a
	}
	if diff := cmp.Diff(of(m.Log), of(src)); diff != "" {
		t.Errorf("the log and its mirror differ: %s", diff)
	}
	for from, to := range map[int64]int64{-1: 3, 4: 3, 300: 305} {
		if _, err := src.HeaderLines(from, to); err == nil {
			t.Errorf("headers of blocks %d to %d", from, to)
		}
	}
	if _, err := src.CertificateOf("../../log"); err == nil {
		t.Error("a file outside was read")
	}
}

// What is damaged in a mirror is found when it is used.
func TestSourceFindsDamage(t *testing.T) {
	w, m := watched(t)
	clean := t.TempDir()
	synced(t, of(m, serve(t, handler(m.Log)).url, clean))
	for name, use := range map[string]func(*Source) error{
		"tile/0/001.p/48":                        func(s *Source) error { _, err := s.HeaderLines(300, 301); return err },
		"tile/entries/001.p/48":                  func(s *Source) error { _, err := s.HeaderLines(300, 301); return err },
		"tile/entries/000":                       func(s *Source) error { return nil }, // at once
		"checkpoint":                             func(s *Source) error { return nil },
		"certificates/" + w.Cert.SHA256 + ".der": func(s *Source) error { _, err := s.CertificateOf(w.Cert.SHA256); return err },
	} {
		dir := filepath.Join(t.TempDir(), "copy")
		must(t, os.CopyFS(dir, os.DirFS(clean)))
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		b[len(b)/2] ^= 1
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		s, err := Open(dir, m.Log.Key())
		if err == nil {
			err = use(s)
		}
		if err == nil {
			t.Errorf("%s: a changed byte is not seen", name)
		}
	}
	dir := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(dir, os.DirFS(clean)))
	must(t, os.Remove(filepath.Join(dir, "records/00000303.jsonl")))
	s, err := Open(dir, m.Log.Key())
	must(t, err)
	if _, err := s.RecordLines(303); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("records that are missing: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	_, m := watched(t)
	dir := t.TempDir()
	synced(t, of(m, serve(t, handler(m.Log)).url, dir))
	before := files(t, dir)
	_, other := watched(t)
	for why, o := range map[string]Options{
		"verifier key":                          {From: "http://127.0.0.2/", Dir: dir, Key: "x"},
		"witness":                               {From: "http://127.0.0.2/", Dir: dir, Key: m.Log.Key(), Witnesses: []string{"x"}},
		"none: want the http or https URL":      {From: filepath.Join(dir, "none"), Dir: dir, Key: m.Log.Key()},
		"http:///x: want the http or https URL": {From: "http:///x", Dir: dir, Key: m.Log.Key()},
		"gone on with":                          of(other, "http://127.0.0.2/", dir),
	} {
		if mir, err := New(o); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
			if err == nil {
				mir.Close()
			}
		}
	}
	if !maps.Equal(before, files(t, dir)) {
		t.Error("the copy was changed")
	}
	first, err := New(of(m, "http://127.0.0.2/", dir))
	must(t, err)
	defer first.Close()
	if _, err := New(of(m, "http://127.0.0.2/", dir)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second mirror in one folder: %v", err)
	}
}
