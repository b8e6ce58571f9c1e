package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/sbom"
)

// built is what a builder would hand over.
func built(t *testing.T, files map[string]string) *packer.MockArtifact {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		names = append(names, file)
	}
	slices.Sort(names)
	return &packer.MockArtifact{FilesValue: names}
}

func process(t *testing.T, in packer.Artifact, block map[string]any) (packer.Artifact, error) {
	t.Helper()
	var p PostProcessor
	if err := p.Configure(block); err != nil {
		t.Fatal(err)
	}
	out, keep, force, err := p.PostProcess(t.Context(), packer.TestUi(t), in)
	if !keep || !force {
		t.Error("Packer may remove what the manifest is of")
	}
	return out, err
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}

func TestManifest(t *testing.T) {
	stock := sbom.Component{Name: "image_1.0", Arch: "amd64", Contains: []sbom.Component{
		{Name: "libc6", Version: "2.41", Arch: "amd64", Licences: []string{"LGPL-2.1+"}, SHA256: sum("deb"), Source: "https://snapshot.debian.org/package/glibc/2.41/"}}}
	inventory, err := json.Marshal(stock)
	if err != nil {
		t.Fatal(err)
	}
	in := built(t, map[string]string{"image_1.0.raw": "raw", "image_1.0.qcow2": "qcow2", "image_1.0.inventory.json": string(inventory)})
	dir := filepath.Dir(in.FilesValue[0])
	out, err := process(t, in, map[string]any{"version": "1.0", "commit": "abc"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "image_1.0.qcow2"), filepath.Join(dir, "image_1.0.raw"), filepath.Join(dir, "image_1.0.manifest.json")}
	if d := cmp.Diff(want, out.Files()); d != "" {
		t.Error(d)
	}
	on, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(on) != len(want) {
		t.Errorf("in the folder: %v %v", on, err)
	}
	data, err := os.ReadFile(want[2])
	if err != nil {
		t.Fatal(err)
	}
	var got Manifest
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Manifest{Name: "image_1.0", Arch: "amd64", Version: "1.0", Commit: "abc", Packages: stock.Contains, Files: []File{
		{"image_1.0.qcow2", 5, sum("qcow2")}, {"image_1.0.raw", 3, sum("raw")}}}, got); d != "" {
		t.Error(d)
	}
}

// Whoever has the verifier key can tell the manifest from any other.
func TestSignature(t *testing.T) {
	private, public, err := note.GenerateKey(nil, "images.relay.test")
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := process(t, built(t, map[string]string{"x.qcow2": "x"}), map[string]any{"version": "1.0", "signing_key_file": key})
	if err != nil {
		t.Fatal(err)
	}
	files := out.Files()
	manifest, signature := files[len(files)-2], files[len(files)-1]
	if filepath.Base(manifest) != "x.manifest.json" || filepath.Base(signature) != "x.manifest.note" {
		t.Fatal(files)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := os.ReadFile(signature)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if want := "relay appliance image\nx.manifest.json\n" + sum(string(data)) + "\n"; opened.Text != want {
		t.Errorf("signed is %q, want %q", opened.Text, want)
	}
	if strings.Contains(string(data)+string(signed), private) {
		t.Error("the key got out")
	}
}

func TestFaults(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	const secret = "PRIVATE+" + "KEY+is not one"
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var p PostProcessor
	err := p.Configure(map[string]any{"signing_key_file": key})
	if err == nil || !strings.Contains(err.Error(), "version is required") || !strings.Contains(err.Error(), "is no private key of a note") {
		t.Errorf("%v", err)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Error("the fault repeats the key")
	}
	if _, err := process(t, &packer.MockArtifact{}, map[string]any{"version": "1"}); err != nil {
		// The mock names files that are not there.
		if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	} else {
		t.Error("files that are not there")
	}
	if _, err := process(t, &packer.MockArtifact{FilesValue: []string{}}, map[string]any{"version": "1"}); err == nil || !strings.Contains(err.Error(), "no files on this machine") {
		t.Errorf("%v", err)
	}
	if _, err := process(t, built(t, map[string]string{"x.inventory.json": "{"}), map[string]any{"version": "1"}); err == nil || !strings.Contains(err.Error(), "x.inventory.json") {
		t.Errorf("%v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := built(t, map[string]string{"x.raw": "x"})
	p := PostProcessor{config: Config{Version: "1"}}
	if _, _, _, err := p.PostProcess(ctx, packer.TestUi(t), in); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(in.FilesValue[0]), "x.manifest.json")); err == nil {
		t.Error("a manifest of a cancelled build")
	}
}
