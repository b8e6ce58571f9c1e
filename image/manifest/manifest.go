// Package manifest is the Packer post-processor relay-manifest: beside the files of a
// build it writes what they are.
//
// NAME.manifest.json is JSON: each file with its size and SHA-256 sum, and each
// package in the image with version, the hash of the file it came in, licences, and
// where the corresponding source is. With a key, NAME.manifest.note is a signed note
// (golang.org/x/mod/sumdb/note) whose text is
//
//	relay appliance image
//	NAME.manifest.json
//	SHA-256 of that file, in hex
package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/packer-plugin-sdk/packer"
	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/image/builder"
	"github.com/psf-relay/relay-appliance/internal/sbom"
)

// PostProcessor is the component.
type PostProcessor struct{ config Config }

var _ packer.PostProcessor = (*PostProcessor)(nil)

// Manifest is the content of the file.
type Manifest struct {
	Name     string           `json:"name"`
	Arch     string           `json:"architecture,omitempty"`
	Version  string           `json:"version"`
	Commit   string           `json:"commit,omitempty"`
	Files    []File           `json:"files"`
	Packages []sbom.Component `json:"packages,omitempty"`
}

// File is one file of the build.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

const (
	suffix     = ".manifest.json"
	noteSuffix = ".manifest.note"
	heading    = "relay appliance image"
)

// PostProcess writes the manifest. The files that it describes are kept; the list of
// what is in the image, which goes into the manifest, is not.
func (p *PostProcessor) PostProcess(ctx context.Context, ui packer.Ui, in packer.Artifact) (_ packer.Artifact, keep, force bool, err error) {
	fail := func(err error) (packer.Artifact, bool, bool, error) {
		return nil, true, true, fmt.Errorf("write the manifest: %w", err)
	}
	files := in.Files()
	if len(files) == 0 {
		return fail(errors.New("the build has left no files on this machine: a manifest is of files"))
	}
	m := Manifest{Version: p.config.Version, Commit: p.config.Commit}
	var inventory string
	for _, name := range files {
		if strings.HasSuffix(name, builder.InventorySuffix) {
			inventory = name
			if err := m.read(name); err != nil {
				return fail(err)
			}
			continue
		}
		f, err := hash(ctx, name)
		if err != nil {
			return fail(err)
		}
		ui.Say(f.SHA256 + "  " + f.Name)
		m.Files = append(m.Files, f)
	}
	if m.Name == "" {
		m.Name = strings.TrimSuffix(filepath.Base(files[0]), filepath.Ext(files[0]))
	}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	written, err := m.write(filepath.Dir(files[0]), p.config.signer)
	if err != nil {
		return fail(err)
	}
	if inventory != "" {
		if err := os.Remove(inventory); err != nil {
			return fail(err)
		}
		files = slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == inventory })
	}
	return &artifact{Artifact: in, files: append(files, written...)}, true, true, nil
}

// read takes over what the builder says is in the image.
func (m *Manifest) read(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var stock sbom.Component
	if err := json.Unmarshal(data, &stock); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	m.Name, m.Arch, m.Packages = stock.Name, stock.Arch, stock.Contains
	return nil
}

// hash reads a file; the raw disk has gigabytes.
func hash(ctx context.Context, name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if ctx.Err() != nil {
		return File{}, context.Cause(ctx)
	}
	return File{Name: filepath.Base(name), Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

func (m *Manifest) write(dir string, signer note.Signer) ([]string, error) {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetIndent("", "\t")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, m.Name+suffix)
	if err := renameio.WriteFile(file, data.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if signer == nil {
		return []string{file}, nil
	}
	signed, err := note.Sign(&note.Note{Text: text(m.Name+suffix, data.Bytes())}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	noteFile := filepath.Join(dir, m.Name+noteSuffix)
	return []string{file, noteFile}, renameio.WriteFile(noteFile, signed, 0o644)
}

// text is what is signed of a manifest.
func text(name string, data []byte) string {
	sum := sha256.Sum256(data)
	return heading + "\n" + name + "\n" + hex.EncodeToString(sum[:]) + "\n"
}

// artifact is the artifact that came in, with the manifest.
type artifact struct {
	packer.Artifact
	files []string
}

func (a *artifact) Files() []string { return a.files }

func (a *artifact) String() string { return strings.Join(a.files, "\n") }
