// Package debian makes a tree of files that is an installed Debian, and keeps it.
//
// mmdebstrap installs; apt verifies what it downloads by Debian's keys. A mirror
// moves on, so a tree is kept under a key of the list of packages and of the state
// of the mirror's suites: the same key, the same tree.
package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// Recipe says what the tree is made of.
type Recipe struct {
	Arch     arch.Arch
	Suite    string // trixie
	Mirror   string // http://deb.debian.org/debian
	Security string // http://deb.debian.org/debian-security
	Packages []string
}

// suites are the places of the suite's parts, as base URL and name below dists/.
func (r Recipe) suites() [][2]string {
	return [][2]string{{r.Mirror, r.Suite}, {r.Mirror, r.Suite + "-updates"}, {r.Security, r.Suite + "-security"}}
}

// Sources are the lines of the guest's sources.list.
func (r Recipe) Sources() []string {
	var lines []string
	for _, s := range r.suites() {
		lines = append(lines, "deb "+s[0]+" "+s[1]+" main")
	}
	return lines
}

// paths are dpkg's rules for what of a package is installed, the last one that fits
// counts. They stay in the guest and hold for upgrades, too. Licences are kept.
func (r Recipe) paths() []string {
	return []string{
		"path-exclude=/usr/share/man/*",
		"path-exclude=/usr/share/info/*",
		"path-exclude=/usr/share/doc/*",
		"path-include=/usr/share/doc/*/copyright",
		"path-include=/usr/share/doc/relay*",
		"path-include=/usr/share/man/man?/relay*",
		"path-exclude=/usr/share/locale/*",
		"path-include=/usr/share/locale/locale.alias",
		// Sources of locales: C.UTF-8 is built in.
		"path-exclude=/usr/share/i18n/*",
		// Names of all hardware there is.
		"path-exclude=/usr/lib/udev/hwdb.d/20-*",
		// For UEFI the signed GRUB is used, which loads no modules.
		"path-exclude=/usr/lib/grub/" + r.Arch.GRUB + "/*",
		// Those for CDs and for booting from the network, and the unsigned shims.
		"path-exclude=/usr/lib/grub/" + r.Arch.GRUB + "-signed/gcd*",
		"path-exclude=/usr/lib/grub/" + r.Arch.GRUB + "-signed/grubnet*",
		"path-exclude=/usr/lib/shim/*.efi",
	}
}

// argv is the command that makes the tree in dir.
func (r Recipe) argv(dir string) []string {
	argv := []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		// For Debian's kernel packages: the initramfs is made once, when the tree is done.
		"env", "INITRD=No",
		"mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--architectures=" + r.Arch.Name,
		`--aptopt=APT::Install-Recommends "false"`}
	for _, p := range append(r.paths(), hardware()...) {
		argv = append(argv, "--dpkgopt="+p)
	}
	if r.Arch.Foreign() {
		// foreign.Enable has seen to it; the program that would be asked may be missing.
		argv = append(argv, "--skip=check/qemu")
	}
	argv = append(argv,
		// They name each package's hash; read here, then removed.
		"--skip=cleanup/apt/lists",
		"--include="+strings.Join(r.Packages, ","), r.Suite, dir)
	return append(argv, r.Sources()...)
}

// State is what the suites of a mirror were at one moment.
type State struct {
	Sum  [sha256.Size]byte
	Time time.Time // of the newest suite
}

// state asks the mirror.
func (r Recipe) state(ctx context.Context) (State, error) {
	var files []string
	for _, s := range r.suites() {
		data, err := get(ctx, s[0]+"/dists/"+s[1]+"/InRelease")
		if err != nil {
			return State{}, err
		}
		files = append(files, data)
	}
	return StateOf(files)
}

var releaseDate = regexp.MustCompile(`(?m)^Date: (.+)$`)

// StateOf is the state of the suites whose InRelease files these are.
func StateOf(files []string) (State, error) {
	var s State
	sums := make([]string, 0, len(files))
	for _, data := range files {
		m := releaseDate.FindStringSubmatch(data)
		if m == nil {
			return s, errors.New("an InRelease file has no date")
		}
		at, err := time.Parse(time.RFC1123, m[1])
		if err != nil {
			return s, fmt.Errorf("date of an InRelease file: %w", err)
		}
		if at.After(s.Time) {
			s.Time = at.UTC()
		}
		sum := sha256.Sum256([]byte(data))
		sums = append(sums, string(sum[:]))
	}
	slices.Sort(sums)
	s.Sum = sha256.Sum256([]byte(strings.Join(sums, "")))
	return s, nil
}

const maxRelease = 4 << 20

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the mirror for its state: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask the mirror for its state: %s: %s", url, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxRelease+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	if len(data) > maxRelease {
		return "", fmt.Errorf("%s is larger than %d bytes", url, maxRelease)
	}
	return string(data), nil
}

// list names what a tree hangs on besides the state of the mirror: the commands that
// make it.
func (r Recipe) list() string {
	r.Packages = slices.Sorted(slices.Values(r.Packages))
	sum := sha256.Sum256([]byte(strings.Join(append(r.argv(""), pack("", "", time.Time{})...), "\n")))
	return hex.EncodeToString(sum[:8])
}

// Key is the name of the tree. Those of one list sort by the time of the state.
func (r Recipe) Key(s State) string {
	return fmt.Sprintf("%s-%d-%x", r.list(), s.Time.Unix(), s.Sum[:8])
}

// later sorts between the keys of states of this time and those of later ones.
func (r Recipe) later(s State) string { return fmt.Sprintf("%s-%d-~", r.list(), s.Time.Unix()) }
