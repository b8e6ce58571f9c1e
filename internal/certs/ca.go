package certs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/psf-relay/relay-appliance/internal/download"
)

const (
	// maxAnswer bounds what is read of an answer; a certificate with its chain takes 4 KiB.
	maxAnswer = 1 << 20
	// clockLimit is how far the machine's clock may be from the CA's. Let's Encrypt
	// dates certificates back by an hour: on a machine whose clock is further behind,
	// autocert discards each of them as not valid yet.
	clockLimit = time.Hour
	// dateAge is for how long the CA's date says something about the clock.
	dateAge = 10 * time.Minute
	// saidAge is for how long what the CA said explains an error.
	saidAge = 24 * time.Hour
)

// Client trusts the roots in a file, in PEM, instead of the system's; an empty name: the
// system's. It returns the file's content, too.
func Client(caFile string) (*http.Client, []byte, error) {
	transport := download.Transport()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	if caFile == "" {
		return client, nil, nil
	}
	root, err := os.ReadFile(caFile)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, nil, fmt.Errorf("%s holds no certificate: want PEM", caFile)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return client, root, nil
}

// caWatch stands between autocert and the CA. It listens to what the CA says: autocert
// sums up most failures as "no viable challenge type found" and those of renewals not
// at all, while the CA's own words name the cause: the address it reached, the limit
// that was hit. And it lets no order go out whose certificate could not be kept or
// would be discarded: autocert orders by itself, and cannot pass by here.
type caWatch struct {
	next  http.RoundTripper
	store *store

	mu     sync.Mutex
	life   context.Context // of all requests: autocert itself waits for minutes
	said   string
	retry  time.Duration
	saidAt time.Time
	order  string        // the CA's URL for orders
	ahead  time.Duration // of the CA's clock, when it last answered
	at     time.Time     // when that was
}

// RoundTrip implements http.RoundTripper.
func (w *caWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := w.allow(r, time.Now()); err != nil {
		w.note(err.Error(), 0)
		return nil, err
	}
	resp, body, err := w.ask(r)
	if err != nil {
		w.note("the CA was not reached: "+err.Error(), 0)
		return nil, err
	}
	w.learn(r, resp, body, time.Now())
	if said := reasonIn(body, resp.StatusCode); said != "" {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date is rare: then our own pause must do
		w.note(said, time.Duration(max(0, min(seconds, 24*60*60)))*time.Second)
	}
	return resp, nil
}

// allow refuses an order for a time.
func (w *caWatch) allow(r *http.Request, now time.Time) error {
	w.mu.Lock()
	order, ahead, at := w.order, w.ahead, w.at
	w.mu.Unlock()
	if order == "" || r.URL.String() != order {
		return nil
	}
	if now.Sub(at) < dateAge && ahead.Abs() > clockLimit {
		word := "behind"
		if ahead < 0 {
			word = "ahead of"
		}
		return fmt.Errorf("nothing is ordered: this machine's clock is %s %s the CA's: set it right (timedatectl set-ntp true)", ahead.Abs().Round(time.Minute), word)
	}
	return w.store.allow(now)
}

// ask has the whole answer before it returns, so that the request ends with life.
func (w *caWatch) ask(r *http.Request) (*http.Response, []byte, error) {
	w.mu.Lock()
	life := w.life
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(life, cancel)()
	resp, err := w.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, body, err
}

// learn finds in the CA's answer where it takes orders, and its time.
func (w *caWatch) learn(r *http.Request, resp *http.Response, body []byte, now time.Time) {
	var directory struct {
		NewOrder string `json:"newOrder"`
	}
	if r.Method == http.MethodGet && resp.StatusCode == http.StatusOK {
		_ = json.Unmarshal(body, &directory) // the directory is the only thing that is asked for so
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = cmp.Or(directory.NewOrder, w.order)
	if err == nil {
		w.ahead, w.at = date.Sub(now), now
	}
}

// until ends all requests when ctx does.
func (w *caWatch) until(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life = ctx
}

// reasonIn finds the reason in a problem document (RFC 7807) or in a failed
// authorization (RFC 8555, section 7.1.4).
func reasonIn(body []byte, status int) string {
	type problem struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	}
	var answer struct {
		problem
		Challenges []struct {
			Type  string   `json:"type"`
			Error *problem `json:"error"`
		} `json:"challenges"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	text := func(p problem) string {
		return strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:") + ": " + bounded(p.Detail)
	}
	if status >= 400 {
		if strings.HasSuffix(answer.Type, ":badNonce") {
			return "" // part of the protocol's normal course
		}
		return "the CA refused: " + text(answer.problem)
	}
	for _, ch := range answer.Challenges {
		if ch.Error != nil {
			return "the CA's check by " + bounded(ch.Type) + " failed: " + text(*ch.Error)
		}
	}
	return ""
}

// bounded keeps a foreign text short and on one line.
func bounded(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}

func (w *caWatch) note(said string, retry time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said, w.retry, w.saidAt = said, retry, time.Now()
}

// explain puts what the CA said last behind an error, unless that is in it.
func (w *caWatch) explain(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == "" || time.Since(w.saidAt) > saidAge || strings.Contains(err.Error(), w.said) {
		return err
	}
	return fmt.Errorf("%w; %s", err, w.said)
}

// asked is how long the CA wants to be left alone.
func (w *caWatch) asked() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.retry-time.Since(w.saidAt))
}
