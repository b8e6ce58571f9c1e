package secondverifier

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/psf-relay/relay-appliance/internal/need"
)

const folder = "../../../docs/verifier"

// program is the second verifier, of which one process answers all cases.
type program struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

// beside is a copy of the second verifier that stands beside the packages it needs.
func beside(t testing.TB) string {
	t.Helper()
	modules := need.NodeModules(t, folder)
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(folder, "*.*js*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of the second verifier: %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func startProgram(t testing.TB) *program {
	t.Helper()
	dir := beside(t)
	data, err := filepath.Abs("../../../monitor/bundle/data")
	if err != nil {
		t.Fatal(err)
	}
	iploc, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/phuslu/iploc").Output()
	if err != nil {
		t.Fatalf("the folder of the data on countries: %v", err)
	}
	cmd := exec.Command("node", filepath.Join(dir, "verify.mjs"), "--stdin-cases")
	cmd.Env = append(os.Environ(), "VERIFIER_GEO="+data, "VERIFIER_IPLOC="+string(bytes.TrimSpace(iploc)))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("verify.mjs: %v", err)
		}
	})
	return &program{t, in, bufio.NewReaderSize(out, 1<<20)}
}

// request is a case: a bundle with what its reader brings along, or the files of a month.
type request struct {
	Bundle    string   `json:"bundle,omitempty"`
	Rules     []string `json:"rules,omitempty"`
	Roster    []string `json:"roster,omitempty"`
	Releases  string   `json:"releases,omitempty"`
	Committee string   `json:"committee,omitempty"`
	Facts     bool     `json:"facts,omitempty"`
	FactsOnly bool     `json:"facts_only,omitempty"`
	Change    *flip    `json:"change,omitempty"`
	Month     *month   `json:"month_files,omitempty"`
	Round     *round   `json:"round,omitempty"`
}

// round is one of drand's, and the instant after which it should be the first, in
// milliseconds since 1970.
type round struct {
	Bytes []byte `json:"bytes"`
	At    int64  `json:"at"`
}

// flip is a byte of the bundle that is read as another.
type flip struct {
	At  int64 `json:"at"`
	Xor byte  `json:"xor"`
}

type month struct {
	Files map[string][]byte `json:"files"`
	Keys  struct {
		Log       string   `json:"log"`
		Witnesses []string `json:"witnesses"`
		Plan      string   `json:"plan,omitempty"`
	} `json:"keys"`
}

type answer struct {
	Verified bool   `json:"verified"`
	Own      bool   `json:"own"`
	Error    string `json:"error"`
	SignedBy string `json:"signed_by"`
	Files    int    `json:"files"`
	Headline string `json:"headline"`
	Result   string `json:"result"`
	Final    bool   `json:"final"`
	Logs     any    `json:"logs"`
}

func (p *program) ask(r request) answer {
	p.t.Helper()
	line, err := json.Marshal(r)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	out, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		p.t.Fatalf("%v: %.300s", err, out)
	}
	return a
}

// The types that comments and values tell fit together.
func TestTypes(t *testing.T) {
	dir := beside(t)
	cmd := exec.Command("node", filepath.Join(dir, "node_modules", "typescript", "bin", "tsc"), "-p", dir)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
