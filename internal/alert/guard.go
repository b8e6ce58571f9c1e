package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/mattermost"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/gotify"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/push/ntfy"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// library is where the functions of the library are.
const library = "github.com/nicholas-fedor/shoutrrr/"

// maxAnswer bounds what is read of an answer. No service says that much.
const maxAnswer = 64 << 10

// guard keeps the servers of receivers from what the library lets them do (as of version
// 0.13.2): it reads answers of any size, has no time limit in places, and follows redirects,
// which bring the token to another host and make of a message a question whose answer passes
// for a success.
//
// Most of its services send over the default transport and cannot be given another one. So
// the guard stands there, for the whole program, and lets pass unchanged whatever the
// library has not asked for.
type guard struct{ next http.RoundTripper }

func init() {
	http.DefaultTransport = guard{http.DefaultTransport}
}

// RoundTrip implements http.RoundTripper. The answer that it gives lies in memory.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if !byLibrary() {
		return g.next.RoundTrip(req)
	}
	ctx, cancel := context.WithTimeout(req.Context(), sendTimeout)
	defer cancel()
	req = req.Clone(ctx)
	req.Close = true // messages are rare
	res, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 3 {
		return nil, redirected(req.URL, res)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("it answers %s with more than %d KiB: the address is not that of such a service", res.Status, maxAnswer>>10)
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// CloseIdleConnections is what the default transport has, too.
func (g guard) CloseIdleConnections() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// redirected says where an answer leads, without what may be a secret.
func redirected(from *url.URL, res *http.Response) error {
	to, err := res.Location()
	switch {
	case err != nil:
		return fmt.Errorf("it answers %d, which is no answer to a message", res.StatusCode)
	case to.Host == from.Host:
		return errors.New("it leads to another address of the same host, which is not followed: write that one")
	}
	return fmt.Errorf("it leads to the host %s, which is not followed: write the address that it means", to.Host)
}

// byLibrary says whether a function of the library is among those that wait for the caller.
func byLibrary() bool {
	var callers [64]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, library) {
			return true
		}
		if !more {
			return false
		}
	}
}

// guarded puts the guard into services that have a transport of their own.
func guarded(s types.Service) {
	switch s := s.(type) {
	case *ntfy.Service:
		s.SetHTTPClient(&http.Client{Transport: guard{&http.Transport{
			Proxy:           http.ProxyFromEnvironment,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: s.Config.DisableTLSVerification},
		}}})
	case *mattermost.Service:
		s.GetHTTPClient().Transport = guard{s.GetHTTPClient().Transport}
	case *gotify.Service:
		s.GetHTTPClient().Transport = guard{s.GetHTTPClient().Transport}
	}
}
