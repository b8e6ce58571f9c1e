// Package agefile puts the encryption of age (age-encryption.org/v1) around a stream,
// and gives the programs one manner of asking for it.
//
// What is encrypted to a recipient says nothing of who wrote it: whoever has the public
// key can write such a file. It must come from a place that is trusted.
package agefile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/durable"
)

// Recipients reads public keys: age1..., or a line of SSH (ssh-ed25519, ssh-rsa). It
// names every one that is none.
func Recipients(keys []string) ([]age.Recipient, error) {
	var to []age.Recipient
	var faults []error
	for _, k := range keys {
		var r age.Recipient
		var err error
		switch k = strings.TrimSpace(k); {
		case strings.HasPrefix(k, "ssh-"):
			r, err = agessh.ParseRecipient(k)
		case strings.Contains(strings.ToUpper(k), "AGE-SECRET-KEY-"):
			faults = append(faults, errors.New("this is a secret key: want the public one, which begins with age1"))
			continue
		default:
			// The parser knows which kinds of keys there are.
			var some []age.Recipient
			if some, err = age.ParseRecipients(strings.NewReader(k)); err == nil {
				if len(some) != 1 {
					err = errors.New("want one key")
				} else {
					r = some[0]
				}
			}
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%.40q is no public key of age (age1...) or SSH: %w", k, err))
			continue
		}
		to = append(to, r)
	}
	if len(to) > 0 && len(faults) == 0 {
		// Not all kinds go together.
		if _, err := age.Encrypt(io.Discard, to...); err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
	}
	return to, errors.Join(faults...)
}

// maxKeys is more than a file of keys has.
const maxKeys = 64 << 10

// Identity is a secret key.
type Identity = age.Identity

// Identities reads a file with secret keys of age, as age-keygen writes it, or with one
// of SSH that has no passphrase.
func Identities(file string) ([]Identity, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeys+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the key: %w", err)
	case len(text) > maxKeys:
		return nil, fmt.Errorf("%s is too long for a file of keys", file)
	}
	var ids []Identity
	if bytes.HasPrefix(text, []byte("-----BEGIN")) {
		var id age.Identity
		id, err = agessh.ParseIdentity(text)
		ids = append(ids, id)
	} else {
		ids, err = age.ParseIdentities(bytes.NewReader(text))
	}
	if err != nil {
		// The library may quote the line, which is the secret.
		return nil, fmt.Errorf("%s holds no secret key of age (AGE-SECRET-KEY-...), nor one of SSH without a passphrase", file)
	}
	return ids, nil
}

// Write has what write writes encrypted to the keys; without any it stays as it is.
func Write(w io.Writer, to []age.Recipient, write func(io.Writer) error) error {
	if len(to) == 0 {
		return write(w)
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	// Without its end the file is known to be cut.
	if err := write(sealed); err != nil {
		return err
	}
	return sealed.Close()
}

// Errors of [Open] that mean another thing than damage.
var (
	ErrWrongKey  = errors.New("it is encrypted to another key")
	ErrEncrypted = errors.New("it is encrypted: name the file with the secret key")
	ErrPlain     = errors.New("it is not encrypted")
)

// Open returns what is in a file. With keys it must be one of age's, without any it must
// not be. Each part is verified before it is returned, and that the end is there before
// the end of file.
func Open(r io.Reader, ids []Identity) (io.Reader, error) {
	b := bufio.NewReader(r)
	// What cannot be read is no file of another kind; one that is shorter may be.
	if _, err := b.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	begins := func(with string) bool {
		start, _ := b.Peek(len(with))
		return string(start) == with
	}
	armored := begins(armor.Header)
	switch encrypted := armored || begins("age-encryption.org/"); {
	case encrypted && len(ids) == 0:
		return nil, ErrEncrypted
	case !encrypted && len(ids) == 0:
		return b, nil
	case !encrypted:
		return nil, ErrPlain
	}
	r = b
	if armored {
		r = armor.NewReader(&shortLines{r: b})
	}
	plain, err := age.Decrypt(r, ids...)
	if none := new(age.NoIdentityMatchError); errors.As(err, &none) {
		return nil, ErrWrongKey
	}
	if err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	return plain, nil
}

// maxLine is longer than a line of armored age is, 64 letters. The library reads a line as
// a whole, however long.
const maxLine = 1024

// shortLines reads text, but no line that is longer.
type shortLines struct {
	r    io.Reader
	line int // bytes since the last line end
}

func (s *shortLines) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(len(p), maxLine)])
	if end := bytes.LastIndexByte(p[:n], '\n'); end >= 0 {
		s.line = n - end - 1
	} else if s.line += n; s.line > maxLine {
		return 0, fmt.Errorf("a line is longer than %d bytes", maxLine)
	}
	return n, err
}

// OutputFlags are those of a command that writes a secret file.
type OutputFlags struct {
	File      string   `arg:"" type:"path" help:"A new file; -: standard output."`
	EncryptTo []string `sep:"none" placeholder:"KEY" help:"Encrypt it with age to this public key (age1..., or ssh-ed25519 and ssh-rsa lines); more than one if you like."`
}

// Write writes the file, which must not be there yet, and which only its owner may read.
// It is there whole, or not at all.
func (o OutputFlags) Write(stdout io.Writer, write func(io.Writer) error) error {
	to, err := Recipients(o.EncryptTo)
	if err != nil {
		return fmt.Errorf("--encrypt-to: %w", err)
	}
	if o.File != "-" {
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := Write(w, to, write)
			w.CloseWithError(err)
			done <- err
		}()
		err := durable.CreateFrom(o.File, r, 0o600)
		// Where the file could not be made nobody reads on: the writer is to end.
		r.CloseWithError(io.ErrClosedPipe)
		if why := <-done; why != nil && !errors.Is(why, io.ErrClosedPipe) {
			return why
		}
		return err
	}
	if f, ok := stdout.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0 {
			return errors.New("standard output is a terminal: write into a file, or into another program")
		}
	}
	return Write(stdout, to, write)
}

// Told says what was written, and what to do with it; not among the file's own bytes.
func (o OutputFlags) Told(out *cli.IO, what string) error {
	care := "who has it can sign in its name: keep it safe"
	if len(o.EncryptTo) > 0 {
		care = "only who has the secret key can read it"
	}
	to := out.Stdout
	if o.File == "-" {
		to = out.Stderr
	}
	_, err := fmt.Fprintf(to, "%s: %s; %s\n", o.File, what, care)
	return err
}

// InputFlags are those of a command that reads such a file.
type InputFlags struct {
	File     string `arg:"" type:"existingfile" help:"A backup; -: standard input."`
	Identity string `type:"existingfile" placeholder:"FILE" help:"The file with the secret key of age (as age-keygen writes it) or of SSH that the backup is encrypted to."`
}

// Read hands over what is in the file.
func (i InputFlags) Read(read func(io.Reader) error) error {
	var ids []Identity
	if i.Identity != "" {
		var err error
		if ids, err = Identities(i.Identity); err != nil {
			return fmt.Errorf("--identity: %w", err)
		}
	}
	f := os.Stdin
	if i.File != "-" {
		var err error
		if f, err = os.Open(i.File); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		defer f.Close()
	}
	plain, err := Open(f, ids)
	if err == nil {
		err = read(plain)
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", i.File, err)
	}
	return nil
}
