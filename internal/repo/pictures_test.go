package repo

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const pictures = "docs/images/"

var pictureLinks = regexp.MustCompile(`[\w./-]*images/[\w-]+\.(?:webp|png|svg|jpg)`)

// The pictures that the documents name are there, and all that are there are named. They
// are taken by a target of the Makefile, so that nobody mends one by hand.
func TestPictures(t *testing.T) {
	there, named := map[string]bool{}, map[string]bool{}
	for _, name := range files(t) {
		if strings.HasPrefix(name, pictures) {
			there[name] = true
		}
	}
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".md") || strings.Contains(name, "testdata/") {
			continue
		}
		for _, link := range pictureLinks.FindAllString(string(read(t, name)), -1) {
			picture := filepath.Join(filepath.Dir(name), link)
			if named[picture] = true; strings.HasPrefix(picture, pictures) && !there[picture] {
				t.Errorf("%s shows %s, which is not there: make screenshots takes it", name, picture)
			}
		}
	}
	for picture := range there {
		if !named[picture] {
			t.Errorf("no document shows %s: remove it, or show it", picture)
		}
	}
}
