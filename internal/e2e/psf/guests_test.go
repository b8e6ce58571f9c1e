package psf

import (
	"strings"
	"testing"
	"time"
)

// Two nodes of helia that are not in the PSF network pass on a file by bitswap, which
// does not use a connection that has a limit.
func TestGuestsBitswap(t *testing.T) {
	if !isolated(t) {
		return
	}
	const size = 3 << 20 // more than a guest's circuit may carry by default
	for name, tc := range map[string]struct {
		limits  map[string]any
		limited bool
	}{
		"guest_circuit_data 0": {map[string]any{"guest_circuit_data": "0"}, false},
		// Where there is no share for newcomers, guests have their limit from the start.
		"limited": {map[string]any{"guest_circuits": 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t, map[string]any{
				"listen": listen(byTCP, []string{}), "limits": tc.limits,
				"psf": map[string]any{"bootstrap": []string{}, "bootstrap_list": ""},
			})
			r.start()
			at := byTCP[0] + "/p2p/" + r.id
			has := newPeer(t, peerConfig{Name: "has", TCPPort: 5001, WSPort: 5002, Seeds: []string{at}, Guest: true})
			wants := newPeer(t, peerConfig{Name: "wants", TCPPort: 5011, WSPort: 5012, Seeds: []string{at}, Guest: true})
			until(t, 2*time.Minute, "the one that has the file holds a reservation", func() bool { return has.state().reserved(r.id) })
			var file, got struct {
				CID, SHA256 string
				Bytes       int
			}
			if err := has.call("keep", map[string]any{"bytes": size}, &file); err != nil {
				t.Fatal(err)
			}
			if err := wants.call("dial", map[string]any{"addr": at + "/p2p-circuit/p2p/" + has.id}, nil); err != nil {
				t.Fatal(err)
			}
			for _, c := range wants.state().Connections {
				if c.Peer == has.id && (c.Limited != tc.limited || !strings.Contains(c.Addr, "/p2p-circuit")) {
					t.Errorf("the connection is %+v, want limited %v, through the relay", c, tc.limited)
				}
			}
			seconds := 120
			if tc.limited {
				seconds = 10 // it waits for somebody to have the file
			}
			err := wants.call("fetch", map[string]any{"cid": file.CID, "seconds": seconds}, &got)
			switch {
			case tc.limited && err == nil:
				t.Error("bitswap used a circuit with a limit: README.md and default.yaml say that it does not")
			case !tc.limited && (err != nil || got.Bytes != size || got.SHA256 != file.SHA256):
				t.Errorf("got %+v, %v, want %d bytes as they were kept", got, err, size)
			}
		})
	}
}
