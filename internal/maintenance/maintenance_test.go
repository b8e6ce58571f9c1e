package maintenance

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maintenance.json")
	at := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	n := Notice{
		Planned: &Planned{at, at.Add(3 * time.Hour), "a restart for security updates"},
		Held:    []Held{{"relayd", "1.3.0", at.Add(-time.Hour), "it did not relay"}},
	}
	if err := Write(path, n); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Fatalf("%v, %v: the programs run as users of their own", info, err)
	}
	got, err := Read(path, at)
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Fatalf("%+v, %v, want %+v", got, err, n)
	}
	got, err = Read(path, at.Add(4*time.Hour))
	if err != nil || got.Planned != nil || len(got.Held) != 1 {
		t.Fatalf("when the time has passed: %+v, %v", got, err)
	}
}

func TestNoFileNothingToSay(t *testing.T) {
	for _, path := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if n, err := Read(path, time.Now()); err != nil || !n.Empty() {
			t.Errorf("%q: %+v, %v", path, n, err)
		}
	}
}

func TestABadFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "maintenance.json")
	for _, text := range []string{"", "{", string(make([]byte, maxBytes+1))} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, time.Now()); err == nil {
			t.Errorf("%.10q was read", text)
		}
	}
}
