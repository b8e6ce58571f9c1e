package appliance

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/config"
	"github.com/psf-relay/relay-appliance/internal/download"
)

// Restore is the backup of which this machine is made.
type Restore struct {
	From     string `yaml:"from"`
	Identity string `yaml:"identity"`
	SHA256   string `yaml:"sha256"`
}

// unseen are folders that the services' sandbox hides.
var unseen = []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"}

func below(path string, folders []string) bool {
	path = filepath.Clean(path)
	return slices.ContainsFunc(folders, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

var sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (r Restore) faults() (faults []*fault) {
	want := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, &fault{"restore." + key, fmt.Sprintf(format, args...)})
		}
	}
	// What was written in a wrong place may be a secret: none of it is repeated.
	for _, f := range []struct{ key, path string }{{"from", r.From}, {"identity", r.Identity}} {
		want(!filepath.IsAbs(f.path) || !below(f.path, unseen), f.key, "first boot does not see what is below %s, where this file is: put it below /var/backups or /mnt", strings.Join(unseen, ", "))
	}
	want(r.From == "" || filepath.IsAbs(r.From) || isURL(r.From, "https"), "from", "want a path that begins with / or a URL that begins with https://, not %s", shown(r.From))
	want(filepath.IsAbs(r.Identity), "identity", "want the path of the file with the secret key, which begins with /; the key itself stands in that file")
	want(r.SHA256 == "" || sumPattern.MatchString(r.SHA256), "sha256", "want 64 digits as sha256sum prints them, not %.70q", r.SHA256)
	return faults
}

// onlyRestores says whether all the rest is to come from the backup.
func (s Settings) onlyRestores() bool {
	want := DefaultSettings()
	want.Restore = s.Restore
	return reflect.DeepEqual(s, want)
}

// shown is an address without what may be a secret in it: a user, a signature, and where
// somebody shares a file by a link the path, too. Where a part of one may have been taken
// for something else, nothing of it is shown.
func shown(from string) string {
	u, err := url.Parse(from)
	switch {
	case err != nil || u.User != nil || u.Opaque != "":
		return "what restore.from names"
	case u.Host == "" && filepath.IsAbs(from):
		return from
	case u.Host == "":
		return "what restore.from names"
	}
	return u.Scheme + "://" + u.Host + "/..."
}

const (
	restoredPath = stateDir + "/restored.json"
	fetchedPath  = stateDir + "/restore.age"
	// restoreTime is for the download and for unpacking.
	restoreTime = 30 * time.Minute
	// askTime is for a program to say whether it has an identity.
	askTime = 20 * time.Second
)

// restored says which backup the machine is made of.
type restored struct {
	From string    `json:"from"` // the SHA-256 sum of restore.from, which may have a password in it
	At   time.Time `json:"at"`
	// Programs are those that got their identity from it. One that has lost it gets it from
	// there again.
	Programs []string `json:"programs"`
	// Begun is the program that is being restored: after a power cut nobody else knows
	// from where its identity is.
	Begun string `json:"begun,omitempty"`
	// All: the settings are the backup's, too, so that nothing of another identity is to
	// stay.
	All bool `json:"all,omitempty"`
	// Holds are the programs that the backup has a part of, when it was read last. One that
	// comes later, and is not among them, begins anew.
	Holds []string `json:"holds,omitempty"`
	// Done: all that the role needed then is restored.
	Done bool `json:"done,omitempty"`
}

// restore is a backup from which programs get their data. A nil one is none.
type restore struct {
	m      *Machine
	of     Restore
	say    func(string, ...any)
	ids    []agefile.Identity
	path   string // of the encrypted file on this machine
	text   []byte // the settings
	loaded bool
	before restored // what was restored from this backup
	err    error    // of the backup
}

func (r Restore) mark() string {
	sum := sha256.Sum256([]byte(r.From))
	return hex.EncodeToString(sum[:])
}

// restores says whether the settings name a backup, which may take its time.
func (m *Machine) restores() bool {
	s, _ := m.Settings()
	r, err := m.restoring(s, func(string, ...any) {})
	return r != nil || err != nil
}

// restoring is what the settings say of a backup; nil: nothing.
func (m *Machine) restoring(s Settings, say func(string, ...any)) (*restore, error) {
	if s.Restore.From == "" {
		return nil, nil
	}
	b, err := m.readFile(restoredPath)
	var before restored
	if err == nil {
		err = json.Unmarshal(b, &before)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s, which says what was restored: %w", restoredPath, err)
	}
	if before.From != s.Restore.mark() {
		if before.All && len(before.Programs) == 0 && s.Role != "" {
			say("the settings in %s are those of the backup that was tried before: to take them from this one, leave nothing but restore in that file", SettingsPath)
		}
		before = restored{From: s.Restore.mark()}
	}
	if s.Role == "" {
		before.Done = false
	}
	return &restore{m: m, of: s.Restore, say: say, path: m.path(s.Restore.From), before: before}, nil
}

// failed says that nothing is to be started. Once all was restored a fault is that of the
// program only which wants more.
func (r *restore) failed() bool { return r != nil && r.err != nil && !r.before.Done }

// close removes what was fetched; it is encrypted.
func (r *restore) close() {
	if r != nil && r.path == r.m.path(fetchedPath) {
		_ = os.Remove(r.path)
	}
}

// load brings the backup here and looks at all of it, once, before anything is changed.
func (r *restore) load(ctx context.Context) error {
	if r.loaded {
		return r.err
	}
	r.loaded = true
	if r.err = r.fetch(ctx); r.err != nil {
		r.err = fmt.Errorf("restore %s: %w", shown(r.of.From), r.err)
	}
	return r.err
}

func (r *restore) fetch(ctx context.Context) (err error) {
	key := r.m.path(r.of.Identity)
	if info, err := os.Stat(key); err == nil && info.Mode().Perm()&0o077 != 0 {
		// Who wrote it by cloud-init may have forgotten that. What is mounted may not allow it.
		if err := os.Chmod(key, 0o600); err != nil {
			r.say("others can read %s: %v", r.of.Identity, err)
		} else {
			r.say("others could read %s: they no longer can", r.of.Identity)
		}
	}
	if r.ids, err = agefile.Identities(key); err != nil {
		return fmt.Errorf("restore.identity: %w", err)
	}
	if isURL(r.of.From, "https") {
		r.path = r.m.path(fetchedPath)
		if err := r.m.download(ctx, r.of.From, r.path, r.say); err != nil {
			if final := new(errFinal); !errors.As(err, final) {
				err = fmt.Errorf("%w: %w", err, errLater)
			}
			return err
		}
		r.say("fetched the backup from %s", shown(r.of.From))
	}
	// Before anybody tries to understand it.
	if err := r.checkSum(ctx); err != nil {
		return err
	}
	r.before.Holds = nil
	return r.walk(ctx, func(program string, h *tar.Header, content io.Reader) error {
		if program == "" {
			r.text, err = io.ReadAll(content)
			return err
		}
		if !slices.Contains(r.before.Holds, program) {
			r.before.Holds = append(r.before.Holds, program)
		}
		_, err := io.Copy(io.Discard, content)
		return err
	})
}

// checkSum compares the file with what restore.sha256 says, if it does.
func (r *restore) checkSum(ctx context.Context) error {
	if r.of.SHA256 == "" {
		return nil
	}
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, until{ctx, f}); err != nil {
		return err
	}
	return r.sum(h)
}

// sum is a fault unless it is the one that the settings name.
func (r *restore) sum(h hash.Hash) error {
	if got := hex.EncodeToString(h.Sum(nil)); got != r.of.SHA256 {
		return fmt.Errorf("its SHA-256 sum is %s, and restore.sha256 says %s: it is another file, or a damaged one", got, r.of.SHA256)
	}
	return nil
}

// walk reads the whole backup, and hands over each file with the program that it is of,
// and its name there. Its sum is of the very bytes that were read: the file may be changed
// between two passes.
func (r *restore) walk(ctx context.Context, each func(program string, h *tar.Header, content io.Reader) error) error {
	f, err := os.Open(r.path)
	if err != nil {
		return err
	}
	defer f.Close()
	file := until{ctx, f}
	if r.of.SHA256 == "" {
		return r.read(file, each)
	}
	h := sha256.New()
	in := io.TeeReader(file, h)
	err = r.read(in, each)
	if _, rest := io.Copy(io.Discard, in); rest != nil {
		return errors.Join(err, rest)
	}
	return cmp.Or(r.sum(h), err)
}

// until reads as long as nobody ends it.
type until struct {
	ctx context.Context
	io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

func (r *restore) read(f io.Reader, each func(program string, h *tar.Header, content io.Reader) error) error {
	plain, err := agefile.Open(f, r.ids)
	switch {
	case errors.Is(err, agefile.ErrWrongKey):
		return fmt.Errorf("%w than that of the key in %s (restore.identity)", err, r.of.Identity)
	case errors.Is(err, agefile.ErrPlain):
		return fmt.Errorf("%w, or no backup: want what \"relay-appliance backup\" has written", err)
	case err != nil:
		return err
	}
	return readBackup(plain, each)
}

// settings takes over the settings in the backup. They say from where to restore as
// before: a restore that is interrupted goes on.
func (r *restore) settings(ctx context.Context) (Settings, error) {
	if err := r.load(ctx); err != nil {
		return Settings{}, err
	}
	fail := func(err error) (Settings, error) {
		r.err = fmt.Errorf("restore %s: the settings in it: %w: write them into %s yourself, and leave restore there", shown(r.of.From), err, SettingsPath)
		return Settings{}, r.err
	}
	if r.text == nil {
		return fail(errors.New("there are none"))
	}
	s, err := ParseSettings(filepath.Base(SettingsPath), r.text)
	if err != nil {
		return fail(err)
	}
	// Nothing is changed yet.
	for _, p := range programs {
		if p.needed(s.Role) && !slices.Contains(r.before.Holds, p.name) {
			r.err = fmt.Errorf("restore %s: it is of a machine in role %s, and holds nothing of %s: take another backup", shown(r.of.From), s.Role, p.name)
			return Settings{}, r.err
		}
		// One that cannot be asked has no identity, or is looked at again later.
		if !p.needed(s.Role) || r.has(p) {
			continue
		}
		if res, err := r.m.run(ctx, Command{User: p.name, Args: with(p.exists, p.config)}); err == nil && res.Code == 0 {
			r.err = r.notEmpty(p, "write the role and the rest of the settings")
			return Settings{}, r.err
		}
	}
	s.Restore = r.of
	said, err := yaml.Marshal(map[string]any{"restore": given(map[string]any{"from": r.of.From, "identity": r.of.Identity, "sha256": r.of.SHA256})})
	if err != nil {
		return fail(err)
	}
	text := strings.TrimRight(without(string(r.text), "restore"), "\n") + "\n\n" + string(said)
	if back, err := ParseSettings(filepath.Base(SettingsPath), []byte(text)); err != nil || !reflect.DeepEqual(back, s) {
		return fail(errors.New("restore cannot be put beside them"))
	}
	// Later boots do not see that the settings are not the operator's.
	r.before.All = true
	if err := r.note(); err != nil {
		return Settings{}, err
	}
	if err := r.m.write(SettingsPath, []byte(text), 0o600); err != nil {
		return Settings{}, err
	}
	r.say("wrote %s as it is in the backup", SettingsPath)
	if s.Announce != (Announce{}) {
		r.say("the settings name a public address of the machine before (announce): change it, or take it out, if this one has another")
	}
	return s, nil
}

// without takes the lines of a key at the margin out of a file.
func without(text, key string) string {
	lines := config.Lines([]byte(text))
	from, ok := lines[key]
	if !ok {
		return text
	}
	all := strings.SplitAfter(text, "\n")
	to := len(all) + 1
	for k, at := range lines {
		if !strings.Contains(k, ".") && at > from {
			to = min(to, at)
		}
	}
	return strings.Join(slices.Concat(all[:from-1], all[to-1:]), "")
}

// has says whether a program has its identity from this backup.
func (r *restore) has(p *program) bool {
	return slices.Contains(r.before.Programs, p.name) || r.before.Begun == p.name
}

// notEmpty is a fault where a whole machine is to come from the backup. It names what an
// operator does who wants it otherwise.
func (r *restore) notEmpty(p *program, otherwise string) error {
	return fmt.Errorf("restore %s: %s has another identity here already, and it is never overwritten: stop %s and move what is in its data folder (/var/lib/%s) away, or %s, with which it stays", shown(r.of.From), p.name, p.name, p.name, otherwise)
}

// note keeps what was restored.
func (r *restore) note() error {
	r.before.At = time.Now().UTC().Truncate(time.Second)
	b, err := json.Marshal(r.before)
	if err != nil {
		return err
	}
	return r.m.write(restoredPath, append(b, '\n'), 0o600)
}

// program puts a program's part of the backup into its data folder, if it has no
// identity there.
func (r *restore) program(ctx context.Context, p *program, exists bool) (done bool, err error) {
	fail := func(err error) (bool, error) {
		r.err = err
		return false, err
	}
	switch {
	case r == nil:
		return false, nil
	case exists && r.has(p):
		return false, r.took(p) // if it was cut short
	case exists && r.before.Done:
		return false, nil
	case exists && r.before.All:
		return fail(r.notEmpty(p, "take restore out of the settings"))
	case exists:
		r.say("restore: %s has its identity already, nothing of the backup is put over it", p.name)
		return false, nil
	}
	later := r.before.Done && !r.has(p)
	if later && !r.m.has(r.of.Identity) {
		if r.before.Holds != nil && !slices.Contains(r.before.Holds, p.name) {
			return false, nil
		}
		return fail(fmt.Errorf("restore %s: %s has no identity yet, and that in the backup cannot be read without the key: put the key back into %s (restore.identity), or take restore out of the settings to begin anew", shown(r.of.From), p.name, r.of.Identity))
	}
	if err := r.load(ctx); err != nil {
		return false, err
	}
	if !slices.Contains(r.before.Holds, p.name) {
		if later {
			return false, nil
		}
		return fail(fmt.Errorf("restore %s: it holds nothing of %s: write the role of the machine before, and change it when all is restored", shown(r.of.From), p.name))
	}
	r.before.Begun = p.name
	if err := r.note(); err != nil {
		return fail(err)
	}
	said, err := r.put(ctx, p)
	if err != nil {
		// It may have been ended between its last step and its word that all went well: then
		// the identity is there, and from the backup.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		if res, unclear := r.m.run(asking, Command{User: p.name, Args: with(p.exists, p.config)}); unclear == nil && res.Code != 0 {
			r.before.Begun = ""
		}
		return fail(errors.Join(fmt.Errorf("restore %s: %w", shown(r.of.From), err), r.note()))
	}
	if err := r.took(p); err != nil {
		return fail(err)
	}
	r.say("restored %s: %s", p.name, said)
	return true, nil
}

// took notes that a program has its identity from the backup.
func (r *restore) took(p *program) error {
	if slices.Contains(r.before.Programs, p.name) && r.before.Begun != p.name {
		return nil
	}
	if !slices.Contains(r.before.Programs, p.name) {
		r.before.Programs = append(r.before.Programs, p.name)
	}
	r.before.Begun = ""
	return r.note()
}

// put has the program itself unpack what is of it.
func (r *restore) put(ctx context.Context, p *program) (said string, err error) {
	in, out := io.Pipe()
	done := make(chan error, 1)
	go func() {
		z := gzip.NewWriter(out)
		w := tar.NewWriter(z)
		err := r.walk(ctx, func(program string, h *tar.Header, content io.Reader) error {
			if program != p.name {
				_, err := io.Copy(io.Discard, content)
				return err
			}
			return copyEntry(w, h.Name, h, content)
		})
		// Without its end the archive counts as damaged.
		if err == nil {
			err = errors.Join(w.Close(), z.Close())
		}
		out.CloseWithError(err)
		done <- err
	}()
	res, err := r.m.run(ctx, Command{User: p.name, Args: []string{p.name, "restore", "--config", p.config, "-"}, Stdin: in})
	in.CloseWithError(io.ErrClosedPipe)
	if why := <-done; why != nil && !errors.Is(why, io.ErrClosedPipe) {
		return "", why
	}
	if err == nil {
		err = res.failed(p.name + " restore")
	}
	return oneLine(res.Stdout), err
}

// done is after all programs had their part. Its error says that nothing is to run.
func (r *restore) done(role Role, faults []error) error {
	err := errors.Join(faults...)
	if r == nil || !r.failed() && err != nil {
		return nil // the fault is another one
	}
	if err != nil {
		return err
	}
	key := r.m.path(r.of.Identity)
	ours := filepath.Dir(key) == filepath.Dir(r.m.path(SettingsPath)) && r.m.has(r.of.Identity)
	var left []string
	for _, p := range programs {
		if p.needed(role) && !r.has(p) {
			left = append(left, p.name)
		}
	}
	if len(left) > 0 {
		if ours {
			r.say("%s stays: the backup was not restored for %s. Delete it if you do not want that; else move what is in the data folder (/var/lib/%s) away and run this again", r.of.Identity, strings.Join(left, " and "), left[0])
		}
		return nil
	}
	if !r.before.Done {
		r.before.Done = true
		if err := r.note(); err != nil {
			return err
		}
	}
	// A power cut may have come before this.
	if err := os.Remove(r.m.path(fetchedPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ours {
		if err := os.Remove(key); err != nil {
			return err
		}
		r.say("deleted %s: all is restored; where user-data brought the key, copies of it stay with the provider and in /var/lib/cloud: take a new one for later backups", r.of.Identity)
	}
	return nil
}

const (
	downloads     = 6 // tries
	downloadPause = 2 * time.Second
	downloadStall = 30 * time.Second
)

// errFinal is an answer that another try does not change.
type errFinal struct{ error }

// download fetches a file that may be large, and tries again where that may help.
func (m *Machine) download(ctx context.Context, from, to string, say func(string, ...any)) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	pause := cmp.Or(m.pause, downloadPause)
	for try := 1; ; try++ {
		err := m.downloadOnce(ctx, from, to)
		if err == nil {
			return nil
		}
		err = errors.Join(err, os.RemoveAll(to))
		if final := new(errFinal); errors.As(err, final) || try == downloads || ctx.Err() != nil {
			return err
		}
		say("fetch the backup, try %d of %d: %v", try, downloads, err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

func (m *Machine) downloadOnce(ctx context.Context, from, to string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall, most := cmp.Or(m.stall, downloadStall), cmp.Or(m.most, maxBackup)
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("the server has sent nothing for %s", stall)) })
	defer watch.Stop()
	// What net/http says of a failure has the whole address in it.
	plain := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if of := new(url.Error); errors.As(err, &of) {
			return of.Err
		}
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return errFinal{plain(err)}
	}
	req.Header.Set("User-Agent", buildinfo.Agent("relay-appliance"))
	client := *cmp.Or(m.Client, http.DefaultClient)
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Scheme != "https" || len(via) >= 10 {
			return errors.New("the server leads to another address that is not https, or in a circle")
		}
		return nil
	}
	res, err := client.Do(req)
	if err != nil {
		return plain(err)
	}
	defer res.Body.Close()
	switch code := res.StatusCode; {
	case code == http.StatusOK && res.ContentLength > most:
		return errFinal{fmt.Errorf("longer than any backup: %d bytes, and at most %d are read", res.ContentLength, most)}
	case code == http.StatusOK:
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return fmt.Errorf("the server answers %s", download.Status(res))
	default:
		return errFinal{fmt.Errorf("the server answers %s", download.Status(res))}
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return errFinal{err}
	}
	body := readerFunc(func(p []byte) (int, error) {
		n, err := res.Body.Read(p)
		watch.Reset(stall)
		return n, err
	})
	n, err := io.Copy(&room{f: f}, io.LimitReader(body, most+1))
	if err != nil {
		err = plain(err)
	} else {
		err = context.Cause(ctx) // a server may end what was given up as if it were whole
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if full := new(noRoomError); errors.As(err, full) {
		return errFinal{err}
	}
	switch {
	case err != nil:
		return err
	case n > most:
		return errFinal{fmt.Errorf("longer than any backup: more than %d bytes", most)}
	case n == 0:
		return errFinal{errors.New("the file is empty")}
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
