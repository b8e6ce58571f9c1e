package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

// Client asks one witness about one log.
type Client struct {
	base    string // without a slash at the end
	key     string // the witness's verifier key
	log     note.Verifier
	logKey  string
	http    *http.Client
	timeout time.Duration
}

const (
	maxAnswer = 64 << 10
	timeout   = 20 * time.Second
)

// NewClient asks the witness at base, which has the given verifier key, about the
// log with the key logKey.
func NewClient(base, key, logKey string, h *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("address of a witness: want https://HOST/PATH, not %q", base)
	}
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, fmt.Errorf("witness %s: %w", base, err)
	}
	// What is signed for one address is not sent on to another.
	own := *h
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{strings.TrimSuffix(base, "/"), key, log, logKey, &own, timeout}, nil
}

// Latest is the last checkpoint of the log that the witness cosigned, signed by
// the log; nil if it knows of none, or is one of those that do not tell.
func (c *Client) Latest(ctx context.Context) ([]byte, error) {
	status, _, body, err := c.do(ctx, http.MethodGet, "/"+originHash(c.log.Name())+"/checkpoint", nil)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, nil
	case status != http.StatusOK:
		return nil, c.unexpected(status, body)
	}
	n, err := note.Open(body, note.VerifierList(c.log))
	if err != nil {
		return nil, fmt.Errorf("witness %s: its checkpoint: %w", c.base, err)
	}
	if origin, _, _ := strings.Cut(n.Text, "\n"); origin != c.log.Name() {
		return nil, fmt.Errorf("witness %s: its checkpoint is of %q", c.base, origin)
	}
	return body, nil
}

// Add asks for a cosignature and returns its line and its time. The error wraps
// an *[ConflictError] if the witness has cosigned another size last, and
// [ErrInconsistent] if it has seen another history.
func (c *Client) Add(ctx context.Context, r AddCheckpoint) (line []byte, at time.Time, err error) {
	status, kind, body, err := c.do(ctx, http.MethodPost, "/add-checkpoint", r.Bytes())
	if err != nil {
		return nil, at, err
	}
	switch status {
	case http.StatusOK:
		line, at, err = CosignatureIn(body, r.Checkpoint, c.logKey, c.key)
	case http.StatusConflict:
		err = conflict(kind, body)
	case http.StatusUnprocessableEntity:
		err = fmt.Errorf("%w: %s", ErrInconsistent, excerpt(body))
	default:
		return nil, at, c.unexpected(status, body)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("witness %s: %w", c.base, err)
	}
	return line, at, nil
}

// conflict reads the size in the answer of a witness that remembers another one.
func conflict(kind string, body []byte) error {
	text, ended := strings.CutSuffix(string(body), "\n")
	size, err := strconv.ParseInt(text, 10, 64)
	if kind != sizeType || !ended || err != nil || size < 0 || strconv.FormatInt(size, 10) != text {
		return fmt.Errorf("answered 409 without a size: %s", excerpt(body))
	}
	return &ConflictError{Size: size}
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (status int, kind string, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, fmt.Errorf("ask witness: %w", err)
	}
	req.Header.Set("User-Agent", buildinfo.Agent("relaymon"))
	if body != nil {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", nil, fmt.Errorf("ask witness: %w", err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = errors.New("its answer is too long")
	}
	if err != nil {
		return 0, "", nil, fmt.Errorf("ask witness %s: %w", c.base, err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, nil
}

// unexpected says what an answer means to whoever runs the monitor.
func (c *Client) unexpected(status int, body []byte) error {
	hint := ""
	switch {
	case status == http.StatusNotFound:
		hint = "; it does not know this log: is its roster the same?"
	case status == http.StatusForbidden:
		hint = "; it knows another key of this log: is its roster the same?"
	case status >= 300 && status < 400:
		hint = "; let the roster name the address that it has moved to"
	}
	return fmt.Errorf("witness %s answered %d (%s)%s", c.base, status, excerpt(body), hint)
}

// excerpt is the beginning of foreign text, fit for one line of a log or a page.
func excerpt(b []byte) string {
	s := strings.ToValidUTF8(string(b[:min(len(b), 200)]), "?")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}
