package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/psf-relay/relay-appliance/internal/archive"
	"github.com/psf-relay/relay-appliance/internal/release/feed"
	"github.com/psf-relay/relay-appliance/internal/sbom"
)

// archives makes one of each architecture's programs, taken out of the packages: so
// they are the same, byte for byte.
func (m *making) archives() error {
	for _, arch := range archive.Architectures {
		programs, err := m.programs(arch)
		if err != nil {
			return err
		}
		name := product + "_" + m.number() + "_linux_" + arch
		files := programs
		for _, doc := range []string{"LICENSE", "README.md", "BOUNTY.md", "CHANGELOG.md"} {
			data, err := os.ReadFile(filepath.Join(m.root, doc))
			if err != nil {
				return err
			}
			files = append(files, file{doc, 0o644, data})
		}
		notices, err := os.ReadFile(filepath.Join(m.stage, noticesFile))
		if err != nil {
			return err
		}
		files = append(files, file{noticesFile, 0o644, notices})
		packed, err := tarball(name, files, m.epoch)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.stage, name+".tar.gz"), packed, 0o644); err != nil {
			return err
		}
		parts, err := m.parts(arch, programs)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.stage, name+".spdx.json"), parts, 0o644); err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	name string
	mode int64
	data []byte
}

// programs takes all that is in /usr/bin out of an architecture's packages.
func (m *making) programs(arch string) ([]file, error) {
	debs, err := filepath.Glob(filepath.Join(m.stage, "*_"+arch+".deb"))
	if err != nil {
		return nil, err
	}
	var out []file
	for _, deb := range debs {
		contents, err := m.output("dpkg-deb", "--fsys-tarfile", deb)
		if err != nil {
			return nil, err
		}
		for r := tar.NewReader(strings.NewReader(contents)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Base(deb), err)
			}
			if h.Typeflag != tar.TypeReg || path.Dir(path.Clean("/"+h.Name)) != "/usr/bin" {
				continue
			}
			data, err := io.ReadAll(r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Base(deb), err)
			}
			out = append(out, file{path.Base(h.Name), 0o755, data})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no package for %s holds a program", arch)
	}
	return out, nil
}

// tarball packs files into one folder, with nothing of this machine in it.
func tarball(folder string, files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	header := tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: at, Uname: "root", Gname: "root", Format: tar.FormatUSTAR}
	if err := t.WriteHeader(&header); err != nil {
		return nil, err
	}
	header.Typeflag = tar.TypeReg
	for _, f := range files {
		header.Name, header.Mode, header.Size = folder+"/"+f.name, f.mode, int64(len(f.data))
		if err := t.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.data); err != nil {
			return nil, err
		}
	}
	err = errors.Join(t.Close(), z.Close()) // which write what is left
	return out.Bytes(), err
}

// parts is the bill of materials of an architecture's programs.
func (m *making) parts(arch string, programs []file) ([]byte, error) {
	all := sbom.Component{Name: product, Version: m.number(), Arch: arch, Licences: []string{"MIT"}, Source: "https://github.com/psf-relay/relay-appliance"}
	for _, f := range programs {
		c, err := sbom.ProgramAt(bytes.NewReader(f.data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		c.Name, c.Version, c.Arch, c.SHA256 = f.name, m.number(), arch, fmt.Sprintf("%x", sha256.Sum256(f.data))
		all.Contains = append(all.Contains, c)
	}
	var out bytes.Buffer
	err := sbom.Write(&out, all, m.epoch)
	return out.Bytes(), err
}

//go:embed sources.md
var sourcesText string

// sources says where the source of everything is.
func (m *making) sources() error {
	t, err := template.New("").Parse(sourcesText)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]string{"Version": string(m.version), "Commit": m.commit, "Number": m.number()}); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.stage, "SOURCES.md"), out.Bytes(), 0o644)
}

// sums lists the SHA-256 of each file, and signs the list.
func (m *making) sums(keys *archive.Keys, at time.Time) error {
	entries, err := os.ReadDir(m.stage)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, e := range entries {
		sum, err := sumOf(filepath.Join(m.stage, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%s  %s\n", sum, e.Name())
	}
	signature, err := keys.Detach(m.ctx, out.Bytes(), at)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(m.stage, "SHA256SUMS"), out.Bytes(), 0o644),
		os.WriteFile(filepath.Join(m.stage, "SHA256SUMS.asc"), signature, 0o644))
}

func sumOf(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// siteFile is the updates.yaml that tells programs of the site.
func siteFile(url string, keys []string) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Where this project's updates come from, and the keys that verify its release list.\n# Written when the packages were built; an update may change it.\nsite: %q\nkeys:\n", url)
	for _, k := range keys {
		fmt.Fprintf(&out, "  - %q\n", k)
	}
	_, err := feed.Parse("updates.yaml", out.Bytes())
	return out.Bytes(), err
}
