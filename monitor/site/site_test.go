package site

import (
	"flag"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/site/sitetest"
)

var update = flag.Bool("update", false, "write the pages in testdata anew")

func TestTry(t *testing.T) {
	o := Options{Name: sitetest.Name, Bundles: "bundles", Decisions: sitetest.Decisions(t)}
	if err := Export(t.Context(), sitetest.Made(t), o, "/tmp/cC-site"); err != nil {
		t.Fatal(err)
	}
}
