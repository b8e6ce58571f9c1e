package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/internal/need"
	"github.com/psf-relay/relay-appliance/internal/pebble"
)

// fill makes the disk of a store full, as long as full says so.
func fill(s *store, full *atomic.Bool) {
	s.replace = func(path string, data []byte, perm fs.FileMode) error {
		if full.Load() {
			return fmt.Errorf("write %s: %w", path, syscall.ENOSPC)
		}
		return durable.Replace(path, data, perm)
	}
}

// The disk fails while a certificate is renewed: what was issued is served, that is
// said, and nothing more is ordered until it could be stored.
func TestRenewedWhileTheDiskFails(t *testing.T) {
	t.Run("the write is refused", func(t *testing.T) {
		var full atomic.Bool
		renewed(t, t.TempDir(), func(k *Keeper) { fill(k.store, &full) }, func() { full.Store(true) }, func() { full.Store(false) }, syscall.ENOSPC)
	})
	t.Run("real file systems", func(t *testing.T) {
		need.Root(t)
		child := exec.Command(os.Args[0], "-test.run=^TestRealFileSystems$", "-test.v")
		child.Env = append(os.Environ(), "REAL_FILE_SYSTEM="+t.TempDir())
		// They are mounted in a namespace of a process of its own.
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}

// TestRealFileSystems is the other process of the test above.
func TestRealFileSystems(t *testing.T) {
	dir := os.Getenv("REAL_FILE_SYSTEM")
	if dir == "" {
		return
	}
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"))
	t.Run("full", func(t *testing.T) {
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the file system is not full: %v", err)
		}
		first(t, dir, func() { must(t, os.Remove(filler)) }, syscall.ENOSPC)
	})
	t.Run("read-only", func(t *testing.T) {
		remount := func(flags uintptr) {
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, "size=128k"); err != nil {
				t.Error(err)
			}
		}
		renewed(t, filepath.Join(dir, "read-only"), func(*Keeper) {}, func() { remount(syscall.MS_RDONLY) }, func() { remount(0) }, syscall.EROFS)
	})
}

func renewed(t *testing.T, dir string, prepare func(*Keeper), spoil, mend func(), fault error) {
	h := newHouse(t, pebble.Options{ValidFor: 20 * 24 * time.Hour})
	h.cfg.DataDir = dir
	k := h.open()
	prepare(k)
	h.keep(k)
	<-k.Loaded()
	first := h.current(k)
	if n := h.ca.Orders(); n != 1 {
		t.Fatalf("%d orders for the first certificate", n)
	}
	// The CA checks after the order was made, and before the certificate is there.
	h.validated.Store(&spoil)
	before := h.tried.Load()
	h.again(k)
	// An eager library wants the next renewal at once. It is refused, and tries again
	// after half an hour at the earliest.
	eventually(t, "the library renews, and wants to again", func() bool { return h.tried.Load() == before+2 })
	second := h.current(k)
	if second.Equal(first) {
		t.Fatal("the renewed certificate is not served")
	}
	if !newStore(k.store.dir, domain).certificate().Leaf.Equal(first) {
		t.Error("the disk took it after all: this test shows nothing")
	}
	eventually(t, "the state says so", func() bool {
		s := k.State(time.Now())
		return strings.Contains(s.StoreError, durable.Reason(fault)) && s.Error == "" && s.NotAfter.Equal(second.NotAfter)
	})
	for range 5 { // as each time that the library tries again
		if leaf := h.again(k); !leaf.Equal(second) {
			t.Errorf("served is the certificate %s, want %s", leaf.SerialNumber, second.SerialNumber)
		}
	}
	if n := h.ca.Orders(); n != 2 {
		t.Errorf("the CA saw %d orders, want 2", n)
	}
	mend()
	eventually(t, "it is stored", func() bool { return k.State(time.Now()).StoreError == "" })
	if h.said.count("the folder for certificates cannot be written") != 1 || h.said.count("can be written again") != 1 {
		t.Error("it is not said once that the folder cannot be written, and can again")
	}
	info, err := os.Stat(filepath.Join(h.folder(), domain))
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v", mode)
	}
	if _, err := os.Stat(filepath.Join(h.folder(), probeFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the probe stays: %v", err)
	}
	// A restart goes on with it, and so does a version that has autocert's own cache.
	if leaf := h.current(h.open()); !leaf.Equal(second) {
		t.Errorf("after a restart: %s", leaf.SerialNumber)
	}
	data, err := autocert.DirCache(h.folder()).Get(t.Context(), domain)
	must(t, err)
	if pair, err := tls.X509KeyPair(data, data); err != nil || !pair.Leaf.Equal(second) {
		t.Errorf("for autocert.DirCache: %v", err)
	}
	if n := h.ca.Orders(); n != 2 {
		t.Errorf("%d orders after the restart", n)
	}
}

// A folder that cannot be written when the renewal is due: nothing is ordered while
// the certificate lasts.
func TestRenewalWaitsForTheFolder(t *testing.T) {
	h := newHouse(t, pebble.Options{ValidFor: 20 * 24 * time.Hour})
	k := h.open()
	first := h.current(k)
	dir := h.folder()
	must(t, os.Rename(dir, dir+".aside")) // a file where the folder should be
	must(t, os.WriteFile(dir, nil, 0o600))
	for range 3 {
		if leaf := h.again(k); !leaf.Equal(first) {
			t.Error("another certificate is served")
		}
	}
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders, want 1", n)
	}
	if err := k.store.check(); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("the fault is not told: %v", err)
	}
	must(t, os.Remove(dir))
	must(t, os.Rename(dir+".aside", dir))
	must(t, k.store.check())
}

// When the certificate does not last, one in memory is better than none; and one is
// enough.
func TestExpiredOnAFullDisk(t *testing.T) {
	h := newHouse(t, pebble.Options{})
	h.current(h.open())
	key, cert := selfSigned(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	must(t, os.WriteFile(filepath.Join(h.folder(), domain), append(key, cert...), 0o600))
	k := h.open()
	if leaf := k.store.certificate().Leaf; leaf.NotAfter.After(time.Now()) {
		t.Fatal("the certificate on disk is not current")
	}
	var full atomic.Bool
	full.Store(true)
	fill(k.store, &full)
	orders := h.ca.Orders()
	h.one(k)
	if n := h.ca.Orders() - orders; n != 1 {
		t.Errorf("the CA saw %d orders, want 1", n)
	}
}

// one gets a certificate that stays the only one, whatever manager comes next.
func (h *house) one(k *Keeper) {
	h.t.Helper()
	first := h.current(k)
	for range 5 {
		tried := h.tried.Load()
		k.renewManager()
		if leaf := h.current(k); !leaf.Equal(first) || h.tried.Load() != tried {
			h.t.Error("another certificate is served, or wanted")
		}
	}
}

// Without a certificate one in memory is better than none, and one is enough.
func TestTheFirstOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "acme")
	must(t, os.WriteFile(folder, nil, 0o600)) // a file where the folder should be
	first(t, dir, func() { must(t, os.Remove(folder)) }, syscall.ENOTDIR)
}

func first(t *testing.T, dir string, mend func(), fault error) {
	h := newHouse(t, pebble.Options{})
	h.cfg.DataDir = dir
	k := h.open()
	h.one(k)
	key := account(t, k.store)
	if n := h.ca.Orders(); n != 1 {
		t.Errorf("the CA saw %d orders", n)
	}
	if err := k.store.check(); !errors.Is(err, fault) {
		t.Errorf("the fault is not told: %v, want %v", err, fault)
	}
	if account(t, k.store) != key {
		t.Error("the account is another one")
	}
	mend()
	must(t, k.store.check())
	if got := h.open(); account(t, got.store) != key || !got.store.certificate().Leaf.Equal(k.store.certificate().Leaf) {
		t.Error("certificate and account are not on disk")
	}
}

func account(t *testing.T, s *store) string {
	t.Helper()
	data, err := s.Get(t.Context(), "acme_account+key")
	must(t, err)
	return string(data)
}

// What the CA's server could be made to fill memory with is bounded.
func TestKeepsLittle(t *testing.T) {
	s := newStore(t.TempDir(), domain)
	s.replace = func(string, []byte, fs.FileMode) error { return syscall.ENOSPC }
	var err error
	for i := range 100 {
		err = errors.Join(err, s.Put(context.Background(), fmt.Sprint(i), []byte("x")))
	}
	if err == nil || len(s.kept) > maxKept || len(s.unsaved) > maxKept {
		t.Errorf("%d kept, %d of them not saved, %v", len(s.kept), len(s.unsaved), err)
	}
	for i := range 100 {
		must(t, s.Delete(context.Background(), fmt.Sprint(i)))
	}
	if len(s.kept)+len(s.unsaved) != 0 {
		t.Errorf("%d kept, %d not saved after all was deleted", len(s.kept), len(s.unsaved))
	}
}

// Strangers ask for tokens by names of their own. Nothing of the file system stands in the
// answer, which is autocert's text of the error.
func TestNamesOfStrangers(t *testing.T) {
	s := newStore(t.TempDir(), "relay.test")
	for _, name := range []string{strings.Repeat("x", 300), "x\x00", "..", "."} {
		if _, err := s.Get(t.Context(), name+"+http-01"); err != autocert.ErrCacheMiss {
			t.Errorf("%q: %v", name, err)
		}
	}
}
