package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/mirror"
	"github.com/psf-relay/relay-appliance/monitor/store"
)

// A log is exported, mirrored from the folder by the key in a roster, and mirrored on; in
// the end its owner writes another history.
func TestMirrorCommand(t *testing.T) {
	w := scene.New(t, evidence.Lab, 2)
	m, dir := w.Monitors[0], t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	w.Must(os.MkdirAll(in("data"), 0o755))
	m.Name, m.Dir = "m1", in("data/log")
	log, err := store.Create(m.Dir, store.Options{Name: m.Name, Network: w.Network, First: w.First})
	w.Must(err)
	defer log.Close()
	m.Log = log
	w.Watch(nil)
	w.Must(os.WriteFile(in("roster.yaml"), w.Signed(w.RosterYAML()), 0o644))
	w.Must(os.WriteFile(in("config.yaml"), fmt.Appendf(nil, "name: %s\nnetwork: lab\ndata_dir: data\nroster: roster.yaml\nbrowser: none\nlisten: \"\"\n", m.Name), 0o644))
	call := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		var o, e bytes.Buffer
		if got := run(args, &o, &e); got != code {
			t.Fatalf("%v: exit code %d, want %d: %s", args, got, code, e.String())
		}
		return o.String(), e.String()
	}
	mirrorArgs := []string{"mirror", in("public"), in("copy"), "--once", "--roster", in("roster.yaml"), "--monitor", m.Name, "--committee", w.CommitteeKey}

	if out, _ := call(0, "log", "export", "--config", in("config.yaml"), in("public")); !strings.Contains(out, "78 hours in "+in("public")+", 78 of them new; 6 new files of records") {
		t.Errorf("the export says %q", out)
	}
	out, _ := call(0, append(mirrorArgs, "--json")...)
	var r mirror.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r != (mirror.Report{Origin: m.Log.Origin(), Size: 78, Blocks: 78, Records: 6, Certificates: 1, Checkpoints: 7}) {
		t.Errorf("the mirror says %s (%v)", out, err)
	}
	if out, _ := call(0, mirrorArgs...); !strings.Contains(out, "78 hours, 0 of them new") {
		t.Errorf("the second time the mirror says %q", out)
	}
	for _, secret := range []string{in("data"), in("data/log")} {
		for _, args := range [][]string{{"log", "export", "--config", in("config.yaml"), secret}, {"mirror", in("public"), secret, "--once", "--key", m.Log.Key()}} {
			if _, e := call(1, args...); !strings.Contains(e, "secret keys") {
				t.Errorf("%v says %q", args, e)
			}
			if _, err := os.Stat(filepath.Join(secret, "checkpoint")); err == nil {
				t.Errorf("%v wrote beside secret keys", args)
			}
		}
		if _, e := call(1, "mirror", secret, in("new"), "--once", "--key", m.Log.Key()); !strings.Contains(e, "relaymon log export") {
			t.Errorf("mirroring %s says %q", secret, e)
		}
	}
	w.Must(os.MkdirAll(in("home"), 0o755))
	w.Must(os.WriteFile(in("home/.bashrc"), nil, 0o644))
	for _, args := range [][]string{{"log", "export", "--config", in("config.yaml"), in("home")}, {"mirror", "http://127.0.0.1:9/log/", in("home"), "--once", "--key", m.Log.Key()}} {
		if _, e := call(2, args...); !strings.Contains(e, "holds other files (.bashrc)") || !strings.Contains(e, "name a new or an empty one") {
			t.Errorf("%v says %q", args, e)
		}
		if list, err := os.ReadDir(in("home")); err != nil || len(list) != 1 {
			t.Errorf("%v left %d files (%v), want 1", args, len(list), err)
		}
	}
	for _, from := range []string{in("nowhere"), "ftp://127.0.0.1/log/", "http:///log/", "https://127.0.0.1:9/log/?x=1", in("config.yaml")} {
		if _, e := call(2, "mirror", from, in("new"), "--once", "--key", m.Log.Key()); !strings.Contains(e, "mirror "+from+": want the http or https URL") || !strings.Contains(e, "or a folder that") {
			t.Errorf("mirroring %s says %q", from, e)
		}
	}
	_, other := scene.NewWitness(t, "x")
	call(2, "mirror", in("public"), in("new"), "--once", "--roster", in("roster.yaml"), "--monitor", "nobody")
	call(2, "mirror", in("public"), in("new"), "--once", "--key", other)
	call(2, "mirror", in("public"), in("new"), "--once")
	call(2, "mirror", in("public"), in("new"), "--every", "1s", "--key", m.Log.Key())
	call(1, "mirror", in("public"), in("copy"), "--once", "--key", w.Monitors[1].Log.Key())

	// Two copies of the log's folder go on from the same hour.
	for i, to := range []string{"copy", "public"} {
		twin := in(fmt.Sprintf("twin%d", i))
		w.Must(os.CopyFS(twin+"/log", os.DirFS(in("data/log"))))
		l, err := store.Open(twin + "/log")
		w.Must(err)
		h := l.First() + evidence.Hour(l.Size())
		w.Must(l.Begin(h, h.Start(), fmt.Sprint(i)))
		_, err = l.Seal(h.End().Add(17 * time.Minute))
		w.Must(err)
		w.Must(l.Close())
		config := strings.ReplaceAll(readAll(t, in("config.yaml")), "data_dir: data", "data_dir: "+twin)
		w.Must(os.WriteFile(in("twin.yaml"), []byte(config), 0o644))
		if to == "copy" { // by way of the folder
			call(0, "log", "export", "--config", in("twin.yaml"), in("public"))
			call(0, mirrorArgs...)
			w.Must(os.RemoveAll(in("public")))
			continue
		}
		call(0, "log", "export", "--config", in("twin.yaml"), in("public"))
	}
	if _, said := call(exitFork, mirrorArgs...); !strings.Contains(said, "TWO HISTORIES") || !strings.Contains(said, filepath.Join("copy", "forks")) {
		t.Errorf("of a fork it says %q", said)
	}
}

func readAll(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
