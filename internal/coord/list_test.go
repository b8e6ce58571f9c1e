package coord

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	a, b, c := randomID(t), randomID(t), randomID(t)
	list := fmt.Sprintf(`{
	"browser":[{"multiaddr":"/dns4/a.example/tcp/443/wss/p2p/%[1]s","ipfsId":"%[1]s"}],
	"node":[{"name":"x","multiaddr":"/ip4/203.0.113.1/tcp/4001/p2p/%[1]s","ipfsId":"%[1]s","connected":true},
		{"multiaddr":"/ip4/203.0.113.2/tcp/4001/p2p/%[2]s","ipfsId":"%[1]s"},
		{"multiaddr":"/ip4/203.0.113.2/tcp/4001"}, 7, {"multiaddr":"/p2p/%[2]s"}, {"multiaddr":"nonsense"}],
	"recommendedPeers":[{"multiaddr":"/ip4/203.0.113.3/tcp/4001/ipfs/%[3]s"}]}`, a, b, c)
	peers, err := ParseList([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("[{%s: [/ip4/203.0.113.1/tcp/4001 /dns4/a.example/tcp/443/wss]} {%s: [/ip4/203.0.113.3/tcp/4001]}]", a, c)
	if got := fmt.Sprint(peers); got != want {
		t.Fatalf("read %s, want %s", got, want)
	}
}

func TestParseListRefuses(t *testing.T) {
	id := randomID(t).String()
	entry := `{"multiaddr":"/ip4/203.0.113.1/tcp/4001/p2p/` + id + `"}`
	for name, list := range map[string]string{
		"empty":     ``,
		"no peers":  `{"node":[],"browser":[],"recommendedPeers":[]}`,
		"an array":  `[` + entry + `]`,
		"an object": `{"node":` + entry + `}`,
		"too many":  `{"node":[` + strings.Repeat(entry+",", maxListed) + entry + `]}`,
		"too long":  `{"node":[` + entry + `],"x":"` + strings.Repeat("x", MaxList) + `"}`,
	} {
		if peers, err := ParseList([]byte(list)); err == nil {
			t.Errorf("%s: read %v", name, peers)
		}
	}
}

func FuzzParseList(f *testing.F) {
	id := fixedID(f).String()
	f.Add([]byte(`{"node":[{"multiaddr":"/ip4/203.0.113.1/tcp/4001/p2p/` + id + `","ipfsId":"` + id + `"}],"browser":[],"recommendedPeers":[{"multiaddr":"/dns4/a/tcp/443/wss/ipfs/` + id + `"}]}`))
	f.Add([]byte(`{"node":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		peers, err := ParseList(data)
		if err != nil {
			return
		}
		if len(peers) == 0 || len(peers) > maxListedPeer {
			t.Fatalf("%d peers", len(peers))
		}
		for _, p := range peers {
			if p.ID == "" || len(p.Addrs) == 0 || len(p.Addrs) > maxPeerAddrs {
				t.Fatalf("peer %v", p)
			}
		}
	})
}
