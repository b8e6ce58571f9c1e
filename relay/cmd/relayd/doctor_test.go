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
		Status:       &status.Status{Warnings: []string{"PSF peers ignore it", "alerts do not reach ntfy ntfy.sh"}},
	}
	var out strings.Builder
	if err := printDiagnosis(&out, d); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "warning  alerts do not reach ntfy ntfy.sh\n") || strings.Count(got, "PSF peers ignore it") != 1 {
		t.Errorf("got %q, want each warning once", got)
	}
}
