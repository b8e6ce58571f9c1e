package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The command runs itself for each step.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "step" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	dir, results := filepath.Join(t.TempDir(), "fleet"), filepath.Join(t.TempDir(), "results.jsonl")
	call := func(args ...string) (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		code = run(args, &out, &err)
		return code, out.String(), err.String()
	}
	fleet := []string{"--relays", "3", "--monitors", "15", "--hours", "1", "--witnesses", "1", "--dir", dir, "--measure", "--only", "size", "--only", "export", "--json", results}
	for range 2 { // the second one measures what the first has made
		code, stdout, stderr := call(fleet...)
		if code != 0 || !strings.Contains(stdout, "| records in all logs | measured | 21 |") || !strings.Contains(stderr, "21 records") {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
	}
	if code, stdout, _ := call("table", results); code != 0 || strings.Count(stdout, "3 relays, 15 monitors, 1 h, 1 witnesses") != 2 {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{append([]string{"--seed", "5"}, fleet...), "holds another fleet"},
		{[]string{"--monitors", "7", "--dir", dir}, "monitors: want 15 to 100, not 7"},
		{[]string{"--hours", "800", "--dir", dir}, "hours: want 1 to the 720 of 2026-09, not 800"},
	} {
		if code, _, stderr := call(c.args...); code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%q: exit code %d: %s, want 2 and %q", c.args, code, stderr, c.want)
		}
	}
}
