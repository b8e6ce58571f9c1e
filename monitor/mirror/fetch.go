package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/tiles"
)

// A place is where a log is read from.
type place interface {
	// open opens a file of the log, of which no more than so many bytes are read;
	// fs.ErrNotExist if it is not there, errSame if it is still the one with the tag.
	open(ctx context.Context, name, tag string, limit int64) (body io.ReadCloser, newTag string, err error)
}

var errSame = errors.New("nothing is new")

// ErrFrom is wrapped when an address can be of no log.
var ErrFrom = errors.New("want the http or https URL under which the log's \"checkpoint\" is, the URL of a bucket, or a folder that was exported or mirrored")

// placeOf is the place that an address means: an http or https URL, a bucket's, or a folder.
func placeOf(from string, o Options) (place, error) {
	if dir, ok := bucket.Folder(from); ok {
		from = dir
	}
	if bucket.Is(from) {
		return inBucket(from, o)
	}
	if !strings.HasPrefix(from, "https://") && !strings.HasPrefix(from, "http://") {
		root, err := os.OpenRoot(from) // what it links to elsewhere is not followed
		if err != nil {
			return nil, fmt.Errorf("mirror %s: %w: %w", from, ErrFrom, err)
		}
		for _, own := range []string{"log.json", "log/log.json"} {
			if _, err := root.Stat(own); err == nil {
				return nil, errors.Join(fmt.Errorf("mirror %s: that is a monitor's own data; mirror the folder that \"relaymon log export\" makes of it", from), root.Close())
			}
		}
		return folder{root}, nil
	}
	base, err := url.Parse(strings.TrimSuffix(from, "/") + "/")
	if err != nil || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("mirror %s: %w", from, ErrFrom)
	}
	perSecond := o.PerSecond
	if perSecond <= 0 {
		perSecond = defaultPerSecond
	}
	transport := download.Transport()
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.ResponseHeaderTimeout = headerTimeout
	transport.MaxConnsPerHost = 2
	return &site{base: base, agent: o.Agent, pace: rate.NewLimiter(rate.Limit(perSecond), 1), patience: o.patience(), timeout: o.timeout(),
		client: &http.Client{Transport: transport, CheckRedirect: sameSite}}, nil
}

const (
	defaultPerSecond = 8
	headerTimeout    = 30 * time.Second
	// A file comes in within baseTimeout and what its size takes at slowest bytes a second.
	baseTimeout = time.Minute
	slowest     = 64 << 10
	// tries is how often a file is asked for, when the server is busy or out of order.
	tries        = 4
	longestPause = time.Minute
)

var errRedirected = errors.New("it redirects")

// sameSite follows no redirect to elsewhere: who runs the mirror has said where the log is.
func sameSite(r *http.Request, via []*http.Request) error {
	first := via[0].URL
	if r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
		return fmt.Errorf("%w to %s://%s: mirror that address if it is right", errRedirected, r.URL.Scheme, r.URL.Host)
	}
	if len(via) > 3 {
		return fmt.Errorf("%w too often", errRedirected)
	}
	return nil
}

// site is a log on a web server.
type site struct {
	base     *url.URL
	agent    string
	client   *http.Client
	pace     *rate.Limiter
	patience time.Duration // the first pause before a file is asked for again
	timeout  time.Duration // for a small file
}

// errBusy is wrapped by what may go better the next time.
var errBusy = errors.New("try again later")

func (s *site) open(ctx context.Context, name, tag string, limit int64) (io.ReadCloser, string, error) {
	pause := s.patience
	for try := 1; ; try++ {
		body, newTag, wait, err := s.ask(ctx, name, tag, limit)
		if err == nil || !errors.Is(err, errBusy) || try == tries {
			return body, newTag, err
		}
		select {
		case <-ctx.Done():
			return nil, "", context.Cause(ctx)
		case <-time.After(min(max(wait, pause), longestPause)):
		}
		pause *= 4
	}
}

// ask makes one request, and says how long the server wants to be left alone.
func (s *site) ask(ctx context.Context, name, tag string, limit int64) (body io.ReadCloser, newTag string, wait time.Duration, err error) {
	if err := s.pace.Wait(ctx); err != nil {
		return nil, "", 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout+time.Duration(limit/slowest)*time.Second, fmt.Errorf("%s comes in too slowly", name))
	defer func() {
		if body == nil {
			cancel()
		}
	}()
	address := s.base.JoinPath(name).String()
	fail := func(err error) error { return fmt.Errorf("%s: %w", address, err) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, "", 0, err
	}
	req.Header.Set("User-Agent", s.agent)
	if tag != "" {
		req.Header.Set("If-None-Match", tag)
	}
	res, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", 0, fail(context.Cause(ctx))
		}
		if errors.Is(err, errRedirected) {
			return nil, "", 0, err
		}
		return nil, "", 0, fmt.Errorf("%w: %w", err, errBusy) // it names the URL
	}
	defer func() {
		if body == nil {
			res.Body.Close()
		}
	}()
	switch code := res.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotModified && tag != "":
		return nil, tag, 0, errSame
	case code == http.StatusNotFound || code == http.StatusGone:
		return nil, "", 0, fail(fs.ErrNotExist)
	case code == http.StatusTooManyRequests || code >= 500:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return nil, "", time.Duration(seconds) * time.Second, fail(fmt.Errorf("the server answers %s: %w", download.Status(res), errBusy))
	default:
		return nil, "", 0, fail(fmt.Errorf("the server answers %s", download.Status(res)))
	}
	if res.ContentLength > limit {
		return nil, "", 0, fail(fmt.Errorf("the server offers %d bytes, want %d at most", res.ContentLength, limit))
	}
	if newTag = res.Header.Get("ETag"); len(newTag) > 256 {
		newTag = ""
	}
	return bound(res.Body, name, limit, cancel), newTag, 0, nil
}

// limitOf is how many bytes are read of a file.
func limitOf(name string) int64 {
	n, ok := tiles.ParseName(name)
	if !ok {
		return 0
	}
	return n.Limit()
}

// bounded is a file's content, up to its limit; more is an error.
type bounded struct {
	io.ReadCloser
	name        string
	limit, left int64
	done        func()
}

func bound(r io.ReadCloser, name string, limit int64, done func()) io.ReadCloser {
	return &bounded{r, name, limit, limit, done}
}

// Read implements [io.Reader]. What is unpacked on the way counts as it comes out.
func (b *bounded) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%s: more than %d bytes", b.name, b.limit)
	}
	return n, err
}

func (b *bounded) Close() error {
	if b.done != nil {
		defer b.done()
	}
	return b.ReadCloser.Close()
}

// folder is a log on this machine, as an export or a mirror has it.
type folder struct{ root *os.Root }

func (f folder) Close() error { return f.root.Close() }

func (f folder) open(_ context.Context, name, _ string, limit int64) (io.ReadCloser, string, error) {
	file, err := f.root.Open(name)
	if err != nil {
		return nil, "", err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, "", errors.Join(fmt.Errorf("%s is not a file", name), err, file.Close())
	}
	return bound(file, name, limit, nil), "", nil
}
