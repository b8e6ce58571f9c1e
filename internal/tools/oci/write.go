package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// updatesFile is where programs look for the list of releases.
const updatesFile = "usr/share/relay-appliance/updates.yaml"

// make writes the images of a service, and returns the files' names.
func (s service) make(debs []string, dir, commit, out string) (made []string, err error) {
	version := strings.Split(filepath.Base(debs[0]), "_")[1]
	var updates []byte
	keyring := filepath.Join(dir, "relay-appliance-archive-keyring_"+version+"_all.deb")
	if _, err := os.Stat(keyring); err == nil {
		d, err := readDeb(keyring, updatesFile)
		if err != nil {
			return nil, err
		}
		updates = d.files[updatesFile]
	}
	var images []built
	for _, file := range debs {
		b, err := s.build(file, updates, commit)
		if err != nil {
			return nil, err
		}
		images = append(images, b)
	}
	// A registry by this name is nobody's: what was not loaded is never got from elsewhere.
	tag, err := name.NewTag("localhost/" + s.name + ":" + strings.NewReplacer("+", "-", "~", "-").Replace(version))
	if err != nil {
		return nil, err
	}
	for _, b := range images {
		file := filepath.Join(out, s.name+"_"+version+"_"+b.arch+".docker.tar")
		if err := tarball.WriteToFile(file, tag, b.image); err != nil {
			return nil, err
		}
		made = append(made, file)
	}
	file := filepath.Join(out, s.name+"_"+version+".oci.tar")
	index, err := indexOf(images)
	if err != nil {
		return nil, err
	}
	return append(made, file), writeLayout(file, index, tag, images[0].built)
}

// indexOf lists the images by platform, each with its bill of materials.
func indexOf(images []built) (v1.ImageIndex, error) {
	var adds []mutate.IndexAddendum
	var attached []mutate.IndexAddendum
	for _, b := range images {
		adds = append(adds, mutate.IndexAddendum{Add: b.image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: b.arch}}})
		a, err := attestation(b)
		if err != nil {
			return nil, err
		}
		attached = append(attached, a)
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), append(adds, attached...)...), nil
}

// attestation says of which parts an image is. It stands in the index, as BuildKit puts
// it there, so that it comes along wherever the image is copied to; a registry finds it by
// its subject, too.
func attestation(b built) (mutate.IndexAddendum, error) {
	var a mutate.IndexAddendum
	subject, err := partial.Descriptor(b.image)
	if err != nil {
		return a, err
	}
	const predicate = "https://spdx.dev/Document"
	statement, err := json.Marshal(map[string]any{ // in-toto's, version 1
		"_type":         "https://in-toto.io/Statement/v1",
		"predicateType": predicate,
		"subject":       []any{map[string]any{"name": b.name, "digest": map[string]string{subject.Digest.Algorithm: subject.Digest.Hex}}},
		"predicate":     json.RawMessage(b.parts),
	})
	if err != nil {
		return a, err
	}
	none := &v1.Platform{OS: "unknown", Architecture: "unknown"} // nobody runs it
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: none.OS, Architecture: none.Architecture, Created: v1.Time{Time: b.built}, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return a, err
	}
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:       static.NewLayer(statement, "application/vnd.in-toto+json"),
		Annotations: map[string]string{"in-toto.io/predicate-type": predicate},
		History:     v1.History{Created: v1.Time{Time: b.built}, CreatedBy: "bill of materials"},
	})
	if err != nil {
		return a, err
	}
	signed, ok := mutate.Subject(img, *subject).(v1.Image)
	if !ok {
		return a, errors.New("an image with a subject is no image any more")
	}
	return mutate.IndexAddendum{Add: signed, Descriptor: v1.Descriptor{Platform: none, Annotations: map[string]string{
		"vnd.docker.reference.type":   "attestation-manifest",
		"vnd.docker.reference.digest": subject.Digest.String(),
	}}}, nil
}

// writeLayout writes an OCI image layout as one archive.
func writeLayout(file string, index v1.ImageIndex, tag name.Tag, at time.Time) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".oci-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := layout.Write(dir, mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return err
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": tag.TagStr(),
		"io.containerd.image.name":          tag.Name(),
	})); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: at, Format: tar.FormatUSTAR})
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: at, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		from, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, from)
		return errors.Join(err, from.Close())
	})
	if err = errors.Join(err, w.Close(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
