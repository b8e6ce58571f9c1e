package relay

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// On a machine with private addresses only, nothing is announced, and the
// operator is told what to do; with the public address given, it is announced.
func TestPrivateMachine(t *testing.T) {
	for _, public := range []string{"", "8.8.4.4"} {
		c := relaytest.LimitConfig(t)
		c.Network.AllowPrivate = false
		if public != "" {
			relaytest.Must(t, c.Announce.IP4.UnmarshalText([]byte(public)))
		}
		var out relaytest.LogPage
		r, err := New(c, slog.New(slog.NewTextHandler(&out, nil)))
		relaytest.Must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		<-r.Ready()
		addrs := r.Addrs()
		warned := strings.Contains(out.String(), "set announce.ip4")
		cancel()
		relaytest.Must(t, <-done)
		if public == "" && (len(addrs) != 0 || !warned) {
			t.Errorf("announced %v, warned %v", addrs, warned)
		}
		if public != "" && (len(addrs) != 1 || !strings.HasPrefix(addrs[0].String(), "/ip4/8.8.4.4/tcp/") || warned) {
			t.Errorf("announced %v, warned %v", addrs, warned)
		}
	}
}
