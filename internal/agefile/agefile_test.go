package agefile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/need"
)

// key is a new key: its public half, and a file with the secret one.
func key(t testing.TB) (public, file string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("# public key: "+id.Recipient().String()+"\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), file
}

func sshKey(t testing.TB) (public, file string) {
	t.Helper()
	need.Tools(t, "ssh-keygen")
	file = filepath.Join(t.TempDir(), "id")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	line, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return string(line), file
}

// text is longer than one part of age's.
var text = []byte(strings.Repeat("0123456789abcdef", 16<<10))

func write(w io.Writer) error { _, err := w.Write(text); return err }

func read(t *testing.T, in InputFlags) ([]byte, error) {
	t.Helper()
	var got []byte
	err := in.Read(func(r io.Reader) (err error) { got, err = io.ReadAll(r); return err })
	return got, err
}

// endless gives the same byte, as often as it is allowed to.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left -= len(p); e.left < 0 {
		return 0, errors.New("somebody reads on and on")
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// A line that does not end is not kept until it does.
func TestArmorWithoutLineEnd(t *testing.T) {
	_, secret := key(t)
	ids, err := Identities(secret)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(io.MultiReader(strings.NewReader(armor.Header+"\n"), &endless{1 << 20}), ids)
	if err == nil || !strings.Contains(err.Error(), "a line is longer than 1024 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestThereAndBack(t *testing.T) {
	public, secret := key(t)
	second, secondSecret := key(t)
	line, sshSecret := sshKey(t)
	file := filepath.Join(t.TempDir(), "backup")
	out := OutputFlags{File: file, EncryptTo: []string{public, second, line}}
	if err := out.Write(nil, write); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, err := os.ReadFile(file); err != nil || bytes.Contains(b, text[:32]) {
		t.Errorf("it can be read: %v", err)
	}
	for _, id := range []string{secret, secondSecret, sshSecret} {
		if got, err := read(t, InputFlags{File: file, Identity: id}); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", id, len(got), err)
		}
	}
	if err := out.Write(nil, write); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another file: %v", err)
	}
	// Half a backup is none.
	out.File += ".half"
	broken := errors.New("broken")
	if err := out.Write(nil, func(w io.Writer) error { return errors.Join(write(w), broken) }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	out.File = filepath.Join(t.TempDir(), "no", "backup")
	if err := out.Write(nil, write); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the folder: %v", err)
	}
	// Into a pipe, and said beside it.
	var stdout, stderr bytes.Buffer
	out.File = "-"
	if err := errors.Join(out.Write(&stdout, write), out.Told(&cli.IO{Stdout: &stdout, Stderr: &stderr}, "a thing")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".piped", stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, InputFlags{File: file + ".piped", Identity: secret}); err != nil || !bytes.Equal(got, text) {
		t.Errorf("piped: %d bytes, %v", len(got), err)
	}
	if !strings.Contains(stderr.String(), "a thing") {
		t.Errorf("it says %q", &stderr)
	}
}

func TestOpenRefuses(t *testing.T) {
	public, secret := key(t)
	_, other := key(t)
	to, err := Recipients([]string{public})
	if err != nil {
		t.Fatal(err)
	}
	var b, armored bytes.Buffer
	if err := Write(&b, to, write); err != nil {
		t.Fatal(err)
	}
	a := armor.NewWriter(&armored)
	if _, err := a.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	good := b.Bytes()
	flipped := func(at int) []byte {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		return bad
	}
	for name, c := range map[string]struct {
		file     []byte
		identity string
		want     error // nil: any
	}{
		"wrong key":        {good, other, ErrWrongKey},
		"armoured, wrong":  {armored.Bytes(), other, ErrWrongKey},
		"no key":           {good, "", ErrEncrypted},
		"plain":            {text, secret, ErrPlain},
		"empty":            {nil, secret, ErrPlain},
		"header cut":       {good[:30], secret, nil},
		"cut":              {good[:len(good)/2], secret, nil},
		"cut at a part":    {good[:len(good)-(len(good)%(64<<10+16))], secret, nil},
		"last byte gone":   {good[:len(good)-1], secret, nil},
		"flipped header":   {flipped(70), secret, nil},
		"flipped early":    {flipped(len(good) / 3), secret, nil},
		"flipped last":     {flipped(len(good) - 1), secret, nil},
		"behind its end":   {append(bytes.Clone(good), 'x'), secret, nil},
		"armour, then cut": {armored.Bytes()[:armored.Len()-60], secret, nil},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := read(t, InputFlags{File: file, Identity: c.identity})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, armored.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, InputFlags{File: file, Identity: secret}); err != nil || !bytes.Equal(got, text) {
		t.Errorf("armoured: %d bytes, %v", len(got), err)
	}
}

func TestKeys(t *testing.T) {
	public, secret := key(t)
	hidden, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Fields(string(hidden))
	own := line[len(line)-1]
	for _, bad := range []string{"", "age1", "me@example.org", public + "\n" + public, own, strings.ToLower(own), "# x " + own, "ssh-ed25519 AAAA"} {
		_, err := Recipients([]string{public, bad, "x"})
		if err == nil || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%.20q: %v", bad, err)
		}
		if err != nil && strings.Contains(strings.ToUpper(err.Error()), own[15:25]) {
			t.Error("the message shows the secret key")
		}
	}
	for name, text := range map[string]string{
		"empty": "", "public": public, "damaged": string(hidden[:len(hidden)-3]), "text": "hello\n",
		"pem": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "long": strings.Repeat("#\n", maxKeys),
	} {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Identities(file)
		if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "AGE-SECRET-KEY-1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any bytes are refused, or are what was written.
func FuzzOpen(f *testing.F) {
	public, secret := key(f)
	to, err := Recipients([]string{public})
	if err != nil {
		f.Fatal(err)
	}
	ids, err := Identities(secret)
	if err != nil {
		f.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, to, func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(slices.Concat(b.Bytes(), b.Bytes()))
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, err := Open(bytes.NewReader(data), ids)
		if err != nil {
			return
		}
		if got, err := io.ReadAll(plain); err == nil && string(got) != "hello" && bytes.Equal(data, b.Bytes()) {
			t.Errorf("it became %q", got)
		}
	})
}
