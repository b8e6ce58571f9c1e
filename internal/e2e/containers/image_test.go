package containers

import (
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

var programs = []string{"relayd", "relaymon"}

// unpack does what an engine does with an archive for docker load, by other people's
// programs, and returns the folder of config.json and rootfs.
func unpack(t *testing.T, program, arch string) string {
	t.Helper()
	from := images(t)
	need.Tools(t, "skopeo", "umoci")
	dir := t.TempDir()
	layout := filepath.Join(dir, "layout")
	run(t, "skopeo", "--insecure-policy", "copy", "--quiet", "docker-archive:"+filepath.Join(from, program+"_"+version+"_"+arch+".docker.tar"), "oci:"+layout+":"+program)
	args := []string{"unpack", "--image", layout + ":" + program}
	if os.Getuid() != 0 {
		args = append(args, "--rootless")
	}
	run(t, "umoci", append(args, filepath.Join(dir, "bundle"))...)
	return filepath.Join(dir, "bundle")
}

// What is in an image: the program of the package, and nothing that could be run besides.
func TestContents(t *testing.T) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for _, program := range programs {
		for _, arch := range architectures {
			t.Run(program+" "+arch, func(t *testing.T) {
				root := filepath.Join(unpack(t, program, arch), "rootfs")
				var found []string
				err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
					if err == nil && path != root {
						found = append(found, strings.TrimPrefix(path, root))
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				doc := "/usr/share/doc/" + program
				want := []string{"/etc", "/etc/" + program, "/etc/ssl", "/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt",
					"/usr", "/usr/bin", "/usr/bin/" + program, "/usr/share", "/usr/share/doc", doc, doc + "/copyright", doc + "/" + program + ".spdx.json",
					"/var", "/var/lib", "/var/lib/" + program}
				slices.Sort(want)
				if slices.Sort(found); !slices.Equal(found, want) {
					t.Errorf("the image holds\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
				}
				f, err := elf.Open(filepath.Join(root, "usr/bin", program))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if libraries, err := f.ImportedLibraries(); f.Machine != machines[arch] || len(libraries) > 0 || err != nil {
					t.Errorf("for %s, links %v, %v", f.Machine, libraries, err)
				}
				packaged := t.TempDir()
				run(t, "dpkg-deb", "--extract", filepath.Join(work, "debs", program+"_"+version+"_"+arch+".deb"), packaged)
				if sumOf(read(t, filepath.Join(packaged, "usr/bin", program))) != sumOf(read(t, filepath.Join(root, "usr/bin", program))) {
					t.Error("the program is another one than in the package")
				}
				roots := x509.NewCertPool()
				if !roots.AppendCertsFromPEM(read(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))) || strings.Count(string(read(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))), "BEGIN CERTIFICATE") < 100 {
					t.Error("hardly any certificate authority is known")
				}
				checkParts(t, read(t, filepath.Join(root, doc, program+".spdx.json")), program)
			})
		}
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkParts(t *testing.T, spdx []byte, program string) {
	t.Helper()
	var found []string
	for _, p := range decode[struct {
		Packages []struct{ Name, VersionInfo string }
	}](t, spdx).Packages {
		if p.VersionInfo != "" {
			found = append(found, p.Name)
		}
	}
	for _, want := range []string{program + "-image", program, "stdlib", "github.com/libp2p/go-libp2p", "golang.org/x/crypto/x509roots/fallback"} {
		if !slices.Contains(found, want) {
			t.Errorf("the bill of materials does not name %s", want)
		}
	}
}

type descriptor struct {
	MediaType   string
	Digest      string
	Size        int
	Platform    struct{ OS, Architecture string }
	Annotations map[string]string
}

type manifest struct {
	Manifests []descriptor
	Config    descriptor
	Layers    []descriptor
	Subject   *descriptor
}

// config is what an engine goes by.
type config struct {
	Created      time.Time
	Architecture string
	OS           string
	Config       struct {
		User       string
		Entrypoint []string
		Cmd        []string
		Env        []string
		Volumes    map[string]struct{}
		Labels     map[string]string
	}
}

// layout is an OCI image layout, with each of its blobs under its digest.
func layout(t *testing.T, program string) map[string][]byte {
	t.Helper()
	files := tarFiles(t, filepath.Join(images(t), program+"_"+version+".oci.tar"))
	blobs := map[string][]byte{"index.json": files["index.json"]}
	for name, data := range files {
		sum, ok := strings.CutPrefix(name, "blobs/sha256/")
		if !ok {
			continue
		}
		if sum != sumOf(data) {
			t.Errorf("%s is not named after its bytes", name)
		}
		blobs["sha256:"+sum] = data
	}
	return blobs
}

// The layout is one image for both architectures, with the bill of materials of each; it is
// what the archives for docker load hold.
func TestLayout(t *testing.T) {
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			blobs := layout(t, program)
			outer := decode[manifest](t, blobs["index.json"])
			if len(outer.Manifests) != 1 || outer.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != version {
				t.Fatalf("the index is %s", blobs["index.json"])
			}
			images := map[string]descriptor{} // by architecture
			attested := map[string][]byte{}   // by the image's digest
			for _, d := range decode[manifest](t, blobs[outer.Manifests[0].Digest]).Manifests {
				m := decode[manifest](t, blobs[d.Digest])
				if d.Platform.OS == "linux" {
					images[d.Platform.Architecture] = d
					checkConfig(t, program, d.Platform.Architecture, blobs[m.Config.Digest])
					continue
				}
				if d.Platform.OS != "unknown" || d.Annotations["vnd.docker.reference.type"] != "attestation-manifest" || m.Subject == nil || m.Subject.Digest != d.Annotations["vnd.docker.reference.digest"] {
					t.Errorf("neither an image nor its bill of materials: %+v", d)
					continue
				}
				attested[m.Subject.Digest] = blobs[m.Layers[0].Digest]
			}
			for _, arch := range architectures {
				d := images[arch]
				statement := decode[struct {
					PredicateType string
					Subject       []struct{ Digest map[string]string }
					Predicate     json.RawMessage
				}](t, attested[d.Digest])
				if len(statement.Subject) != 1 || "sha256:"+statement.Subject[0].Digest["sha256"] != d.Digest || statement.PredicateType != "https://spdx.dev/Document" {
					t.Errorf("%s: the statement is about %+v", arch, statement.Subject)
				}
				checkParts(t, statement.Predicate, program)
				loaded := tarFiles(t, filepath.Join(work, "images", program+"_"+version+"_"+arch+".docker.tar"))
				archive := decode[[]struct {
					Config   string
					RepoTags []string
					Layers   []string
				}](t, loaded["manifest.json"])
				want := decode[manifest](t, blobs[d.Digest])
				if len(archive) != 1 || !slices.Equal(archive[0].RepoTags, []string{"localhost/" + program + ":" + version}) ||
					archive[0].Config != want.Config.Digest || len(archive[0].Layers) != 1 || "sha256:"+sumOf(loaded[archive[0].Layers[0]]) != want.Layers[0].Digest {
					t.Errorf("%s: docker load gets %+v, the layout has %+v", arch, archive, want)
				}
			}
			if len(images) != len(architectures) || len(attested) != len(architectures) {
				t.Errorf("%d images and %d bills of materials", len(images), len(attested))
			}
		})
	}
}

func checkConfig(t *testing.T, program, arch string, data []byte) {
	t.Helper()
	c := decode[config](t, data)
	if c.OS != "linux" || c.Architecture != arch || c.Created.Unix() != epoch || c.Config.User != "65532:65532" ||
		!slices.Equal(c.Config.Entrypoint, []string{"/usr/bin/" + program}) {
		t.Errorf("%s: the configuration is %s", arch, data)
	}
	for label, want := range map[string]string{
		"title": program, "version": version, "revision": commit, "licenses": "MIT",
		"created": time.Unix(epoch, 0).UTC().Format(time.RFC3339), "source": "https://github.com/psf-relay/relay-appliance",
	} {
		if got := c.Config.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("%s: label %s is %q, want %q", arch, label, got, want)
		}
	}
}

// The same packages give the same bytes, wherever they lie, whoever copied them and when.
func TestTheSameBytes(t *testing.T) {
	first := images(t)
	debs, again := filepath.Join(t.TempDir(), "of another name"), t.TempDir()
	run(t, "cp", "-r", filepath.Join(work, "debs"), debs)
	run(t, "sh", "-c", `umask 077 && exec "$@"`, "sh", filepath.Join(work, "oci"), "-debs", debs, "-out", again, "-commit", commit)
	entries, err := os.ReadDir(first)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(programs)*(len(architectures)+1) {
		t.Errorf("%d files", len(entries))
	}
	for _, e := range entries {
		if sumOf(read(t, filepath.Join(first, e.Name()))) != sumOf(read(t, filepath.Join(again, e.Name()))) {
			t.Errorf("%s came out differently", e.Name())
		}
	}
}

// Packages of two versions beside each other are not mixed.
func TestTwoVersions(t *testing.T) {
	images(t)
	dir, out := t.TempDir(), t.TempDir()
	for _, v := range []string{version, "0.9.2"} {
		for _, program := range programs {
			run(t, "cp", filepath.Join(work, "debs", program+"_"+version+"_amd64.deb"), filepath.Join(dir, program+"_"+v+"_amd64.deb"))
		}
	}
	tool := filepath.Join(work, "oci")
	for _, c := range []struct{ version, want string }{{"", "give -version"}, {"1.0.0", "holds no package relayd_1.0.0_"}} {
		if _, stderr, err := try(t, tool, "-debs", dir, "-out", out, "-version", c.version); err == nil || !strings.Contains(stderr, c.want) {
			t.Errorf("-version %q: %v, %s", c.version, err, stderr)
		}
	}
	said := run(t, tool, "-debs", dir, "-out", out, "-version", version)
	if want := fmt.Sprintf("%s/relaymon_%s.oci.tar\n", out, version); !strings.HasSuffix(said, want) {
		t.Errorf("it made\n%swant at the end %s", said, want)
	}
}
