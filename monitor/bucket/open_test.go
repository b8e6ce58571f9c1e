package bucket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// In programs that send alerts http.DefaultTransport is another one than the standard
// library's. The libraries of no kind of bucket may count on it, whatever credentials the
// machine has.
func TestOpenUnderAnotherTransport(t *testing.T) {
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	http.DefaultTransport = http.NewFileTransport(http.Dir(t.TempDir()))

	dir := t.TempDir()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPath := file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPath := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	config := file("certificate_config.json", fmt.Appendf(nil, `{"cert_configs": {"workload": {"cert_path": %q, "key_path": %q}}}`, certPath, keyPath))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file("account.json", fmt.Appendf(nil, `{
		"type": "external_account",
		"audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
		"subject_token_type": "urn:ietf:params:oauth:token-type:mtls",
		"token_url": "https://sts.googleapis.com/v1/token",
		"credential_source": {"certificate": {"certificate_config_location": %q}}}`, config)))
	t.Setenv("AWS_ACCESS_KEY_ID", "k")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	for _, url := range []string{
		"gs://logs", "gs://logs?anonymous=true", "s3://logs?region=x",
		"azblob://logs?storage_account=acct1", "azblob://logs?storage_account=acct1&anonymous=true",
	} {
		b, err := Open(t.Context(), url, Options{})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		b.Close()
	}
}
