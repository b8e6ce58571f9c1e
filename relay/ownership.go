package relay

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// giveToOwner gives what root put into the data folder to the folder's owner, the
// user that the relay runs as.
func giveToOwner(dataDir string) error {
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dataDir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
