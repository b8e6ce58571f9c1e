package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newLog makes a log that began three hours before now.
func newLog(t testing.TB, name string) *store.Log {
	t.Helper()
	return newLogIn(t, filepath.Join(t.TempDir(), "log"), name)
}

func newLogIn(t testing.TB, dir, name string) *store.Log {
	t.Helper()
	l, err := store.Create(dir, store.Options{
		Name: name, Network: evidence.Lab, First: evidence.HourOf(time.Now()) - 3,
	})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// grow seals until the log has so many blocks.
func grow(t testing.TB, l *store.Log, blocks int64) {
	t.Helper()
	_, err := l.Seal((l.First() + evidence.Hour(blocks)).Start().Add(evidence.CloseAfter))
	must(t, err)
	if l.Size() != blocks {
		t.Fatalf("the log has %d blocks, want %d", l.Size(), blocks)
	}
}

// serve is a witness on loopback for logs with these keys.
func serve(t testing.TB, owner *store.Log, keys ...string) (*Witness, *httptest.Server) {
	t.Helper()
	w, err := witnessOf(owner)
	must(t, err)
	srv := httptest.NewServer(Handler(w, func() []string { return append([]string(nil), keys...) }, slog.New(slog.DiscardHandler)))
	t.Cleanup(srv.Close)
	return w, srv
}

func client(t testing.TB, srv *httptest.Server, w *Witness, l *store.Log) *Client {
	t.Helper()
	c, err := NewClient(srv.URL+"/", w.Key(), l.Key(), srv.Client())
	must(t, err)
	return c
}

// witnessOf is the own witness of a log's owner.
func witnessOf(l *store.Log) (*Witness, error) {
	dir, key, err := l.Witness()
	if err != nil {
		return nil, err
	}
	return New(dir, key)
}

// requestOf is what a log asks a witness that cosigned it up to a size.
func requestOf(l *store.Log, oldSize int64) (r AddCheckpoint, err error) {
	r.OldSize = oldSize
	r.Checkpoint, r.Proof, err = l.Extension(oldSize)
	return r, err
}

func request(t testing.TB, l *store.Log, old int64) AddCheckpoint {
	t.Helper()
	r, err := requestOf(l, old)
	must(t, err)
	return r
}

func TestCosignature(t *testing.T) {
	l := newLog(t, "m1")
	w, srv := serve(t, newLog(t, "m2"), l.Key())
	c := client(t, srv, w, l)
	if raw, err := c.Latest(t.Context()); err != nil || raw != nil {
		t.Fatalf("of a log it never saw it has %q, %v", raw, err)
	}
	grow(t, l, 1)
	before := time.Now().Truncate(time.Second)
	line, at, err := c.Add(t.Context(), request(t, l, 0))
	must(t, err)
	if at.Before(before) || at.After(time.Now()) {
		t.Errorf("cosigned at %s, want now", at)
	}
	must(t, l.AddCosignatures(1, line, w.Key()))

	grow(t, l, 3)
	var conflict *ConflictError
	if _, _, err := c.Add(t.Context(), request(t, l, 0)); !errors.As(err, &conflict) || conflict.Size != 1 {
		t.Fatalf("with a wrong size: %v", err)
	}
	line, _, err = c.Add(t.Context(), request(t, l, conflict.Size))
	must(t, err)
	must(t, l.AddCosignatures(3, line, w.Key()))
	want, err := l.Checkpoint()
	must(t, err)
	last, err := c.Latest(t.Context())
	must(t, err)
	if !bytes.Equal(last, want) {
		t.Errorf("it remembers\n%s\nnot\n%s", last, want)
	}
	must(t, l.Confront(last))
	again, _, err := c.Add(t.Context(), request(t, l, 3))
	if err != nil || !bytes.Equal(again, line) {
		t.Errorf("the same checkpoint once more: %q, %v, want the cosignature it has, %q", again, err, line)
	}
}

// The statuses are those of the specification.
func TestStatuses(t *testing.T) {
	l, stranger, other := newLog(t, "m1"), newLog(t, "m3"), newLog(t, "m1") // other: a second history of m1's name
	w, srv := serve(t, newLog(t, "m2"), l.Key())
	grow(t, l, 2)
	grow(t, stranger, 1)
	grow(t, other, 2)
	_, _, err := client(t, srv, w, l).Add(t.Context(), request(t, l, 0))
	must(t, err)
	grow(t, l, 3)
	good := request(t, l, 2)
	wrong := good
	wrong.Proof = append([]evidence.Hash{{1}}, good.Proof[1:]...)
	tooOld := good
	tooOld.OldSize = 4
	for name, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"unknown log":       {"POST", "/add-checkpoint", string(request(t, stranger, 0).Bytes()), 404},
		"another key":       {"POST", "/add-checkpoint", string(request(t, other, 2).Bytes()), 403},
		"no proof":          {"POST", "/add-checkpoint", strings.Replace(string(good.Bytes()), good.Proof[0].String()+"\n", "", 1), 422},
		"wrong proof":       {"POST", "/add-checkpoint", string(wrong.Bytes()), 422},
		"size too large":    {"POST", "/add-checkpoint", string(tooOld.Bytes()), 400},
		"conflict":          {"POST", "/add-checkpoint", string(request(t, l, 1).Bytes()), 409},
		"nothing":           {"POST", "/add-checkpoint", "", 400},
		"garbage":           {"POST", "/add-checkpoint", "old x\n\nm1/relaymon/lab\n", 400},
		"no checkpoint":     {"POST", "/add-checkpoint", "old 0\n\nm1/relaymon/lab\n", 403},
		"too long":          {"POST", "/add-checkpoint", strings.Repeat("x", maxBody+1), 413},
		"not a post":        {"GET", "/add-checkpoint", "", 405},
		"unknown hash":      {"GET", "/" + originHash(stranger.Origin()) + "/checkpoint", "", 404},
		"no hash":           {"GET", "/x/checkpoint", "", 404},
		"known hash":        {"GET", "/" + originHash(l.Origin()) + "/checkpoint", "", 200},
		"known hash posted": {"POST", "/" + originHash(l.Origin()) + "/checkpoint", "", 405},
		"elsewhere":         {"GET", "/", "", 404},
	} {
		req, err := http.NewRequest(c.method, srv.URL+c.path, strings.NewReader(c.body))
		must(t, err)
		resp, err := srv.Client().Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d %q, want %d", name, resp.StatusCode, body, c.status)
		}
		if c.status == 409 && (resp.Header.Get("Content-Type") != sizeType || string(body) != "2\n") {
			t.Errorf("%s: %q of type %s", name, body, resp.Header.Get("Content-Type"))
		}
	}
}

// A log that has got a new key begins a history of its own beside the old one.
func TestNewKey(t *testing.T) {
	before, after := newLog(t, "m1"), newLog(t, "m1")
	w, srv := serve(t, newLog(t, "m2"), before.Key(), after.Key())
	grow(t, before, 3)
	grow(t, after, 1)
	for _, l := range []*store.Log{before, after} {
		c := client(t, srv, w, l)
		_, _, err := c.Add(t.Context(), request(t, l, 0))
		must(t, err)
		// Asked for by its origin, it is the newer one of which anything was cosigned.
		want, err := l.Checkpoint()
		must(t, err)
		if last, err := c.Latest(t.Context()); err != nil || !bytes.HasPrefix(last, want) {
			t.Errorf("it remembers\n%s%v, want\n%s", last, err, want)
		}
	}
	if last, err := client(t, srv, w, before).Latest(t.Context()); err == nil {
		t.Errorf("under the old key it shows\n%s", last)
	}
}

// A log that signs two histories is refused, and the proof of it is kept.
func TestFork(t *testing.T) {
	owner := newLog(t, "m2")
	dir, older := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "older")
	l := newLogIn(t, dir, "m1")
	must(t, os.CopyFS(older, os.DirFS(dir)))
	w, srv := serve(t, owner, l.Key())
	c := client(t, srv, w, l)
	grow(t, l, 1)
	_, _, err := c.Add(t.Context(), request(t, l, 0))
	must(t, err)
	// The same log, gone on from a copy that was made before the first block.
	copied, err := store.Open(older)
	must(t, err)
	defer copied.Close()
	must(t, copied.Begin(copied.First(), copied.First().Start(), "other"))
	grow(t, copied, 1)
	if _, _, err := c.Add(t.Context(), request(t, copied, 1)); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("cosigned a fork: %v", err)
	}
	fork, err := copied.Checkpoint()
	must(t, err)
	forks, err := owner.Forks()
	must(t, err)
	own, err := l.Checkpoint()
	must(t, err)
	pair, err := evidence.NewFork(own, fork, l.Key())
	must(t, err)
	if len(forks) != 1 || !bytes.Equal(forks[0], pair) {
		t.Errorf("kept %q as proof, want %q", forks, pair)
	}
	grow(t, copied, 2)
	if _, _, err := c.Add(t.Context(), request(t, copied, 1)); !errors.Is(err, ErrInconsistent) {
		t.Fatalf("cosigned what follows a fork: %v", err)
	}
}

// A server that lies, dawdles or babbles costs the client an error and nothing else.
func TestBadWitnesses(t *testing.T) {
	l := newLog(t, "m1")
	grow(t, l, 1)
	good, goodServer := serve(t, newLog(t, "m2"), l.Key())
	stranger, strangerServer := serve(t, newLog(t, "m3"), l.Key())
	theirs, _, err := client(t, strangerServer, stranger, l).Add(t.Context(), request(t, l, 0))
	must(t, err)
	foreign := newLog(t, "m4")
	grow(t, foreign, 1)
	checkpoint, err := foreign.Checkpoint()
	must(t, err)
	reached := false
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if k, v, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(k, v)
			}
			if r.URL.Path == "/elsewhere" {
				reached = true
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"another witness's":    answer(200, "", string(theirs)),
		"empty":                answer(200, "", ""),
		"garbage":              answer(200, "", "\x00\xff\n"),
		"another log's":        answer(200, "", string(checkpoint)),
		"endless":              answer(200, "", strings.Repeat("x", maxAnswer+1)),
		"error":                answer(500, "", "no\x1b[31m"),
		"moved":                answer(307, "Location: /elsewhere", ""),
		"conflict with page":   answer(409, "", "<html>"),
		"conflict, other type": answer(409, "Content-Type: text/plain", "1\n"),
		"conflict, odd number": answer(409, "Content-Type: "+sizeType, "+1\n"),
		"conflict, no newline": answer(409, "Content-Type: "+sizeType, "1"),
		"conflict, negative":   answer(409, "Content-Type: "+sizeType, "-1\n"),
		"slow": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"closing": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		srv := httptest.NewServer(h)
		c := client(t, srv, good, l)
		c.timeout = 100 * time.Millisecond
		var conflict *ConflictError
		line, _, err := c.Add(t.Context(), request(t, l, 0))
		if err == nil || errors.As(err, &conflict) {
			t.Errorf("%s: got %q, %v", name, line, err)
		} else if strings.ContainsAny(err.Error(), "\x1b\x00") {
			t.Errorf("%s: foreign bytes in %q", name, err)
		}
		if raw, err := c.Latest(t.Context()); err == nil {
			t.Errorf("%s: has %q", name, raw)
		}
		srv.CloseClientConnections()
		srv.Close()
	}
	if reached {
		t.Error("a request was sent on to another address")
	}
	c := client(t, goodServer, good, l)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Add(ctx, request(t, l, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	goodServer.Close()
	if _, _, err := c.Add(t.Context(), request(t, l, 0)); err == nil {
		t.Error("a witness that is not there has cosigned")
	}
}

func TestNewClientRefuses(t *testing.T) {
	l := newLog(t, "m1")
	for _, base := range []string{"", "witness.example.org", "ftp://example.org", "https://", "https://a/?x", "https://a/#x", "https://u:p@a/", "::"} {
		if _, err := NewClient(base, "", l.Key(), http.DefaultClient); err == nil {
			t.Errorf("%q is taken for an address", base)
		}
	}
	if _, err := NewClient("https://a", "", "x", http.DefaultClient); err == nil {
		t.Error("x is taken for the key of a log")
	}
}

func TestLimits(t *testing.T) {
	_, srv := serve(t, newLog(t, "m2"))
	get := func(forwarded string) int {
		req, err := http.NewRequest("GET", srv.URL+"/x/checkpoint", nil)
		must(t, err)
		req.Header.Set("X-Forwarded-For", forwarded)
		resp, err := srv.Client().Do(req)
		must(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	flood := func(forwarded func(i int) string) (refused int) {
		for i := range 2 * rates.Burst {
			if get(forwarded(i)) == http.StatusTooManyRequests {
				refused++
			}
		}
		return refused
	}
	if flood(func(int) string { return "203.0.113.7" }) == 0 {
		t.Error("one client is never refused")
	}
	if got := get("203.0.113.8"); got != http.StatusNotFound {
		t.Errorf("another client gets %d beside it", got)
	}
	if flood(func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }) == 0 {
		t.Error("one IPv6 network counts as many clients")
	}
}

// Whatever anybody sends, the witness does not break, and signs nothing but what
// the log has signed.
func FuzzAddCheckpoint(f *testing.F) {
	l := newLog(f, "m1")
	grow(f, l, 1)
	w, err := witnessOf(newLog(f, "m2"))
	must(f, err)
	s := &server{witness: w, logs: func() []string { return []string{l.Key()} }, log: slog.New(slog.DiscardHandler), now: time.Now}
	checkpoint, err := l.Checkpoint()
	must(f, err)
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	f.Add(request(f, l, 0).Bytes())
	f.Add(request(f, l, 1).Bytes())
	f.Add([]byte("old 0\n\nm1/relaymon/lab\n1\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		rec := httptest.NewRecorder()
		s.addCheckpoint(rec, httptest.NewRequest("POST", "/add-checkpoint", bytes.NewReader(body)))
		if rec.Code >= 500 || rec.Code == 200 && !bytes.Contains(body, text) {
			t.Fatalf("%q: %d %q", body, rec.Code, rec.Body)
		}
	})
}

// FuzzAnswer is what a witness may send to a client.
func FuzzAnswer(f *testing.F) {
	l := newLog(f, "m1")
	grow(f, l, 1)
	w, srv := serve(f, newLog(f, "m2"), l.Key())
	line, _, err := client(f, srv, w, l).Add(f.Context(), request(f, l, 0))
	must(f, err)
	f.Add(200, "", line)
	f.Add(409, sizeType, []byte("1\n"))
	f.Add(409, sizeType, []byte("01\n"))
	f.Add(404, "", []byte("x"))
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		c := client(t, srv, w, l)
		c.http = &http.Client{Transport: canned{status, kind, body}}
		got, _, err := c.Add(t.Context(), request(t, l, 0))
		if err == nil && !bytes.Equal(got, line) {
			t.Fatalf("took %q", got)
		}
		if raw, err := c.Latest(t.Context()); err == nil && raw != nil && !bytes.Contains(raw, []byte(l.Origin())) {
			t.Fatalf("took %q", raw)
		}
	})
}

type canned struct {
	status int
	kind   string
	body   []byte
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(bytes.NewReader(c.body))}, nil
}

// The type of a size may have parameters.
func TestConflictWithParameters(t *testing.T) {
	var conflict *ConflictError
	if err := conflictIn(sizeType+"; charset=utf-8", []byte("7\n")); !errors.As(err, &conflict) || conflict.Size != 7 {
		t.Errorf("got %v, want a conflict with size 7", err)
	}
}
