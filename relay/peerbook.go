package relay

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	ma "github.com/multiformats/go-multiaddr"
)

// peerbook is the library's peerstore without what peers say of themselves: their
// versions, which nobody asks for later, and the addresses at which they can be reached. A relay dials nobody at them: whom it dials it has from its
// bootstrap list. And the library never forgets them: an entry that was made while
// its peer was connected is not among those looked through for expired ones
// (go-libp2p v0.51.0, pstoremem: UpdateAddrs leaves it out of the heap), so that each
// peer ID that ever came would cost memory until the next start.
type peerbook struct{ certifiedPeerstore }

type certifiedPeerstore interface {
	peerstore.Peerstore
	peerstore.CertifiedAddrBook
}

func newPeerbook() (peerbook, error) {
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return peerbook{}, fmt.Errorf("make the peerstore: %w", err)
	}
	return peerbook{store}, nil
}

// AddAddrs keeps what is to be dialled now, and our own addresses; not what identify
// was told.
func (b peerbook) AddAddrs(p peer.ID, addrs []ma.Multiaddr, ttl time.Duration) {
	if ttl != peerstore.ConnectedAddrTTL && ttl != peerstore.RecentlyConnectedAddrTTL {
		b.certifiedPeerstore.AddAddrs(p, addrs, ttl)
	}
}

// Put keeps nothing. The library puts versions there, and nothing else.
func (b peerbook) Put(peer.ID, string, any) error { return nil }
