package appliance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	rulesetPath = "/etc/nftables.conf"
	rulesetFrom = "/usr/share/relay-appliance/nftables.conf"
	rulesDir    = "/etc/nftables.d"
	sshRules    = rulesDir + "/ssh.nft"
	include     = `include "/etc/nftables.d/*.nft"`
)

// Port is a port that is open to everybody.
type Port struct {
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
	For      string `json:"for"`
}

// short is how people write it: 443/tcp.
func (p Port) short() string { return fmt.Sprintf("%d/%s", p.Port, p.Protocol) }

// Ports are those that the role needs.
func (s Settings) Ports() []Port {
	web := []Port{{"tcp", 80, "certificate (HTTP-01), redirect"}, {"tcp", 443, "browsers (WSS), status page"}}
	switch {
	case s.Role.Relays():
		return append(web, Port{"tcp", 4001, "libp2p"}, Port{"udp", 4001, "libp2p (QUIC, WebTransport, WebRTC)"})
	case s.Domain != "":
		web[1].For = "status page, witness"
		return web
	}
	return nil
}

var listened = regexp.MustCompile(`/ip[46]/([0-9a-fA-F.:]+)/(tcp|udp)/([0-9]{1,5})\b`)

// others are ports that relayd's own settings have besides those of the role, and that
// others than this machine may come to.
func (s Settings) others() (others []string) {
	var open []string
	for _, p := range s.Ports() {
		open = append(open, p.short())
	}
	for _, m := range listened.FindAllStringSubmatch(fmt.Sprint(s.Relayd["listen"]), -1) {
		if p := m[3] + "/" + m[2]; s.Role.Relays() && !isOwn(m[1]) && !slices.Contains(slices.Concat(open, others), p) {
			others = append(others, p)
		}
	}
	return others
}

// openings are the rules that packages bring, and whether the role wants them.
func (s Settings) openings() map[string]bool {
	return map[string]bool{
		"/usr/share/relayd/relayd.nft":     s.Role.Relays(),
		"/usr/share/relaymon/relaymon.nft": s.Role == Monitor && s.Domain != "",
	}
}

// firewall lets in what the role needs, SSH, and nothing else. A machine that has
// a firewall of somebody else's keeps it, and is told which ports to open.
func (m *Machine) firewall(ctx context.Context, s Settings, w written, say func(string, ...any)) error {
	open := func(why string) error {
		var ports []string
		for _, p := range s.Ports() {
			ports = append(ports, p.short())
		}
		if ports = append(ports, s.others()...); len(ports) > 0 {
			say("%s: see to it yourself that these ports are open: %s", why, strings.Join(ports, " "))
		}
		return nil
	}
	if s.Firewall == "off" {
		return open("firewall: off")
	}
	own, err := m.readFile(rulesetPath)
	if err != nil || !bytes.Contains(own, []byte(include)) {
		other, err := m.otherFirewall(ctx)
		if err != nil {
			return err
		}
		if other != "" {
			return open("this machine has a firewall already (" + other + "), which is left alone")
		}
	}
	text, err := m.readFile(rulesetFrom)
	if err != nil {
		return fmt.Errorf("read the firewall's rules: %w", err)
	}
	became, err := m.put(ctx, w, rulesetPath, text, 0o755)
	if err != nil {
		return err
	}
	if became == leftAlone && !bytes.Contains(own, []byte(include)) {
		return open(rulesetPath + " was changed by hand, and is left alone")
	}
	changed, err := m.ssh(ctx)
	if err != nil {
		return err
	}
	for target, want := range s.openings() {
		// A link that leads nowhere would keep all rules from being loaded.
		c, err := m.link(filepath.Join(rulesDir, filepath.Base(target)), target, want && m.has(target))
		if err != nil {
			return fmt.Errorf("open ports: %w", err)
		}
		changed = changed || c
	}
	if others := s.others(); len(others) > 0 {
		say("firewall: relayd.listen has ports that are not the role's: %s: they stay closed unless a file of your own opens them, %s/NAME.nft (relayd.nft there shows how)", strings.Join(others, " "), rulesDir)
	}
	if err := m.do(ctx, "nft", "--check", "--file", m.path(rulesetPath)); err != nil {
		return fmt.Errorf("the firewall's rules are not loaded: %w", err)
	}
	if err := m.enable(ctx, "nftables.service"); err != nil {
		return err
	}
	verb := "start"
	if changed || became == wrote {
		verb = "reload-or-restart"
		say("firewall: open are SSH and the role's ports, closed is all else")
	}
	return m.do(ctx, "systemctl", verb, "nftables.service")
}

// otherFirewall names a table that filters what comes in or passes through; empty:
// there is none. Those of fail2ban only ban, and may stay.
func (m *Machine) otherFirewall(ctx context.Context) (string, error) {
	r, err := m.run(ctx, Command{Args: []string{"nft", "--json", "list", "ruleset"}})
	if err == nil {
		err = r.failed("look at the firewall in force")
	}
	if err != nil {
		return "", err
	}
	type in struct{ Family, Table, Name, Chain, Hook, Policy string }
	var ruleset struct {
		Nftables []struct{ Chain, Rule *in }
	}
	if err := json.Unmarshal([]byte(r.Stdout), &ruleset); err != nil {
		return "", fmt.Errorf("look at the firewall in force: %w", err)
	}
	filters := map[string]bool{} // chains that could refuse
	for _, item := range ruleset.Nftables {
		if c := item.Chain; c != nil && (c.Hook == "input" || c.Hook == "forward") && !strings.HasPrefix(c.Table, "f2b") {
			if c.Policy == "drop" {
				return c.Family + " " + c.Table, nil
			}
			filters[c.Family+" "+c.Table+" "+c.Name] = true
		}
	}
	for _, item := range ruleset.Nftables {
		if r := item.Rule; r != nil && filters[r.Family+" "+r.Table+" "+r.Chain] {
			return r.Family + " " + r.Table, nil
		}
	}
	return "", nil
}

var (
	sshdPort   = regexp.MustCompile(`(?m)^port (\d+)$`)
	socketPort = regexp.MustCompile(`(?m)^Listen=.*:(\d+) \(Stream\)$`)
)

// ssh keeps the ports open on which the machine's own SSH listens, where they are
// others than 22: nobody shall be shut out by the appliance.
func (m *Machine) ssh(ctx context.Context) (changed bool, err error) {
	if !m.has("/usr/sbin/sshd") {
		return false, nil
	}
	// sshd does not even print its configuration without this folder, which systemd
	// makes only when a first connection comes in, where it listens for sshd.
	if err := os.MkdirAll(m.path("/run/sshd"), 0o755); err != nil {
		return false, err
	}
	var ports []string
	for _, q := range []struct {
		args []string
		port *regexp.Regexp
	}{
		{[]string{"/usr/sbin/sshd", "-T"}, sshdPort},
		{[]string{"systemctl", "show", "--property=Listen", "ssh.socket"}, socketPort},
	} {
		r, err := m.run(ctx, Command{Args: q.args})
		if err == nil {
			err = r.failed("find out on which port SSH is")
		}
		if err != nil {
			return false, err
		}
		for _, p := range q.port.FindAllStringSubmatch(r.Stdout, -1) {
			if p[1] != "22" && !slices.Contains(ports, p[1]) {
				ports = append(ports, p[1])
			}
		}
	}
	if len(ports) == 0 {
		return false, nil
	}
	slices.Sort(ports)
	text := fmt.Appendf(nil, "# Where sshd listens, as relay-appliance found it.\ntable inet filter {\n\tchain input {\n\t\ttcp dport { %s } accept\n\t}\n}\n", strings.Join(ports, ", "))
	if old, err := m.readFile(sshRules); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	return true, m.write(sshRules, text, 0o644)
}
