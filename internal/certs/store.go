package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
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
)

// store is an autocert.Cache: of the certificate, its key and the account's key. It writes
// everything to disk, in the files that autocert.DirCache has. What the disk does not
// take stays in memory and is served from there; the write is repeated until it
// succeeds. autocert itself would throw a renewed certificate away, and order the next
// one within the hour, for as long as the disk is full.
type store struct {
	dir     string
	domain  string
	replace func(path string, data []byte, perm fs.FileMode) error

	mu      sync.Mutex
	kept    map[string][]byte // all that was put or read
	unsaved map[string]bool   // what of it the disk has not taken
	fault   error             // why the folder cannot be written
	current *tls.Certificate
}

// newStore is one in a folder, which need not be there. The certificate that lies in
// it is current at once.
func newStore(dir, domain string) *store {
	s := &store{dir: dir, domain: domain, replace: durable.Replace, kept: map[string][]byte{}, unsaved: map[string]bool{}}
	_, _ = s.Get(context.Background(), domain) // autocert asks again, and meets the same error
	return s
}

func (s *store) path(key string) string { return filepath.Join(s.dir, filepath.Clean("/"+key)) }

// Get implements autocert.Cache.
func (s *store) Get(_ context.Context, key string) ([]byte, error) {
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
// and [store.check] says why: for autocert an error would mean that it is lost.
func (s *store) Put(_ context.Context, key string, data []byte) error {
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
func (s *store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
	delete(s.unsaved, key)
	if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what the CA issued: %w", err)
	}
	return nil
}

func (s *store) write(name string, data []byte) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return s.replace(s.path(name), data, 0o600)
}

// keep remembers what was put or read, as far as there is room.
func (s *store) keep(key string, data []byte) bool {
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

// certificate is the last one that the CA issued, whatever the clock says of it; nil
// if there is none.
func (s *store) certificate() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// check repeats the writes that failed. The result says why the folder cannot be
// written, nil if nothing is known against it.
func (s *store) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == nil {
		return nil
	}
	return s.probe()
}

// probe finds out whether the folder can be written, and writes what it has not yet.
func (s *store) probe() error {
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

// allow refuses an order whose certificate could not be kept, while there is one that
// lasts. It tries the disk before each order.
func (s *store) allow(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.probe(); err != nil && s.lasts(now) {
		return fmt.Errorf("nothing is ordered while there is a certificate and a new one could not be kept: %w", err)
	}
	return nil
}

// lasts says whether the certificate will do for now. From when on the owner complains,
// even one that is only in memory is better than none.
func (s *store) lasts(now time.Time) bool {
	return s.current != nil && !Overdue(s.current.Leaf.NotBefore, s.current.Leaf.NotAfter, now)
}
