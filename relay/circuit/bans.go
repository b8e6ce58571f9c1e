package circuit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

// banFile lists who is banned, one peer ID or network per line. `relayd ban`
// writes it, the running relay reads it again when it changes.
const banFile = "banned"

// maxBanBytes bounds the file: each entry is looked at for each request.
const maxBanBytes = 1 << 20

// BanList is who may neither reserve nor open circuits.
type BanList struct {
	Peers    []peer.ID
	Networks []netip.Prefix
}

// add takes in one entry: a peer ID, a network, or an address.
func (b *BanList) add(entry string) error {
	if id, err := peer.Decode(entry); err == nil {
		if !slices.Contains(b.Peers, id) {
			b.Peers = append(b.Peers, id)
		}
		return nil
	}
	network, err := netip.ParsePrefix(entry)
	if err != nil {
		addr, addrErr := netip.ParseAddr(entry)
		if addrErr != nil || addr.Zone() != "" {
			return fmt.Errorf("%q is neither a peer ID nor a network such as 203.0.113.0/24", entry)
		}
		network = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	if network = network.Masked(); !slices.Contains(b.Networks, network) {
		b.Networks = append(b.Networks, network)
	}
	return nil
}

func (b *BanList) entries() (out []string) {
	for _, p := range b.Peers {
		out = append(out, p.String())
	}
	for _, n := range b.Networks {
		out = append(out, n.String())
	}
	return out
}

// Entries lists what is banned, as Ban takes it.
func (b *BanList) Entries() []string { return b.entries() }

func (b *BanList) bans(p peer.ID, a ma.Multiaddr) bool {
	if slices.Contains(b.Peers, p) {
		return true
	}
	if len(b.Networks) == 0 || a == nil {
		return false
	}
	ip, err := manet.ToIP(a)
	if err != nil {
		return false
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	return slices.ContainsFunc(b.Networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// ReadBans reads the list; none is an empty one.
func ReadBans(dataDir string) (*BanList, error) {
	data, err := os.ReadFile(filepath.Join(dataDir, banFile))
	if errors.Is(err, fs.ErrNotExist) {
		return &BanList{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ban list: %w", err)
	}
	return parseBans(data)
}

func parseBans(data []byte) (*BanList, error) {
	if len(data) > maxBanBytes {
		return nil, fmt.Errorf("ban list: %d bytes, at most %d are read: ban whole networks", len(data), maxBanBytes)
	}
	b := &BanList{}
	var faults []error
	for i, line := range bytes.Split(data, []byte("\n")) {
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if err := b.add(text); err != nil {
			faults = append(faults, fmt.Errorf("ban list, line %d: %w", i+1, err))
		}
	}
	return b, errors.Join(faults...)
}

// Ban adds a peer ID, a network or an address to the list, Unban takes it off.
// A relay that runs takes note within seconds.
func Ban(dataDir, entry string) error { return editBans(dataDir, entry, false) }

// Unban takes an entry off the list; one that is not on it is an error.
func Unban(dataDir, entry string) error { return editBans(dataDir, entry, true) }

func editBans(dataDir, entry string, remove bool) error {
	var one BanList
	if err := one.add(entry); err != nil {
		return err
	}
	// Two commands at once must not lose an entry.
	dir, err := os.Open(dataDir)
	if err != nil {
		return fmt.Errorf("edit the ban list: %w", err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("edit the ban list: %w", err)
	}
	list, err := ReadBans(dataDir)
	if err != nil {
		return err
	}
	word := one.entries()[0]
	had := slices.Contains(list.entries(), word)
	switch {
	case remove && !had:
		return fmt.Errorf("%s is not banned", word)
	case !remove && had:
		return nil
	case remove:
		list.Peers = slices.DeleteFunc(list.Peers, func(p peer.ID) bool { return p.String() == word })
		list.Networks = slices.DeleteFunc(list.Networks, func(n netip.Prefix) bool { return n.String() == word })
	default:
		_ = list.add(entry) // it was read once
	}
	text := "# Peers and networks that relayd serves no reservations and no circuits.\n"
	for _, e := range list.entries() {
		text += e + "\n"
	}
	return durable.Replace(filepath.Join(dataDir, banFile), []byte(text), 0o600)
}

// Bans is the list in use.
type Bans struct {
	dataDir string

	mu   sync.Mutex
	list *BanList
	seen durable.Stamp
}

func OpenBans(dataDir string) (*Bans, error) {
	b := &Bans{dataDir: dataDir, seen: durable.StampOf(filepath.Join(dataDir, banFile))}
	list, err := ReadBans(dataDir)
	if err != nil {
		return nil, err
	}
	b.list = list
	return b, nil
}

func (b *Bans) bans(p peer.ID, a ma.Multiaddr) bool {
	b.mu.Lock()
	list := b.list
	b.mu.Unlock()
	return list.bans(p, a)
}

// Reload reads the list again if the file changed. A list with faults leaves the
// one in use as it is.
func (b *Bans) Reload() (changed bool, err error) {
	stamp := durable.StampOf(filepath.Join(b.dataDir, banFile))
	b.mu.Lock()
	same := stamp == b.seen
	b.seen = stamp
	b.mu.Unlock()
	if same {
		return false, nil
	}
	list, err := ReadBans(b.dataDir)
	if err != nil {
		return false, fmt.Errorf("the ban list stays as it was: %w", err)
	}
	b.mu.Lock()
	b.list = list
	b.mu.Unlock()
	return true, nil
}
