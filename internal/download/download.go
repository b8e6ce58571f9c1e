// Package download gets bounded documents over HTTP.
package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Get gets a document of at least one and at most so many bytes, and says to the
// server that agent asks. How long that may take is the caller's to say.
func Get(ctx context.Context, client *http.Client, url, agent string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the server answers %s", url, res.Status)
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", url, err)
	case int64(len(b)) > most:
		return nil, fmt.Errorf("%s: more than %d bytes; at most so many are read", url, most)
	case len(b) == 0:
		return nil, fmt.Errorf("%s: the document is empty", url)
	}
	return b, nil
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
	return fmt.Errorf("%w: %s: %s", ErrUnhealthy, res.Status, strings.Join(strings.Fields(string(said)), " "))
}
