package stateformat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOneStepBack(t *testing.T) {
	v1, v2, v3 := Format{1, 1}, Format{2, 1}, Format{3, 3}
	dir := t.TempDir()
	for _, step := range []struct {
		name string
		by   Format
		want string // what the note says afterwards
		no   bool   // refused
	}{
		{"the first version", v1, "format 1\nreadable-by 1\n", false},
		{"its successor", v2, "format 2\nreadable-by 1\n", false},
		{"one step back", v1, "format 2\nreadable-by 1\n", false},
		{"forward again", v2, "format 2\nreadable-by 1\n", false},
		{"one that breaks with the past", v3, "format 3\nreadable-by 3\n", false},
		{"one step back from there", v2, "format 3\nreadable-by 3\n", true},
		{"two steps back", v1, "format 3\nreadable-by 3\n", true},
	} {
		err := step.by.Note(dir)
		if (err != nil) != step.no {
			t.Errorf("%s: %v", step.name, err)
		}
		if step.no && !strings.Contains(err.Error(), "install a newer version") {
			t.Errorf("%s: %v does not say what to do", step.name, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, Name))
		if err != nil || string(data) != step.want {
			t.Errorf("%s: the note says %q (%v), want %q", step.name, data, err, step.want)
		}
	}
}

func TestAFolderWithoutNoteHasTheFirstForm(t *testing.T) {
	if f, err := Read(t.TempDir()); err != nil || f != (Format{1, 1}) {
		t.Fatalf("%v, %v", f, err)
	}
	if err := (Format{1, 1}).Check(filepath.Join(t.TempDir(), "not there")); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedNoteIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "format 1\n", "format 1\nreadable-by 1", "format 1\nreadable-by 1\n\n", "format 1\r\nreadable-by 1\r\n",
		"format 1\nreadable-by 2\n", "format 0\nreadable-by 0\n", "format 01\nreadable-by 1\n", "format 2\nreadable-by -1\n", "format x\nreadable-by 1\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, Name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (Format{9, 1}).Note(dir); err == nil {
			t.Errorf("%q was read", text)
		}
		if data, _ := os.ReadFile(path); string(data) != text {
			t.Errorf("%q was overwritten by %q", text, data)
		}
	}
}
