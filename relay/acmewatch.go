package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// caWatch listens to what the CA says. autocert sums up most failures as "no
// viable challenge type found" and those of renewals not at all, while the CA's
// own words name the cause: the address it reached, the limit that was hit.
type caWatch struct {
	next http.RoundTripper

	mu     sync.Mutex
	life   context.Context // nil: not yet running
	said   string
	retry  time.Duration
	saidAt time.Time
}

// maxCAAnswer bounds what is read of an answer in search of its reason.
const maxCAAnswer = 64 << 10

func (w *caWatch) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	life := w.life
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	end := func() bool { return false }
	if life != nil {
		end = context.AfterFunc(life, cancel)
	}
	resp, err := w.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		end()
		cancel()
		w.note("the CA was not reached: "+err.Error(), 0)
		return nil, err
	}
	body := &caAnswer{Reader: resp.Body, close: func() error {
		defer cancel()
		end()
		return resp.Body.Close()
	}}
	out := *resp
	out.Body = body
	if !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return &out, nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxCAAnswer))
	body.Reader = io.MultiReader(bytes.NewReader(head), resp.Body)
	if err != nil {
		return &out, nil // the caller meets the same error
	}
	if said := reasonIn(head, resp.StatusCode); said != "" {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date is rare: then our own pause must do
		w.note(said, time.Duration(max(0, min(seconds, 24*60*60)))*time.Second)
	}
	return &out, nil
}

// caAnswer is the body of an answer; closing it ends the request's life.
type caAnswer struct {
	io.Reader
	close func() error
}

func (a *caAnswer) Close() error { return a.close() }

// until ends all requests when ctx does: autocert itself waits for minutes.
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

// explain is what the CA said last, to be put behind an error.
func (w *caWatch) explain() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == "" || time.Since(w.saidAt) > 24*time.Hour {
		return ""
	}
	return "; " + w.said
}

// asked is how long the CA wants to be left alone.
func (w *caWatch) asked() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.retry-time.Since(w.saidAt))
}
