package foreign

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/psf-relay/relay-appliance/internal/arch"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// fake is a folder that looks like binfmt_misc, with a description of machine m.
func fake(t *testing.T, files map[string]string) kernel {
	t.Helper()
	k := kernel{t.TempDir(), []string{t.TempDir(), t.TempDir()}}
	all := map[string]string{"status": "enabled\n", "register": ""}
	for name, text := range files {
		if name == "config" {
			write(t, filepath.Join(k.configs[1], "qemu-m.conf"), text)
			continue
		}
		all[name] = text
	}
	for name, text := range all {
		write(t, k.path(name), text)
	}
	return k
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const config = `:qemu-m:M::\x7f\x45:\xff\xff:/usr/bin/qemu-m:OPF`

func TestDescription(t *testing.T) {
	k := fake(t, map[string]string{"config": config + "\n"})
	if got, err := k.description("m"); err != nil || string(got) != `:relay-image-m:M::\x7f\x45:\xff\xff:/usr/bin/qemu-m:OPF` {
		t.Errorf("%s, %v", got, err)
	}
	// What somebody has said in /etc counts.
	write(t, filepath.Join(k.configs[0], "qemu-m.conf"), strings.Replace(config, "/usr/bin", "/opt", 1))
	if got, err := k.description("m"); err != nil || string(got) != `:relay-image-m:M::\x7f\x45:\xff\xff:/opt/qemu-m:OPF` {
		t.Errorf("%s, %v", got, err)
	}
}

// What a distribution has registered is used, and left as it was.
func TestRegistered(t *testing.T) {
	const entry = "enabled\ninterpreter /x\nflags: POF\n"
	k := fake(t, map[string]string{"qemu-m": entry, "config": config})
	release, err := k.enable("m")
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"qemu-m": entry, "register": ""} {
		if got, err := os.ReadFile(k.path(name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"apt-get install qemu-user-static": {},
		"binfmt_misc is switched off":      {"status": "disabled\n", "config": config},
		"qemu-m is switched off":           {"qemu-m": "disabled\nflags: F\n", "config": config},
		"registered without the flag F":    {"qemu-m": "enabled\nflags: OP\n", "config": config},
		"the flag F is missing":            {"config": strings.TrimSuffix(config, "F")},
		"want one line":                    {"config": config + "\n" + config},
		"begins with :qemu-m:M:":           {"config": strings.Replace(config, "-m", "-x", 1)},
	} {
		k := fake(t, files)
		if _, err := k.enable("m"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if told, err := os.ReadFile(k.path("register")); err != nil || len(told) > 0 {
			t.Errorf("%s: the kernel was told %q, %v", want, told, err)
		}
	}
}

// Nothing is asked for programs of this machine's own architecture.
func TestNative(t *testing.T) {
	before := system
	defer func() { system = before }()
	system = kernel{"/nowhere", nil}
	release, err := Enable(arch.Arch{Name: arch.Host, Machine: "m"})
	if err != nil || release() != nil {
		t.Errorf("%v", err)
	}
	if _, err := Enable(arch.Arch{Name: "other", Machine: "m"}); err == nil || !strings.Contains(err.Error(), "programs for other do not run on this machine") {
		t.Errorf("%v", err)
	}
}

// The kernel really starts what it was told to, also below another root; the first of two
// users that ends leaves that to the other, and the last one leaves nothing.
func TestKernel(t *testing.T) {
	need.Root(t)
	need.Tools(t, "unshare", "chroot")
	machine := fmt.Sprintf("test%d", os.Getpid())
	k := kernel{system.dir, []string{t.TempDir()}}
	mounted, err := k.mount()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("skipped: this kernel lets nobody say what starts programs: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := k.unmount(mounted); err != nil {
			t.Error(err)
		}
	}()
	// A static program is the interpreter: it has to run where no library is.
	interpreter := filepath.Join(t.TempDir(), "interpreter")
	source := filepath.Join(t.TempDir(), "main.go")
	write(t, source, "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"emulated \" + os.Args[1]) }\n")
	build := exec.Command("go", "build", "-o", interpreter, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write(t, filepath.Join(k.configs[0], "qemu-"+machine+".conf"), ":qemu-"+machine+":M::"+machine+"::"+interpreter+":F\n")
	tree := t.TempDir()
	program := filepath.Join(tree, "program")
	write(t, program, machine)
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	runs := func() error {
		out, err := exec.Command("chroot", tree, "/program").Output()
		if err == nil && string(out) != "emulated /program" {
			return fmt.Errorf("it said %q", out)
		}
		return err
	}
	var releases []func() error
	for range 2 {
		release, err := k.enable(machine)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	for i, release := range releases {
		if err := runs(); err != nil {
			t.Errorf("with %d users: %v", 2-i, err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(k.path(own + machine)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the entry is still there: %v", err)
	}
	if runs() == nil {
		t.Error("it runs without being emulated: this test shows nothing")
	}
}
