package checkpage

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/evanw/esbuild/pkg/api"

	"github.com/psf-relay/relay-appliance/internal/need"
)

var update = flag.Bool("update", false, "write page/page.js anew from src/ and package-lock.json")

const (
	bundlePath = "page/page.js"
	// noticesPath holds the licences of what the script is made of; whoever ships the
	// script ships them, too.
	noticesPath = "NOTICES.txt"
)

// maxPacked is what the script may weigh on the wire.
const maxPacked = 200_000

// The script that is committed is the one that its sources and the lock file make,
// byte for byte: nobody has to trust whoever committed it.
func TestBundle(t *testing.T) {
	script, notices := bundle(t)
	for path, built := range map[string][]byte{bundlePath: script, noticesPath: notices} {
		if *update {
			if err := os.WriteFile(path, built, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		committed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(built, committed) {
			t.Errorf("%s (%d bytes) is not what its sources make (%d bytes): run \"go generate ./internal/checkpage\" and commit it", path, len(committed), len(built))
		}
	}
}

func TestSize(t *testing.T) {
	if n := len(assets()["page.js"].packed); n > maxPacked {
		t.Errorf("the script weighs %d bytes with gzip, the budget is %d", n, maxPacked)
	}
}

func bundle(t *testing.T) (script, notices []byte) {
	t.Helper()
	// Beside the modules, because they are looked for from where a source lies.
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS("src")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(need.NodeModules(t, "."), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     dir,
		EntryPoints:       []string{"src/main.js"},
		Bundle:            true,
		Format:            api.FormatESModule,
		Platform:          api.PlatformBrowser,
		Target:            api.ES2022,
		MinifyWhitespace:  true,
		MinifyIdentifiers: true,
		MinifySyntax:      true,
		Charset:           api.CharsetUTF8,
		LegalComments:     api.LegalCommentsEndOfFile,
		Define:            map[string]string{"process.env.NODE_ENV": `"production"`},
		Outfile:           "page.js",
		Metafile:          true,
	})
	for _, e := range result.Errors {
		t.Error(e.Text)
	}
	if t.Failed() {
		t.FailNow()
	}
	return result.OutputFiles[0].Contents, noticesOf(t, dir, result.Metafile)
}
