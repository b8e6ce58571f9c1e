package coord

import (
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// offer has a neighbour send n messages of an author and says how many are taken.
func offer(t *testing.T, g *guard, from, author peer.ID, n, size int) int {
	t.Helper()
	var rpc pubsub.RPC
	for range n {
		topic := Topic
		rpc.Publish = append(rpc.Publish, &pb.Message{From: []byte(author), Topic: &topic, Data: make([]byte, size)})
	}
	if err := g.inspect(from, &rpc); err != nil {
		t.Fatal(err)
	}
	return len(rpc.Publish)
}

// neighbours are hosts that are connected to the guard's.
func neighbours(t *testing.T, n int) (*guard, []peer.ID) {
	t.Helper()
	h := newHost(t)
	g := newGuard(h)
	frozen := time.Now().Add(time.Second) // no bucket fills while the test runs
	g.now = func() time.Time { return frozen }
	ids := make([]peer.ID, n)
	for i := range ids {
		var other host.Host = newHost(t)
		connect(t, other, h)
		ids[i] = other.ID()
		eventually(t, "connection", func() bool { return len(h.Network().ConnsToPeer(ids[i])) > 0 })
	}
	return g, ids
}

func TestGuardBoundsMessages(t *testing.T) {
	const flood = 10000
	liars := allMessagesBurst/peerMessagesBurst + 2
	g, ids := neighbours(t, liars+1)
	honest, made := ids[liars], randomID(t)

	total := 0
	for _, id := range ids[:liars] {
		n := offer(t, g, id, made, flood, 10)
		if n > peerMessagesBurst {
			t.Errorf("%d messages of one neighbour were taken, want at most %d", n, peerMessagesBurst)
		}
		total += n
	}
	if total != allMessagesBurst {
		t.Errorf("%d messages were taken in all, want %d", total, allMessagesBurst)
	}
	if n := offer(t, g, honest, honest, 1, 1000); n != 1 {
		t.Error("the announcement of an honest neighbour was crowded out")
	}
	if n := offer(t, g, ids[0], ids[0], 1, 1000); n != 0 {
		t.Error("a neighbour that spent its own budget is heard all the same")
	}
	if n := offer(t, g, randomID(t), made, 1, 10); n != 0 {
		t.Error("a peer that is not connected is heard")
	}
}

func TestGuardBoundsBytes(t *testing.T) {
	g, ids := neighbours(t, 2)
	n := offer(t, g, ids[0], ids[0], 100, MaxMessage/2)
	if most := peerBytesBurst / (MaxMessage / 2); n == 0 || n > most {
		t.Errorf("%d large messages were taken, want at most %d", n, most)
	}
	if n := offer(t, g, ids[1], ids[1], 1, MaxMessage/2); n != 1 {
		t.Error("another neighbour's message was crowded out")
	}
}
