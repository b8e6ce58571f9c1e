package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const module = "github.com/psf-relay/relay-appliance"

// build is one run of the command.
type build struct {
	ctx   context.Context
	root  string // the repository
	stage string // a folder for what is made here, gone at the end
	arch  string
	source
	site string // empty: nothing is known of one

	toolchain string // found out when it is needed
}

// commands are the programs, with the section of the manual that they stand in.
var commands = []struct{ name, path, section, defaults string }{
	{"relayd", "./relay/cmd/relayd", "8", "config --defaults"},
	{"relaymon", "./monitor/cmd/relaymon", "8", "config"},
	{"relayaudit", "./monitor/cmd/relayaudit", "1", "rules"},
	{"relay-appliance", "./internal/appliance/cmd/relay-appliance", "8", "settings"},
}

// programs builds the programs into stage/bin, and into stage/host those that run
// on this machine and can be asked for their help.
func (b *build) programs() error {
	if err := b.compile("bin", b.arch); err != nil {
		return err
	}
	if b.arch == runtime.GOARCH && runtime.GOOS == "linux" {
		return os.Symlink("bin", filepath.Join(b.stage, "host"))
	}
	return b.compile("host", "")
}

func (b *build) compile(into, arch string) error {
	info := module + "/internal/buildinfo."
	args := []string{"build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		// Without symbol tables; stack traces and `go version -m` do not need them.
		"-ldflags=-s -w -buildid= -X " + info + "linked=" + b.linked + " -X " + info + "committed=" + strconv.FormatInt(b.epoch.Unix(), 10),
		"-o", filepath.Join(b.stage, into) + "/"}
	for _, c := range commands {
		args = append(args, c.path)
	}
	cmd, err := b.goCommand(arch, args...)
	if err != nil {
		return err
	}
	if _, err := output(cmd); err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	return nil
}

// goCommand runs Go for arch, without what a builder has set for himself, and in the
// version that go.mod names: all of it gets into the programs.
func (b *build) goCommand(arch string, args ...string) (*exec.Cmd, error) {
	if b.toolchain == "" {
		version, err := b.output("go", "list", "-m", "-f", "{{.GoVersion}}")
		if err != nil {
			return nil, fmt.Errorf("find out the Go version: %w", err)
		}
		b.toolchain = "go" + strings.TrimSpace(version)
	}
	cmd := b.command("go", args...)
	cmd.Env = append(cmd.Env, "GOTOOLCHAIN="+b.toolchain, "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOFIPS140=off",
		"CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0")
	if arch != "" {
		cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+arch)
	}
	return cmd, nil
}

// command runs in the repository's top folder, in a neutral environment.
func (b *build) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.epoch.Unix(), 10))
	return cmd
}

func (b *build) output(name string, args ...string) (string, error) {
	return output(b.command(name, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
