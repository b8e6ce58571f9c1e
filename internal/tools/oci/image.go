package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/psf-relay/relay-appliance/internal/sbom"
)

const source = "https://github.com/psf-relay/relay-appliance"

// user is whom the service runs as: no user of the host, and the one that images without
// a shell commonly have.
const user = 65532

// entry is a file of the image, or a folder, whose name ends in "/".
type entry struct {
	name string // from the root, without "/"
	mode int64
	uid  int
	data []byte
}

// deb is what a package says of itself, and the files of it that an image takes.
type deb struct {
	name, version, arch string
	built               time.Time
	files               map[string][]byte
}

func readDeb(file string, wanted ...string) (deb, error) {
	fields := strings.Split(strings.TrimSuffix(filepath.Base(file), ".deb"), "_")
	if len(fields) != 3 {
		return deb{}, fmt.Errorf("%s is not named as packages are", file)
	}
	d := deb{name: fields[0], version: fields[1], arch: fields[2], files: map[string][]byte{}}
	contents, err := exec.Command("dpkg-deb", "--fsys-tarfile", file).Output()
	if err != nil {
		return d, fmt.Errorf("read %s: %w", file, err)
	}
	for r := tar.NewReader(bytes.NewReader(contents)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d, fmt.Errorf("read %s: %w", file, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if !slices.Contains(wanted, name) {
			continue
		}
		if d.files[name], err = io.ReadAll(r); err != nil {
			return d, fmt.Errorf("read %s: %w", file, err)
		}
		if h.ModTime.After(d.built) {
			d.built = h.ModTime.UTC()
		}
	}
	for _, name := range wanted {
		if d.files[name] == nil {
			return d, fmt.Errorf("%s holds no %s", file, name)
		}
	}
	return d, nil
}

// built is an image for one architecture, and what it is made of.
type built struct {
	image v1.Image
	parts []byte // SPDX
	deb
}

// build makes the image of one package. updates says where releases are listed, as the
// keyring's package has it; nil: nobody knows.
func (s service) build(file string, updates []byte, commit string) (built, error) {
	program, licences := "usr/bin/"+s.name, "usr/share/doc/"+s.name+"/copyright"
	d, err := readDeb(file, program, licences)
	if err != nil {
		return built{}, err
	}
	b := built{deb: d}
	if b.parts, err = s.parts(d, program); err != nil {
		return b, err
	}
	files := []entry{
		{"etc/" + s.name + "/", 0o755, 0, nil}, // where the configuration is mounted
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, authorities()},
		{program, 0o755, 0, d.files[program]},
		{licences, 0o644, 0, d.files[licences]},
		{"usr/share/doc/" + s.name + "/" + s.name + ".spdx.json", 0o644, 0, b.parts},
		{"var/lib/" + s.name + "/", 0o700, user, nil},
	}
	if updates != nil {
		files = append(files, entry{updatesFile, 0o644, 0, updates})
	}
	layer, err := layerOf(files, d.built)
	if err != nil {
		return b, err
	}
	labels := map[string]string{
		"org.opencontainers.image.title":         s.name,
		"org.opencontainers.image.description":   s.title,
		"org.opencontainers.image.version":       d.version,
		"org.opencontainers.image.created":       d.built.Format(time.RFC3339),
		"org.opencontainers.image.licenses":      "MIT",
		"org.opencontainers.image.source":        source,
		"org.opencontainers.image.documentation": source + "/blob/main/docs/containers.md",
	}
	if commit != "" {
		labels["org.opencontainers.image.revision"] = commit
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		OS: "linux", Architecture: d.arch, Created: v1.Time{Time: d.built}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         fmt.Sprintf("%d:%[1]d", user),
			Env:          []string{"PATH=/usr/bin"},
			Entrypoint:   []string{"/usr/bin/" + s.name},
			Cmd:          []string{"run", "--config", "/etc/" + s.name + "/" + s.name + ".yaml"},
			Volumes:      map[string]struct{}{"/var/lib/" + s.name: {}},
			ExposedPorts: s.ports(),
			Labels:       labels,
		},
	})
	if err != nil {
		return b, err
	}
	b.image, err = mutate.Append(img, mutate.Addendum{Layer: layer, MediaType: types.OCILayer,
		History: v1.History{Created: v1.Time{Time: d.built}, CreatedBy: s.name + "_" + d.version + "_" + d.arch + ".deb"}})
	return b, err
}

func (s service) ports() map[string]struct{} {
	if s.name != "relayd" {
		return nil
	}
	return map[string]struct{}{"80/tcp": {}, "443/tcp": {}, "4001/tcp": {}, "4001/udp": {}}
}

// parts is the bill of materials.
func (s service) parts(d deb, program string) ([]byte, error) {
	data := d.files[program]
	p, err := sbom.ProgramAt(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	p.Name, p.Version, p.Arch, p.SHA256 = s.name, d.version, d.arch, fmt.Sprintf("%x", sha256.Sum256(data))
	p.Licences, p.Source = []string{"MIT"}, source
	roots, err := rootsModule()
	if err != nil {
		return nil, err
	}
	all := sbom.Component{Name: s.name + "-image", Version: d.version, Arch: d.arch, Licences: []string{"MIT"}, Source: source, Contains: []sbom.Component{p, roots}}
	var out bytes.Buffer
	err = sbom.Write(&out, all, d.built)
	return out.Bytes(), err
}

// rootsModule is where the certificate authorities come from.
func rootsModule() (sbom.Component, error) {
	const module = "golang.org/x/crypto/x509roots/fallback"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return sbom.Component{}, errors.New("built without Go's modules")
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return sbom.Component{Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version,
				Licences: []string{"BSD-3-Clause"}, Source: "https://pkg.go.dev/" + m.Path + "@" + m.Version}, nil
		}
	}
	return sbom.Component{}, errors.New(module + " is not linked")
}

// authorities are those that browsers trust. Mozilla's limits on some of them cannot be
// said in this form: those are left out.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // to memory
		}
	}
	return out.Bytes()
}

// layerOf packs the files, with the folders above them.
func layerOf(files []entry, at time.Time) (v1.Layer, error) {
	all := map[string]entry{}
	for _, f := range files {
		for dir := path.Dir(strings.TrimSuffix(f.name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir+"/"]; !ok {
				all[dir+"/"] = entry{name: dir + "/", mode: 0o755}
			}
		}
		all[f.name] = f
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range sortedKeys(all) {
		f := all[name]
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Uid: f.uid, Gid: f.uid, Size: int64(len(f.data)), ModTime: at, Format: tar.FormatUSTAR}
		if strings.HasSuffix(f.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
