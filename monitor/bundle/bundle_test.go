package bundle

import (
	"bytes"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

const releaseList = `
products:
- name: relayd
  agent: relayd/*
  releases:
  - {version: 1.2.2, published: 2026-09-01T00:00:00Z}
  - {version: 1.2.3, published: 2026-10-20T00:00:00Z}
`

// goodMonth is a month that three monitors saw well.
func goodMonth(t testing.TB) (*scene.Scene, Input) {
	w := scene.New(t, evidence.PSF, 3)
	w.Releases = []byte(releaseList)
	w.Watch(nil)
	in := inputOf(w)
	in.Geo = singapore{}
	return w, in
}

// singapore is a world of one country.
type singapore struct{}

func (singapore) Within(bounty.Place, float64) []string { return []string{"SG"} }
func (singapore) Locate(string) (a, b string)           { return "SG", "SG" }
func (singapore) Sources() []bounty.Source {
	return []bounty.Source{{Name: "one country", SHA256: hashOf(nil), Licence: "none"}}
}

func TestEligible(t *testing.T) {
	w, in := goodMonth(t)
	b := bundleOf(w, in)
	res, err := verify(b, optionsOf(w, in))
	if err != nil {
		t.Fatal(err)
	}
	v := res.Verdict
	if res.Result != bounty.Eligible || !v.Final || v.Headline != "ELIGIBLE" || len(res.Warnings) != 0 {
		t.Errorf("got %s, final %v, warnings %v, reasons %q", v.Headline, v.Final, res.Warnings, v.Reasons)
	}
	if v.Hours.Up != 6 || v.Hours.NotEnrolled != 738 || v.Grades[bounty.GradeA] != 6 {
		t.Errorf("hours %+v, grades %v", v.Hours, v.Grades)
	}
	if !bytes.Equal(b, bundleOf(w, in)) {
		t.Error("the same input gave other bytes")
	}
	in.Logs[0], in.Logs[2] = in.Logs[2], in.Logs[0]
	if !bytes.Equal(b, bundleOf(w, in)) {
		t.Error("the logs in another order gave other bytes")
	}
}
