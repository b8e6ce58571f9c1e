package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/s3test"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

const tools = "../../internal/tools"

// keys puts the credentials where the library looks for them.
func keys(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": s3test.Access, "AWS_SECRET_ACCESS_KEY": s3test.Secret, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
}

func addressOf(host, prefix string) string {
	return "s3://" + s3test.Bucket + "?endpoint=http://" + host + "&prefix=" + prefix + "/"
}

func open(t testing.TB, address string) *bucket.Bucket {
	t.Helper()
	b, err := bucket.Open(t.Context(), address, bucket.Options{PerSecond: 1e6, Pause: time.Millisecond})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func push(t testing.TB, b *bucket.Bucket, src tiles.Source, all bool) bucket.Pushed {
	t.Helper()
	out, err := b.Push(t.Context(), src, all, nil)
	must(t, err)
	return out
}

// watched is a real log of 304 hours, three of them in the second bundle.
func watched(t *testing.T) (*scene.Scene, *scene.Watcher) {
	t.Helper()
	w := scene.New(t, evidence.Lab, 2)
	w.Watch(nil)
	m := w.Monitors[0]
	w.Seal(m, w.First.End().Add(300*time.Hour+17*time.Minute))
	for range 3 {
		more(w, m)
	}
	return w, m
}

// more is an hour more.
func more(w *scene.Scene, m *scene.Watcher) {
	h := m.Log.First() + evidence.Hour(m.Log.Size())
	w.Observe(m, h, []evidence.Attempt{w.Attempt(m, h, 10*time.Minute)})
	w.Seal(m, h.End().Add(17*time.Minute))
}

// files are those of a folder; of tiles those that nothing stands in the place of.
func files(t testing.TB, dir string) map[string]string {
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

// withoutPartial leaves out partial tiles that are not those of the last checkpoint: a bucket
// keeps them, a folder does not.
func withoutPartial(all map[string]string, size int64) map[string]string {
	out := map[string]string{}
	for name, b := range all {
		n, ok := tiles.ParseName(name)
		partial := ok && (n.Kind == tiles.Tile || n.Kind == tiles.Entries) && n.Width < tiles.Width
		filled := size
		for range n.Level {
			filled /= tiles.Width
		}
		if !partial || n.Index == filled/tiles.Width && int64(n.Width) == filled%tiles.Width {
			out[name] = b
		}
	}
	return out
}

// exported is what "relaymon log export" writes.
func exported(t testing.TB, src tiles.Source) map[string]string {
	t.Helper()
	dir := t.TempDir()
	_, err := tiles.Export(t.Context(), src, dir, nil)
	must(t, err)
	return withoutPartial(files(t, dir), src.Size())
}

func same(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, b := range want {
		if other, ok := got[name]; !ok || other != b {
			t.Errorf("%s: %d bytes, there: %v; want %d", name, len(other), ok, len(b))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there, and should not", name)
		}
	}
}

func mirrored(t testing.TB, key, from, dir string) (mirror.Report, error) {
	t.Helper()
	m, err := mirror.New(mirror.Options{From: from, Dir: dir, Key: key, PerSecond: 1e6})
	must(t, err)
	defer m.Close()
	return m.Sync(t.Context())
}

func TestPush(t *testing.T) {
	host, dir := s3test.Start(t, "127.83.4.1", tools)
	keys(t)
	w, m := watched(t)
	b := open(t, addressOf(host, "logs/m1"))
	there := filepath.Join(dir, "logs/m1")
	first := push(t, b, m.Log, false)
	if first.Size != 304 || first.Blocks != 304 || first.Written == 0 {
		t.Errorf("the first push: %+v", first)
	}
	same(t, withoutPartial(files(t, there), 304), exported(t, m.Log))
	if again := push(t, b, m.Log, false); again.Written != 0 {
		t.Errorf("a push of nothing new: %+v", again)
	}
	if afresh := push(t, open(t, addressOf(host, "logs/m1")), m.Log, false); afresh.Written != 0 {
		t.Errorf("a push of nothing new, by another process: %+v", afresh)
	}
	more(w, m)
	key, vkey := scene.NewWitness(t, "late.example.org")
	old, err := m.Log.CheckpointOf(304)
	must(t, err)
	must(t, m.Log.AddCosignatures(304, scene.Cosign(key, vkey, old, w.AsOf), vkey))
	// One more hour: records, a checkpoint, a tile, entries, the last checkpoint, and the one
	// that a cosignature came in for; which the last one is, too, in between.
	if next := push(t, b, m.Log, false); next.Blocks != 1 || next.Written != 7 {
		t.Errorf("the push of an hour: %+v", next)
	}
	same(t, withoutPartial(files(t, there), 305), exported(t, m.Log))

	// As a reader gets them.
	for name, want := range map[string][2]string{
		"checkpoint": {"text/plain; charset=utf-8", "no-cache"}, "checkpoints/00000305": {"text/plain; charset=utf-8", "no-cache"},
		"tile/0/000": {"application/octet-stream", "public, max-age=31536000, immutable"}, "tile/0/001.p/49": {"application/octet-stream", "public, max-age=3600"},
		"records/00000304.jsonl": {"application/x-ndjson", "public, max-age=31536000, immutable"},
	} {
		typ, cache, err := bucket.Headers(t.Context(), b, name)
		if err != nil || [2]string{typ, cache} != want {
			t.Errorf("%s is of type %q, kept %q, %v; want %q", name, typ, cache, err, want)
		}
	}

	t.Run("bundle", func(t *testing.T) {
		for i, data := range []string{"a day", "a day", "the end"} {
			must(t, b.PutBundle(t.Context(), "2026-11", "relay-x-2026-11.zip", []byte(data), i == 2))
			if got := files(t, there)["bundles/2026-11/relay-x-2026-11.zip"]; got != data {
				t.Errorf("the bundle is %q", got)
			}
		}
		if typ, cache, err := bucket.Headers(t.Context(), b, "bundles/2026-11/relay-x-2026-11.zip"); typ != "application/zip" || !strings.Contains(cache, "immutable") {
			t.Error(typ, cache, err)
		}
		must(t, os.RemoveAll(filepath.Join(there, "bundles")))
	})
	t.Run("mirror", func(t *testing.T) {
		copied := t.TempDir()
		r, err := mirrored(t, m.Log.Key(), addressOf(host, "logs/m1"), copied)
		if err != nil || r.Size != 305 {
			t.Fatalf("%+v, %v", r, err)
		}
		same(t, withoutPartial(files(t, copied), 305), exported(t, m.Log))
		if r, err := mirrored(t, m.Log.Key(), addressOf(host, "logs/m1"), copied); err != nil || r.Blocks != 0 {
			t.Errorf("again: %+v, %v", r, err)
		}
	})
	// What somebody has removed or changed is found and mended, on request.
	t.Run("all", func(t *testing.T) {
		want := files(t, there)
		for _, name := range []string{"records/00000002.jsonl", "tile/0/000", "tile/entries/000", "checkpoints/00000003"} {
			must(t, os.Remove(filepath.Join(there, name)))
		}
		for name := range want {
			if strings.HasPrefix(name, "certificates/") || name == "checkpoints/00000004" || name == "records/00000003.jsonl" || name == "tile/0/001.p/49" {
				must(t, os.WriteFile(filepath.Join(there, name), []byte("something else"), 0o644))
			}
		}
		must(t, os.WriteFile(filepath.Join(there, "checkpoints/00000005"), bytes.Repeat([]byte("x"), 1<<20), 0o644))
		if out := push(t, b, m.Log, true); out.Written != 9 || out.Size != 305 {
			t.Errorf("%+v, want 9 objects written", out)
		}
		same(t, files(t, there), want)
	})
	// All is gone while a process runs that has seen it there.
	t.Run("emptied", func(t *testing.T) {
		must(t, os.RemoveAll(there))
		push(t, b, m.Log, false)
		same(t, withoutPartial(files(t, there), 305), exported(t, m.Log))
	})
}

func TestFolder(t *testing.T) {
	w, m := watched(t)
	dir := filepath.Join(t.TempDir(), "log")
	b := open(t, "file://"+dir)
	must(t, b.PutBundle(t.Context(), "2026-11", "b.zip", []byte("x"), false)) // before there is a log
	push(t, b, m.Log, false)
	more(w, m)
	if out := push(t, b, m.Log, false); out.Blocks != 1 {
		t.Errorf("%+v", out)
	}
	must(t, b.PutBundle(t.Context(), "2026-11", "b.zip", []byte("y"), true))
	want := exported(t, m.Log)
	want["bundles/2026-11/b.zip"] = "y"
	same(t, withoutPartial(files(t, dir), 305), want)
	if r, err := mirrored(t, m.Log.Key(), "file://"+dir, t.TempDir()); err != nil || r.Size != 305 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := b.Push(t.Context(), m.Log, true, nil); !errors.Is(err, bucket.ErrAll) {
		t.Errorf("all of a folder: %v", err)
	}
}

// What is not this log's is not written over.
func TestNotThisLog(t *testing.T) {
	host, dir := s3test.Start(t, "127.83.4.2", tools)
	keys(t)
	w, m := watched(t)
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(m.Dir)))
	more(w, m)
	b := open(t, addressOf(host, "m1"))
	push(t, b, m.Log, false)
	there := filepath.Join(dir, "m1")
	refused := func(src tiles.Source, why string) {
		t.Helper()
		before := files(t, there)
		for _, all := range []bool{false, true} {
			if _, err := open(t, addressOf(host, "m1")).Push(t.Context(), src, all, nil); !errors.Is(err, tiles.ErrNotThisLog) || !strings.Contains(err.Error(), why) {
				t.Errorf("%v, want %q", err, why)
			}
		}
		same(t, files(t, there), before)
	}
	refused(w.Monitors[1].Log, "another log")
	twin, err := store.Open(older)
	must(t, err)
	defer twin.Close()
	refused(twin, "older copy")
	for range 3 {
		h := twin.First() + evidence.Hour(twin.Size())
		_, err := twin.Seal(h.End().Add(17 * time.Minute))
		must(t, err)
	}
	refused(twin, "another history")
	good := files(t, there)["checkpoint"]
	for what, bad := range map[string]string{"another log, or none": "garbage", "its checkpoint is none": strings.Repeat("x", evidence.MaxCheckpointBytes+1)} {
		must(t, os.WriteFile(filepath.Join(there, "checkpoint"), []byte(bad), 0o644))
		refused(m.Log, what)
	}
	// One of before is gone on from.
	must(t, os.WriteFile(filepath.Join(there, "checkpoint"), []byte(files(t, there)["checkpoints/00000304"]), 0o644))
	push(t, open(t, addressOf(host, "m1")), m.Log, false)
	if got := files(t, there)["checkpoint"]; got != good {
		t.Errorf("the checkpoint is %q", got)
	}

	// Somebody else pushes at the same time.
	proxy := &proxy{to: host}
	web := httptest.NewServer(proxy)
	defer web.Close()
	more(w, m)
	var once sync.Once
	proxy.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/tile/0/001.p/50") {
			once.Do(func() {
				if err := os.WriteFile(filepath.Join(there, "checkpoint"), []byte("theirs"), 0o644); err != nil {
					t.Error(err)
				}
			})
		}
		return false
	}
	if _, err := open(t, addressOf(strings.TrimPrefix(web.URL, "http://"), "m1")).Push(t.Context(), m.Log, false, nil); err == nil || !strings.Contains(err.Error(), "by somebody else") {
		t.Errorf("got %v", err)
	}
	if got := files(t, there)["checkpoint"]; got != "theirs" {
		t.Errorf("the checkpoint is %q", got)
	}
}

// proxy stands between the bucket and whoever uses it.
type proxy struct {
	to     string
	before func(http.ResponseWriter, *http.Request) (answered bool)
	after  func(*http.Response) error
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.before != nil && p.before(w, r) {
		return
	}
	// What is signed is the name of the host, too: it stays.
	(&httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), ModifyResponse: p.after, ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(&url.URL{Scheme: "http", Host: p.to})
			out.Out.Host = out.In.Host
		}}).ServeHTTP(w, r)
}

// halfFails lets every second request fail, one way or another.
func halfFails(to string) (*proxy, *atomic.Int64) {
	var n atomic.Int64
	var cut sync.Map
	return &proxy{to: to,
		before: func(w http.ResponseWriter, r *http.Request) bool {
			switch n.Add(1) % 6 {
			case 1:
				http.Error(w, "busy", http.StatusInternalServerError)
			case 3:
				_, _ = io.CopyN(io.Discard, r.Body, 10)
				panic(http.ErrAbortHandler) // the connection breaks
			case 5:
				cut.Store(r.Header.Get("Amz-Sdk-Invocation-Id")+r.Header.Get("Amz-Sdk-Request"), true)
				return false
			default:
				return false
			}
			return true
		},
		after: func(res *http.Response) error {
			if _, ok := cut.LoadAndDelete(res.Request.Header.Get("Amz-Sdk-Invocation-Id") + res.Request.Header.Get("Amz-Sdk-Request")); ok && res.Request.Method == http.MethodGet {
				// It was done, and the answer comes in half.
				res.Body = struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(res.Body, res.ContentLength/2), broken{}), res.Body}
			} else if ok {
				return errors.New("it was done, and nobody is told")
			}
			return nil
		},
	}, &n
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cut") }

// A bucket of which half of all requests fail has the whole log in the end, and is read.
func TestHalfFails(t *testing.T) {
	host, dir := s3test.Start(t, "127.83.4.3", tools)
	keys(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1") // the library would wait for seconds
	w := scene.New(t, evidence.Lab, 1)
	w.Watch(nil)
	m := w.Monitors[0]
	p, n := halfFails(host)
	web := httptest.NewServer(p)
	defer web.Close()
	address := addressOf(strings.TrimPrefix(web.URL, "http://"), "m1")
	b := open(t, address)
	const most = 30
	for try := 1; ; try++ {
		_, err := b.Push(t.Context(), m.Log, false, nil)
		if err == nil {
			break
		}
		if try == most {
			t.Fatalf("after %d pushes: %v", most, err)
		}
	}
	pushed := n.Load()
	want := exported(t, m.Log)
	same(t, withoutPartial(files(t, filepath.Join(dir, "m1")), m.Log.Size()), want)
	copied := t.TempDir()
	for try := 1; ; try++ {
		_, err := mirrored(t, m.Log.Key(), address, copied)
		if err == nil {
			break
		}
		if try == most {
			t.Fatalf("after %d looks: %v", most, err)
		}
	}
	same(t, withoutPartial(files(t, copied), m.Log.Size()), want)
	t.Logf("%d requests to push %d files, %d to read them", pushed, len(want), n.Load()-pushed)
}

// A process that pushes is killed (SIGKILL) at each of its requests, before the bucket is
// asked and after it has done what it was asked for. What the bucket shows after that is
// there; the next process brings it to the whole log.
func TestKilled(t *testing.T) {
	if address := os.Getenv("KILLED_BUCKET"); address != "" {
		pushUntilKilled(t, address)
		return
	}
	host, dir := s3test.Start(t, "127.83.4.4", tools)
	keys(t)
	_, m := watched(t)
	want := exported(t, m.Log)
	begun, steps := 0, 1
	if testing.Short() {
		steps = 7
	}
	for after := 0; after < 2; after++ {
		for at := 1; ; at += steps {
			prefix := fmt.Sprintf("k%d-%d", after, at)
			if !killedAt(t, m, host, prefix, at, after == 1) {
				if at < 20 {
					t.Errorf("a push has only %d requests", at)
				}
				break
			}
			there := filepath.Join(dir, prefix)
			if got := files(t, dir)[prefix+"/checkpoint"]; got != "" {
				begun++
				if r, err := mirrored(t, m.Log.Key(), addressOf(host, prefix), t.TempDir()); err != nil || r.Size == 0 {
					t.Errorf("killed at request %d: what is shown is not there: %+v, %v", at, r, err)
				}
			}
			push(t, open(t, addressOf(host, prefix)), m.Log, false)
			same(t, withoutPartial(files(t, there), m.Log.Size()), want)
		}
	}
	if begun == 0 {
		t.Error("no kill left a checkpoint behind")
	}
}

// killedAt starts a process that pushes and kills it at one of its requests; false: it had
// fewer.
func killedAt(t *testing.T, m *scene.Watcher, host, prefix string, at int, after bool) bool {
	t.Helper()
	var n atomic.Int64
	var child *exec.Cmd
	started := make(chan struct{})
	kill := func() { <-started; _ = child.Process.Kill() }
	p := &proxy{to: host}
	p.before = func(http.ResponseWriter, *http.Request) bool {
		if n.Add(1) == int64(at) && !after {
			kill()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	p.after = func(*http.Response) error {
		if n.Load() >= int64(at) && after {
			kill()
		}
		return nil
	}
	web := httptest.NewServer(p)
	defer web.Close()
	child = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
	child.Env = append(os.Environ(), "KILLED_BUCKET="+addressOf(strings.TrimPrefix(web.URL, "http://"), prefix), "KILLED_LOG="+m.Dir)
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	must(t, child.Start())
	close(started)
	err := child.Wait()
	if err != nil && n.Load() < int64(at) {
		t.Fatalf("the process said %s", said.String())
	}
	return err != nil
}

// pushUntilKilled is the process.
func pushUntilKilled(t *testing.T, address string) {
	l, err := store.OpenRead(os.Getenv("KILLED_LOG"))
	must(t, err)
	b, err := bucket.Open(context.Background(), address, bucket.Options{PerSecond: 1e6})
	must(t, err)
	_, err = b.Push(context.Background(), l, false, nil)
	must(t, err)
}

// What somebody puts into the bucket who may write there is refused by whoever reads it.
func TestHostileBucket(t *testing.T) {
	host, dir := s3test.Start(t, "127.83.4.5", tools)
	keys(t)
	w, m := watched(t)
	b := open(t, addressOf(host, "m1"))
	push(t, b, m.Log, false)
	push(t, open(t, addressOf(host, "m2")), w.Monitors[1].Log, false)
	there := filepath.Join(dir, "m1")
	others := files(t, filepath.Join(dir, "m2"))
	held := filepath.Join(t.TempDir(), "held")
	_, err := mirrored(t, m.Log.Key(), addressOf(host, "m1"), held)
	must(t, err)
	more(w, m)
	push(t, b, m.Log, false)
	good := files(t, there)
	for name, tc := range map[string]struct {
		put  map[string]string
		want string
		held bool // by the copy
	}{
		"swapped records":       {map[string]string{"records/00000000.jsonl": good["records/00000001.jsonl"], "records/00000001.jsonl": good["records/00000000.jsonl"]}, "block 0", false},
		"swapped tiles":         {map[string]string{"tile/0/000": strings.Repeat("x", len(good["tile/0/000"]))}, "", false},
		"swapped entries":       {map[string]string{"tile/entries/000": good["tile/entries/001.p/48"]}, "tile/entries/000", false},
		"a foreign checkpoint":  {map[string]string{"checkpoint": others["checkpoint"]}, "checkpoint", false},
		"an old checkpoint":     {map[string]string{"checkpoint": good["checkpoints/00000302"]}, mirror.ErrShrunk.Error(), true},
		"too long a tile":       {map[string]string{"tile/0/000": strings.Repeat("x", 2<<20)}, "more than", false},
		"too long records":      {map[string]string{"records/00000000.jsonl": strings.Repeat("x", 8<<20)}, "records/00000000.jsonl", false},
		"too long a checkpoint": {map[string]string{"checkpoint": strings.Repeat("x", 2<<20)}, "more than", false},
		"nothing":               {map[string]string{"checkpoint": ""}, "checkpoint", false},
	} {
		t.Run(name, func(t *testing.T) {
			for file, text := range tc.put {
				must(t, os.WriteFile(filepath.Join(there, file), []byte(text), 0o644))
			}
			defer func() {
				for file := range tc.put {
					must(t, os.WriteFile(filepath.Join(there, file), []byte(good[file]), 0o644))
				}
			}()
			copied := filepath.Join(t.TempDir(), "copy")
			if tc.held {
				must(t, os.CopyFS(copied, os.DirFS(held)))
			}
			r, err := mirrored(t, m.Log.Key(), addressOf(host, "m1"), copied)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("mirrored %+v, got %v, want %q", r, err, tc.want)
			}
			if size := map[bool]int64{true: 304, false: 0}[tc.held]; r.Size != size {
				t.Errorf("the copy has %d hours, want %d", r.Size, size)
			}
		})
	}
	t.Run("an endless body", func(t *testing.T) {
		endless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			block := bytes.Repeat([]byte("x"), 64<<10)
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}))
		defer endless.Close()
		if _, err := mirrored(t, m.Log.Key(), addressOf(strings.TrimPrefix(endless.URL, "http://"), "m1"), t.TempDir()); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("got %v", err)
		}
	})
}

// A reader whose disk is full stops before it takes room that others need, keeps what it has,
// and goes on when there is room. The disk is a real one.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("FULL_FILE_SYSTEM"); dir != "" {
		readOnAFullDisk(t, dir)
		return
	}
	need.Root(t)
	host, _ := s3test.Start(t, "127.83.4.7", tools)
	keys(t)
	_, m := watched(t)
	push(t, open(t, addressOf(host, "m1")), m.Log, false)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	child.Env = append(os.Environ(), "FULL_FILE_SYSTEM="+t.TempDir(), "FULL_ADDRESS="+addressOf(host, "m1"), "FULL_KEY="+m.Log.Key())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func readOnAFullDisk(t *testing.T, dir string) {
	address, key := os.Getenv("FULL_ADDRESS"), os.Getenv("FULL_KEY")
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	copied, read := filepath.Join(dir, "copy"), filepath.Join(dir, "read")
	remote := func() error {
		r, err := mirror.OpenRemote(t.Context(), mirror.Options{From: address, Dir: read, PerSecond: 1e6})
		if err != nil {
			return err
		}
		defer r.Close()
		s, err := r.Open(key)
		if err != nil {
			return err
		}
		lines, err := s.RecordLines(0)
		if err == nil && len(lines) != 1 {
			err = fmt.Errorf("%d records", len(lines))
		}
		return err
	}
	const full = "MB are free"
	if r, err := mirrored(t, key, address, copied); err == nil || !strings.Contains(err.Error(), full) || r.Size != 0 {
		t.Errorf("a mirror: %+v, %v", r, err)
	}
	if err := remote(); err == nil || !strings.Contains(err.Error(), full) {
		t.Errorf("a reader: %v", err)
	}
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=400m"))
	if r, err := mirrored(t, key, address, copied); err != nil || r.Size != 304 {
		t.Errorf("a mirror, with room: %+v, %v", r, err)
	}
	if err := remote(); err != nil {
		t.Errorf("a reader, with room: %v", err)
	}
}

// Wrong keys and buckets that are not there are told in words, at once, without a secret.
func TestNotReached(t *testing.T) {
	host, _ := s3test.Start(t, "127.83.4.6", tools)
	keys(t)
	_, m := watched(t)
	t.Run("no such bucket", func(t *testing.T) {
		_, err := open(t, "s3://nobodys?endpoint=http://"+host).Push(t.Context(), m.Log, false, nil)
		if err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
		_, err := open(t, addressOf(host, "m1")).Push(t.Context(), m.Log, false, nil)
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "not-the-secret") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}))
		defer silent.Close()
		if _, err := open(t, addressOf(strings.TrimPrefix(silent.URL, "http://"), "m1")).Push(ctx, m.Log, false, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		defer silent.Close()
		b, err := bucket.Open(t.Context(), addressOf(strings.TrimPrefix(silent.URL, "http://"), "m1"), bucket.Options{Pause: time.Millisecond, Within: 10 * time.Millisecond})
		must(t, err)
		defer b.Close()
		if _, err := b.Push(t.Context(), m.Log, false, nil); err == nil || !strings.Contains(err.Error(), "too slowly") {
			t.Errorf("got %v", err)
		}
	})
}
