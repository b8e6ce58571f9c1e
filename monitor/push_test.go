package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/psf-relay/relay-appliance/internal/s3test"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/store"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

func bucketAddress(t *testing.T, ip string) (address, dir string) {
	t.Helper()
	host, dir := s3test.Start(t, ip, "../internal/tools")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": s3test.Access, "AWS_SECRET_ACCESS_KEY": s3test.Secret, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	return "s3://" + s3test.Bucket + "?endpoint=http://" + host, dir
}

// page is what the front page and its JSON say.
func page(t *testing.T, m *Monitor) (html string, status struct {
	Bucket *struct {
		Address, At, Error string
		Known              bool
		Size, Behind       int64
	}
}) {
	t.Helper()
	get := func(path string) []byte {
		w := httptest.NewRecorder()
		m.pages().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Fatalf("%s answers %d", path, w.Code)
		}
		return w.Body.Bytes()
	}
	must(t, json.Unmarshal(get("/status.json"), &status))
	return string(get("/")), status
}

// What the bucket has, lacks or refuses stands on the page, in the JSON, in the metrics and
// in alerts; a restart ends none of them.
func TestPushIsShown(t *testing.T) {
	m, _, out := published(t)
	if html, status := page(t, m); status.Bucket != nil || strings.Contains(html, "Bucket.") || strings.Contains(metrics(t, m), "relaymon_bucket") {
		t.Errorf("without a bucket: %+v", status.Bucket)
	}
	m.push(t.Context(), time.Now()) // into none
	dir := filepath.Join(out, "log")
	m.cfg.Publish.Bucket = "file://" + dir
	if html, status := page(t, m); status.Bucket == nil || status.Bucket.Known || status.Bucket.Behind != 2 || !strings.Contains(html, dir) {
		t.Errorf("before the first push: %+v", status.Bucket)
	}
	alerts := func(now time.Time) (names []string) {
		o, err := m.overview(now)
		must(t, err)
		for _, a := range m.monitorAlerts(&o, now) {
			if strings.HasPrefix(a.Name, "Bucket") {
				names = append(names, a.Name+": "+a.Summary)
			}
		}
		return names
	}
	now := time.Now()
	m.push(t.Context(), now)
	html, status := page(t, m)
	if b := status.Bucket; b == nil || !b.Known || b.Size != 2 || b.Behind != 0 || b.Error != "" || b.At == "" || !strings.Contains(html, "2 hours") {
		t.Errorf("after it: %+v", b)
	}
	if got := metrics(t, m); !strings.Contains(got, "relaymon_bucket_behind_hours 0\n") || !strings.Contains(got, "relaymon_bucket_failed 0\n") || !strings.Contains(got, "relaymon_bucket_whole_timestamp_seconds ") {
		t.Errorf("metrics: %s", got)
	}

	// It cannot be written to.
	_, err := m.store.Seal((m.store.First() + 4).Start().Add(evidence.CloseAfter))
	must(t, err)
	taken, err := tiles.OpenFolder(dir)
	must(t, err)
	m.push(t.Context(), now.Add(time.Hour))
	if _, status := page(t, m); status.Bucket.Behind != 2 || !strings.Contains(status.Bucket.Error, "in use") || status.Bucket.At != "" {
		t.Errorf("while it fails: %+v", status.Bucket)
	}
	if got := metrics(t, m); !strings.Contains(got, "relaymon_bucket_behind_hours 2\n") || !strings.Contains(got, "relaymon_bucket_failed 1\n") || strings.Contains(got, "bucket_whole") {
		t.Errorf("metrics: %s", got)
	}
	if got := alerts(now.Add(3*time.Hour - time.Second)); len(got) != 0 {
		t.Errorf("too early: %q", got)
	}
	if got := alerts(now.Add(3 * time.Hour)); len(got) != 1 || !strings.HasPrefix(got[0], "BucketBehind: monitor m1: the bucket has not had the whole log since ") || !strings.Contains(got[0], "in use") {
		t.Errorf("in time: %q", got)
	}
	must(t, taken.Close())
	m.push(t.Context(), now.Add(4*time.Hour))
	if got := alerts(now.Add(5 * time.Hour)); len(got) != 0 {
		t.Errorf("when it goes again: %q", got)
	}

	// It is another log's.
	other, err := store.Create(filepath.Join(out, "other"), store.Options{Name: "m2", Network: evidence.Lab, First: m.store.First()})
	must(t, err)
	defer other.Close()
	_, err = other.Seal((other.First() + 2).Start().Add(evidence.CloseAfter))
	must(t, err)
	raw, err := other.CheckpointOf(2)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "checkpoint"), raw, 0o644))
	m.push(t.Context(), now.Add(5*time.Hour))
	if got := alerts(now.Add(5 * time.Hour)); len(got) != 1 || !strings.HasPrefix(got[0], "BucketNotThisLog: ") || !strings.Contains(got[0], "of another log") {
		t.Errorf("when it is another log's: %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "checkpoint")); err != nil || !bytes.Equal(b, raw) {
		t.Errorf("it was written over: %v", err)
	}
}

func metrics(t *testing.T, m *Monitor) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(numbers{m})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// Each bundle goes into the bucket, also without a command; where one of both fails, only
// that is done again.
func TestPublishIntoABucket(t *testing.T) {
	address, dir := bucketAddress(t, "127.83.5.1")
	m, month, _ := published(t)
	m.cfg.Publish.Bucket, m.cfg.Publish.Daily = address, true
	there := filepath.Join(dir, "bundles", month.String(), bundle.Name(m.basis().roster.Relays[0].PeerID, month))
	verdict := func() bool {
		t.Helper()
		b, err := os.ReadFile(there)
		must(t, err)
		rules, err := os.ReadFile(m.cfg.Rules)
		must(t, err)
		roster, err := os.ReadFile(m.cfg.Roster)
		must(t, err)
		res, err := bundle.Verify(bytes.NewReader(b), int64(len(b)), bundle.Options{Rules: rules, Roster: roster})
		must(t, err)
		return res.Verdict.Final
	}
	m.publish(t.Context(), (month.First() + 100).Start())
	if verdict() || m.tried(t, month).Final {
		t.Error("the bundle of a day is final")
	}
	final := month.End().Start().Add(100 * time.Hour)
	_, err := m.store.Seal(final)
	must(t, err)
	m.cfg.Publish.Command = []string{"false"}
	m.publish(t.Context(), final)
	if p := m.tried(t, month); !verdict() || p.Final || !p.Sent || p.Ran {
		t.Errorf("the command failed: %+v", p)
	}
	must(t, os.Remove(there))
	m.cfg.Publish.Command = []string{"true"}
	m.publish(t.Context(), final.Add(24*time.Hour))
	if p := m.tried(t, month); !p.Final {
		t.Errorf("when it is mended: %+v", p)
	}
	if _, err := os.Stat(there); err == nil {
		t.Error("it was sent a second time")
	}
}

// A bundle with another's log from a bucket is the one with it from a folder, and of the
// bucket no more is read than once.
func TestBundleFromABucket(t *testing.T) {
	address, dir := bucketAddress(t, "127.83.5.2")
	m, month, out := published(t)
	other, err := store.Create(filepath.Join(out, "other"), store.Options{Name: "m2", Network: evidence.Lab, First: month.First()})
	must(t, err)
	defer other.Close()
	for _, l := range []*store.Log{m.store, other} {
		_, err = l.Seal(month.End().Start().Add(100 * time.Hour))
		must(t, err)
	}
	roster, err := os.ReadFile(m.cfg.Roster)
	must(t, err)
	must(t, os.WriteFile(m.cfg.Roster, bytes.Replace(roster, []byte("relays:"), fmt.Appendf(nil, "- {name: m2, operator: others, log_key: %q, from: %q}\nrelays:", other.Key(), month.First()), 1), 0o644))
	b, err := bucket.Open(t.Context(), address, bucket.Options{PerSecond: 1e6})
	must(t, err)
	defer b.Close()
	_, err = b.Push(t.Context(), other, false, nil)
	must(t, err)
	folder := filepath.Join(out, "folder")
	_, err = tiles.Export(t.Context(), other, folder, nil)
	must(t, err)
	written := map[string][]byte{}
	q := BundleRequest{Relay: m.basis().roster.Relays[0].PeerID, Month: month, AsOf: month.End().Start().Add(100 * time.Hour), Fetched: filepath.Join(out, "fetched")}
	for _, from := range []string{folder, "file://" + folder, address} {
		q.From = []string{from}
		file := filepath.Join(out, "b.zip")
		_, err := WriteBundle(t.Context(), m.cfg, q, file)
		must(t, err)
		written[from], err = os.ReadFile(file)
		must(t, err)
		logs, _, err := bundle.Logs(bytes.NewReader(written[from]), int64(len(written[from])))
		if err != nil || len(logs) != 2 || !slices.ContainsFunc(logs, func(l evidence.MonitorMonth) bool { return l.Key == other.Key() && len(l.Headers) > 0 }) {
			t.Errorf("from %s: %d logs, %v", from, len(logs), err)
		}
		if !bytes.Equal(written[from], written[folder]) {
			t.Errorf("the bundle from %s is another one than that from a folder", from)
		}
	}
	must(t, os.Rename(dir, dir+".away")) // what was read is at hand
	if _, err := WriteBundle(t.Context(), m.cfg, q, filepath.Join(out, "again.zip")); err != nil {
		t.Error(err)
	}
	must(t, os.Rename(dir+".away", dir))

	// What is not the log's is refused.
	last := filepath.Join(dir, "checkpoint")
	for what, change := range map[string]struct {
		file string
		data []byte
		want string
	}{
		"tile":       {filepath.Join(dir, "tile/0/001"), bytes.Repeat([]byte("x"), 8192), ""},
		"entries":    {filepath.Join(dir, "tile/entries/000"), []byte("\x00\x01x"), ""},
		"checkpoint": {filepath.Join(dir, "checkpoints/00000720"), []byte("x"), "checkpoints/00000720"},
		"last":       {last, []byte("evil.example.org\n"), "evil.example.org"},
	} {
		good, err := os.ReadFile(change.file)
		must(t, err)
		must(t, os.WriteFile(change.file, change.data, 0o644))
		q.Fetched = ""
		_, err = WriteBundle(t.Context(), m.cfg, q, filepath.Join(out, "bad.zip"))
		if err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("another %s: %v, want %q", what, err, change.want)
		}
		must(t, os.WriteFile(change.file, good, 0o644))
	}
	q.From = []string{"s3://bucket"}
	var input *bundle.InputError
	if _, err := WriteBundle(t.Context(), m.cfg, q, filepath.Join(out, "bad.zip")); !errors.As(err, &input) {
		t.Errorf("an address that cannot be: %v", err)
	}
}

func TestBucketConfig(t *testing.T) {
	base := "name: m1\ndata_dir: d\nroster: r\npublish:\n"
	c, err := ParseConfig("x", []byte(base+"  bucket: s3://logs?region=eu-central-1\n  from: [gs://others, https://example.org/b.zip?x=1, folder]\n"))
	if err != nil || c.Publish.Bucket == "" {
		t.Error(c.Publish, err)
	}
	_, err = ParseConfig("x", []byte(base+"  bucket: s3://id:sesame@logs/a?key=b\n  from: [gs://others?region=x]\n"))
	for _, want := range []string{"x:5: publish.bucket: it holds credentials", "x:5: publish.bucket: a folder of the bucket", "x:5: publish.bucket: unknown parameter \"key\"", "x:6: publish.from[0]: unknown parameter"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A start with a bucket that does not answer is as quick as one without, and so is the end.
func TestPushHoldsNothingUp(t *testing.T) {
	asked := make(chan struct{}, 100)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer silent.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	m, _, _ := published(t)
	m.cfg.Publish.Bucket = "s3://logs?endpoint=" + silent.URL
	m.log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.push(ctx, time.Now()); close(done) }()
	<-asked
	// While the bucket is waited for, the log is sealed and shown.
	_, err := m.store.Seal((m.store.First() + 4).Start().Add(evidence.CloseAfter))
	must(t, err)
	if _, status := page(t, m); status.Bucket.Known || status.Bucket.Behind != 4 {
		t.Errorf("%+v", status.Bucket)
	}
	cancel()
	<-done
}
