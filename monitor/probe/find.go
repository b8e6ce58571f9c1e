package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
	"github.com/psf-relay/relay-appliance/internal/publicip"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// Domain is where relayd serves its web page and its secure websocket. [ParseDomain]
// makes it.
type Domain struct {
	Name string
	Port uint16
}

// ParseDomain reads NAME, NAME:PORT, or the address of a page there.
func ParseDomain(s string) (Domain, error) {
	fault := func(what string) (Domain, error) {
		return Domain{}, fmt.Errorf("address %q: %s: want a relay's domain, such as relay.example.org or relay.example.org:8443, or its multiaddrs", clip(s), what)
	}
	if strings.HasPrefix(strings.ToLower(s), "http://") {
		return fault("relays are asked over https alone")
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(strings.ToLower(s), "https://"), "/")
	name, port, given := strings.Cut(host, ":")
	name = strings.TrimSuffix(name, ".")
	d := Domain{Name: name, Port: 443}
	if _, err := netip.ParseAddr(name); err == nil {
		return fault("a certificate is for a name, and this is an IP address")
	}
	if checkName(name) != nil || !strings.Contains(name, ".") {
		return fault("not a domain")
	}
	if given {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fault("wrong port")
		}
		d.Port = uint16(n)
	}
	return d, nil
}

// String writes the domain as ParseDomain reads it.
func (d Domain) String() string {
	if d.Port == 443 {
		return d.Name
	}
	return net.JoinHostPort(d.Name, strconv.Itoa(int(d.Port)))
}

// page is where relayd says how it is; anybody may read it.
func (d Domain) page() string { return "https://" + d.String() + "/status.json" }

// target is the domain as what can be dialled.
func (d Domain) target() (Target, error) {
	return parseAddrs([]string{fmt.Sprintf("/dns4/%s/tcp/%d/wss", d.Name, d.Port)}, false)
}

// Found is what a relay says of itself.
type Found struct {
	Page   string // where it says so
	Target Target
	// Unverified says why the page's certificate is not valid; empty: it is valid.
	// Who stands between could have written an unverified page.
	Unverified evidence.Class
	// Missing says which address the relay does not give, and what to do.
	Missing []string
}

// ErrBlind says that this machine is why nothing was found.
var ErrBlind = errors.New("nothing is known of the relay")

// Bounds of asking a relay for its addresses. Its page has some KiB.
const (
	findDeadline = 30 * time.Second
	maxPage      = 1 << 20
)

// Find reads a relay's addresses from its own page. The page is dialled like the relay:
// pins, extra CAs and the refusal of private addresses are those of o.
func Find(ctx context.Context, at Domain, o Options) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, findDeadline)
	defer cancel()
	found := Found{Page: at.page()}
	t, err := at.target()
	if err != nil {
		return found, err
	}
	d := dialer{&o, new(evidence.Facts), new(line)}
	conn, err := d.secured(ctx, t)
	if err != nil && strings.HasPrefix(string(asFault(err).class), "cert-") {
		// The rung wss will fail for it, and say what to do. The rest of the ladder needs the
		// addresses; who answers there must have the key of the peer ID.
		found.Unverified = asFault(err).class
		conn, err = d.unverified(ctx, t)
	}
	if err != nil {
		return found, unasked(found.Page, asFault(err))
	}
	defer conn.Close()
	body, err := download.Get(ctx, clientOver(conn), found.Page, buildinfo.Agent("relaymon"), maxPage)
	switch {
	case isTimeout(err):
		return found, fmt.Errorf("%s: no answer within %s: check the server's load", found.Page, findDeadline)
	case err != nil:
		return found, notRelayd(err)
	}
	found.Target, found.Missing, err = readPage(body, at, o.AllowPrivate)
	if err != nil {
		err = fmt.Errorf("%s: %w", found.Page, err)
	}
	return found, err
}

// unverified connects to the target's name, whoever answers there.
func (d dialer) unverified(ctx context.Context, t Target) (*tls.Conn, error) {
	raw, err := d.named(ctx, t)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: t.host(), NextProtos: []string{"http/1.1"}})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fail(evidence.TLSFailed, err)
	}
	return conn, nil
}

// unasked says why a page could not be asked for, in the words of the ladder.
func unasked(page string, f *fault) error {
	err := fmt.Errorf("%s: %s (%s)\n  seen: %s\n  to do: %s", page, f.class.Meaning(), f.class, clean(f.Error(), maxDetail), f.class.Advice())
	if f.outcome == evidence.Blind {
		return fmt.Errorf("%w: %w", ErrBlind, err)
	}
	return err
}

func notRelayd(err error) error {
	return fmt.Errorf("%w\n  this is not the page of a relayd: relays of other software, such as the PSF's ipfs-service-provider, have none", err)
}

// readPage takes the addresses to be probed out of what a relay says of itself.
func readPage(body []byte, at Domain, private bool) (Target, []string, error) {
	var said struct {
		PeerID string   `json:"peer_id"`
		Addrs  []string `json:"addrs"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return Target{}, nil, notRelayd(errors.New("a web page (HTML) instead of JSON"))
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return Target{}, nil, notRelayd(fmt.Errorf("not the JSON of a relay: %s", clean(err.Error(), maxText)))
	}
	if said.PeerID == "" {
		return Target{}, nil, notRelayd(errors.New("JSON without a peer_id"))
	}
	id, err := peer.Decode(said.PeerID)
	if err != nil {
		return Target{}, nil, notRelayd(fmt.Errorf("peer_id %q is not a peer ID", clip(said.PeerID)))
	}
	c := choice{at: at, private: private, t: Target{PeerID: id}}
	for _, s := range said.Addrs {
		// What is no address that the ladder tries is another transport's.
		t, err := ParseTarget([]string{s})
		if err != nil {
			continue
		}
		if t.PeerID != id {
			return Target{}, nil, fmt.Errorf("the peer IDs differ: peer_id is %s, and %s is among addrs: mend announce.addrs in the relay's configuration", id, s)
		}
		c.look(t)
	}
	missing := c.missing()
	if c.t.TCP4 == nil && c.t.WSS == nil {
		return Target{}, nil, fmt.Errorf("the relay gives no address that can be probed\n  %s", strings.Join(missing, "\n  "))
	}
	return c.t, missing, nil
}

// choice picks one address of each kind.
type choice struct {
	at      Domain
	private bool // admits addresses that are not public
	t       Target
	hidden  []string // addresses that are not public
	others  []string // secure websockets of other domains
}

func (c *choice) look(t Target) {
	switch {
	case t.WSS != nil && t.host() != c.at.Name:
		c.others = append(c.others, t.host())
	case t.WSS != nil:
		if c.t.WSS == nil || port(t.WSS) == c.at.Port {
			c.t.WSS = t.WSS
		}
	case publicip.Is4(t.tcp4().Addr()):
		if c.t.TCP4 == nil || !publicip.Is4(c.t.tcp4().Addr()) {
			c.t.TCP4 = t.TCP4
		}
	case !c.private:
		c.hidden = append(c.hidden, t.tcp4().Addr().String())
	case c.t.TCP4 == nil:
		c.t.TCP4 = t.TCP4
	}
}

func (c *choice) missing() (list []string) {
	if c.t.TCP4 == nil {
		why := ""
		if len(c.hidden) > 0 {
			why = " (" + clip(strings.Join(c.hidden, ", ")) + " is not public)"
		}
		list = append(list, "the relay gives no public IPv4 address for TCP"+why+": set announce.ip4 and listen.tcp in its configuration")
	}
	if c.t.WSS == nil {
		why := ": set domain and listen.wss in its configuration"
		if len(c.others) > 0 {
			why = ", but of " + clip(strings.Join(c.others, ", ")) + ": probe that domain"
		}
		list = append(list, "the relay gives no secure websocket of "+c.at.Name+why)
	}
	return list
}
