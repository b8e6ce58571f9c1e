package lab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// Link is what leads to an address.
type Link struct {
	To   netip.Addr
	Mbit int // a second
}

// Shape makes the link as slow as it says, with a buffer of 25 ms as routers have, until
// undo is called. All packets are of Ethernet's size meanwhile: one of 64 KiB, as a
// loopback has them, is 50 ms on 10 Mbit/s.
func (l Link) Shape() (undo func() error, err error) {
	rate := fmt.Sprintf("%dmbit", l.Mbit)
	if err := run(
		"ip link set lo mtu 1500",
		"tc qdisc replace dev lo root handle 1: htb", // what has no class passes as it is
		"tc class add dev lo parent 1: classid 1:1 htb rate 10gbit",
		"tc qdisc add dev lo parent 1:1 tbf rate "+rate+" burst 6k latency 25ms",
		"tc filter add dev lo parent 1: protocol ip u32 match ip dst "+l.To.String()+" flowid 1:1",
	); err != nil {
		return nil, fmt.Errorf("make the link to %s slow: %w", l.To, err)
	}
	return func() error { return run("tc qdisc del dev lo root", "ip link set lo mtu 65536") }, nil
}

func run(lines ...string) error {
	for _, line := range lines {
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", line, err, out)
		}
	}
	return nil
}
