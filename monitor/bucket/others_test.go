package bucket_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/bucket"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// No server of Google's or Microsoft's kind runs here. These are imitations of the few calls
// that are made, so what they show is that the URL leads to the right library and that what
// that sends and asks for fits together; not that a real one agrees.

type blobs struct {
	mu   sync.Mutex
	kept map[string]kept
	auth map[string]bool // kinds of credentials that came
}

type kept struct{ data, mediaType, cache string }

func (b *blobs) put(name string, k kept) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[name] = k
}

func (b *blobs) get(r *http.Request, name string) (kept, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kind, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	b.auth[kind] = true
	k, ok := b.kept[name]
	return k, ok
}

func (b *blobs) files(prefix string) map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]string{}
	for name, k := range b.kept {
		out[strings.TrimPrefix(name, prefix)] = k.data
	}
	return out
}

func sum(data string) string {
	s := md5.Sum([]byte(data))
	return base64.StdEncoding.EncodeToString(s[:])
}

// google is Cloud Storage's JSON API, and for contents its XML API.
func (b *blobs) google(w http.ResponseWriter, r *http.Request) {
	path, err := url.PathUnescape(r.URL.EscapedPath())
	if err != nil {
		http.Error(w, "bad path", http.StatusBadRequest)
		return
	}
	describe := func(name string, k kept) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "storage#object", "bucket": "logs", "name": name, "size": fmt.Sprint(len(k.data)), "md5Hash": sum(k.data),
			"contentType": k.mediaType, "cacheControl": k.cache, "generation": "1", "metageneration": "1", "updated": "2026-11-01T00:00:00Z", "timeCreated": "2026-11-01T00:00:00Z"})
	}
	if strings.HasPrefix(path, "/upload/storage/v1/b/logs/o") {
		_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		parts := multipart.NewReader(r.Body, params["boundary"])
		var meta struct{ Name, ContentType, CacheControl, MD5Hash string }
		part, err := parts.NextPart()
		if err == nil {
			err = json.NewDecoder(part).Decode(&meta)
		}
		var data []byte
		if err == nil {
			part, err = parts.NextPart()
		}
		if err == nil {
			data, err = io.ReadAll(part)
		}
		if err != nil || meta.MD5Hash != sum(string(data)) {
			http.Error(w, fmt.Sprintf("bad upload: %v, %q", err, meta.MD5Hash), http.StatusBadRequest)
			return
		}
		k := kept{string(data), meta.ContentType, meta.CacheControl}
		b.put(meta.Name, k)
		describe(meta.Name, k)
		return
	}
	name, attributes := strings.CutPrefix(path, "/storage/v1/b/logs/o/")
	if !attributes {
		name = strings.TrimPrefix(path, "/logs/")
	}
	k, ok := b.get(r, name)
	switch {
	case !ok && attributes:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error": {"code": 404, "message": "No such object"}}`)
	case !ok:
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
	case attributes:
		describe(name, k)
	default:
		w.Header().Set("Content-Type", k.mediaType)
		w.Header().Set("X-Goog-Generation", "1")
		w.Header().Set("Content-Length", fmt.Sprint(len(k.data)))
		fmt.Fprint(w, k.data)
	}
}

// azure is Blob Storage's REST API.
func (b *blobs) azure(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/acct1/logs/")
	head := w.Header()
	head.Set("ETag", `"1"`)
	head.Set("Last-Modified", time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat))
	head.Set("x-ms-creation-time", head.Get("Last-Modified"))
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("x-ms-blob-type") != "BlockBlob" || r.Header.Get("x-ms-blob-content-md5") != sum(string(data)) || r.URL.RawQuery != "" {
			http.Error(w, "bad upload", http.StatusBadRequest)
			return
		}
		b.put(name, kept{string(data), r.Header.Get("x-ms-blob-content-type"), r.Header.Get("x-ms-blob-cache-control")})
		w.WriteHeader(http.StatusCreated)
		return
	}
	k, ok := b.get(r, name)
	if !ok {
		head.Set("x-ms-error-code", "BlobNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	head.Set("Content-MD5", sum(k.data))
	head.Set("Content-Type", k.mediaType)
	head.Set("Cache-Control", k.cache)
	head.Set("Content-Length", fmt.Sprint(len(k.data)))
	if r.Method != http.MethodHead {
		fmt.Fprint(w, k.data)
	}
}

func TestOtherProviders(t *testing.T) {
	for name, tc := range map[string]struct {
		serve   func(*blobs) http.HandlerFunc
		env     func(host string) map[string]string
		address string
		auth    string // how the library shows its credentials
	}{
		"gs": {func(b *blobs) http.HandlerFunc { return b.google }, func(host string) map[string]string { return map[string]string{"STORAGE_EMULATOR_HOST": host} }, "gs://logs?prefix=m1", ""},
		"azblob": {func(b *blobs) http.HandlerFunc { return b.azure }, func(host string) map[string]string {
			return map[string]string{"AZURE_STORAGE_DOMAIN": host, "AZURE_STORAGE_PROTOCOL": "http", "AZURE_STORAGE_IS_LOCAL_EMULATOR": "true",
				"AZURE_STORAGE_ACCOUNT": "acct1", "AZURE_STORAGE_KEY": base64.StdEncoding.EncodeToString([]byte("a-secret-key"))}
		}, "azblob://logs?storage_account=acct1&prefix=m1", "SharedKey"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &blobs{kept: map[string]kept{}, auth: map[string]bool{}}
			web := httptest.NewServer(tc.serve(b))
			defer web.Close()
			for key, value := range tc.env(strings.TrimPrefix(web.URL, "http://")) {
				t.Setenv(key, value)
			}
			w := scene.New(t, evidence.Lab, 1)
			w.Watch(nil)
			m := w.Monitors[0]
			store := open(t, tc.address)
			push(t, store, m.Log, false)
			same(t, withoutPartial(b.files("m1/"), m.Log.Size()), exported(t, m.Log))
			if again := push(t, open(t, tc.address), m.Log, false); again.Written != 0 {
				t.Errorf("a push of nothing new: %+v", again)
			}
			if typ, cache, err := bucket.Headers(t.Context(), store, "checkpoint"); typ != "text/plain; charset=utf-8" || cache != "no-cache" || err != nil {
				t.Error(typ, cache, err)
			}
			if !b.auth[tc.auth] || len(b.auth) != 1 {
				t.Errorf("credentials of kinds %v, want %q", b.auth, tc.auth)
			}
			for _, more := range []string{"", "&anonymous=true"} {
				copied := t.TempDir()
				if r, err := mirrored(t, m.Log.Key(), tc.address+more, copied); err != nil || r.Size != m.Log.Size() {
					t.Errorf("%s: %+v, %v", more, r, err)
				}
			}
			if !b.auth[""] {
				t.Error("without credentials nobody has read")
			}
		})
	}
}
