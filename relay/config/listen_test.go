package config

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// Two transports cannot have one TCP port, and the operator is told which two want it. In
// UDP they share it.
func TestPortWantedTwice(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	at := func(form string) string { return fmt.Sprintf("/ip4/127.0.0.1/"+form, port) }
	c := DefaultConfig()
	c.Domain = "relay.example.org"
	c.Listen = Listen{
		TCP: multiaddrs(t, at("tcp/%d")), WSS: multiaddrs(t, at("tcp/%d/tls/ws")),
		QUIC: multiaddrs(t, at("udp/%d/quic-v1")), WebRTC: multiaddrs(t, at("udp/%d/webrtc-direct")),
	}
	if _, err = c.ListenAddrs(slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "listen.tcp") || !strings.Contains(err.Error(), "listen.wss") {
		t.Errorf("TCP and WSS on one port: %v", err)
	}
	c.Listen.WSS = multiaddrs(t, "/ip4/127.0.0.1/tcp/0/tls/ws")
	if got, err := c.ListenAddrs(slog.New(slog.DiscardHandler)); err != nil || len(got) != 4 {
		t.Errorf("got %v, %v", got, err)
	}
}
