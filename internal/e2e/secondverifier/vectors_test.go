package secondverifier

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// runVectors lets the second verifier run the vectors in a folder, and returns its exit
// code and what it says.
func runVectors(t *testing.T, folder string) (int, string) {
	t.Helper()
	cmd := exec.Command("node", filepath.Join(beside(t), "verify.mjs"), "--vectors", folder)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Each vector is to the second verifier what it says that it is.
func TestVectors(t *testing.T) {
	const vectors = "../../../docs/vectors"
	if code, out := runVectors(t, vectors); code != 0 || !strings.Contains(out, "; 0 not as they say") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	files, err := filepath.Glob(filepath.Join(vectors, "*.json"))
	if err != nil || len(files) < 7 {
		t.Fatalf("%d files of vectors: %v", len(files), err)
	}
	// Vectors that say the opposite, and show something else, are all found wrong.
	dir, n := t.TempDir(), 0
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var list []map[string]any
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if _, ok := c["voucher"]; ok {
				c["voucher"] = "another"
			} else {
				c["ok"] = c["ok"] != true
			}
		}
		n += len(list)
		save(t, filepath.Join(dir, filepath.Base(name)), list)
	}
	if code, out := runVectors(t, dir); code != 1 || !strings.Contains(out, fmt.Sprintf("; %d not as they say", n)) {
		t.Errorf("%d vectors that lie: exit code %d:\n%s", n, code, out)
	}
}

func save(t *testing.T, name string, v any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The edges of what notes may be: how long, how many lines, which times.
func TestEdgesOfNotes(t *testing.T) {
	const origin = "m1.example.org/relaymon/psf"
	secret, log, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	author, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	witness, witnessKey := scene.NewWitness(t, "witness.example.org")
	sign := func(text string) string {
		b, err := note.Sign(&note.Note{Text: text}, author)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	root := func(c byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, 32)) }
	text := func(c byte, more string) string { return origin + "\n7\n" + root(c) + "\n" + more }
	plain := sign(text('a', ""))
	strangers := func(n, size int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "— x%04d.example.net %s\n", i, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{'s'}, size)))
		}
		return b.String()
	}
	filled := func(total int) string { // with a stranger's line that makes it so long, or a little shorter
		room := total - len(plain) - len(strangers(1, 0))
		return plain + strangers(1, room/4*3)
	}
	long := filled(evidence.MaxCheckpointBytes)
	for len(long) < evidence.MaxCheckpointBytes { // a name of another length
		long = strings.Replace(long, "x0000", "xx0000", 1)
	}
	cosigned := func(at time.Time) string {
		return plain + string(scene.Cosign(witness, witnessKey, []byte(plain), at))
	}
	type vector map[string]any
	var checkpoints, forks []vector
	for name, raw := range map[string]string{
		"100 signatures":            plain + strangers(99, 40),
		"101 signatures":            plain + strangers(100, 40),
		"64 KiB":                    long,
		"one byte more":             strings.Replace(long, "x0000", "xx0000", 1),
		"a signature of a byte":     plain + strangers(1, 5),
		"a signature of none":       plain + strangers(1, 4),
		"extension":                 sign(text('a', "more\n")),
		"a witness":                 cosigned(time.Unix(1, 0)),
		"a witness at no time":      cosigned(time.Unix(0, 0)),
		"a witness in 9999":         cosigned(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)),
		"a witness after 9999":      cosigned(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)),
		"a stranger with no name":   plain + "—  AAAAAAAA\n",
		"a stranger with a plus":    plain + "— a+b AAAAAAAA\n",
		"a stranger of one letter":  plain + "— é AAAAAAAA\n",
		"a stranger with a space":   plain + "— a\u00a0b AAAAAAAA\n",
		"a stranger with a mark":    plain + "— \ufeffz AAAAAAAA\n",
		"a stranger, no space":      plain + "— a\u180eb\u200bc\u2060 AAAAAAAA\n",
		"a stranger, a next line":   plain + "— a\u0085b AAAAAAAA\n",
		"a stranger, another space": plain + "— a\u3000b AAAAAAAA\n",
		"unused bits":               plain + "— a AAAAAAB=\n",
		"another dash":              plain + "- a AAAAAAAA\n",
		"a carriage return":         strings.Replace(plain, "\n", "\r\n", 1),
		"the size of no log":        sign(fmt.Sprintf("%s\n%d\n%s\n", origin, evidence.MaxBlocks+1, root('a'))),
		"the largest size":          sign(fmt.Sprintf("%s\n%d\n%s\n", origin, int64(evidence.MaxBlocks), root('a'))),
		"size 0":                    sign(origin + "\n0\n" + root('a') + "\n"),
		"a short root":              sign(origin + "\n7\nAAAA\n"),
		"an empty line in the text": sign(origin + "\n7\n" + root('a') + "\n\nmore\n"),
	} {
		verifier, err := evidence.LogVerifier(log)
		if err != nil {
			t.Fatal(err)
		}
		by, err := evidence.WitnessVerifiers([]string{witnessKey})
		if err != nil {
			t.Fatal(err)
		}
		c, err := evidence.OpenCheckpoint([]byte(raw), verifier, by...)
		// An export has shorter ones than a note may be.
		ok := err == nil && len(raw) <= evidence.FileLimit("start")
		list := []vector{}
		for _, s := range c.Cosignatures {
			at, err := evidence.CosignedAt(s)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, vector{"witness": witnessKey, "seconds": at.Unix()})
		}
		checkpoints = append(checkpoints, vector{"name": name, "why": fmt.Sprint(err), "ok": ok, "note": raw, "log": log, "witnesses": []string{witnessKey}, "cosigned": list})
	}
	for name, pair := range map[string][2]string{
		"plain":                     {plain, sign(text('b', ""))},
		"extension in one":          {plain, sign(text('b', "more\n"))},
		"extensions in both":        {sign(text('a', "x\ny\n")), sign(text('b', "more\n"))},
		"extensions alone differ":   {sign(text('a', "x\n")), plain},
		"another size":              {plain, sign(origin + "\n8\n" + root('b') + "\n")},
		"another order":             {sign(text('b', "")), plain},
		"a stranger under one":      {plain + strangers(1, 40), sign(text('b', ""))},
		"an empty extension":        {plain, sign(text('b', "\n"))},
		"an extension with a space": {plain, sign(text('b', " \n"))},
	} {
		raw := pair[0] + "\n" + pair[1]
		_, err := evidence.OpenFork([]byte(raw), log)
		forks = append(forks, vector{"name": name, "why": fmt.Sprint(err), "ok": err == nil, "note": raw, "log": log})
	}
	for _, list := range [][]vector{checkpoints, forks} {
		good := len(slices.DeleteFunc(slices.Clone(list), func(v vector) bool { return v["ok"] != true }))
		if good < 3 || len(list)-good < 3 {
			t.Errorf("relayaudit takes %d of %d: the cases are too much alike", good, len(list))
		}
	}
	dir := t.TempDir()
	save(t, filepath.Join(dir, "checkpoints.json"), checkpoints)
	save(t, filepath.Join(dir, "forks.json"), forks)
	if code, out := runVectors(t, dir); code != 0 {
		t.Errorf("relayaudit and the second verifier differ (in brackets what relayaudit says): exit code %d:\n%.3000s", code, out)
	}
}
