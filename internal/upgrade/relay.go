package upgrade

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/relay/status"
)

const (
	relayConfig   = "/etc/relayd/relayd.yaml"
	monitorConfig = "/etc/relaymon/relaymon.yaml"
)

// Checks are those of the machine that the program runs on.
func (m Machine) Checks() []Check {
	var list []Check
	for _, program := range Packages {
		list = append(list, Check{Name: program + " starts", Run: func(ctx context.Context) error {
			path := m.path("usr/bin/" + program)
			if !exists(path) {
				return nil // not installed here
			}
			_, err := command(exec.CommandContext(ctx, path, "version"))
			return err
		}})
	}
	for _, unit := range services {
		list = append(list, m.runs(unit))
	}
	return append(list,
		Check{Name: "relayd serves", Unit: "relayd.service", Run: onRelay(isServing)},
		Check{Name: "relayd relays", Unit: "relayd.service", Run: onRelay(isRelaying)},
		Check{Name: "relayd has its certificate", Unit: "relayd.service", Run: onRelay(hasCertificate)},
		Check{Name: "relaymon's evidence log verifies", Unit: "relaymon.service", Costly: true, Run: func(ctx context.Context) error {
			_, err := command(exec.CommandContext(ctx, "runuser", "-u", "relaymon", "--", "relaymon", "log", "check", "--config", monitorConfig))
			return err
		}},
	)
}

// relay is what there is to know of the relay on this machine in order to look at it.
type relay struct {
	Domain string `yaml:"domain"`
	Listen struct {
		TCP []string `yaml:"tcp"`
		WSS []string `yaml:"wss"`
	} `yaml:"listen"`
	Metrics struct {
		Listen string `yaml:"listen"`
	} `yaml:"metrics"`
}

// onRelay makes a check of what is to be seen at the relay with its configuration.
func onRelay(look func(context.Context, relay) error) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := command(exec.CommandContext(ctx, "relayd", "config", "--config", relayConfig))
		if err != nil {
			return err
		}
		r, err := readRelay([]byte(out))
		if err != nil {
			return err
		}
		return look(ctx, r)
	}
}

func readRelay(config []byte) (r relay, err error) {
	if err := yaml.Unmarshal(config, &r); err != nil {
		return r, fmt.Errorf("read relayd's configuration: %w", err)
	}
	return r, nil
}

// AskRelay asks the relay of this machine how it is. config is what `relayd config` says.
func AskRelay(ctx context.Context, config []byte) (status.Status, error) {
	r, err := readRelay(config)
	if err != nil {
		return status.Status{}, err
	}
	return r.status(ctx)
}

// status asks the relay by its metrics listener, else by its own web page.
func (r relay) status(ctx context.Context) (status.Status, error) {
	url, transport := "https://"+r.Domain+"/status.json", &http.Transport{DisableKeepAlives: true}
	if r.Metrics.Listen != "" {
		host, port, err := net.SplitHostPort(r.Metrics.Listen)
		if err != nil {
			return status.Status{}, fmt.Errorf("relayd's metrics.listen: %w", err)
		}
		url = "http://" + net.JoinHostPort(dialable(host), port) + "/status.json"
	} else {
		at, err := r.wss()
		if err != nil {
			return status.Status{}, err
		}
		// Who answers is on this machine; the certificate is another check's.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true, ServerName: r.Domain}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", at)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return status.Status{}, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return status.Status{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return status.Status{}, fmt.Errorf("ask %s: %s", url, resp.Status)
	}
	var s status.Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s); err != nil {
		return status.Status{}, fmt.Errorf("ask %s: %w", url, err)
	}
	return s, nil
}

func isServing(ctx context.Context, r relay) error {
	s, err := r.status(ctx)
	switch {
	case err != nil:
		return err
	case !s.Healthy:
		return errors.New("it says that it serves no reservations")
	case !s.Ready:
		return errors.New("it is not ready yet")
	}
	return nil
}

// isRelaying has relaymon reserve a place at the relay and send bytes through it, as
// two strangers would.
func isRelaying(ctx context.Context, r relay) error {
	s, err := r.status(ctx)
	if err != nil {
		return err
	}
	for _, a := range r.Listen.TCP {
		host, port, ok := hostPort(a)
		if !ok || strings.Contains(host, ":") {
			continue // the probe takes an IPv4 address
		}
		addr := fmt.Sprintf("/ip4/%s/tcp/%s/p2p/%s", dialable(host), port, s.PeerID)
		out, err := command(exec.CommandContext(ctx, "relaymon", "probe", "--json", "--allow-private", addr))
		if err != nil {
			return probeFault(out, err)
		}
		return nil
	}
	return errors.New("it listens on no IPv4 address by TCP")
}

// probeFault picks the rung that failed out of the probe's answer.
func probeFault(out string, err error) error {
	var result struct {
		Rungs []struct{ Name, Outcome, Class, Detail string }
	}
	if json.Unmarshal([]byte(out), &result) == nil {
		for _, g := range result.Rungs {
			if g.Outcome != "ok" && g.Outcome != "skipped" {
				return fmt.Errorf("the rung %s of relaymon's probe is %s (%s)%s", g.Name, g.Outcome, g.Class, tail(g.Detail))
			}
		}
	}
	return err
}

// hasCertificate sees whether browsers would be shown a certificate for the domain.
// By whom it is signed is left open: a lab has a CA of its own.
func hasCertificate(ctx context.Context, r relay) error {
	if r.Domain == "" {
		return errors.New("it has no domain")
	}
	at, err := r.wss()
	if err != nil {
		return err
	}
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: r.Domain}}
	conn, err := d.DialContext(ctx, "tcp", at)
	if err != nil {
		return err
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	leaf := chain[0]
	// What the program made for itself is no sign that it can still get one.
	if len(chain) == 1 && bytes.Equal(leaf.RawIssuer, leaf.RawSubject) && leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
		return errors.New("it signed its certificate itself: no browser takes it")
	}
	if now := time.Now(); now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return fmt.Errorf("it is valid from %s to %s", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	return leaf.VerifyHostname(r.Domain)
}

// wss is where the relay's browsers' port is reached on this machine, by IPv4 if it
// is: the bounty wants that, and IPv6 would show nothing of it.
func (r relay) wss() (string, error) {
	for _, family := range []string{"/ip4/", "/ip6/"} {
		for _, a := range r.Listen.WSS {
			if host, port, ok := hostPort(a); ok && strings.HasPrefix(a, family) {
				return net.JoinHostPort(dialable(host), port), nil
			}
		}
	}
	return "", errors.New("it does not listen for browsers: set a domain and listen.wss")
}

// hostPort takes the address and the TCP port out of a multiaddr.
func hostPort(addr string) (host, port string, ok bool) {
	p := strings.Split(addr, "/")
	if len(p) < 5 || p[0] != "" || p[1] != "ip4" && p[1] != "ip6" || p[3] != "tcp" {
		return "", "", false
	}
	return p[2], p[4], true
}

// dialable is an address of this machine that leads to a listener on host.
func dialable(host string) string {
	switch host {
	case "", "0.0.0.0":
		return "127.0.0.1"
	case "::":
		return "::1"
	}
	return host
}
