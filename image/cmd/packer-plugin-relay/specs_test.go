package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed specifications are those that packer-sdc makes of the structs: whoever
// changes a Config runs go generate.
func TestSpecsAreCurrent(t *testing.T) {
	for _, component := range []string{"builder", "provisioner", "manifest", "boottest"} {
		dir := t.TempDir()
		// It writes beside the file that it believes to be generating for.
		cmd := exec.Command("go", "tool", "packer-sdc", "mapstructure-to-hcl2", "-type", "Config")
		cmd.Dir = filepath.Join("../..", component)
		cmd.Env = append(os.Environ(), "GOFILE="+filepath.Join(dir, "config.go"), "GOPACKAGE="+component)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", component, err, out)
		}
		want, err := os.ReadFile(filepath.Join(dir, "config.hcl2spec.go"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(cmd.Dir, "config.hcl2spec.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s/config.hcl2spec.go is not current: run go generate ./... in image", component)
		}
	}
}
