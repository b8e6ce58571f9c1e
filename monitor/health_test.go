package monitor

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever watches over a monitor is told what that says of itself, and is not put off by a
// certificate.
func TestHealth(t *testing.T) {
	t.Parallel()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host == "ill.example.org" {
			http.Error(w, "the disk is full", http.StatusServiceUnavailable)
		}
	})
	plain, secure := httptest.NewServer(answer), httptest.NewTLSServer(answer)
	defer plain.Close()
	defer secure.Close()
	port := strings.TrimPrefix(secure.URL, "https://127.0.0.1")
	gone := httptest.NewServer(answer)
	gone.Close()
	for name, tc := range map[string]struct {
		cfg  Config
		want string // of the error; empty: there is none
	}{
		"its pages":           {Config{Listen: strings.TrimPrefix(plain.URL, "http://")}, ""},
		"a name of its own":   {Config{Public: PublicConfig{Domain: "well.example.org", HTTPS: "127.0.0.1" + port}}, ""},
		"it does not judge":   {Config{Public: PublicConfig{Domain: "ill.example.org", HTTPS: port}}, "503 Service Unavailable: the disk is full"},
		"it does not run":     {Config{Listen: strings.TrimPrefix(gone.URL, "http://")}, "connection refused"},
		"nobody can reach it": {Config{}, "set listen, or public.domain"},
	} {
		err := Health(t.Context(), tc.cfg)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}
