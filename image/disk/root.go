package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/psf-relay/relay-appliance/image/process"
)

// guest is the command line that runs a program of the tree on this machine, with
// the tree's libraries: what it makes does not hang on the host's version of it. The
// kernel has a foreign one emulated: see [foreign.Enable].
func (s Spec) guest(program string, args ...string) []string {
	lib := filepath.Join(s.Tree, s.Arch.Libraries())
	return append([]string{filepath.Join(lib, s.Arch.Loader), "--library-path", lib,
		filepath.Join(s.Tree, program)}, args...)
}

func (s Spec) rootArgv(raw string) []string {
	id := s.id("root").String()
	return s.guest("usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-L", "relay-root", "-U", id,
		// Whatever is left for the first mount would be written there by each guest.
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,lazy_itable_init=0,lazy_journal_init=0,nodiscard", rootStart, id),
		"-d", s.Tree, raw, strconv.FormatInt(s.rootSize()/1024, 10)+"k")
}

func (s Spec) root(ctx context.Context, raw *os.File) error {
	seconds := strconv.FormatInt(s.Time.Unix(), 10)
	env := []string{"PATH=/usr/sbin:/usr/bin", "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=" + seconds,
		"E2FSPROGS_FAKE_TIME=" + seconds, "MKE2FS_CONFIG=" + filepath.Join(s.Tree, "etc/mke2fs.conf")}
	return process.Run(ctx, env, nil, s.rootArgv(raw.Name())...)
}
