// Package page is what a monitor's pages and the committee's site have in common: their
// style, their icon and their badges.
package page

import (
	"embed"
	"fmt"
	"net/http"
)

// Files are style.css and icon.svg.
//
//go:embed style.css icon.svg
var Files embed.FS

// Colours of a badge that hold white text.
const (
	Good    = "#1a7f37"
	Bad     = "#b3261e"
	Caution = "#8a5a00"
	Plain   = "#57606a"
)

// Badge is a small picture that other pages show: a label, and words on a colour. Neither
// may hold what is markup.
func Badge(label, words, colour string) []byte {
	const char = 7 // of the font, in pixels, generously
	left, right := len(label)*char+12, len(words)*char+12
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="20" role="img" aria-label="%s: %s"><title>%[2]s: %[3]s</title>`+
		`<rect width="%[4]d" height="20" fill="#3a4048"/><rect x="%[4]d" width="%[5]d" height="20" fill="%[6]s"/>`+
		`<g fill="#fff" font-family="Verdana,sans-serif" font-size="11" text-anchor="middle"><text x="%[7]d" y="14">%[2]s</text><text x="%[8]d" y="14">%[3]s</text></g></svg>`,
		left+right, label, words, left, right, colour, left/2, left+right/2)
}

// BadgeHeader sets the headers with which a badge is served. A page of somebody else's
// shows it; it can load and run nothing by itself.
func BadgeHeader(h http.Header) {
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Cache-Control", "max-age=300")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
}
