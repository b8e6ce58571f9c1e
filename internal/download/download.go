// Package download gets bounded documents over HTTP.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// standard is the standard library's transport, whatever stands in its place later.
var standard = http.DefaultTransport.(*http.Transport)

// Transport is a transport as the standard library's, for a caller who changes some of it.
// http.DefaultTransport itself is another one in programs that send alerts.
func Transport() *http.Transport { return standard.Clone() }

// Get gets a document of at least one and at most so many bytes, and says to the
// server that agent asks. How long that may take is the caller's to say.
func Get(ctx context.Context, client *http.Client, address, agent string, most int64) ([]byte, error) {
	b, err := get(ctx, client, address, agent, most)
	if err != nil {
		// What net/http says has the whole address in it.
		if of := new(url.Error); errors.As(err, &of) {
			err = of.Err
		}
		return nil, fmt.Errorf("%s: %w", Shown(address), err)
	}
	return b, nil
}

func get(ctx context.Context, client *http.Client, address, agent string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, ErrNotFound
	default:
		return nil, fmt.Errorf("the server answers %s", Status(res))
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > most:
		return nil, fmt.Errorf("more than %d bytes; at most so many are read", most)
	case len(b) == 0:
		return nil, errors.New("the document is empty")
	}
	return b, nil
}

// ErrNotFound says that the server has answered, and has no such document.
var ErrNotFound = errors.New("the server answers 404 Not Found")

// Status is a server's answer in the words of the standard (RFC 9110): its own could steer
// a terminal.
func Status(res *http.Response) string {
	return strings.TrimSpace(fmt.Sprint(res.StatusCode, " ", http.StatusText(res.StatusCode)))
}

// Shown is the address of a public document without what may be a secret in it: a user,
// or what stands behind the question mark.
func Shown(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an address that cannot be read"
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// ErrUnhealthy says that a program has answered, and that it does not serve.
var ErrUnhealthy = errors.New("does not serve")

// Healthy asks a program's /healthz: nil means that it serves, [ErrUnhealthy] comes with
// what it says is wrong.
func Healthy(ctx context.Context, client *http.Client, url, agent string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", agent)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(res.Body, 4096)) // what came is better than nothing
	return fmt.Errorf("%w: %s: %s", ErrUnhealthy, Status(res), strings.Join(strings.Fields(string(said)), " "))
}

// Words is an error of a connection in words for people. limit is how long the other side
// had for its answer.
func Words(err error, limit time.Duration) string {
	return strings.NewReplacer(
		"context deadline exceeded (Client.Timeout exceeded while awaiting headers)", "it has not answered in "+limit.String(),
		"context deadline exceeded", "it has not answered in "+limit.String(),
		"unexpected EOF", "it closed the connection",
		"EOF", "it closed the connection",
	).Replace(err.Error())
}
