package relay

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/durable"
	"github.com/psf-relay/relay-appliance/relay/trend"
)

// A backup is a tar archive (gzip, whose checksum shows damage) of the data
// folder's files: the identity, the certificates with the account at the CA, the
// key for private messages, the counters, the ban list, what alerts were sent. Its first
// entry says what it is.
const (
	backupHead   = "relayd-backup.json"
	backupFormat = 1

	maxBackupBytes = 64 << 20
	maxBackupFiles = 10_000

	// restoreDir is where a backup is unpacked inside the data folder, so that the
	// folder may be a mount point or belong to a service manager.
	restoreDir = ".restore"
)

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Format  int       `json:"format"`
	PeerID  string    `json:"peer_id"`
	Version string    `json:"version"` // of the program that wrote it
	Made    time.Time `json:"made"`
}

// Backup writes what the relay keeps in its data folder, the private key included. The
// relay may run meanwhile.
func Backup(dataDir string, to io.Writer) (BackupInfo, error) {
	key, err := LoadIdentity(dataDir)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("back up: %w", err)
	}
	info := BackupInfo{backupFormat, peerText(key), buildinfo.Version(), time.Now().UTC().Truncate(time.Second)}
	head, err := json.Marshal(info)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("back up: %w", err)
	}
	packed := gzip.NewWriter(to)
	w := tar.NewWriter(packed)
	add := func(name string, data []byte, at time.Time) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: at.Truncate(time.Second), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	err = add(backupHead, append(head, '\n'), info.Made)
	total, count := 0, 0
	walk := func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // renamed or removed by the relay that runs
			return nil
		case err != nil:
			return err
		case path == ".":
			return nil
		case !keeps(e.Name()):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is not a regular file: take it out of the data folder", filepath.Join(dataDir, path))
		}
		data, err := os.ReadFile(filepath.Join(dataDir, path))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if total, count = total+len(data), count+1; total > maxBackupBytes || count > maxBackupFiles {
			return fmt.Errorf("%s holds more than a relay's state (%d files, %d bytes): take out what does not belong there", dataDir, count, total)
		}
		stamp, err := e.Info()
		if err != nil {
			return err
		}
		return add(filepath.ToSlash(path), data, stamp.ModTime())
	}
	if err == nil {
		err = fs.WalkDir(os.DirFS(dataDir), ".", walk)
	}
	err = errors.Join(err, w.Close(), packed.Close())
	if err != nil {
		return BackupInfo{}, fmt.Errorf("back up %s: %w", dataDir, err)
	}
	return info, nil
}

// keeps says whether a name in the data folder is part of the relay's state: locks, what a
// write left behind, what is noted before there is an identity, and how busy the relay was
// are not.
func keeps(name string) bool {
	return !strings.HasPrefix(name, ".") && !slices.Contains([]string{"lost+found", alert.StartsFile, trend.File, trend.Damaged}, name)
}

// Restore unpacks a backup into a data folder that holds no relay yet. Until the
// identity is in its place, which is the last step, no relay starts from the
// folder; a restore that was interrupted is simply done again.
func Restore(dataDir string, from io.Reader) (BackupInfo, error) {
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return BackupInfo{}, fmt.Errorf("make the data folder: %w", err)
	}
	unlock, err := lock(dataDir)
	if err != nil {
		return BackupInfo{}, err
	}
	defer unlock()
	if err := mayRestore(dataDir); err != nil {
		return BackupInfo{}, err
	}
	stage := filepath.Join(dataDir, restoreDir)
	// Unpacked anew beside the first try: as long as that is there, what stands in
	// the folder is known to come from it.
	fresh := stage + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return BackupInfo{}, err
	}
	info, err := unpack(from, fresh)
	if err == nil {
		err = agree(fresh, info)
	}
	if err != nil {
		return BackupInfo{}, errors.Join(err, os.RemoveAll(fresh))
	}
	if err := install(dataDir, stage, fresh); err != nil {
		return BackupInfo{}, fmt.Errorf("put it into %s: %w: do it again", dataDir, err)
	}
	return info, nil
}

// mayRestore refuses a folder in which a relay lives. One that holds parts of an
// interrupted restore does not count: its identity still lies aside.
func mayRestore(dataDir string) error {
	if _, err := os.Lstat(filepath.Join(dataDir, identityFile)); err == nil {
		return fmt.Errorf("%s holds an identity already, it is left as it is: choose an empty data_dir: %w", dataDir, fs.ErrExist)
	}
	if _, err := os.Lstat(filepath.Join(dataDir, restoreDir, identityFile)); err == nil {
		return nil
	}
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		return fmt.Errorf("look into the data folder: %w", err)
	}
	for _, e := range entries {
		if keeps(e.Name()) {
			return fmt.Errorf("%s holds %s already, it is left as it is: choose an empty data_dir: %w", dataDir, e.Name(), fs.ErrExist)
		}
	}
	return nil
}

// unpack writes the archive's files into a new folder. Names that climb out of
// it, links, devices and a second file of the same name are refused, and so is
// an archive that is damaged or longer than any backup.
func unpack(r io.Reader, dir string) (info BackupInfo, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return info, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return info, err
	}
	defer root.Close()
	source := bufio.NewReader(r) // gzip then reads not a byte too many
	packed, err := gzip.NewReader(source)
	if err != nil {
		return info, fmt.Errorf("not a backup of relayd: %w", err)
	}
	packed.Multistream(false)
	t := bounded.NewTar(packed, maxBackupFiles+1, maxBackupBytes)
	for count := 0; ; count++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return info, fmt.Errorf("not a backup of relayd, or a damaged one: %w", err)
		}
		if count == 0 {
			if info, err = readBackupHead(h, t); err != nil {
				return info, err
			}
			continue
		}
		if err := unpackFile(root, h, t); err != nil {
			return info, err
		}
	}
	if err := t.End(); err != nil {
		return info, err
	}
	if _, err := source.ReadByte(); !errors.Is(err, io.EOF) {
		return info, errors.New("something stands behind its end")
	}
	if info.PeerID == "" {
		return info, errors.New("not a backup of relayd: it is empty")
	}
	return info, nil
}

func readBackupHead(h *tar.Header, r io.Reader) (info BackupInfo, err error) {
	if h.Name != backupHead || h.Size > 4096 {
		return info, fmt.Errorf("not a backup of relayd: it begins with %q", h.Name)
	}
	data, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(data, &info)
	}
	if err == nil && info.Format != backupFormat {
		err = fmt.Errorf("format %d, this program reads %d: use the version that wrote it (%.40q) or a newer one", info.Format, backupFormat, info.Version)
	}
	if err == nil {
		_, err = peer.Decode(info.PeerID)
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("read the backup's head: %w", err)
	}
	return info, nil
}

func unpackFile(root *os.Root, h *tar.Header, r io.Reader) error {
	name := filepath.FromSlash(h.Name)
	parts := strings.Split(h.Name, "/")
	if !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsRune(h.Name, '\\') ||
		slices.ContainsFunc(parts, func(p string) bool { return !keeps(p) }) {
		return fmt.Errorf("the name %q has no place in a data folder", h.Name)
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Sync(), f.Close())
}

// agree checks that the identity is sound and the one that the backup names.
func agree(dir string, info BackupInfo) error {
	key, err := LoadIdentity(dir)
	if err != nil {
		return err
	}
	if id := peerText(key); id != info.PeerID {
		return fmt.Errorf("it says it is of %s, and holds the identity of %s", info.PeerID, id)
	}
	return nil
}

// install moves what was unpacked into place, the identity last.
func install(dataDir, stage, fresh string) error {
	if err := syncTree(fresh); err != nil {
		return err
	}
	entries, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	// What an interrupted restore left goes first, while its identity still shows
	// that nothing else put it there.
	if _, err := os.Lstat(filepath.Join(stage, identityFile)); err == nil {
		left, err := os.ReadDir(dataDir)
		if err != nil {
			return err
		}
		for _, e := range left {
			if keeps(e.Name()) {
				if err := os.RemoveAll(filepath.Join(dataDir, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	if err := os.RemoveAll(stage); err != nil {
		return err
	}
	if err := os.Rename(fresh, stage); err != nil {
		return err
	}
	if err := durable.SyncDir(dataDir); err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == identityFile {
			continue
		}
		if err := os.Rename(filepath.Join(stage, e.Name()), filepath.Join(dataDir, e.Name())); err != nil {
			return err
		}
	}
	if err := giveToOwner(dataDir); err != nil {
		return err
	}
	if err := durable.SyncDir(dataDir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(stage, identityFile), filepath.Join(dataDir, identityFile)); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(dataDir), os.Remove(stage))
}

// syncTree makes the folders' entries durable; the files were synced when written.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}
