package bucket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/appliance"
	"github.com/psf-relay/relay-appliance/internal/s3test"
)

const secret = s3test.Secret

func keyFile(t *testing.T, secret string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credentials")
	text := "[default]\naws_access_key_id = " + s3test.Access + "\naws_secret_access_key = " + secret + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func open(t *testing.T, host, secret string) appliance.Place {
	t.Helper()
	p, err := Open(appliance.S3{Bucket: "bucket", Folder: "a/b/", Endpoint: host, Plain: true, Region: "us-east-1", Credentials: keyFile(t, secret)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func file(t *testing.T, content []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestBucket(t *testing.T) {
	host, dir := s3test.Start(t, "127.83.3.1", "../../tools")
	small := bytes.Repeat([]byte("0123456789"), 1000)
	large := bytes.Repeat([]byte("abcdefghij"), 2<<20) // is sent in two parts
	keeps := func(t *testing.T, p appliance.Place) {
		for name, content := range map[string][]byte{"one_1": small, "one_2": large, "two_1": []byte("x")} {
			if err := p.Put(t.Context(), name, file(t, content), int64(len(content))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a/b", name)); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s: there are %d bytes, %v", name, len(got), err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "a/one_0"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		names, err := p.List(t.Context(), "one_")
		if err != nil || !slices.Equal(names, []string{"one_1", "one_2"}) {
			t.Errorf("it lists %q, %v", names, err)
		}
		if err := p.Remove(t.Context(), "one_1"); err != nil {
			t.Error(err)
		}
		if names, err := p.List(t.Context(), ""); err != nil || !slices.Equal(names, []string{"one_2", "two_1"}) {
			t.Errorf("after one is removed it lists %q, %v", names, err)
		}
	}
	t.Run("good", func(t *testing.T) { keeps(t, open(t, host, secret)) })

	// Each second request fails, one way or another: before, or in the midst of it.
	t.Run("half of all fail", func(t *testing.T) {
		var n atomic.Int32
		to := &url.URL{Scheme: "http", Host: host}
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch n.Add(1) % 4 {
			case 1:
				w.WriteHeader(http.StatusServiceUnavailable)
			case 3:
				_, _ = io.CopyN(io.Discard, r.Body, 100)
				panic(http.ErrAbortHandler) // the connection breaks
			default:
				// What is signed is the name of the host, too: it stays.
				(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
					p.SetURL(to)
					p.Out.Host = p.In.Host
				}}).ServeHTTP(w, r)
			}
		}))
		defer proxy.Close()
		keeps(t, open(t, strings.TrimPrefix(proxy.URL, "http://"), secret))
		if n.Load() < 12 {
			t.Errorf("only %d requests came", n.Load())
		}
	})

	refused := func(t *testing.T, p appliance.Place, want string) {
		t.Helper()
		err := p.Put(t.Context(), "x", file(t, small), int64(len(small)))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(fmt.Sprintf("%+v", err), "not-the-secret") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	t.Run("wrong key", func(t *testing.T) { refused(t, open(t, host, "not-the-secret"), "signature") })
	t.Run("no such bucket", func(t *testing.T) {
		p, err := Open(appliance.S3{Bucket: "nobodys", Endpoint: host, Plain: true, Region: "us-east-1", Credentials: keyFile(t, secret)})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, p, "bucket does not exist")
	})
	t.Run("time is up", func(t *testing.T) {
		silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // else it is not seen that the client is gone
			<-r.Context().Done()
		}))
		defer silent.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p := open(t, strings.TrimPrefix(silent.URL, "http://"), secret)
		if err := p.Put(ctx, "x", file(t, small), int64(len(small))); err == nil {
			t.Error("no error")
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no secret": "[default]\naws_access_key_id = x\n", "another profile": "[other]\naws_access_key_id = x\naws_secret_access_key = y\n", "no file of keys": "hello",
		"a secret without =": "[default]\naws_access_key_id = x\naws_secret_access_key sesame\n"} {
		file := filepath.Join(t.TempDir(), "credentials")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(appliance.S3{Bucket: "bucket", Endpoint: "s3.test", Credentials: file}); err == nil || !strings.Contains(err.Error(), "backup.credentials") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
