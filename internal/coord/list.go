package coord

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Bounds of a list of bootstrap peers.
const (
	MaxList       = 256 << 10
	maxListed     = 256 // entries in one of its arrays
	maxPeerAddrs  = 8   // kept of one peer
	maxListedPeer = 64  // peers kept in all
)

// ParseList reads a list of bootstrap peers:
//
//	{"node": [{"multiaddr": "/ip4/.../p2p/ID", "ipfsId": "ID"}],
//	 "browser": [...], "recommendedPeers": [{"multiaddr": "..."}]}
//
// Peers that are named by several entries get all of their addresses, in the
// order of node, recommendedPeers, browser. An entry that is no dialable
// multiaddr with a peer ID is left out: a list in which one of many is wrong is
// still of use. A list without any peer is an error.
func ParseList(data []byte) ([]peer.AddrInfo, error) {
	if len(data) > MaxList {
		return nil, fmt.Errorf("read list of peers: %d bytes, at most %d are read", len(data), MaxList)
	}
	var list map[string]json.RawMessage
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read list of peers: %w", err)
	}
	var peers []peer.AddrInfo
	index := make(map[peer.ID]int)
	for _, name := range []string{"node", "recommendedPeers", "browser"} {
		if list[name] == nil {
			continue
		}
		var entries []json.RawMessage
		if err := json.Unmarshal(list[name], &entries); err != nil {
			return nil, fmt.Errorf("read list of peers: %s: %w", name, err)
		}
		if len(entries) > maxListed {
			return nil, fmt.Errorf("read list of peers: %s has %d entries, at most %d are read", name, len(entries), maxListed)
		}
		for _, raw := range entries {
			addr, id, err := parseEntry(raw)
			if err != nil {
				continue
			}
			i, known := index[id]
			if !known {
				if len(peers) == maxListedPeer {
					continue
				}
				i = len(peers)
				index[id] = i
				peers = append(peers, peer.AddrInfo{ID: id})
			}
			if p := &peers[i]; len(p.Addrs) < maxPeerAddrs && !ma.Contains(p.Addrs, addr) {
				p.Addrs = append(p.Addrs, addr)
			}
		}
	}
	if len(peers) == 0 {
		return nil, errors.New("read list of peers: no peer in it that could be dialled")
	}
	return peers, nil
}

func parseEntry(raw json.RawMessage) (ma.Multiaddr, peer.ID, error) {
	var e fields
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, "", err
	}
	s := e.text("multiaddr")
	if len(s) > maxAddr {
		return nil, "", errors.New("address too long")
	}
	full, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, "", err
	}
	addr, id := peer.SplitAddr(full)
	if len(addr) == 0 || id == "" {
		return nil, "", errors.New("want an address and a peer ID")
	}
	if claimed := e.text("ipfsId"); claimed != "" && claimed != id.String() {
		return nil, "", errors.New("two peer IDs")
	}
	return addr, id, nil
}
