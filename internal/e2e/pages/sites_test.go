package pages

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/demo"
	"github.com/psf-relay/relay-appliance/internal/month"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/monitor/browser"
)

// programs are built once, for what is run here.
func programs(t *testing.T) string {
	t.Helper()
	return need.Programs(t, "../../..", "./relay/cmd/relayd", "./monitor/cmd/relaymon", "./monitor/cmd/relayaudit")
}

// output waits for what a pattern finds in everything that was printed.
type output struct {
	mu    sync.Mutex
	text  []byte
	want  *regexp.Regexp
	found chan []string
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text = append(o.text, b...)
	if m := o.want.FindStringSubmatch(string(o.text)); m != nil {
		select {
		case o.found <- m:
		default: // it was found before
		}
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text)
}

// long bounds what a month takes on a machine that is busy.
const long = 20 * time.Minute

// stay runs something until the test ends, and returns what the pattern finds in its output.
func stay(t *testing.T, pattern string, run func(context.Context, io.Writer) error) []string {
	t.Helper()
	o := &output{want: regexp.MustCompile(pattern), found: make(chan []string, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, o); close(done) }()
	t.Cleanup(func() { cancel(); must(t, <-done) })
	select {
	case m := <-o.found:
		return m
	case err := <-done:
		t.Fatalf("it ended before it printed %s: %v\n%s", pattern, err, o)
	case <-time.After(long):
		t.Fatalf("it did not print %s:\n%s", pattern, o)
	}
	return nil
}

// told is a month of a lab: its monitor's pages, and the verdicts.
type told struct {
	url string // of the front page
	dir string
	// flaky is the month of a relay that is down each night.
	flaky, relay string
}

// tell runs the last days of the month; 0: all of it.
func tell(t *testing.T, programs string, days int) told {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "month")
	m := stay(t, `\n   (http://\S+/)\n[\s\S]*(http://\S+/relay/(\w+)/\S+)   flaky\n[\s\S]*Ctrl-C`, func(ctx context.Context, out io.Writer) error {
		return month.Run(ctx, month.Options{Programs: programs, Dir: dir, Days: days, Out: out})
	})
	return told{url: m[1], flaky: m[2], relay: m[3], dir: dir}
}

// shown is the demo: a relay and a monitor.
type shown struct {
	relay, monitor string // their front pages
	roots          []byte
}

// names are where the demo's relay is.
var names = map[string]netip.Addr{"relay.test": netip.MustParseAddr("127.0.0.2")}

func show(t *testing.T, programs string) shown {
	t.Helper()
	dir := t.TempDir()
	m := stay(t, `GET (https://\S+/) [\s\S]*status page: (http://\S+)`, func(ctx context.Context, out io.Writer) error {
		return demo.Run(ctx, demo.Options{Programs: programs, State: dir, Out: out})
	})
	roots, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	must(t, err)
	s := shown{relay: m[1], monitor: m[2], roots: roots}
	for last := errors.New("never asked"); last != nil; { // its monitor was started only now
		if t.Context().Err() != nil {
			t.Fatalf("the demo's monitor does not answer: %v", last)
		}
		var res *http.Response
		if res, last = s.client().Get(s.monitor); last == nil {
			last = res.Body.Close()
		} else {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return s
}

// client asks as a visitor does who knows the demo's names and trusts its CA.
func (s shown) client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.roots)
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(addr)
			if ip, ok := names[host]; ok && err == nil {
				addr = net.JoinHostPort(ip.String(), port)
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}}
}

// check is the address of the page on which the visitor's browser tries the relay.
func (s shown) check(t *testing.T) string {
	t.Helper()
	_, _, page := get(t, s.client(), s.relay+"check/")
	addr := regexp.MustCompile(`/dns4/relay\.test/[^\s<]+`).FindString(page)
	if addr == "" {
		t.Fatalf("the check page does not offer the relay's own address:\n%s", page)
	}
	return s.relay + "check/?" + url.Values{"relay": {addr}}.Encode()
}

func (s shown) options() browser.Options {
	return browser.Options{Resolve: names, RootsPEM: s.roots}
}

// goldens are the verdicts' pages of the golden bundles, as files.
func goldens(t *testing.T, programs string) map[string]string {
	t.Helper()
	bundles, err := filepath.Glob("../../../monitor/bundle/testdata/golden/*/bundle.zip")
	must(t, err)
	if len(bundles) < 4 {
		t.Fatalf("got %d golden bundles, want 4 at least", len(bundles))
	}
	files := map[string]string{}
	for _, b := range bundles {
		dir := filepath.Dir(b)
		name := filepath.Base(dir)
		committee, err := os.ReadFile(filepath.Join(dir, "committee.txt"))
		must(t, err)
		files[name] = filepath.Join(t.TempDir(), name+".html")
		// Its exit code is the verdict's; whether the page is there is what counts.
		out, _ := exec.CommandContext(t.Context(), filepath.Join(programs, "relayaudit"), "verify", b, "--html", files[name],
			"--rules", filepath.Join(dir, "rules.yaml"), "--roster", filepath.Join(dir, "roster.yaml"), "--committee", string(committee)).CombinedOutput()
		if _, err := os.Stat(files[name]); err != nil {
			t.Fatalf("relayaudit wrote no page of %s: %v\n%s", b, err, out)
		}
	}
	return files
}
