package deb

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// unpacked is the package's tree.
func unpacked(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "dpkg-deb", "--extract", built(t, name), dir)
	return dir
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var entry = regexp.MustCompile(`^([-dl])([-rwxsStT]{9}) (\S+) +\d+ (\S+ \S+) \.(/.*)$`)

func TestModesAndOwners(t *testing.T) {
	for _, name := range names {
		for line := range strings.Lines(run(t, "dpkg-deb", "--contents", built(t, name))) {
			m := entry.FindStringSubmatch(strings.TrimSpace(line))
			if m == nil {
				t.Fatalf("%s: cannot read %q", name, line)
			}
			kind, mode, owner, path := m[1], m[2], m[3], m[5]
			want := "rw-r--r--"
			if kind == "d" || strings.HasPrefix(path, "/usr/bin/") {
				want = "rwxr-xr-x"
			}
			if kind == "l" || mode != want || owner != "root/root" {
				t.Errorf("%s: %s is %s%s of %s, want %s of root/root", name, path, kind, mode, owner, want)
			}
			if !strings.HasPrefix(path, "/usr/") && !strings.HasPrefix(path, "/etc/") {
				t.Errorf("%s: %s is neither in /usr nor in /etc", name, path)
			}
		}
	}
}

func TestConffiles(t *testing.T) {
	for name, want := range map[string]string{
		"relayd":     "/etc/relayd/relayd.yaml\n",
		"relaymon":   "/etc/relaymon/relaymon.yaml\n",
		"relayaudit": "",
		// The settings are no conffile: cloud-init has written them before dpkg comes.
		"relay-appliance": "/etc/apt/apt.conf.d/52relay-appliance\n/etc/dpkg/dpkg.cfg.d/relay-appliance\n",
	} {
		control := t.TempDir()
		run(t, "dpkg-deb", "--control", built(t, name), control)
		got, err := os.ReadFile(filepath.Join(control, "conffiles"))
		if err != nil && !(os.IsNotExist(err) && want == "") {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s: conffiles %q, want %q", name, got, want)
		}
		for _, f := range files(t, unpacked(t, name)) {
			if strings.HasPrefix(f, "etc/") && !strings.Contains(want, "/"+f+"\n") {
				t.Errorf("%s: /%s is no conffile: an upgrade would overwrite it", name, f)
			}
		}
	}
}

func TestPrograms(t *testing.T) {
	for _, name := range names {
		program := filepath.Join(unpacked(t, name), "usr/bin", name)
		f, err := elf.Open(program)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s is linked dynamically", name)
			}
		}
		if got := run(t, program, "version"); !strings.HasPrefix(got, name+" v"+version+" (") {
			t.Errorf("%s version: %q", name, got)
		}
		if got := run(t, "dpkg-deb", "--field", built(t, name), "Version"); got != version+"\n" {
			t.Errorf("%s: the package's version is %q", name, got)
		}
	}
}

// What stands in image/rootfs stands there once: packages take it as it is, and no
// two the same.
func TestGuestFiles(t *testing.T) {
	owner := map[string]string{}
	rootfs := filepath.Join(top(t), "image/rootfs")
	for _, name := range names {
		tree := unpacked(t, name)
		for _, f := range files(t, tree) {
			if other := owner[f]; other != "" {
				t.Errorf("/%s is in %s and %s", f, other, name)
			}
			owner[f] = name
			ours, err := os.ReadFile(filepath.Join(rootfs, f))
			switch {
			case err == nil && string(ours) != read(t, tree, f):
				t.Errorf("/%s differs from image/rootfs", f)
			case f == "usr/share/relay-appliance/nftables.conf":
				// A machine that has nftables has that file of its own.
				if read(t, tree, f) != read(t, rootfs, "etc/nftables.conf") {
					t.Errorf("/%s is not the image's", f)
				}
			case err != nil && !strings.HasPrefix(f, "usr/bin/") && !strings.HasPrefix(f, "usr/share/doc/") && !strings.HasPrefix(f, "usr/share/man/"):
				t.Errorf("/%s is not in image/rootfs", f)
			}
		}
	}
	for _, f := range files(t, rootfs) {
		for _, name := range names {
			if strings.Contains(filepath.Base(f), name) && owner[f] != name {
				t.Errorf("image/rootfs/%s is not in the package %s", f, name)
			}
		}
	}
}

var mentioned = regexp.MustCompile(`/usr/(?:bin|share)/[A-Za-z0-9_./-]*[A-Za-z0-9_]`)

// What one file says of another must be so: paths in configuration, units, manual.
func TestMentionedFilesAreThere(t *testing.T) {
	for _, name := range names {
		tree := unpacked(t, name)
		texts := map[string]string{"the manual": manual(t, tree, name)}
		for _, f := range files(t, tree) {
			if strings.HasPrefix(f, "etc/") || strings.HasPrefix(f, "usr/lib/") || strings.HasPrefix(f, "usr/share/"+name+"/") || strings.HasSuffix(f, "completions/"+name) {
				texts["/"+f] = read(t, tree, f)
			}
		}
		found := 0
		for where, text := range texts {
			for _, path := range mentioned.FindAllString(text, -1) {
				found++
				if _, err := os.Stat(filepath.Join(tree, path)); err != nil {
					t.Errorf("%s: %s mentions %s, which is not in the package", name, where, path)
				}
			}
		}
		if found < 2 {
			t.Errorf("%s: %d paths found: this test looks past them", name, found)
		}
	}
}

// manual is the text of the program's page, without roff's escapes.
func manual(t *testing.T, tree, name string) string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(tree, "usr/share/man/man?", name+".?.gz"))
	if err != nil || len(pages) != 1 {
		t.Fatalf("%s: pages %q, %v; want one", name, pages, err)
	}
	return strings.NewReplacer(`\-`, "-", `\&`, "", `\e`, `\`).Replace(string(gunzip(t, pages[0])))
}

func gunzip(t *testing.T, path string) []byte {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(read(t, path)))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}

var listed = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*(?: [a-z-]+)*)(?:  |$)`)

// The manual holds the help of every command.
func TestManual(t *testing.T) {
	for _, name := range names {
		tree := unpacked(t, name)
		page := manual(t, tree, name)
		for _, part := range []string{".SH NAME\n" + name + " - ", ".SH SYNOPSIS\n", ".SH FILES\n"} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: the page has no %q", name, part)
			}
		}
		help := run(t, filepath.Join(tree, "usr/bin", name), "--help")
		_, list, _ := strings.Cut(help, "\nCommands:\n")
		commands := listed.FindAllStringSubmatch(list, -1)
		if len(commands) < 4 {
			t.Fatalf("%s: cannot read the commands in\n%s", name, help)
		}
		for _, c := range commands {
			if !strings.Contains(page, "Usage: "+name+" "+c[1]) {
				t.Errorf("%s: the page does not describe %q", name, c[1])
			}
		}
	}
}

// Who hands on a program that links others' code hands on their licences.
func TestLicences(t *testing.T) {
	for _, name := range names {
		tree := unpacked(t, name)
		got := read(t, tree, "usr/share/doc", name, "copyright")
		own := strings.TrimSpace(read(t, top(t), "LICENSE"))
		if !strings.Contains(got, own) {
			t.Errorf("%s: its own licence is missing", name)
		}
		count := 0
		for line := range strings.Lines(run(t, "go", "version", "-m", filepath.Join(tree, "usr/bin", name))) {
			if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
				count++
				if !strings.Contains(got, f[1]+" "+f[2]+", ") {
					t.Errorf("%s links %s %s, whose licence is missing", name, f[1], f[2])
				}
			}
		}
		if count < 5 {
			t.Errorf("%s: %d modules found in the program: this test looks past them", name, count)
		}
	}
}

func TestControl(t *testing.T) {
	for _, name := range names {
		field := func(f string) string {
			return strings.TrimSpace(run(t, "dpkg-deb", "--field", built(t, name), f))
		}
		run(t, "dpkg", "--validate-version", field("Version"))
		summary, rest, _ := strings.Cut(field("Description"), "\n")
		if len(summary) == 0 || len(summary) > 79 || strings.HasSuffix(summary, ".") || len(rest) < 80 {
			t.Errorf("%s: summary %q, description %q", name, summary, rest)
		}
		if m := field("Maintainer"); !regexp.MustCompile(`^[^<]+ <[^@ ]+@[^@ ]+>$`).MatchString(m) {
			t.Errorf("%s: maintainer %q", name, m)
		}
		if got := field("Package") + " " + field("Architecture") + " " + field("Section"); got != name+" "+arch.Host+" net" {
			t.Errorf("%s: %q", name, got)
		}
		if !bytes.Contains(gunzip(t, filepath.Join(unpacked(t, name), "usr/share/doc", name, "changelog.gz")), []byte("# Changelog")) {
			t.Errorf("%s: no change log", name)
		}
		control := t.TempDir()
		run(t, "dpkg-deb", "--control", built(t, name), control)
		for _, script := range files(t, control) {
			if slices.Contains([]string{"preinst", "postinst", "prerm", "postrm"}, script) {
				run(t, "sh", "-n", filepath.Join(control, script))
			} else if !slices.Contains([]string{"control", "md5sums", "conffiles"}, script) {
				t.Errorf("%s: what is %s?", name, script)
			}
		}
	}
}
