package monitor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/download"
)

// Health is an error unless the monitor that runs on this machine with this
// configuration judges.
func Health(ctx context.Context, cfg Config) error {
	scheme, host, own := "http", cfg.Listen, cfg.Listen
	if own == "" {
		scheme, host, own = "https", cfg.Public.Domain, cfg.Public.HTTPS
	}
	if host == "" {
		return errors.New("there is no way to ask it: set listen, or public.domain")
	}
	own = onThisMachine(own)
	client := &http.Client{Transport: &http.Transport{
		// It is asked whether it judges: a bad certificate has an alert of its own.
		TLSClientConfig: &tls.Config{ServerName: cfg.Public.Domain, InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", own)
		},
	}}
	defer client.CloseIdleConnections()
	return download.Healthy(ctx, client, scheme+"://"+host+"/healthz", buildinfo.Agent("relaymon"))
}

// onThisMachine is where a listener is reached that listens everywhere.
func onThisMachine(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
