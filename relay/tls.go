package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/psf-relay/relay-appliance/internal/certs"
	"github.com/psf-relay/relay-appliance/internal/listen"
	"github.com/psf-relay/relay-appliance/relay/config"
)

// newCerts is who serves the certificate of the relay's domain.
func newCerts(cfg config.Config, log *slog.Logger) (*certs.Keeper, error) {
	return certs.New(certs.Config{
		Domain:     cfg.Domain,
		Needed:     "browsers cannot reach the relay without a valid one; its other transports go on",
		Log:        log,
		Cert:       cfg.TLS.Cert,
		Key:        cfg.TLS.Key,
		Directory:  cfg.ACME.Directory,
		CAFile:     cfg.ACME.CAFile,
		Email:      cfg.ACME.Email,
		DataDir:    cfg.DataDir,
		HTTP:       cfg.Listen.HTTP != "",
		RetryFirst: cfg.Test.RetryFirst,
	})
}

// serveHTTP serves plain HTTP on l until ctx ends.
func (r *Relay) serveHTTP(ctx context.Context, l net.Listener) {
	s := listen.Server(r.certs.HTTPHandler(), r.log)
	s.WriteTimeout, s.IdleTimeout = 10*time.Second, 10*time.Second
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		r.log.Error("plain HTTP ended: HTTP-01 and the redirect to https are not served", "error", err)
	}
}
