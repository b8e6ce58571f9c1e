package main

import (
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/relay/status"
)

// Warnings of the running relay are printed, unless a requirement says the same.
func TestDoctorPrintsWarnings(t *testing.T) {
	d := status.Diagnosis{
		Requirements: []status.Requirement{{Title: "The name", Outcome: status.NotMet, Found: "PSF peers ignore it"}},
		Status: &status.Status{
			Warnings: []string{"PSF peers ignore it", "alerts do not reach ntfy ntfy.sh"},
			Monitors: []status.Monitor{
				{URL: "https://m1.example.org/"},
				{URL: "https://m2.example.org/", Claim: &status.Claim{Warnings: []status.MonitorWarning{{Name: "RelayDown", Severity: "critical", Words: "is down"}}}},
			},
		},
	}
	var out strings.Builder
	if err := printDiagnosis(&out, d); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "warning  alerts do not reach ntfy ntfy.sh\n") || strings.Count(got, "PSF peers ignore it") != 1 {
		t.Errorf("got %q, want each warning once", got)
	}
	if got := out.String(); !strings.Contains(got, "monitor  m2.example.org\n") || !strings.Contains(got, "         critical: the relay is down\n") {
		t.Errorf("got %q, want what a monitor warns of", got)
	}
}
