package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Client is the client for the CA, and the roots it was told to trust.
func (cfg ACME) Client() (*http.Client, []byte, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	var root []byte
	if cfg.CAFile != "" {
		var err error
		if root, err = os.ReadFile(cfg.CAFile); err != nil {
			return nil, nil, fmt.Errorf("read acme.ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(root) {
			return nil, nil, fmt.Errorf("acme.ca_file %s holds no certificate: want PEM", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, root, nil
}
