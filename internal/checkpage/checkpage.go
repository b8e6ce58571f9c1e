// Package checkpage is the page on which a visitor's own browser tries relays: it
// runs js-libp2p, connects as any browser peer does, reserves a place, reaches a
// second peer of its own through the relay and says, step by step, what came of it
// and what to do.
//
// The page is static (page/); its script is bundled from src/ and from the npm
// packages that package-lock.json pins. The bundle is committed, so that the
// programs build without Node.js; a test rebuilds it and compares.
//
//go:generate go test -run TestBundle -update .
package checkpage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// Policy is the page's Content-Security-Policy: its own script and style, and
// connections to relays (WebTransport goes by https:, WebRTC is not governed). The
// page carries the same in itself, but for frame-ancestors, which only a header
// can say.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src wss: https:; " +
	"base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'; frame-ancestors 'none'"

//go:embed page/index.html page/page.css page/page.js
var embedded embed.FS

const slot = "</textarea>\n<div class=\"below\">" // the end of the field for addresses

// Files is the page for any static file server; its index is index.html.
func Files() fs.FS {
	files, err := fs.Sub(embedded, "page")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	return files
}

// Handler serves the page at the root of its URL space; strip what stands before
// it, and mind that the page needs the slash at its end:
//
//	mux.Handle("GET /check/", http.StripPrefix("/check", checkpage.Handler(nil)))
//
// Of the addresses that relays gives, those that a browser can dial stand in the
// form from the start; nil: none do.
func Handler(relays func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", Policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // asked for again, but not sent again
		h.Set("Vary", "Accept-Encoding")
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		switch name {
		case "", "index.html":
			page := assets()["index.html"].plain
			if relays != nil {
				field := html.EscapeString(strings.Join(forBrowsers(relays()), "\n"))
				page = bytes.Replace(page, []byte(slot), []byte(field+slot), 1)
			}
			h.Set("Content-Type", "text/html; charset=utf-8")
			http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(page))
		case "page.css", "page.js":
			assets()[name].serve(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// forBrowsers keeps the WSS addresses; where there are none, those for WebTransport
// and WebRTC, which the page otherwise learns from the relay itself. No page can
// dial TCP and QUIC.
func forBrowsers(addrs []string) []string {
	for _, mark := range []string{"/ws", "/certhash/"} {
		var out []string
		for _, a := range addrs {
			if strings.Contains(a, mark) {
				out = append(out, a)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}

// asset is one file, and what is sent of it.
type asset struct {
	contentType   string
	etag          string
	plain, packed []byte
}

// assets are packed once: the script is on phones over slow lines.
var assets = sync.OnceValue(func() map[string]asset {
	all := map[string]asset{}
	for name, contentType := range map[string]string{
		"index.html": "text/html; charset=utf-8",
		"page.css":   "text/css; charset=utf-8",
		"page.js":    "text/javascript; charset=utf-8",
	} {
		plain, err := embedded.ReadFile("page/" + name)
		if err != nil {
			panic(err) // the file is part of the program
		}
		sum := sha256.Sum256(plain)
		all[name] = asset{contentType, hex.EncodeToString(sum[:8]), plain, pack(plain)}
	}
	return all
})

func pack(plain []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(plain)
	_ = z.Close() // a buffer takes it all
	return b.Bytes()
}

func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	body, tag := a.plain, a.etag
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body, tag = a.packed, a.etag+"-gz"
	}
	h.Set("ETag", `"`+tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
