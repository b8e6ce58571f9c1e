package pages

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// With -screenshots DIR the pictures of the documents are taken, of a whole month, and
// written there: `make screenshots`. Without it those of a few days are, to see that it can be done.
var screenshots = flag.String("screenshots", "", "write the pictures of the documents to this folder")

// maxPictures is what all of them together may have: they are in every clone.
const maxPictures = 600 << 10

// What the documents show is what a visitor sees, of the size that it is planned for, and
// tells nothing of the machine on which it was taken.
func TestScreenshots(t *testing.T) {
	dir, days := t.TempDir(), 4
	if *screenshots != "" {
		dir, days = *screenshots, 0
		must(t, os.MkdirAll(dir, 0o755))
	}
	programs := programs(t)
	lab, demo := tell(t, programs, days), show(t, programs)
	x := open(t, demo.options())
	total := 0
	take := func(name string, s screen) {
		t.Helper()
		x.on(s)
		text, err := chromedp.Run(x.ctx, chromedp.Text("body"))
		must(t, err)
		for _, foreign := range own(t) {
			if strings.Contains(text, foreign) {
				t.Errorf("%s shows %q, which is of this machine", name, foreign)
			}
		}
		picture := x.picture()
		if !bytes.HasPrefix(picture, []byte("RIFF")) || len(picture) < 5000 {
			t.Errorf("%s: got %d bytes that begin with %q, want a WebP picture with something to see", name, len(picture), picture[:min(4, len(picture))])
		}
		total += len(picture)
		must(t, os.WriteFile(filepath.Join(dir, name+".webp"), picture, 0o644))
	}
	both := func(name string) {
		t.Helper()
		take(name, desk)
		take(name+"-dark", dark)
	}
	x.on(desk)
	x.do(chromedp.Navigate(lab.url))
	both("overview")
	x.do(chromedp.Navigate(lab.flaky))
	both("month")
	x.link(`a[href*="/hour/"]:has(rect.cell.down)`)
	take("hour", desk)
	x.do(chromedp.Navigate("file://" + filepath.Join(lab.dir, "reports", "flaky.html")))
	both("verdict")
	x.scripts(true)
	x.do(chromedp.Navigate(demo.relay))
	take("relay", desk)
	x.do(chromedp.Navigate(demo.check(t)))
	x.tried()
	take("check", desk)
	if total > maxPictures {
		t.Errorf("the pictures have %d bytes, at most %d are wanted", total, maxPictures)
	}
}

// own are words that name this machine, or its user.
func own(t *testing.T) (words []string) {
	t.Helper()
	host, err := os.Hostname()
	must(t, err)
	here, err := os.Getwd()
	must(t, err)
	home, err := os.UserHomeDir()
	must(t, err)
	for _, w := range []string{host, here, home, os.TempDir()} {
		if len(w) > 3 { // else it is a word like any other
			words = append(words, w)
		}
	}
	return words
}
