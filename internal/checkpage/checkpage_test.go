package checkpage

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func get(t *testing.T, h http.Handler, path string, header ...string) *http.Response {
	t.Helper()
	req := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w.Result()
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// mounted is the page where relayd serves it.
func mounted(relays func() []string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /check/", http.StripPrefix("/check", Handler(relays)))
	return mux
}

func TestHandler(t *testing.T) {
	h := mounted(nil)
	for path, contentType := range map[string]string{
		"/check/":         "text/html; charset=utf-8",
		"/check/page.css": "text/css; charset=utf-8",
		"/check/page.js":  "text/javascript; charset=utf-8",
	} {
		res := get(t, h, path)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != contentType || res.Header.Get("Content-Security-Policy") != Policy {
			t.Errorf("%s: %s %v", path, res.Status, res.Header)
		}
	}
	for _, path := range []string{"/check/package.json", "/check/../go.mod", "/check/page.js/x"} {
		if res := get(t, h, path); res.StatusCode == 200 {
			t.Errorf("%s is served", path)
		}
	}
	// A link without the slash keeps what is to be checked.
	if res := get(t, h, "/check?relay=a&relay=b"); res.Header.Get("Location") != "/check/?relay=a&relay=b" {
		t.Errorf("%s to %q", res.Status, res.Header.Get("Location"))
	}
}

func TestScriptIsPackedAndKept(t *testing.T) {
	h := mounted(nil)
	plain := body(t, get(t, h, "/check/page.js").Body)
	res := get(t, h, "/check/page.js", "Accept-Encoding", "gzip, br")
	z, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if body(t, z) != plain {
		t.Error("packed and plain script differ")
	}
	tag := res.Header.Get("ETag")
	if res := get(t, h, "/check/page.js", "Accept-Encoding", "gzip", "If-None-Match", tag); res.StatusCode != http.StatusNotModified {
		t.Errorf("asked again: %s", res.Status)
	}
	if res := get(t, h, "/check/page.js", "If-None-Match", tag); res.StatusCode != http.StatusOK {
		t.Errorf("the packed script's tag stands for the plain one: %s", res.Status)
	}
}

// A relay's page offers the relay's own addresses that are for browsers, and
// nothing that an address could smuggle in.
func TestAddressesOfTheRelay(t *testing.T) {
	const (
		tcp    = "/ip4/192.0.2.1/tcp/4001/p2p/x"
		wss    = "/dns4/relay.test/tcp/443/tls/ws/p2p/x"
		webrtc = "/ip4/192.0.2.1/udp/4001/webrtc-direct/certhash/uEi/p2p/x"
		evil   = "/ws</textarea><script>"
	)
	for want, addrs := range map[string][]string{
		"":     {tcp},
		wss:    {tcp, webrtc, wss},
		webrtc: {tcp, webrtc},
		wss + "\n/ws&lt;/textarea&gt;&lt;script&gt;": {wss, evil},
	} {
		page := body(t, get(t, mounted(func() []string { return addrs }), "/check/").Body)
		if _, rest, _ := strings.Cut(page, "<textarea id=\"relays\""); !strings.Contains(rest, ">"+want+"</textarea>\n<div class=\"below\">") {
			t.Errorf("with %q the field does not hold %q:\n%s", addrs, want, rest)
		}
	}
}

// The page says the same policy itself, for hosts that send no headers.
func TestPolicyInThePage(t *testing.T) {
	page, err := fs.ReadFile(Files(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`http-equiv="Content-Security-Policy" content="([^"]*)"`).FindSubmatch(page)
	if m == nil || string(m[1])+"; frame-ancestors 'none'" != Policy {
		t.Errorf("the page's own policy is %q", m)
	}
}

// Everything that the page loads is the page's own.
func TestFiles(t *testing.T) {
	if err := fstest.TestFS(Files(), "index.html", "page.css", "page.js"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "page.css"} {
		text, err := fs.ReadFile(Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import`).FindAllStringSubmatch(string(text), -1) {
			if m[1] != "page.css" && m[1] != "page.js" && m[1] != "data:," {
				t.Errorf("%s loads %q", name, m[0])
			}
		}
	}
}
