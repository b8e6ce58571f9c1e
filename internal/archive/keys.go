package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Keys are the OpenPGP keys that sign, in a folder of gpg's own that is gone at
// the end. While one key replaces another, both sign.
type Keys struct {
	home         string
	fingerprints []string
}

// LoadKeys takes in secret keys, one each, without a passphrase, as "gpg
// --export-secret-keys" writes them.
func LoadKeys(ctx context.Context, secrets ...[]byte) (_ *Keys, err error) {
	if len(secrets) == 0 {
		return nil, errors.New("no signing key is given")
	}
	// Not below a folder of the caller's: gpg's sockets need a short path.
	k := &Keys{}
	if k.home, err = os.MkdirTemp("", "gpg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	for i, secret := range secrets {
		cmd := k.gpg(ctx, "--import")
		cmd.Stdin = bytes.NewReader(secret)
		if _, err := output(cmd); err != nil {
			return nil, fmt.Errorf("read signing key %d: %w", i+1, err)
		}
		if k.fingerprints, err = k.secret(ctx); err != nil {
			return nil, err
		}
		if len(k.fingerprints) != i+1 {
			return nil, fmt.Errorf("signing key %d: want one secret key that is not among those before it", i+1)
		}
	}
	return k, nil
}

// GenerateKey makes a signing key without a passphrase and without an end, and
// returns it armoured.
func GenerateKey(ctx context.Context, name string, made time.Time) (secret []byte, err error) {
	k := &Keys{}
	if k.home, err = os.MkdirTemp("", "gpg-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	if _, err := output(k.gpg(ctx, at(made), "--passphrase=", "--quick-generate-key", name, "ed25519", "sign", "never")); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	if secret, err = output(k.gpg(ctx, "--armor", "--export-secret-keys")); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return secret, nil
}

// Close forgets the keys.
func (k *Keys) Close() error {
	// The agent ends by itself when its folder is gone, but only after a while.
	_ = exec.Command("gpgconf", "--homedir", k.home, "--kill", "all").Run()
	return os.RemoveAll(k.home)
}

// Keyring is what clients need to check signatures: the public keys of those that
// sign and of those in also, which are to sign next or did so until now.
func (k *Keys) Keyring(ctx context.Context, also ...[]byte) ([]byte, error) {
	for _, keys := range also {
		cmd := k.gpg(ctx, "--import")
		cmd.Stdin = bytes.NewReader(keys)
		if _, err := output(cmd); err != nil {
			return nil, fmt.Errorf("read the other keys of the keyring: %w", err)
		}
	}
	return output(k.gpg(ctx, "--export-options=export-minimal", "--export"))
}

// Clearsign signs text within itself, with all keys.
func (k *Keys) Clearsign(ctx context.Context, text []byte, when time.Time) ([]byte, error) {
	return k.sign(ctx, "--clear-sign", text, when)
}

// Detach signs data beside it, with all keys.
func (k *Keys) Detach(ctx context.Context, data []byte, when time.Time) ([]byte, error) {
	return k.sign(ctx, "--detach-sign", data, when)
}

func (k *Keys) sign(ctx context.Context, how string, data []byte, when time.Time) ([]byte, error) {
	args := []string{at(when), "--armor", "--digest-algo=SHA512"}
	for _, f := range k.fingerprints {
		args = append(args, "--local-user="+f)
	}
	cmd := k.gpg(ctx, append(args, how)...)
	cmd.Stdin = bytes.NewReader(data)
	signed, err := output(cmd)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return signed, nil
}

// Open returns what a clearsigned text says, if one of the keys has signed it.
func (k *Keys) Open(ctx context.Context, signed []byte) ([]byte, error) {
	ring, err := output(k.gpg(ctx, append([]string{"--export"}, k.fingerprints...)...))
	if err != nil {
		return nil, err
	}
	file, text := filepath.Join(k.home, "signers.gpg"), filepath.Join(k.home, "text")
	if err := errors.Join(os.WriteFile(file, ring, 0o600), os.RemoveAll(text)); err != nil {
		return nil, err
	}
	cmd := command(ctx, "gpgv", "--homedir", k.home, "--keyring", file, "--status-fd", "1", "--output", text)
	cmd.Stdin = bytes.NewReader(signed)
	status, err := output(cmd)
	// gpgv fails when one of several signatures is by a key that it does not know, as
	// while keys change. What counts is a good one, and none that is bad.
	if !bytes.Contains(status, []byte("[GNUPG:] VALIDSIG ")) || bytes.Contains(status, []byte("[GNUPG:] BADSIG ")) {
		return nil, errors.Join(errors.New("no good signature by the keys that are given"), err)
	}
	return os.ReadFile(text)
}

// secret returns the fingerprints of the secret keys.
func (k *Keys) secret(ctx context.Context) ([]string, error) {
	out, err := output(k.gpg(ctx, "--with-colons", "--list-secret-keys"))
	if err != nil {
		return nil, err
	}
	var found []string
	primary := false // its fingerprint comes next; those of its subkeys do not count
	for line := range strings.Lines(string(out)) {
		f := strings.Split(line, ":")
		switch {
		case f[0] == "sec":
			primary = true
		case f[0] == "fpr" && primary && len(f) > 9:
			found = append(found, f[9])
			primary = false
		}
	}
	return found, nil
}

// gpg runs with the folder of these keys and with no one's settings.
func (k *Keys) gpg(ctx context.Context, args ...string) *exec.Cmd {
	return command(ctx, "gpg", append([]string{"--homedir", k.home, "--batch", "--no-options", "--quiet",
		"--no-auto-check-trustdb", "--trust-model=always", "--pinentry-mode=loopback"}, args...)...)
}

// at stops gpg's clock, so that the same signature comes out again.
func at(t time.Time) string { return "--faked-system-time=" + t.UTC().Format("20060102T150405") + "!" }

func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC")
	return cmd
}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(command(ctx, name, args...))
}

// output returns what cmd printed, also where it failed.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		err = fmt.Errorf("%w: make deps installs it", err)
	case err != nil:
		err = fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Args[0]), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), err
}
