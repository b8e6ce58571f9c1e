// Package certstore keeps what autocert gets from a CA: the certificate of one
// domain, its key, the account's key. A CA allows few orders for the same name, so
// nothing that was issued may be lost, and nothing is ordered that would be.
//
// Everything is written to disk, in the files that autocert.DirCache has. What the
// disk does not take stays in memory and is served from there; the write is repeated
// until it succeeds. autocert itself would throw a renewed certificate away, and
// order the next one within the hour, for as long as the disk is full.
package certstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/durable"
)

const (
	// maxKept bounds what is kept in memory: the certificate, the account's key, and
	// the tokens of orders under way.
	maxKept = 16
	// probeBytes is more than a certificate with its chain and key takes.
	probeBytes = 16 << 10
	probeFile  = ".probe"
	// clockLimit is how far the machine's clock may be from the CA's. Let's Encrypt
	// dates certificates back by an hour: on a machine whose clock is further behind,
	// autocert discards each of them as not valid yet.
	clockLimit = time.Hour
	// dateAge is for how long the CA's date says something about the clock.
	dateAge = 10 * time.Minute
	// maxDirectory bounds what is read of the CA's directory.
	maxDirectory = 64 << 10
)

// Store is an autocert.Cache. Make one with [New], and give the same one to each
// manager that comes after another.
type Store struct {
	dir     string
	domain  string
	replace func(path string, data []byte, perm fs.FileMode) error

	mu      sync.Mutex
	kept    map[string][]byte // all that was put or read
	unsaved map[string]bool   // what of it the disk has not taken
	fault   error             // why the folder cannot be written
	current *tls.Certificate
	order   string        // the CA's URL for orders
	ahead   time.Duration // of the CA's clock, when it last answered
	asked   time.Time     // when that was
}

// New is a store in a folder, which need not be there. The certificate that lies in
// it is current at once.
func New(dir, domain string) *Store {
	s := &Store{dir: dir, domain: domain, replace: durable.Replace, kept: map[string][]byte{}, unsaved: map[string]bool{}}
	_, _ = s.Get(context.Background(), domain) // autocert asks again, and meets the same error
	return s
}

func (s *Store) path(key string) string { return filepath.Join(s.dir, filepath.Clean("/"+key)) }

// Get implements autocert.Cache.
func (s *Store) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.kept[key]
	if s.unsaved[key] {
		return bytes.Clone(have), nil
	}
	data, err := os.ReadFile(s.path(key))
	switch {
	case err == nil:
		s.keep(key, data)
		return data, nil
	case errors.Is(err, fs.ErrNotExist): // also when somebody removed it, to have a new one
		delete(s.kept, key)
		return nil, autocert.ErrCacheMiss
	case ok:
		return bytes.Clone(have), nil
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EINVAL):
		// The latter two are of names that strangers make up: to them autocert shows the error.
		return nil, autocert.ErrCacheMiss
	}
	return nil, fmt.Errorf("read what the CA issued: %w", err)
}

// Put implements autocert.Cache. What the disk does not take is kept all the same,
// and [Store.Check] says why: for autocert an error would mean that it is lost.
func (s *Store) Put(_ context.Context, key string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.write(key, data)
	delete(s.unsaved, key)
	kept := s.keep(key, data)
	if err == nil {
		return nil
	}
	s.fault = err
	if !kept {
		return err
	}
	s.unsaved[key] = true
	return nil
}

// Delete implements autocert.Cache.
func (s *Store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
	delete(s.unsaved, key)
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what the CA issued: %w", err)
	}
	return nil
}

func (s *Store) write(name string, data []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return s.replace(s.path(name), data, 0o600)
}

// keep remembers what was put or read, as far as there is room.
func (s *Store) keep(key string, data []byte) bool {
	if _, ok := s.kept[key]; !ok && len(s.kept) >= maxKept {
		return false
	}
	s.kept[key] = bytes.Clone(data)
	if key == s.domain {
		// The file holds the key first, then the certificate and its chain.
		if cert, err := tls.X509KeyPair(data, data); err == nil {
			s.current = &cert
		}
	}
	return true
}

// Certificate is the last one that the CA issued, whatever the clock says of it; nil
// if there is none.
func (s *Store) Certificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// Check repeats the writes that failed. The result says why the folder cannot be
// written, nil if nothing is known against it.
func (s *Store) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		return nil
	}
	return s.probe()
}

// probe finds out whether the folder can be written, and writes what it has not yet.
func (s *Store) probe() error {
	err := s.write(probeFile, make([]byte, probeBytes))
	_ = os.Remove(s.path(probeFile)) // if it cannot be removed, the next one replaces it
	for key := range s.unsaved {
		if err != nil {
			break
		}
		if err = s.write(key, s.kept[key]); err == nil {
			delete(s.unsaved, key)
		}
	}
	s.fault = err
	return err
}

// Transport is for the client that talks to the CA. It lets no order go out whose
// certificate could not be kept or would be discarded: autocert orders by itself, and
// this is the one place that it cannot pass by.
func (s *Store) Transport(next http.RoundTripper) http.RoundTripper { return &gate{s, next} }

type gate struct {
	store *Store
	next  http.RoundTripper
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.store.allow(r, time.Now()); err != nil {
		return nil, err
	}
	resp, err := g.next.RoundTrip(r)
	if err == nil {
		g.store.answered(r, resp)
	}
	return resp, err
}

// allow refuses an order for a time.
func (s *Store) allow(r *http.Request, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order == "" || r.URL.String() != s.order {
		return nil
	}
	if now.Sub(s.asked) < dateAge && s.ahead.Abs() > clockLimit {
		word := "behind"
		if s.ahead < 0 {
			word = "ahead of"
		}
		return fmt.Errorf("nothing is ordered: this machine's clock is %s %s the CA's: set it right (timedatectl set-ntp true)", s.ahead.Abs().Round(time.Minute), word)
	}
	if err := s.probe(); err != nil && s.lasts(now) {
		return fmt.Errorf("nothing is ordered while there is a certificate and a new one could not be kept: %w", err)
	}
	return nil
}

// lasts says whether the certificate will do for now. For the last fifth of its life
// even one that is only in memory is better than none: the owner complains when a
// sixth is left.
func (s *Store) lasts(now time.Time) bool {
	if s.current == nil {
		return false
	}
	leaf := s.current.Leaf
	return leaf.NotAfter.Sub(now) > leaf.NotAfter.Sub(leaf.NotBefore)/5
}

// answered learns from the CA's answer where it takes orders, and its time.
func (s *Store) answered(r *http.Request, resp *http.Response) {
	now := time.Now()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err == nil {
		s.mu.Lock()
		s.ahead, s.asked = date.Sub(now), now
		s.mu.Unlock()
	}
	if r.Method != http.MethodGet || resp.StatusCode != http.StatusOK {
		return
	}
	// The directory is the only thing that is asked for by GET.
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxDirectory))
	body := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
	if err != nil {
		return // the caller meets the same error
	}
	var directory struct {
		NewOrder string `json:"newOrder"`
	}
	if json.Unmarshal(head, &directory) == nil && directory.NewOrder != "" {
		s.mu.Lock()
		s.order = directory.NewOrder
		s.mu.Unlock()
	}
}
