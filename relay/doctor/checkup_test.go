package doctor

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/relay/config"
	"github.com/psf-relay/relay-appliance/relay/status"
)

// The records are looked up again, and often, only while a certificate waits for them.
func TestRecordsAreLookedUpAgain(t *testing.T) {
	for name, c := range map[string]struct {
		certificate *status.Certificate
		want        bool
	}{
		"waits":   {&status.Certificate{}, true},
		"there":   {&status.Certificate{NotAfter: time.Now()}, false},
		"no need": {nil, false},
	} {
		checkup := NewCheckup(&relayOf{cfg: config.Config{Domain: "relay.test"}, status: status.Status{Certificate: c.certificate}}, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no server is asked: that there was no time for it is what is found
		checkup.lookUpAgain(ctx)
		if got := checkup.findings.records.err != nil; got != c.want {
			t.Errorf("%s: looked up %v, want %v", name, got, c.want)
		}
	}
}
