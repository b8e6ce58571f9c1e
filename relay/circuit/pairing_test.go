package circuit

import (
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"

	"github.com/psf-relay/relay-appliance/relay/relaytest"
)

// Of many circuits that one peer asks for at the same time, the other one takes a single
// one, whichever: what goes through that is counted in both directions.
func TestCircuitsAskedForAtOnceAreCounted(t *testing.T) {
	const tries, atOnce, carried = 60, 32, 64 << 10
	r, members := startWithClub(t, relaytest.LimitConfig(t))
	relay := r.info()
	to := relaytest.NewPeerAt(t, "127.0.1.1")
	members.Admit(to.ID())
	_, err := relaytest.Reserve(t, to, relay)
	relaytest.Must(t, err)
	var mu sync.Mutex
	taken := false
	to.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
		var m pbv2.StopMessage
		if err := relaytest.ReadMessage(s, &m); err != nil {
			_ = s.Reset()
			return
		}
		mu.Lock()
		first := !taken
		taken = true
		mu.Unlock()
		if !first {
			_ = s.Reset()
			return
		}
		yes := &pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}
		_ = util.NewDelimitedWriter(s).WriteMsg(yes)
		_, _ = io.CopyN(s, relaytest.Endless{}, carried)
		_ = s.Close()
	})
	for try := range tries {
		from := relaytest.NewPeerAt(t, fmt.Sprintf("127.0.2.%d", try)) // each may ask for so many only
		relaytest.Must(t, from.Connect(relaytest.Context(t), relay))
		taken = false
		before := r.budget.used.Load()
		var wg sync.WaitGroup
		opened := make(chan struct{}, atOnce)
		for range atOnce {
			wg.Go(func() {
				s, err := relaytest.OpenRaw(t.Context(), from, relay.ID, to.ID())
				if err != nil {
					return
				}
				opened <- struct{}{}
				if n, err := io.Copy(io.Discard, s); n != carried {
					t.Errorf("%d bytes came: %v", n, err)
				}
				_ = s.Reset()
			})
		}
		wg.Wait()
		if len(opened) != 1 {
			t.Fatalf("%d circuits were opened, want 1", len(opened))
		}
		if n := r.budget.used.Load() - before; n != carried {
			t.Errorf("try %d: %d bytes were counted of %d", try, n, carried)
		}
	}
}
