package circuit

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// The addresses of the host are shared with everybody who asks for them: a reservation's
// form is made of copies.
func TestAddressesAreNotWrittenTo(t *testing.T) {
	whole := ma.StringCast("/ip4/192.0.2.1/tcp/4001/tls/ws")
	r := startLogging(t, relaytest.LimitConfig(t), relaytest.Log(t), libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr {
		return []ma.Multiaddr{whole[:2]}
	}))
	if got := r.service.addrs(time.Now()); len(got) != 1 {
		t.Errorf("%d addresses, want one", len(got))
	}
	if want := "/ip4/192.0.2.1/tcp/4001/tls/ws"; whole.String() != want {
		t.Errorf("%s became %s", want, whole)
	}
}
