package relay

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files is what lies in a folder, with each file's content.
func filesIn(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// relayState is the data folder of a relay that ran.
func relayState(t testing.TB) (dir, id string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "relayd")
	key, err := CreateIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "acme", "0123"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"acme/0123/acme_account+key": "account", "acme/0123/relay.example.org": "certificate",
		"traffic.json": `{"month":"2026-11","bytes":12}`, "banned": "", ".lock": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, peerText(key)
}

func backUp(dir, file string) (BackupInfo, error) {
	var out bytes.Buffer
	info, err := Backup(dir, &out)
	return info, errors.Join(err, os.WriteFile(file, out.Bytes(), 0o600))
}

func restoreFrom(to, file string) (BackupInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return BackupInfo{}, err
	}
	defer f.Close()
	return Restore(to, f)
}

func TestBackupAndRestore(t *testing.T) {
	dir, id := relayState(t)
	file := filepath.Join(t.TempDir(), "relay.backup")
	made, err := backUp(dir, file)
	if err != nil {
		t.Fatal(err)
	}
	if made.PeerID != id || time.Since(made.Made) > time.Hour {
		t.Errorf("backup %+v", made)
	}

	want := filesIn(t, dir)
	delete(want, ".lock")
	to := filepath.Join(t.TempDir(), "new", "relayd")
	restored, err := restoreFrom(to, file)
	if err != nil {
		t.Fatal(err)
	}
	if restored != made {
		t.Errorf("restored %+v, want %+v", restored, made)
	}
	got := filesIn(t, to)
	delete(got, ".lock")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	err = filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
		fi, statErr := e.Info()
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[e.IsDir()]; statErr == nil && fi.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, fi.Mode())
		}
		return errors.Join(err, statErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	if key, err := LoadIdentity(to); err != nil || peerText(key) != id {
		t.Errorf("identity: %v", err)
	}
	if _, err := restoreFrom(to, file); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "choose an empty data_dir") {
		t.Errorf("over a relay: %v", err)
	}
	if diff := cmp.Diff(got, withoutLock(filesIn(t, to))); diff != "" {
		t.Errorf("a refused restore changed the folder: %s", diff)
	}
}

func withoutLock(m map[string]string) map[string]string {
	delete(m, ".lock")
	return m
}

func TestRestoreRefusesOtherState(t *testing.T) {
	dir, _ := relayState(t)
	file := filepath.Join(t.TempDir(), "relay.backup")
	if _, err := backUp(dir, file); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.WriteFile(filepath.Join(to, "banned"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreFrom(to, file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("beside a ban list: %v", err)
	}
	running := t.TempDir()
	unlock, err := lock(running)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := restoreFrom(running, file); err == nil || !strings.Contains(err.Error(), "another relayd runs") {
		t.Errorf("below a relay that runs: %v", err)
	}
}

// A restore can be cut off after each of its renames: a relay then refuses to
// start, and a second restore completes.
func TestRestoreInterrupted(t *testing.T) {
	dir, id := relayState(t)
	file := filepath.Join(t.TempDir(), "relay.backup")
	if _, err := backUp(dir, file); err != nil {
		t.Fatal(err)
	}
	want := withoutLock(filesIn(t, dir))
	names := []string{"acme", "banned", "traffic.json"}
	for moved := range len(names) + 1 {
		to := t.TempDir()
		stage := filepath.Join(to, restoreDir)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(f, stage); err != nil {
			t.Fatal(err)
		}
		f.Close()
		for _, name := range names[:moved] {
			if err := os.Rename(filepath.Join(stage, name), filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := loadOrCreateIdentity(to); err == nil {
			t.Fatalf("%d moved: a relay starts on half its state", moved)
		}
		if _, err := restoreFrom(to, file); err != nil {
			t.Fatalf("%d moved: %v", moved, err)
		}
		if diff := cmp.Diff(want, withoutLock(filesIn(t, to))); diff != "" {
			t.Errorf("%d moved: %s", moved, diff)
		}
		if key, err := LoadIdentity(to); err != nil || peerText(key) != id {
			t.Errorf("%d moved: identity: %v", moved, err)
		}
	}
}

// One that was cut off while it unpacked is no reason to start with a new identity
// either, and is done again.
func TestRestoreInterruptedWhileUnpacking(t *testing.T) {
	dir, id := relayState(t)
	file := filepath.Join(t.TempDir(), "relay.backup")
	if _, err := backUp(dir, file); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := os.MkdirAll(filepath.Join(to, restoreDir+".new", "acme"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := loadOrCreateIdentity(to); err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
		t.Fatalf("a relay starts: %v", err)
	}
	if info, err := restoreFrom(to, file); err != nil || info.PeerID != id {
		t.Fatalf("restored %+v, %v", info, err)
	}
	if key, err := LoadIdentity(to); err != nil || peerText(key) != id {
		t.Errorf("identity: %v", err)
	}
}

type tarEntry struct {
	header tar.Header
	body   []byte
}

// archive packs entries as Backup would.
func archive(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	w := tar.NewWriter(packed)
	for _, e := range entries {
		h := e.header
		h.Size = int64(len(e.body))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		h.Mode = 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write(e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// parts are a good archive's first two entries.
func parts(t testing.TB) (head, identity tarEntry, id string) {
	t.Helper()
	dir, id := relayState(t)
	key, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err != nil {
		t.Fatal(err)
	}
	info, err := json.Marshal(BackupInfo{Format: backupFormat, PeerID: id, Version: "v1", Made: time.Now().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	return tarEntry{tar.Header{Name: backupHead}, info}, tarEntry{tar.Header{Name: identityFile}, key}, id
}

func TestRestoreRefusesBadArchives(t *testing.T) {
	head, identity, id := parts(t)
	_, _, other := parts(t)
	named := func(name string) tarEntry { return tarEntry{tar.Header{Name: name}, []byte("x")} }
	changed := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	good := archive(t, head, identity, named("acme/a/b"))
	for name, tc := range map[string]struct {
		archive []byte
		want    string
	}{
		"climbs":           {archive(t, head, identity, named("../outside")), "has no place"},
		"climbs inside":    {archive(t, head, identity, named("acme/../../outside")), "has no place"},
		"absolute":         {archive(t, head, identity, named("/tmp/outside")), "has no place"},
		"hidden":           {archive(t, head, identity, named("acme/.ssh/key")), "has no place"},
		"not clean":        {archive(t, head, identity, named("acme//a")), "has no place"},
		"symbolic link":    {archive(t, head, identity, tarEntry{header: tar.Header{Name: "acme", Typeflag: tar.TypeSymlink, Linkname: "/etc"}}), "not a regular file"},
		"hard link":        {archive(t, head, identity, tarEntry{header: tar.Header{Name: "acme", Typeflag: tar.TypeLink, Linkname: identityFile}}), "not a regular file"},
		"device":           {archive(t, head, identity, tarEntry{header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}), "not a regular file"},
		"folder":           {archive(t, head, identity, tarEntry{header: tar.Header{Name: "acme/", Typeflag: tar.TypeDir}}), "not a regular file"},
		"twice":            {archive(t, head, identity, identity), "exists"},
		"file and folder":  {archive(t, head, identity, named("a"), named("a/b")), "file exists"},
		"no head":          {archive(t, identity), "begins with \"identity.key\""},
		"no identity":      {archive(t, head), "no identity"},
		"another identity": {archive(t, tarEntry{head.header, bytes.ReplaceAll(head.body, []byte(id), []byte(other))}, identity), "holds the identity of"},
		"newer format":     {archive(t, tarEntry{head.header, bytes.Replace(head.body, []byte(`"format":1`), []byte(`"format":2`), 1)}, identity), "format 2"},
		"nothing":          {nil, "not a backup"},
		"empty":            {archive(t), "it is empty"},
		"no archive":       {[]byte("just text, nothing else"), "not a backup"},
		"cut":              {good[:len(good)-12], "damaged"},
		"changed":          {changed(good, len(good)/2), ""},
		"wrong checksum":   {changed(good, len(good)-8), "damaged"},
		"two in one":       {slices.Concat(good, good), "behind its end"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			file := filepath.Join(parent, "backup")
			if err := os.WriteFile(file, tc.archive, 0o600); err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(parent, "a", "relayd")
			_, err := restoreFrom(to, file)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if left := withoutLock(filesIn(t, to)); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			if outside := filesIn(t, parent); len(outside) != 2 { // the backup and the lock
				t.Errorf("written outside: %v", outside)
			}
			if err := os.WriteFile(file+".good", good, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := restoreFrom(to, file+".good"); err != nil {
				t.Errorf("a good backup after the bad one: %v", err)
			}
		})
	}
}

// A few kilobytes that unpack to more than any backup are refused.
func TestRestoreIsBounded(t *testing.T) {
	head, identity, _ := parts(t)
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	w := tar.NewWriter(packed)
	for _, e := range []tarEntry{head, identity} {
		if err := w.WriteHeader(&tar.Header{Name: e.header.Name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	const size = 8 << 30
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Mode: 0o600, Size: size}); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil { // what follows need not be there: the size alone is refused
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "stage")
	if _, err := unpack(bytes.NewReader(out.Bytes()), dir); err == nil || !strings.Contains(err.Error(), "longer than any backup") {
		t.Errorf("got %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	head, identity, _ := parts(f)
	f.Add(archive(f, head, identity))
	f.Add(archive(f, head, identity, tarEntry{tar.Header{Name: "acme/x"}, []byte("y")}))
	f.Add(archive(f, head, tarEntry{header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}}))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		_, _ = unpack(io.LimitReader(bytes.NewReader(data), 1<<20), filepath.Join(parent, "stage"))
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) > 1 {
			t.Errorf("written outside: %v, %v", entries, err)
		}
	})
}
