package appliance

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const shelf = "/var/backups/relay"

func (f *fake) backup() error {
	f.t.Helper()
	f.said = nil
	return f.Backup(f.t.Context(), func(format string, args ...any) { f.said = append(f.said, fmt.Sprintf(format, args...)) })
}

func (f *fake) shelf() (names []string) {
	f.t.Helper()
	entries, err := os.ReadDir(f.path(shelf))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// lines is what the console says of backups.
func (f *fake) lines() string {
	f.t.Helper()
	s, err := f.Status(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for l := range strings.Lines(s.Text()) {
		if len(out) > 0 && strings.HasPrefix(l, "               ") || strings.HasPrefix(l, "  Backup ") {
			out = append(out, strings.TrimSpace(strings.TrimPrefix(l, "  Backup ")))
		}
	}
	return strings.Join(out, "\n")
}

func TestBackupIntoAFolder(t *testing.T) {
	public, secret := newKey(t)
	f := newFake(t)
	settings := good + "backup: {to: " + shelf + ", encrypt_to: [" + public + "], keep: 3}\n"
	if err := f.firstBoot(settings); err != nil {
		t.Fatal(err)
	}
	if !f.enabled["relay-appliance-backup.timer"] || !f.running["relay-appliance-backup.timer"] {
		t.Error("the timer does not run")
	}
	if got := f.lines(); got != "none yet in "+shelf+"; try it: sudo relay-appliance backup" {
		t.Errorf("before the first: %q", got)
	}
	// A folder that is not mounted is not made.
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "there is no folder "+shelf) {
		t.Errorf("without the folder: %v", err)
	}
	if got := f.lines(); !strings.HasPrefix(got, "FAILED 20") || !strings.Contains(got, "there is no folder") || !strings.HasSuffix(got, "sudo relay-appliance backup") {
		t.Errorf("without the folder: %q", got)
	}
	prefix, err := f.backupPrefix(t.Context(), mustSettings(t, f))
	if err != nil {
		t.Fatal(err)
	}
	// Among them that of another machine with the same settings, and one of a wrong clock.
	foreign := []string{spoolPrefix + "relay-appliance_other.test_01234567_1", prefix + "29990101T000000Z.age", "relay-appliance_relay.test_01234567_20200101T000000Z.age", "notes.txt", "relay-appliance_other.test_20200101T000000Z.age", prefix + "20200101T000000Z.age.sig", prefix + "2020.age"}
	for _, name := range foreign {
		f.file(shelf+"/"+name, "x")
	}
	// What a power cut left of one.
	f.file(shelf+"/"+spoolPrefix+prefix+"1", "half")
	var older []string
	for day := range 4 {
		older = append(older, fmt.Sprintf("%s2020010%dT000000Z.age", prefix, day+1))
		f.file(shelf+"/"+older[day], "x")
	}
	// Nothing goes before the new one is there.
	f.fails["relaymon backup"] = "the log cannot be read"
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "relaymon backup: the log cannot be read") {
		t.Errorf("a program fails: %v", err)
	}
	if got := f.shelf(); len(got) != len(foreign)+len(older) {
		t.Errorf("after a failure there is %q", got)
	}
	clear(f.fails)
	if err := f.backup(); err != nil {
		t.Fatal(err)
	}
	names := f.shelf()
	want := slices.Concat(foreign, older[2:])
	var made string
	for _, n := range names {
		if strings.HasPrefix(n, prefix+time.Now().UTC().Format("2006")) {
			made = n
		}
	}
	want = append(want, made)
	slices.Sort(want)
	if d := cmp.Diff(want, names); d != "" || made == "" {
		t.Errorf("wanted -, there +\n%s", d)
	}
	if info, err := os.Stat(f.path(shelf + "/" + made)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if got := f.lines(); strings.Contains(got, "FAILED") || !strings.HasPrefix(got, time.Now().UTC().Format("2006-01-02")) || !strings.HasSuffix(got, " kB, in "+shelf) {
		t.Errorf("after a good one: %q", got)
	}
	// And a machine is made of it.
	next := newFake(t)
	text, err := os.ReadFile(f.path(shelf + "/" + made))
	if err != nil {
		t.Fatal(err)
	}
	next.file(movedPath, string(text))
	next.file(keyPath, secret)
	if err := next.firstBoot(moveHere); err != nil || next.put["relayd"] == nil || next.put["relaymon"] == nil || !next.enabled["relay-appliance-backup.timer"] {
		t.Errorf("restored: %v", err)
	}

	unlock, err := f.lockFile("backup.lock", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "under way already") {
		t.Errorf("two at once: %v", err)
	}
	unlock()
	f.said = nil
	if err := f.firstBoot(good); err != nil || f.enabled["relay-appliance-backup.timer"] || f.lines() != "" {
		t.Errorf("taken out of the settings: %v, %q", err, f.lines())
	}
	if !slices.Contains(f.said, "there are no backups any more: the settings have no backup.to") {
		t.Errorf("it said %q", f.said)
	}
	// Those who write backups by hand have their key in the settings.
	if err := f.firstBoot(good + "backup: {encrypt_to: [" + public + "]}\n"); err != nil || !slices.ContainsFunc(f.said, func(s string) bool { return strings.HasPrefix(s, "no backups are made by themselves") }) {
		t.Errorf("only a key: %v, it said %q", err, f.said)
	}
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "write backup.to") {
		t.Errorf("without a place: %v", err)
	}
}

// A restored log that was not compared yet may be older than the copy in a backup.
func TestBackupOfAHeldLog(t *testing.T) {
	public, _ := newKey(t)
	for data, more := range map[string]string{"/var/lib/relaymon": "", "/var/lib/relaymon/x": "relaymon: {data_dir: /var/lib/relaymon/x}\n"} {
		f := newFake(t)
		if err := f.firstBoot(good + more + "backup: {to: " + shelf + ", encrypt_to: [" + public + "], keep: 1}\n"); err != nil {
			t.Fatal(err)
		}
		prefix, err := f.backupPrefix(t.Context(), mustSettings(t, f))
		if err != nil {
			t.Fatal(err)
		}
		f.file(shelf+"/"+prefix+"20200101T000000Z.age", "newer")
		f.file(data+"/log/restored", "")
		if err := f.backup(); err != nil || len(f.shelf()) != 2 || !strings.Contains(strings.Join(f.said, "\n"), "no older backup is removed: the monitor's log is a restored one") {
			t.Errorf("held: %v, %q, %q", err, f.said, f.shelf())
		}
		if err := os.Remove(f.path(data + "/log/restored")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // names have seconds
		if err := f.backup(); err != nil || len(f.shelf()) != 1 {
			t.Errorf("compared: %v, %q, %q", err, f.said, f.shelf())
		}
	}
}

// What lies in one place does not lie in another one.
func TestBackupElsewhere(t *testing.T) {
	public, _ := newKey(t)
	f := newFake(t)
	f.Bucket = func(S3) (Place, error) { return folder(f.path(shelf)), nil }
	if err := f.firstBoot(good); err != nil {
		t.Fatal(err)
	}
	f.file(shelf+"/notes.txt", "")
	f.file("/etc/relay-appliance/s3-credentials", "x")
	if err := os.Chmod(f.path("/etc/relay-appliance/s3-credentials"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := func(to string) string {
		return good + "backup: {to: \"" + to + "\", encrypt_to: [" + public + "]}\n"
	}
	for was, to := range map[string]string{shelf: "/srv/not-there", "s3://bucket/x?endpoint=https://a.test": "s3://bucket/x?endpoint=https://b.test"} {
		f.file(SettingsPath, settings(was))
		if err := f.backup(); err != nil {
			t.Fatal(err)
		}
		if got := f.lines(); strings.Contains(got, "none") {
			t.Errorf("%s: %q", was, got)
		}
		f.file(SettingsPath, settings(to))
		where, _, _ := strings.Cut(to, "?")
		if got := f.lines(); got != "none yet in "+where+"; try it: sudo relay-appliance backup" {
			t.Errorf("%s: %q", to, got)
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // names have seconds
	}
	f.file(SettingsPath, settings("/srv/not-there"))
	if err := f.backup(); err == nil {
		t.Error("there is no such folder")
	}
	if got := f.lines(); !strings.HasPrefix(got, "FAILED") || !strings.Contains(got, "\nnone yet in /srv/not-there") {
		t.Errorf("tried: %q", got)
	}
}

// place is one whose answers are set.
type place struct {
	Place
	put, list error
	removed   []string
}

func (p *place) Put(ctx context.Context, name string, f *os.File, size int64) error {
	if p.put != nil {
		return p.put
	}
	return p.Place.Put(ctx, name, f, size)
}

func (p *place) List(ctx context.Context, prefix string) ([]string, error) {
	names, err := p.Place.List(ctx, prefix)
	return names, errors.Join(err, p.list)
}

func (p *place) Remove(ctx context.Context, name string) error {
	p.removed = append(p.removed, name)
	return p.Place.Remove(ctx, name)
}

// A bucket's failures are told, and cost no older backup.
func TestBackupIntoABucketThatFails(t *testing.T) {
	public, _ := newKey(t)
	f := newFake(t)
	dir := t.TempDir()
	p := &place{Place: folder(dir)}
	f.Bucket = func(at S3) (Place, error) {
		want := S3{Bucket: "bucket", Folder: "a/b/", Endpoint: "s3.test", Region: "eu-1", Credentials: f.path("/etc/relay-appliance/s3-credentials")}
		if d := cmp.Diff(want, at); d != "" {
			t.Error(d)
		}
		return p, nil
	}
	if err := f.firstBoot(good + "backup: {to: \"s3://bucket/a/b?endpoint=https://s3.test&region=eu-1\", encrypt_to: [" + public + "], keep: 1}\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "write the bucket's access key there") {
		t.Errorf("without credentials: %v", err)
	}
	f.file("/etc/relay-appliance/s3-credentials", "x")
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "chmod 600 /etc/relay-appliance/s3-credentials") {
		t.Errorf("with credentials for all: %v", err)
	}
	if err := os.Chmod(f.path("/etc/relay-appliance/s3-credentials"), 0o600); err != nil {
		t.Fatal(err)
	}
	prefix, err := f.backupPrefix(t.Context(), mustSettings(t, f))
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, prefix+"20200101T000000Z.age")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.put = errors.New("503 slow down")
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "slow down") || len(p.removed) != 0 {
		t.Errorf("it cannot be stored: %v; removed %q", err, p.removed)
	}
	if left, err := filepath.Glob(f.path(stateDir + "/" + spoolPrefix + "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	// It is a folder of this test's on the same disk.
	p.put, p.list = nil, errors.New("cannot list")
	if err := f.backup(); err == nil || !strings.Contains(err.Error(), "remove old backups: cannot list") || len(p.removed) != 0 {
		t.Errorf("it cannot be listed: %v; removed %q", err, p.removed)
	}
	if got := f.lines(); !strings.Contains(got, "FAILED") || !strings.Contains(got, "kB, in s3://bucket/a/b") || strings.Contains(got, "endpoint") {
		t.Errorf("the console says %q", got)
	}
	p.list = nil
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // names have seconds
	if err := f.backup(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) || len(p.removed) != 2 {
		t.Errorf("removed %q, %v", p.removed, err)
	}
}

func TestBackupLines(t *testing.T) {
	now := time.Date(2026, 12, 10, 12, 0, 0, 0, time.UTC)
	b := &Backups{To: shelf, Made: now.Add(-50 * time.Hour), Size: 2048}
	if got := strings.Join(b.lines(now), "\n"); got != "none for 50 hours: look at relay-appliance-backup.timer; the last one is of 2026-12-08 10:00 UTC, in "+shelf {
		t.Errorf("late: %q", got)
	}
	b.Made = now.Add(-10 * time.Hour)
	if got := strings.Join(b.lines(now), "\n"); got != "2026-12-10 02:00 UTC, 2 kB, in "+shelf {
		t.Errorf("good: %q", got)
	}
}

func mustSettings(t *testing.T, f *fake) Settings {
	t.Helper()
	s, err := f.Settings()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A machine is known by its identity, not by its settings, and has to have one.
func TestBackupPrefix(t *testing.T) {
	f := newFake(t)
	if err := f.firstBoot(good); err != nil {
		t.Fatal(err)
	}
	s := mustSettings(t, f)
	one, err := f.backupPrefix(t.Context(), s)
	if err != nil || !regexp.MustCompile(`^relay-appliance_relay\.test_[0-9a-f]{8}_$`).MatchString(one) {
		t.Fatalf("%q, %v", one, err)
	}
	for command, answer := range map[string]string{"relayd id": "12D3KooWother\n", "relaymon keys": `{"log_key": "other"}`} {
		was := f.answer[command]
		f.answer[command] = Result{Stdout: answer}
		if other, err := f.backupPrefix(t.Context(), s); err != nil || other == one {
			t.Errorf("another of %s: %q, %v", command, other, err)
		}
		for _, r := range []Result{{}, {Stdout: "{}"}, {Code: 1}} {
			if f.answer[command] = r; r.Stdout == "{}" && command == "relayd id" {
				continue // as good as any
			}
			if other, err := f.backupPrefix(t.Context(), s); err == nil {
				t.Errorf("%s says %+v: %q", command, r, other)
			}
		}
		f.answer[command] = was
	}
	if again, err := f.backupPrefix(t.Context(), s); err != nil || again != one {
		t.Errorf("again: %q, %v", again, err)
	}
}

// A folder below /mnt on which nothing is mounted is this machine's own disk.
func TestBackupWhereNothingIsMounted(t *testing.T) {
	f := newFake(t)
	for _, to := range []string{"/mnt/usb", "/media/usb/relay"} {
		if err := os.MkdirAll(f.path(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.place(Backup{To: to}); err == nil || !strings.Contains(err.Error(), "nothing is mounted at "+to) {
			t.Errorf("%s: %v", to, err)
		}
	}
	// Another file system that is always there.
	if err := os.Symlink("/proc", f.path("/mnt/other")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.place(Backup{To: "/mnt/other"}); err != nil {
		t.Error(err)
	}
}

type brokenDisk struct{ error }

func (b brokenDisk) Write([]byte) (int, error) { return 0, b.error }

// That a program cannot write on is what follows from a full disk, and not said instead.
func TestBackupSaysTheCause(t *testing.T) {
	f := newFake(t)
	full := errors.New("the disk is full")
	exec := f.Exec
	f.Exec = func(ctx context.Context, c Command) (Result, error) {
		if r, err := exec(ctx, c); err != nil || r.Code == 0 {
			return r, err
		}
		return Result{Code: 1, Stderr: "broken pipe"}, nil
	}
	for _, p := range programs {
		if err := f.programBackup(t.Context(), p, tar.NewWriter(brokenDisk{full})); !errors.Is(err, full) {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	f.Exec = exec
	f.fails["relayd backup"] = "no key"
	if err := f.programBackup(t.Context(), programs[0], tar.NewWriter(io.Discard)); err == nil || err.Error() != "relayd backup: no key" {
		t.Error(err)
	}
}
