package appliance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/psf-relay/relay-appliance/internal/agefile"
)

// data is what the programs of a machine keep.
var data = map[string][]entry{
	"relayd":   {{"relayd-backup.json", "{}"}, {"identity.key", "the relay's key"}, {"acme/x/cert", "certificate"}},
	"relaymon": {{"log.json", "{}"}, {"log.key", "the log's key"}, {"blocks/2026-11.jsonl", strings.Repeat("line\n", 50_000)}},
}

type entry struct{ name, text string }

func packed(entries ...entry) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o600, Size: int64(len(e.text))}
		if strings.HasSuffix(e.name, "->") {
			h.Name, h.Typeflag, h.Linkname, h.Size = strings.TrimSuffix(e.name, "->"), tar.TypeSymlink, e.text, 0
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(w, e.text)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// moves plays a program that writes its backup, or restores one.
func (f *fake) moves(c Command) Result {
	name, verb := c.Args[0], c.Args[1]
	if c.Args[len(c.Args)-1] != "-" {
		f.t.Errorf("%q leaves something plain behind", c.Args)
	}
	if why := f.fails[name+" "+verb]; why != "" {
		return Result{Code: 1, Stderr: why}
	}
	if verb == "backup" {
		if _, err := c.Stdout.Write(packed(data[name]...)); err != nil {
			return Result{Code: 1, Stderr: err.Error()}
		}
		return Result{}
	}
	got := map[string]string{}
	z, err := gzip.NewReader(c.Stdin)
	if err != nil {
		return Result{Code: 1, Stderr: err.Error()}
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Result{Code: 1, Stderr: err.Error()}
		}
		text, err := io.ReadAll(t)
		if err != nil {
			return Result{Code: 1, Stderr: err.Error()}
		}
		got[h.Name] = string(text)
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return Result{Code: 1, Stderr: err.Error()}
	}
	f.put[name] = got
	f.did = append(f.did, name+" restore")
	f.answer[name+" id"], f.answer[name+" keys"] = Result{Stdout: "12D3KooWfake\n"}, Result{Stdout: `{"log_key": "alpha+1", "witness_key": "alpha+2"}`}
	return Result{Stdout: name + " as of then\n"}
}

// wants is what a program is to have restored.
func wants(name string) map[string]string {
	out := map[string]string{}
	for _, e := range data[name] {
		out[e.name] = e.text
	}
	return out
}

func newKey(t *testing.T) (public, secret string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), id.String() + "\n"
}

func encrypted(t *testing.T, public string, plain []byte) []byte {
	t.Helper()
	to, err := agefile.Recipients([]string{public})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := agefile.Write(&b, to, func(w io.Writer) error { _, err := w.Write(plain); return err }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// backedUp is the backup of a machine that was set up.
func backedUp(t *testing.T, settings, public string) []byte {
	t.Helper()
	old := newFake(t)
	old.file(SettingsPath, settings)
	var b bytes.Buffer
	if err := old.WriteBackup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return encrypted(t, public, b.Bytes())
}

const (
	keyPath   = "/etc/relay-appliance/restore.key"
	movedPath = "/var/backups/moved.age"
	moveHere  = "restore: {from: " + movedPath + "}\n"
)

// One file makes a machine what another one was.
func TestRestore(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	f.file(movedPath, string(backedUp(t, good+"# mine\nrestore:\n  from: /mnt/older.age\nannounce: {ip4: 192.0.2.1}\n", public)))
	f.file(keyPath, secret)
	if err := f.firstBoot(moveHere); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"relayd", "relaymon"} {
		if d := cmp.Diff(wants(name), f.put[name]); d != "" {
			t.Errorf("%s: %.500s", name, d)
		}
	}
	if slices.ContainsFunc(f.did, func(s string) bool { return strings.Contains(s, " init ") }) || !f.running["relayd"] || !f.running["relaymon"] {
		t.Errorf("it did %q", f.did)
	}
	if d := cmp.Diff(good+"# mine\nannounce: {ip4: 192.0.2.1}\n\nrestore:\n  from: /var/backups/moved.age\n  identity: /etc/relay-appliance/restore.key\n", f.text(SettingsPath)); d != "" {
		t.Error(d)
	}
	if f.has(keyPath) {
		t.Error("the secret key is still there")
	}
	if !f.has(movedPath) {
		t.Error("the operator's file is gone")
	}
	said := strings.Join(f.said, "\n")
	for _, want := range []string{"others could read " + keyPath, "restored relayd: relayd as of then", "restored relaymon: ", "public address of the machine before", "deleted " + keyPath} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	// Later boots do not look at it again, nor does a part that comes later.
	if err := os.Remove(f.path(movedPath)); err != nil {
		t.Fatal(err)
	}
	if err := f.firstBoot(""); err != nil || strings.Contains(strings.Join(f.said, "\n"), "restore") {
		t.Errorf("again: %v, %q", err, f.said)
	}
	// Who has lost his data is not given another identity in silence.
	f.answer["relaymon keys"] = Result{Code: 1}
	if err := f.firstBoot(""); err == nil || !strings.Contains(err.Error(), "restore.identity: read the key") || f.did != nil {
		t.Errorf("its data are lost: %v, %q", err, f.did)
	}
	f.file(keyPath, secret)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.put["relaymon"] = nil
	if err := f.firstBoot(""); err != nil || f.put["relaymon"] == nil || f.has(keyPath) {
		t.Errorf("its data are lost, and the backup is there: %v, %q", err, f.did)
	}
}

// A program's own backup will do where the settings say what the machine is.
func TestRestoreOneProgram(t *testing.T) {
	public, secret := newKey(t)
	for role, settings := range map[string]string{"relayd": relayOnly, "relaymon": "role: monitor\nmonitor: {name: alpha, roster: /etc/relaymon/roster.yaml}\n"} {
		f := newFake(t)
		file := encrypted(t, public, packed(data[role]...))
		f.file(movedPath, string(file))
		f.file(keyPath, secret)
		settings += fmt.Sprintf("restore: {from: %s, sha256: %x}\n", movedPath, sha256.Sum256(file))
		if err := f.firstBoot(settings); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(wants(role), f.put[role]); d != "" {
			t.Errorf("%s: %.500s", role, d)
		}
		if f.text(SettingsPath) != settings {
			t.Error("the settings were changed")
		}
		// A part that comes later begins anew.
		if role == "relayd" {
			if err := f.firstBoot(strings.Replace(good, "role: both\n", "role: both\n"+settings[strings.Index(settings, "restore:"):], 1)); err != nil || !slices.Contains(f.did, "relaymon init --config /etc/relaymon/relaymon.yaml") {
				t.Errorf("a later part: %v, %q", err, f.did)
			}
		}
	}
}

// The relay comes first, the monitor later: it gets its identity from the backup, too,
// and none is made where nobody can know whether the backup has it.
func TestRestoreOneAfterTheOther(t *testing.T) {
	public, secret := newKey(t)
	for name, whole := range map[string][]byte{"with the monitor": backedUp(t, good, public), "without": backedUp(t, relayOnly, public)} {
		f := newFake(t)
		f.file(movedPath, string(whole))
		f.file(keyPath, secret)
		if err := f.firstBoot(relayOnly + moveHere); err != nil || f.put["relayd"] == nil || f.has(keyPath) {
			t.Fatalf("%s: the relay: %v, %q", name, err, f.said)
		}
		noted := f.text(restoredPath)
		if name == "with the monitor" {
			err := f.firstBoot(good + moveHere)
			if err == nil || !strings.Contains(err.Error(), "put the key back into "+keyPath) || !strings.Contains(err.Error(), "take restore out of the settings") {
				t.Errorf("without the key: %v", err)
			}
			// The relay serves on, as its configuration says now.
			f.wantDone("without the key", "systemctl restart relayd.service")
			f.file(keyPath, secret)
			f.fails["relaymon restore"] = "no room"
			if err := f.firstBoot(""); err == nil || !strings.Contains(err.Error(), "no room") || f.running["relaymon"] || !f.has(keyPath) {
				t.Errorf("it cannot be restored: %v, %q", err, f.said)
			}
			f.wantDone("it cannot be restored")
			clear(f.fails)
			if err := f.firstBoot(""); err != nil || f.put["relaymon"] == nil || !f.running["relaymon"] || f.has(keyPath) {
				t.Errorf("with the key: %v, %q", err, f.said)
			}
			continue
		}
		// What is known to have no part of the monitor has none of its identity.
		if err := f.firstBoot(good + moveHere); err != nil || !slices.Contains(f.did, "relaymon init --config /etc/relaymon/relaymon.yaml") {
			t.Errorf("%s: %v, %q", name, err, f.did)
		}
		for _, key := range []string{"with the key", "again"} {
			if key != "again" {
				f.answer["relaymon keys"] = Result{Code: 1}
				f.file(keyPath, secret)
				f.file(restoredPath, noted)
			}
			if err := f.firstBoot(""); err != nil || slices.Contains(f.did, "relaymon init --config /etc/relaymon/relaymon.yaml") != (key != "again") || !f.has(keyPath) || !strings.Contains(strings.Join(f.said, "\n"), keyPath+" stays: the backup was not restored for relaymon") {
				t.Errorf("%s, %s: %v, %q, %q", name, key, err, f.did, f.said)
			}
		}
		// Nobody knows what it holds.
		f.answer["relaymon keys"] = Result{Code: 1}
		if err := os.RemoveAll(f.path(keyPath)); err != nil {
			t.Fatal(err)
		}
		f.file(restoredPath, strings.Replace(noted, `,"holds":["relayd"]`, "", 1))
		if err := f.firstBoot(""); err == nil || !strings.Contains(err.Error(), "put the key back") || f.did != nil {
			t.Errorf("unknown: %v, %q", err, f.did)
		}
	}
}

// Nothing is made and nothing runs if the backup is not what it should be; mended, all
// goes on.
func TestRestoreStops(t *testing.T) {
	public, secret := newKey(t)
	other, _ := newKey(t)
	whole := backedUp(t, good, public)
	flipped := func(at int) []byte { b := bytes.Clone(whole); b[at] ^= 1; return b }
	of := func(entries ...entry) []byte { return encrypted(t, public, packed(entries...)) }
	head := entry{backupHead, `{"format": 1}`}
	text := entry{backupSettings, good}
	for name, c := range map[string]struct {
		file           []byte
		settings, want string
	}{
		"wrong key":            {encrypted(t, other, packed(head)), moveHere, "it is encrypted to another key than that of the key in " + keyPath},
		"cut":                  {whole[:len(whole)/2], moveHere, "damaged"},
		"cut at its end":       {whole[:len(whole)-1], moveHere, "damaged"},
		"flipped":              {flipped(len(whole) / 2), moveHere, ""},
		"flipped at the end":   {flipped(len(whole) - 20), moveHere, ""},
		"empty":                {nil, moveHere, "it is not encrypted, or no backup"},
		"plain":                {packed(head, text), moveHere, "it is not encrypted"},
		"another sum":          {whole, "restore: {from: " + movedPath + ", sha256: " + strings.Repeat("0", 64) + "}\n", "restore.sha256 says 000"},
		"something else":       {of(entry{"hello", "world"}), moveHere, `it begins with "hello"`},
		"no archive":           {encrypted(t, public, []byte("just text, nothing else")), moveHere, "no backup"},
		"empty archive":        {of(), moveHere, "no backup"},
		"newer":                {of(entry{backupHead, `{"format": 2, "version": "v9\u001b[2J"}`}), moveHere, `use the version that wrote it ("v9\x1b[2J")`},
		"climbs":               {of(head, text, entry{"relayd/../../etc/passwd", "x"}), moveHere, "no place in a backup"},
		"absolute":             {of(head, text, entry{"/etc/passwd", "x"}), moveHere, "no place in a backup"},
		"a link":               {of(head, text, entry{"relayd/x->", "/etc/passwd"}), moveHere, "is not a regular file"},
		"a stranger":           {of(head, text, entry{"passwd", "x"}), moveHere, "no place in a backup"},
		"a strange program":    {of(head, text, entry{"passwd/x", "x"}), moveHere, "no place in a backup"},
		"less than its role":   {of(head, text, entry{"relayd/relayd-backup.json", "{}"}), moveHere, "it is of a machine in role both, and holds nothing of relaymon"},
		"no settings":          {of(head), moveHere, "the settings in it: there are none"},
		"bad settings":         {of(head, entry{backupSettings, "rule: x\n"}), moveHere, `appliance.yaml:1:1: unknown key "rule"`},
		"settings on one line": {of(head, entry{backupSettings, "{role: relay, domain: relay.test, email: me@relay.test}"}, entry{"relayd/relayd-backup.json", "{}"}), moveHere, "cannot be put beside"},
		"no part for relaymon": {backedUp(t, relayOnly, public), good + moveHere, "it holds nothing of relaymon"},
		"no file":              {nil, "restore: {from: /mnt/none.age}\n", "/mnt/none.age: no such file"},
		"no key":               {whole, "restore: {from: " + movedPath + ", identity: /etc/relay-appliance/none}\n", "restore.identity: read the key: "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.file(movedPath, string(c.file))
			f.file(keyPath, secret)
			err := f.firstBoot(c.settings)
			if err == nil || !strings.HasPrefix(err.Error(), "restore /") || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, did := range f.did {
				if did != "relayd restore" || name != "no part for relaymon" {
					t.Errorf("it did %q", f.did)
				}
			}
			if f.running["relayd"] || f.running["relaymon"] || f.running["nftables"] {
				t.Errorf("there run %v", f.running)
			}
			if got := f.scripts(); len(got) != 1 || !strings.Contains(got[0], "restore _") {
				t.Errorf("cloud-init gets %q", got)
			}
			if page := f.text(issuePath); !strings.Contains(page, "NOT SET UP: restore /") || strings.Contains(page, "AGE-SECRET") {
				t.Errorf("the console shows\n%s", page)
			}
			if !f.has(keyPath) || f.text(SettingsPath) != c.settings {
				t.Errorf("the secret key is gone, or the settings are\n%s", f.text(SettingsPath))
			}
			f.file(movedPath, string(whole))
			if err := f.firstBoot(good + moveHere); err != nil || f.put["relayd"] == nil || f.put["relaymon"] == nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

// Reading a backup, which may take long, ends when it is told to.
func TestRestoreIsEnded(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.file(keyPath, secret)
	f.file(SettingsPath, moveHere)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.FirstBoot(ctx, func(string, ...any) {}); !errors.Is(err, context.Canceled) || f.put["relayd"] != nil {
		t.Errorf("got %v", err)
	}
}

// Who takes another backup than the first, which failed late, is told whose the settings
// are.
func TestRestoreFromAnother(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.file(keyPath, secret)
	f.fails["relayd restore"] = "not mine"
	if err := f.firstBoot(moveHere); err == nil || !strings.Contains(err.Error(), "not mine") {
		t.Fatalf("got %v", err)
	}
	clear(f.fails)
	f.file("/mnt/other.age", string(backedUp(t, good, public)))
	if err := f.firstBoot(strings.Replace(f.text(SettingsPath), movedPath, "/mnt/other.age", 1)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(f.said, "\n"), "are those of the backup that was tried before") {
		t.Errorf("it said %q", f.said)
	}
}

// An identity that is here stays, and so does the key: nothing was restored.
func TestRestoreLeavesAnIdentity(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	if err := f.firstBoot(relayOnly); err != nil {
		t.Fatal(err)
	}
	f.file(keyPath, secret)
	// Neither file nor key is looked at.
	for range 2 {
		if err := f.firstBoot(relayOnly + moveHere); err != nil {
			t.Fatal(err)
		}
		f.wantDone("with an identity")
		said := strings.Join(f.said, "\n")
		if !strings.Contains(said, "restore: relayd has its identity already, nothing of the backup is put over it") || !strings.Contains(said, keyPath+" stays: the backup was not restored for relayd") || strings.Contains(said, "all is restored") || !f.has(keyPath) {
			t.Errorf("it said %q", f.said)
		}
	}
	// Restored for one of two programs is not all, either.
	f.file(movedPath, string(backedUp(t, good, public)))
	if err := f.firstBoot(good + moveHere); err != nil || f.put["relaymon"] == nil || f.put["relayd"] != nil || !f.has(keyPath) {
		t.Errorf("one of two: %v, %q", err, f.said)
	}
	// With its data moved away, it is.
	f.answer["relayd id"] = Result{Code: 1}
	f.put["relaymon"] = nil
	if err := f.firstBoot(""); err != nil || f.put["relayd"] == nil || f.put["relaymon"] != nil || f.has(keyPath) {
		t.Errorf("its data were moved away: %v, %q", err, f.said)
	}
}

// Who wants the whole machine to come from the backup does not get half of it.
func TestRestoreAllOverAnIdentity(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	if err := f.firstBoot(good); err != nil {
		t.Fatal(err)
	}
	f.file(movedPath, string(backedUp(t, relayOnly, public)))
	f.file(keyPath, secret)
	err := f.firstBoot(moveHere)
	if err == nil || !strings.Contains(err.Error(), "relayd has another identity here already") || !strings.Contains(err.Error(), "/var/lib/relayd") || f.did != nil || !f.has(keyPath) || f.text(SettingsPath) != moveHere {
		t.Errorf("%v, %q", err, f.did)
	}
	// That of a program which the backup has not does not matter.
	f.answer["relayd id"] = Result{Code: 1}
	if err := f.firstBoot(""); err != nil || f.put["relayd"] == nil || f.has(keyPath) {
		t.Errorf("with its data folder empty: %v, %q", err, f.said)
	}
	// What was restored is no other identity.
	f.file(keyPath, secret)
	if err := f.firstBoot(moveHere); err != nil || f.has(keyPath) {
		t.Errorf("again: %v", err)
	}
}

// An identity that shows only when its configuration is written is another one at each
// boot, until somebody decides.
func TestRestoreAllOverAnIdentityThatShowsLater(t *testing.T) {
	public, secret := newKey(t)
	for _, decided := range []string{"moved away", "it stays"} {
		f := newFake(t)
		f.file(movedPath, string(backedUp(t, good, public)))
		f.file(keyPath, secret)
		foreign, exec := true, f.Exec
		f.Exec = func(ctx context.Context, c Command) (Result, error) {
			if foreign && c.Args[0] == "relaymon" && c.Args[1] == "keys" && f.text("/etc/relaymon/relaymon.yaml") != pristine {
				return Result{Stdout: `{"log_key": "other"}`}, nil
			}
			return exec(ctx, c)
		}
		settings := moveHere
		for range 3 {
			err := f.firstBoot(settings)
			if err == nil || !strings.Contains(err.Error(), "relaymon has another identity here already") || f.running["relayd"] || f.running["relaymon"] || f.put["relaymon"] != nil || !f.has(keyPath) {
				t.Fatalf("%v, %q", err, f.did)
			}
			settings = "" // as they are in the backup by now
			if !strings.Contains(err.Error(), "take restore out of the settings") || !strings.Contains(f.text(SettingsPath), good) {
				t.Errorf("%v", err)
			}
		}
		if decided == "it stays" {
			if err := f.firstBoot(good); err != nil || f.put["relaymon"] != nil || !f.running["relayd"] || !f.running["relaymon"] {
				t.Errorf("%s: %v, %q", decided, err, f.said)
			}
			continue
		}
		foreign = false
		if err := f.firstBoot(""); err != nil || f.put["relaymon"] == nil || !f.running["relayd"] || !f.running["relaymon"] || f.has(keyPath) {
			t.Errorf("%s: %v, %q", decided, err, f.said)
		}
	}
}

// A power cut at any point between the steps: the next boot goes on, and no identity is
// made in between.
func TestRestoreGoesOn(t *testing.T) {
	public, secret := newKey(t)
	whole := backedUp(t, good, public)
	for _, at := range []string{"relayd restore", "relaymon restore"} {
		f := newFake(t)
		f.file(movedPath, string(whole))
		f.file(keyPath, secret)
		f.fails[at] = "the power is gone"
		if err := f.firstBoot(moveHere); err == nil || !strings.Contains(err.Error(), "the power is gone") {
			t.Fatalf("%s: %v", at, err)
		}
		if slices.ContainsFunc(f.did, func(s string) bool { return strings.Contains(s, "init") || strings.Contains(s, "systemctl") }) {
			t.Errorf("%s: it did %q", at, f.did)
		}
		clear(f.fails)
		before := f.put["relayd"]
		f.put["relayd"] = nil
		if err := f.firstBoot(""); err != nil {
			t.Fatal(err)
		}
		again := f.put["relayd"] != nil
		if again != (before == nil) {
			t.Errorf("%s: relayd was restored before: %v, and again: %v", at, before != nil, again)
		}
		if f.put["relaymon"] == nil || !f.running["relayd"] || !f.running["relaymon"] {
			t.Errorf("%s: not all is restored and runs", at)
		}
	}
}

// The power may go after a program has its data, and at the very end.
func TestRestoreEndsLater(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.file(keyPath, secret)
	if err := f.firstBoot(moveHere); err != nil {
		t.Fatal(err)
	}
	done := f.text(restoredPath)
	for name, text := range map[string]string{
		"after the last program":    strings.NewReplacer(`"programs":["relayd","relaymon"]`, `"programs":["relayd"]`, `,"done":true`, `,"begun":"relaymon"`).Replace(done),
		"after one that came later": strings.Replace(done, `"programs":["relayd","relaymon"]`, `"programs":["relayd"],"begun":"relaymon"`, 1),
		"before it was noted":       strings.Replace(done, `,"done":true`, "", 1),
		"before the key went":       done,
	} {
		f.file(restoredPath, text)
		f.file(keyPath, secret)
		f.file(fetchedPath, "encrypted")
		clear(f.put)
		if err := f.firstBoot(""); err != nil {
			t.Fatal(err)
		}
		f.wantDone(name)
		var now, then restored
		if err := errors.Join(json.Unmarshal([]byte(f.text(restoredPath)), &now), json.Unmarshal([]byte(done), &then)); err != nil {
			t.Fatal(err)
		}
		now.At = then.At
		if d := cmp.Diff(then, now); d != "" || f.has(keyPath) || f.has(fetchedPath) || len(f.put) != 0 {
			t.Errorf("%s: the key is there: %v, the download: %v; restored again: %d\n%s", name, f.has(keyPath), f.has(fetchedPath), len(f.put), d)
		}
		if !slices.ContainsFunc(f.said, func(s string) bool { return strings.HasPrefix(s, "deleted "+keyPath+": all is restored; ") }) {
			t.Errorf("%s: it said %q", name, f.said)
		}
	}
	// That it failed is no power cut.
	f = newFake(t)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.file(keyPath, secret)
	f.fails["relayd restore"] = "no"
	if err := f.firstBoot(moveHere); err == nil || strings.Contains(f.text(restoredPath), "begun") {
		t.Errorf("%v, %s", err, f.text(restoredPath))
	}
}

// Who ends first boot may do so when a program has all its data, and has not said so yet:
// that is no other identity than the backup's.
func TestRestoreIsEndedLate(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	f.file(movedPath, string(backedUp(t, good, public)))
	f.file(keyPath, secret)
	ctx, cancel := context.WithCancel(t.Context())
	f.Exec = func(of context.Context, c Command) (Result, error) {
		r, err := f.exec(of, c)
		if err == nil && c.Args[0] == "relayd" && c.Args[1] == "restore" {
			cancel()
		}
		return r, errors.Join(err, of.Err())
	}
	f.file(SettingsPath, moveHere)
	if err := f.FirstBoot(ctx, func(string, ...any) {}); !errors.Is(err, context.Canceled) || f.put["relayd"] == nil {
		t.Fatalf("%v", err)
	}
	f.Exec = f.exec
	if err := f.firstBoot(""); err != nil || f.put["relaymon"] == nil || f.has(keyPath) {
		t.Errorf("at the next boot: %v; the key is there: %v", err, f.has(keyPath))
	}
}

// Between the look at the backup and its unpacking somebody may put another one there.
func TestRestoreOfAFileThatChanges(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	whole := backedUp(t, relayOnly, public)
	f.file(movedPath, string(whole))
	f.file(keyPath, secret)
	var buf bytes.Buffer
	old := newFake(t)
	old.file(SettingsPath, relayOnly)
	if err := old.WriteBackup(t.Context(), &buf); err != nil {
		t.Fatal(err)
	}
	exec := f.Exec
	f.Exec = func(ctx context.Context, c Command) (Result, error) {
		if len(c.Args) > 1 && c.Args[1] == "id" { // it was looked at by then
			f.file(movedPath, string(encrypted(t, public, buf.Bytes())))
		}
		return exec(ctx, c)
	}
	err := f.firstBoot(fmt.Sprintf("restore: {from: %s, sha256: %x}\n", movedPath, sha256.Sum256(whole)))
	if err == nil || !strings.Contains(err.Error(), "it is another file") || f.put["relayd"] != nil || !f.has(keyPath) {
		t.Errorf("%v, %v", err, f.put)
	}
}

// What comes over the network is bounded in every way, and tried again where that helps.
func TestRestoreDownload(t *testing.T) {
	public, secret := newKey(t)
	whole := backedUp(t, good, public)
	var asked atomic.Int32
	var answer func(w http.ResponseWriter, r *http.Request, n int32)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, asked.Add(1)) }))
	defer server.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	cut := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		_, _ = w.Write(whole[:len(whole)/2])
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, n int32)
		want   string // empty: it is restored
		asked  int32
	}{
		"at once": {func(w http.ResponseWriter, _ *http.Request, _ int32) { _, _ = w.Write(whole) }, "", 1},
		"after failures": {func(w http.ResponseWriter, _ *http.Request, n int32) {
			switch n {
			case 1:
				w.WriteHeader(http.StatusBadGateway)
			case 2:
				cut(w)
			default:
				_, _ = w.Write(whole)
			}
		}, "", 3},
		"never":        {func(w http.ResponseWriter, _ *http.Request, _ int32) { w.WriteHeader(http.StatusServiceUnavailable) }, "the server answers 503", downloads},
		"not there":    {func(w http.ResponseWriter, r *http.Request, _ int32) { http.NotFound(w, r) }, "the server answers 404", 1},
		"empty":        {func(http.ResponseWriter, *http.Request, int32) {}, "the file is empty", 1},
		"always cut":   {func(w http.ResponseWriter, _ *http.Request, _ int32) { cut(w) }, "unexpected EOF", downloads},
		"says too big": {func(w http.ResponseWriter, _ *http.Request, _ int32) { w.Header().Set("Content-Length", "99999999999") }, "longer than any backup", 1},
		"endless": {func(w http.ResponseWriter, r *http.Request, _ int32) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "longer than any backup", 1},
		"silent": {func(w http.ResponseWriter, r *http.Request, _ int32) {
			_, _ = w.Write(whole[:10])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "has sent nothing for", downloads},
		"leads to plain HTTP": {func(w http.ResponseWriter, r *http.Request, _ int32) {
			http.Redirect(w, r, plain.URL, http.StatusFound)
		}, "not https", downloads},
		"damaged": {func(w http.ResponseWriter, _ *http.Request, _ int32) { _, _ = w.Write(whole[:len(whole)-1]) }, "damaged", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.Client, f.pause, f.stall, f.most = server.Client(), time.Millisecond, 300*time.Millisecond, 1<<20
			if c.want != "has sent nothing for" {
				f.stall = time.Minute
			}
			f.file(keyPath, secret)
			asked.Store(0)
			answer = c.answer
			err := f.firstBoot("restore: {from: \"" + server.URL + "/p/hidden/b.age?token=hidden\"}\n")
			if c.want == "" && (err != nil || f.put["relayd"] == nil || f.put["relaymon"] == nil) {
				t.Errorf("%v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || f.did != nil) {
				t.Errorf("got %v, want %q; it did %q", err, c.want, f.did)
			}
			// The network may come later; what the server says for good stays said.
			if r, _ := f.report(); c.want != "" && (r == nil || r.Again != (c.asked == downloads)) {
				t.Errorf("is it tried again: %+v", r)
			}
			if n := asked.Load(); n != c.asked {
				t.Errorf("it asked %d times, want %d", n, c.asked)
			}
			if f.has(fetchedPath) {
				t.Error("the download stays")
			}
			if all := fmt.Sprint(err, f.said, f.text(issuePath), f.scripts()); strings.Contains(all, "hidden") {
				t.Errorf("it shows what may be a password:\n%s", all)
			}
			if c.want == "" && strings.Contains(f.text(restoredPath), "hidden") {
				t.Error("what may be a password is kept")
			}
		})
	}
	// A server that nobody can reach takes no longer than what is left of the time.
	f := newFake(t)
	f.Client, f.pause = server.Client(), time.Hour
	f.file(keyPath, secret)
	if err := os.Chmod(f.path(keyPath), 0o600); err != nil {
		t.Fatal(err)
	}
	f.file(SettingsPath, "restore: {from: \""+server.URL+"/b.age\"}\n")
	answer = func(w http.ResponseWriter, _ *http.Request, _ int32) { w.WriteHeader(http.StatusServiceUnavailable) }
	ctx, cancel := context.WithCancel(t.Context())
	err := f.FirstBoot(ctx, func(string, ...any) { cancel() })
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
}

func TestRestoreFaults(t *testing.T) {
	public, _ := newKey(t)
	for text, want := range map[string]string{
		"restore: {from: /mnt/b.age}\nname: x\n":                                    "f: role: missing: write relay, monitor or both, or leave all but restore away",
		good + "restore: {from: b.age}\n":                                           "f:5: restore.from: want a path that begins with / or a URL",
		good + "restore: {from: \"http://relay.test/b.age?token=x\"}\n":             `not http://relay.test/...`,
		good + "restore: {from: /root/b.age}\n":                                     "f:5: restore.from: first boot does not see what is below",
		good + "restore: {from: /mnt/b.age, identity: /tmp/key}\n":                  "f:5: restore.identity: first boot does not see",
		good + "restore: {from: /mnt/b.age, identity: \"\"}\n":                      "restore.identity: want the path",
		good + "restore: {from: /mnt/b.age, sha256: abc}\n":                         "restore.sha256: want 64 digits",
		good + "backup: {to: /var/backups}\n":                                       "backup.encrypt_to: missing",
		good + "backup: {to: /etc, encrypt_to: [" + public + "]}\n":                 "backup.to: want a folder below /var/backups",
		good + "backup: {to: /var/backups/../../etc}\n":                             "backup.to: want a folder below /var/backups",
		good + "backup: {to: \"s3://b\", encrypt_to: [me]}\n":                       `backup.encrypt_to: "me" is no public key`,
		good + "backup: {to: \"s3://key:hush@bucket/x\"}\n":                         "the access key stands in a file",
		good + "backup: {to: \"s3://bucket/x?endpoint=http://s3.test\"}\n":          "want an endpoint such as https://",
		good + "backup: {to: \"s3://bucket/x?endpoint=https://me:hush@s3.test\"}\n": "want an endpoint such as https://",
		good + "backup: {to: \"https://me:hush@s3.test/bucket\"}\n":                 "backup.to: want a folder below",
		good + "restore: {from: /mnt/b.age, identity: hush}\n":                      "restore.identity: want the path",
		good + "restore: {from: /mnt/b.age, identity: /tmp/hush}\n":                 "restore.identity: first boot does not see",
		good + "restore: {from: \"http://me:hush@relay.test/b.age\"}\n":             "f:5: restore.from: want a path",
		good + "restore: {from: \"http://me:hu%hush@relay.test/b\"}\n":              "f:5: restore.from: want a path",
		good + "restore: {from: \"me:hush@relay.test/b.age\"}\n":                    "f:5: restore.from: want a path",
		good + "restore: {from: hush}\n":                                            "f:5: restore.from: want a path",
		good + "backup: {credentials: hush}\n":                                      "backup.credentials: want the path",
		good + "backup: {to: \"s3://bucket/x?acl=public\"}\n":                       `unknown key "acl"`,
		good + "backup: {to: \"s3://bucket/x?region=\"}\n":                          "want one value for region",
		good + "backup: {keep: 0}\n":                                                "backup.keep: want a number from 1 to 1000",
		good + "backup: {credentials: x}\n":                                         "backup.credentials: want the path",
		good + "backup: {encrypt_to: [" + public + ", ssh-ed25519 AAAA]}\n":         "backup.encrypt_to: ",
	} {
		if _, err := ParseSettings("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	for _, text := range []string{
		"restore: {from: /mnt/b.age}\n", "restore: {from: \"https://relay.test/b?x=y\", identity: /run/key}\n", good + moveHere,
		good + "backup: {encrypt_to: [" + public + "]}\n",
		good + "backup: {to: /srv/b, encrypt_to: [" + public + "], keep: 30}\n",
		good + "backup: {to: \"s3://bucket/a/b?endpoint=https://s3.test:9000&region=eu-1\", encrypt_to: [" + public + "]}\n",
	} {
		if _, err := ParseSettings("f", []byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzReadBackup(f *testing.F) {
	f.Add(packed(entry{backupHead, `{"format": 1}`}, entry{backupSettings, good}, entry{"relayd/identity.key", "x"}))
	f.Add(packed(data["relayd"]...))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readBackup(io.LimitReader(bytes.NewReader(b), 1<<20), func(program string, h *tar.Header, content io.Reader) error {
			if !filepath.IsLocal(filepath.Join(program, h.Name)) {
				t.Errorf("accepted %q of %q", h.Name, program)
			}
			_, err := io.CopyN(io.Discard, content, 1<<20)
			return err
		})
	})
}
