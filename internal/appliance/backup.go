package appliance

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/bounded"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Backup is how the machine is backed up each night.
type Backup struct {
	To          string   `yaml:"to"`
	EncryptTo   []string `yaml:"encrypt_to"`
	Keep        int      `yaml:"keep"`
	Credentials string   `yaml:"credentials"`
}

// shelves are the folders below which the service may write backups.
var shelves = []string{"/var/backups", "/srv", "/mnt", "/media"}

// mounts are those of them that are there for other disks.
var mounts = []string{"/mnt", "/media"}

func (b Backup) faults() (faults []*fault) {
	want := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, &fault{"backup." + key, fmt.Sprintf(format, args...)})
		}
	}
	switch {
	case b.To == "":
	case strings.HasPrefix(b.To, "s3:"):
		_, err := b.s3()
		want(err == nil, "to", "%v", err)
	default:
		want(filepath.IsAbs(b.To) && below(b.To, shelves), "to", "want a folder below %s, or s3://BUCKET/FOLDER?endpoint=https://HOST&region=REGION", strings.Join(shelves, ", "))
	}
	want(b.To == "" || len(b.EncryptTo) > 0, "encrypt_to", "missing: write the public key (age1...) that the backups are encrypted to; age-keygen makes one")
	_, err := agefile.Recipients(b.EncryptTo)
	want(err == nil, "encrypt_to", "%v", err)
	want(b.Keep >= 1 && b.Keep <= 1000, "keep", "want a number from 1 to 1000, not %d", b.Keep)
	want(filepath.IsAbs(b.Credentials), "credentials", "want the path of a file, which begins with /; the access key stands in that file")
	return faults
}

// S3 is a folder in an S3-compatible bucket.
type S3 struct {
	Bucket, Folder string // the folder ends with a slash, or is empty
	Endpoint       string // a host, with its port if need be; empty: Amazon's
	Plain          bool   // without TLS
	Region         string
	Credentials    string // the file with the access key
}

var bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// s3 reads the address of a bucket.
func (b Backup) s3() (S3, error) {
	u, err := url.Parse(b.To)
	if err != nil || u.Scheme != "s3" || u.User != nil || u.Fragment != "" || !bucketPattern.MatchString(u.Host) {
		return S3{}, errors.New("want s3://BUCKET/FOLDER?endpoint=https://HOST&region=REGION; the access key stands in a file (backup.credentials)")
	}
	out := S3{Bucket: u.Host, Credentials: b.Credentials, Region: "us-east-1"}
	if out.Folder = strings.Trim(u.Path, "/"); out.Folder != "" {
		out.Folder += "/"
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return S3{}, fmt.Errorf("what stands behind the question mark: %w", err)
	}
	for key, values := range q {
		switch {
		case len(values) != 1 || values[0] == "":
			return S3{}, fmt.Errorf("want one value for %s", key)
		case key == "region":
			out.Region = values[0]
		case key == "endpoint":
			e, err := url.Parse(values[0])
			if err != nil || e.Host == "" || e.User != nil || e.RawQuery != "" || strings.Trim(e.Path, "/") != "" || e.Scheme != "https" && (e.Scheme != "http" || !isOwn(e.Hostname())) {
				// It may have a password in it.
				return S3{}, errors.New("want an endpoint such as https://s3.example.org, without a user or anything else")
			}
			out.Endpoint, out.Plain = e.Host, e.Scheme == "http"
		default:
			return S3{}, fmt.Errorf("unknown key %q: want endpoint or region", key)
		}
	}
	return out, nil
}

// isOwn says whether an address is this machine itself.
func isOwn(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Place is where backups are kept.
type Place interface {
	// Put stores a file under a name, and returns when it is known to be there whole.
	Put(ctx context.Context, name string, f *os.File, size int64) error
	// List returns the names of all files there that begin with prefix.
	List(ctx context.Context, prefix string) ([]string, error)
	Remove(ctx context.Context, name string) error
}

// folder is a Place on this machine, or mounted there.
type folder string

func (d folder) Put(_ context.Context, name string, f *os.File, size int64) error {
	to := filepath.Join(string(d), name)
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s: %w", to, fs.ErrExist), err)
	}
	// Not a link, which file systems of USB sticks do not have.
	if err := os.Rename(f.Name(), to); err != nil {
		return err
	}
	if err := durable.SyncDir(string(d)); err != nil {
		return err
	}
	if info, err := os.Stat(to); err != nil || info.Size() != size {
		return errors.Join(fmt.Errorf("%s is not there as it was written", to), err)
	}
	return nil
}

func (d folder) List(_ context.Context, prefix string) (names []string, err error) {
	entries, err := os.ReadDir(string(d))
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d folder) Remove(_ context.Context, name string) error {
	return os.Remove(filepath.Join(string(d), name))
}

// sameDisk says whether two folders are on one file system.
func sameDisk(a, b string) (bool, error) {
	var at, other syscall.Stat_t
	if err := errors.Join(syscall.Stat(a, &at), syscall.Stat(b, &other)); err != nil {
		return false, err
	}
	return at.Dev == other.Dev, nil
}

// place is where backups go, and the folder in which one is written first.
func (m *Machine) place(b Backup) (p Place, spool string, err error) {
	if !strings.HasPrefix(b.To, "s3:") {
		dir := m.path(b.To)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, "", fmt.Errorf("backup.to: there is no folder %s: make it, or mount what belongs there", b.To)
		}
		// What hangs there is another disk; without it the backup would lie on this one.
		if below(b.To, mounts) {
			if same, err := sameDisk(dir, m.path("/")); err != nil || same {
				return nil, "", errors.Join(err, fmt.Errorf("backup.to: nothing is mounted at %s: mount it, or name a folder below /var/backups or /srv", b.To))
			}
		}
		return folder(dir), dir, nil
	}
	a, err := b.s3()
	if err != nil {
		return nil, "", err
	}
	a.Credentials = m.path(a.Credentials)
	info, err := os.Stat(a.Credentials)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("backup.credentials: %w: write the bucket's access key there, with the lines [default], aws_access_key_id = ID and aws_secret_access_key = KEY", err)
	case info.Mode().Perm()&0o077 != 0:
		return nil, "", fmt.Errorf("backup.credentials: others can read %s: chmod 600 %s", b.Credentials, b.Credentials)
	case m.Bucket == nil:
		return nil, "", errors.New("this program knows no buckets")
	}
	p, err = m.Bucket(a)
	return p, m.path(stateDir), err
}

const (
	backupHead     = "relay-appliance-backup.json"
	backupSettings = "appliance.yaml"
	backupFormat   = 1

	maxBackup  = int64(8 << 30) // the file
	maxContent = 64 << 30       // what is in it
	maxEntry   = 1 << 30        // a file in it, as relaymon has it
	maxEntries = 4_000_000      // files
	// backupTime is less than the unit allows, so that it is said what took so long.
	backupTime = 50 * time.Minute
)

// BackupInfo is what a backup of a machine says of itself.
type BackupInfo struct {
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	Version string    `json:"version"` // of the program that wrote it
	Role    Role      `json:"role"`
	Name    string    `json:"name"`
}

// machineName tells the backups of several machines apart.
func (s Settings) machineName() string { return cmp.Or(s.Domain, s.Monitor.Name, string(s.Role)) }

// WriteBackup writes the machine's backup, not encrypted yet: a gzipped tar archive with
// the settings, and what each program's own backup has in it, in a folder of its name.
func (m *Machine) WriteBackup(ctx context.Context, to io.Writer) error {
	s, err := m.Settings()
	if err != nil {
		return err
	}
	settings, err := m.readFile(SettingsPath)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	info, err := json.Marshal(BackupInfo{backupFormat, now, buildinfo.Version(), s.Role, s.machineName()})
	if err != nil {
		return err
	}
	z := gzip.NewWriter(to)
	w := tar.NewWriter(z)
	for _, f := range []struct {
		name string
		text []byte
	}{{backupHead, append(info, '\n')}, {backupSettings, settings}} {
		h := &tar.Header{Size: int64(len(f.text)), ModTime: now}
		if err := copyEntry(w, f.name, h, strings.NewReader(string(f.text))); err != nil {
			return err
		}
	}
	for _, p := range programs {
		if p.needed(s.Role) {
			if err := m.programBackup(ctx, p, w); err != nil {
				return err
			}
		}
	}
	return errors.Join(w.Close(), z.Close())
}

// programBackup has a program write its backup, and takes what is in it over.
func (m *Machine) programBackup(ctx context.Context, p *program, w *tar.Writer) error {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := readBackup(in, func(program string, h *tar.Header, content io.Reader) error {
			return copyEntry(w, p.name+"/"+h.Name, h, content)
		})
		done <- err
		in.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
	}()
	r, err := m.run(ctx, Command{User: p.name, Args: []string{p.name, "backup", "--config", p.config, "-"}, Stdout: out})
	if err == nil {
		err = r.failed(p.name + " backup")
	}
	select {
	case why := <-done:
		// It was over before the program was: that the program then could not write on
		// says nothing.
		return cmp.Or(why, err)
	default:
	}
	out.Close()
	why := <-done
	return cmp.Or(err, why)
}

func copyEntry(w *tar.Writer, name string, h *tar.Header, content io.Reader) error {
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: h.Size, ModTime: h.ModTime.Truncate(time.Second), Format: tar.FormatPAX})
	if err == nil {
		_, err = io.Copy(w, content)
	}
	return err
}

// readBackup reads a backup of a machine or of one program to its end, and hands over
// each file: of which program it is, and its name there. The files of the machine itself
// are of none.
func readBackup(r io.Reader, each func(program string, h *tar.Header, content io.Reader) error) error {
	z, err := gzip.NewReader(r)
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.EOF) {
		return fmt.Errorf("no backup: %w", err)
	}
	if err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	t := bounded.NewTar(z, maxEntries, maxContent)
	only := "" // the program, where it is the backup of one
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("no backup, or a damaged one: %w", err)
		}
		if h.Size > maxEntry || !filepath.IsLocal(h.Name) || filepath.Clean(h.Name) != h.Name || strings.ContainsRune(h.Name, '\\') {
			return fmt.Errorf("%q has no place in a backup", h.Name)
		}
		if n == 0 {
			switch h.Name {
			case "relayd-backup.json":
				only = "relayd"
			case "log.json":
				only = "relaymon"
			case backupHead:
				if err := readHead(t); err != nil {
					return err
				}
				continue
			default:
				return fmt.Errorf("no backup: it begins with %q", h.Name)
			}
		}
		of := only
		if only == "" {
			if dir, name, ok := strings.Cut(h.Name, "/"); ok && slices.ContainsFunc(programs, func(p *program) bool { return p.name == dir }) {
				of, h.Name = dir, name
			} else if h.Name != backupSettings {
				return fmt.Errorf("%q has no place in a backup", h.Name)
			} else if h.Size > maxSaid {
				return fmt.Errorf("%s is too long", h.Name)
			}
		}
		if err := each(of, h, t); err != nil {
			return err
		}
	}
	return t.End()
}

func readHead(r io.Reader) error {
	var info BackupInfo
	b, err := io.ReadAll(io.LimitReader(r, 4096))
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	if err != nil {
		return fmt.Errorf("read the backup's head: %w", err)
	}
	if info.Format != backupFormat {
		return fmt.Errorf("format %d, this program reads %d: use the version that wrote it (%.40q) or a newer one", info.Format, backupFormat, info.Version)
	}
	return nil
}

// Backups is what became of the nightly backups.
type Backups struct {
	To    string    `json:"to"`
	Tried time.Time `json:"tried,omitzero"`
	Made  time.Time `json:"made,omitzero"` // the last good one
	Name  string    `json:"name,omitempty"`
	Size  int64     `json:"size,omitempty"`
	Fault string    `json:"fault,omitempty"` // of the last try
}

const backupsPath = stateDir + "/backups.json"

// backups is how it stands with them; nil: none are made.
func (m *Machine) backups(s Settings) *Backups {
	if s.Backup.To == "" {
		return nil
	}
	var out Backups
	b, err := m.readFile(backupsPath)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	// What was made elsewhere says nothing of the new place.
	if out.To != s.Backup.To {
		out = Backups{To: s.Backup.To}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		out.Fault = err.Error()
	}
	return &out
}

// where is the place without what is behind the question mark.
func (b *Backups) where() string {
	to, _, _ := strings.Cut(b.To, "?")
	return to
}

func (b *Backups) lines(now time.Time) []string {
	if b == nil {
		return nil
	}
	const layout = "2006-01-02 15:04 MST"
	var out []string
	if b.Fault != "" {
		out = append(out, fmt.Sprintf("FAILED %s: %s", b.Tried.Format(layout), oneLine(b.Fault)))
	}
	switch age := now.Sub(b.Made); {
	case b.Made.IsZero():
		out = append(out, fmt.Sprintf("none yet in %s; try it: sudo relay-appliance backup", b.where()))
	case age > 36*time.Hour && b.Fault == "":
		out = append(out, fmt.Sprintf("none for %d hours: look at relay-appliance-backup.timer; the last one is of %s, in %s", int(age.Hours()), b.Made.Format(layout), b.where()))
	default:
		out = append(out, fmt.Sprintf("%s, %d kB, in %s", b.Made.Format(layout), (b.Size+1023)/1024, b.where()))
	}
	return out
}

// Backup writes an encrypted backup to the place that the settings name, and removes
// older ones than are to be kept.
func (m *Machine) Backup(ctx context.Context, say func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, backupTime)
	defer cancel()
	s, err := m.Settings()
	if err != nil {
		return err
	}
	if s.Backup.To == "" {
		return errors.New("the settings name no place for backups: write backup.to and backup.encrypt_to, or name a file")
	}
	unlock, err := m.lockFile("backup.lock", "a backup is under way already: wait until it is done")
	if err != nil {
		return err
	}
	defer unlock()
	last := m.backups(s)
	last.Tried, last.Fault = time.Now().UTC().Truncate(time.Second), ""
	var size int64
	prefix, err := m.backupPrefix(ctx, s)
	name := prefix + last.Tried.Format(backupStamp) + ".age"
	if err == nil {
		size, err = m.backUp(ctx, s, prefix, name)
	}
	if err != nil {
		last.Fault = cut(err.Error())
	} else {
		last.Made, last.Name, last.Size = last.Tried, name, size
		say("wrote %s, %d bytes, to %s", name, size, last.where())
		// A good backup is one, even where an old one cannot be removed.
		if m.held(s) {
			say("no older backup is removed: the monitor's log is a restored one, and its witnesses have not said yet whether there is a newer copy (relaymon restore --help)")
		} else if err = m.prune(ctx, s, prefix, name, say); err != nil {
			err = fmt.Errorf("remove old backups: %w", err)
			last.Fault = cut(err.Error())
		}
	}
	b, marshalErr := json.MarshalIndent(last, "", "  ")
	return errors.Join(err, marshalErr, m.write(backupsPath, append(b, '\n'), 0o600))
}

const backupStamp = "20060102T150405Z"

// backupPrefix is what the names of this machine's backups begin with. A machine that has
// the same settings, but another identity, is another one: it must not remove what may be
// all that is left of the one before.
func (m *Machine) backupPrefix(ctx context.Context, s Settings) (string, error) {
	sum := sha256.New()
	for _, p := range programs {
		if !p.needed(s.Role) {
			continue
		}
		id, err := m.knownAs(ctx, p)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, p.name, id)
	}
	return fmt.Sprintf("relay-appliance_%s_%x_", s.machineName(), sum.Sum(nil)[:4]), nil
}

// knownAs is what others know a program by: a relay's peer ID, a monitor's log key.
func (m *Machine) knownAs(ctx context.Context, p *program) (string, error) {
	r, err := m.run(ctx, Command{User: p.name, Args: p.public})
	if err == nil {
		err = r.failed("ask " + p.name + " for its identity")
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(r.Stdout)
	if p.name == "relaymon" {
		var keys Watching
		if err := json.Unmarshal([]byte(id), &keys); err != nil {
			return "", fmt.Errorf("ask %s for its identity: %w", p.name, err)
		}
		id = keys.LogKey
	}
	if id == "" {
		return "", fmt.Errorf("%s does not say what its identity is", p.name)
	}
	return id, nil
}

// spoolPrefix is of a backup that is being written. The machine's own prefix follows: a
// folder may be several machines'.
const spoolPrefix = ".writing-"

func (m *Machine) backUp(ctx context.Context, s Settings, prefix, name string) (size int64, err error) {
	to, err := agefile.Recipients(s.Backup.EncryptTo)
	if err != nil {
		return 0, err
	}
	place, spool, err := m.place(s.Backup)
	if err != nil {
		return 0, err
	}
	// What a power cut left.
	if old, err := filepath.Glob(filepath.Join(spool, spoolPrefix+prefix+"*")); err == nil {
		for _, f := range old {
			_ = os.Remove(f)
		}
	}
	f, err := os.CreateTemp(spool, spoolPrefix+prefix+"*")
	if err != nil {
		return 0, err
	}
	defer func() {
		f.Close()
		if gone := os.Remove(f.Name()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	out := &room{f: f}
	if err := agefile.Write(out, to, func(w io.Writer) error { return m.WriteBackup(ctx, w) }); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	if err := place.Put(ctx, name, f, out.written); err != nil {
		return 0, fmt.Errorf("store it: %w", err)
	}
	return out.written, nil
}

// held says whether the monitor's log came out of a backup and was not compared with what
// its witnesses know yet: monitor/store keeps a file for as long.
func (m *Machine) held(s Settings) bool {
	dir, _ := s.Relaymon["data_dir"].(string)
	return s.Role.Monitors() && m.has(filepath.Join(cmp.Or(dir, "/var/lib/relaymon"), "log/restored"))
}

// prune removes the oldest of this machine's backups. Others' files are not looked at.
func (m *Machine) prune(ctx context.Context, s Settings, prefix, made string, say func(string, ...any)) error {
	place, _, err := m.place(s.Backup)
	if err != nil {
		return err
	}
	names, err := place.List(ctx, prefix)
	if err != nil {
		return err
	}
	ours := regexp.MustCompile(`^` + regexp.QuoteMeta(prefix) + `[0-9]{8}T[0-9]{6}Z\.age$`)
	names = slices.DeleteFunc(names, func(n string) bool { return !ours.MatchString(n) })
	if !slices.Contains(names, made) {
		return fmt.Errorf("%s is not among what is there: nothing is removed", made)
	}
	// The new one stays. What bears a later time is of a clock that was wrong, then or now:
	// it neither goes nor counts.
	names = slices.DeleteFunc(names, func(n string) bool { return n >= made })
	slices.Sort(names)
	for _, n := range names[:max(0, len(names)-(s.Backup.Keep-1))] {
		if err := place.Remove(ctx, n); err != nil {
			return err
		}
		say("removed %s", n)
	}
	return nil
}

// keepBackups starts or stops the timer.
func (m *Machine) keepBackups(ctx context.Context, s Settings, say func(string, ...any)) error {
	const timer = "relay-appliance-backup.timer"
	if s.Backup.To == "" {
		if len(s.Backup.EncryptTo) > 0 {
			say("no backups are made by themselves: the settings have backup.encrypt_to, which \"relay-appliance backup FILE\" uses, and no backup.to")
		}
		if !m.asks(ctx, "is-enabled", timer) {
			return nil
		}
		say("there are no backups any more: the settings have no backup.to")
		return m.do(ctx, "systemctl", "disable", "--now", timer)
	}
	if err := m.enable(ctx, timer); err != nil {
		return err
	}
	return m.do(ctx, "systemctl", "start", timer)
}

// leave is how much room on the disk is others': a monitor's log stops where there is none.
const leave = 256 << 20

// noRoomError says that the disk would become too full.
type noRoomError struct{ dir string }

func (e noRoomError) Error() string {
	return fmt.Sprintf("less than %d MiB would be left free in %s: make room", leave>>20, e.dir)
}

// room writes a file, and stops before the disk is full.
type room struct {
	f                *os.File
	written, checked int64
}

func (r *room) Write(p []byte) (int, error) {
	const step = 8 << 20
	if r.written == 0 || r.written-r.checked > step {
		var st syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(r.f.Name()), &st); err != nil {
			return 0, err
		}
		// Some that are mounted from elsewhere do not say how large they are.
		if st.Blocks > 0 && st.Bavail*uint64(st.Bsize) < leave+step {
			return 0, noRoomError{filepath.Dir(r.f.Name())}
		}
		r.checked = r.written
	}
	if r.written += int64(len(p)); r.written > maxBackup {
		return 0, fmt.Errorf("longer than %d bytes", maxBackup)
	}
	return r.f.Write(p)
}
