package appliance

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/goccy/go-yaml"
	"golang.org/x/crypto/ssh"

	"github.com/psf-relay/relay-appliance/internal/arch"
)

// UserData is what cloud-init gets: the settings, and for a machine that is not made
// from the image, how to install the appliance.
type UserData struct {
	// Settings is the content of the settings' file.
	Settings string
	// Keys are the operator's public keys for SSH. Many providers add one by themselves.
	Keys []string
	// From is where packages are downloaded, Sums their checksums, as sha256sum writes
	// them.
	From, Sums string
	// Keyring is the keyring (binary OpenPGP) of a repository that the settings name;
	// packages are then installed from there.
	Keyring []byte
	// RestoreKey is the secret key that the backup of restore.from is encrypted to.
	RestoreKey string
	// Example: the values are to be edited.
	Example bool
}

//go:embed userdata.tmpl
var userDataText string

var userData = template.Must(template.New("user-data").Funcs(template.FuncMap{"indent": indented, "scalar": scalar}).Parse(userDataText))

// indented puts text into a block of the file.
func indented(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = "      " + l
		}
	}
	return strings.Join(lines, "\n")
}

// scalar is a line as YAML reads it back. Remarks behind keys, and options before
// them, may look like a map or a comment.
func scalar(line string) string {
	if strings.ContainsAny(line, `:#'"`) {
		return "'" + strings.ReplaceAll(line, "'", "''") + "'"
	}
	return line
}

// sumLine is a line of sha256sum's for a package of ours; with nothing in it that
// means something to a shell.
var sumLine = regexp.MustCompile(`^[0-9a-f]{64} [ *](\./)?((relay-appliance|relayd|relaymon|relay-appliance-archive-keyring)_[0-9A-Za-z.+~]+_` + arch.Pattern() + `\.deb)$`)

// Remarks are on what is no fault, and what the operator may have forgotten.
func (u UserData) Remarks() (remarks []string) {
	s, err := ParseSettings(SettingsPath, []byte(u.Settings))
	if err != nil {
		return nil // Render says so
	}
	if u.Sums != "" && s.Updates.Repository == "" && !strings.Contains(u.Sums, "relay-appliance-archive-keyring_") {
		remarks = append(remarks, "the list has no package relay-appliance-archive-keyring, and the settings name no repository: the machine gets no updates of the appliance by itself")
	}
	if s.Restore.From != "" && u.RestoreKey == "" {
		remarks = append(remarks, fmt.Sprintf("there is no key for the backup: the machine waits until you write it into %s there and run \"relay-appliance first-boot\"", s.Restore.Identity))
	}
	if s.Alerts.Any() || len(s.Monitor.Alerts) > 0 {
		remarks = append(remarks, "the addresses of receivers (alerts) hold passwords and tokens, and your provider keeps this file: take a mail account and tokens that are for this alone")
	}
	return remarks
}

// Render checks all of it, with the settings, and writes the file.
func (u UserData) Render() ([]byte, error) {
	u.Settings = strings.ReplaceAll(u.Settings, "\r\n", "\n")
	u.RestoreKey = strings.ReplaceAll(u.RestoreKey, "\r\n", "\n")
	s, err := ParseSettings(SettingsPath, []byte(u.Settings))
	faults := []error{err}
	for _, k := range u.Keys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k)); err != nil || strings.ContainsAny(k, "\n\r") {
			faults = append(faults, fmt.Errorf("SSH key: want a line such as \"ssh-ed25519 AAAA... you@host\", not %.40q", k))
		}
	}
	if u.Example {
		faults = nil // these values are still to come
	}
	var sums []string
	if u.Sums != "" || u.From != "" {
		if !isURL(u.From, "https", "http") || strings.ContainsAny(u.From, "\"$`\\ \t\n") {
			faults = append(faults, fmt.Errorf("packages: want the URL of the folder that they are in, not %q", u.From))
		}
		for line := range strings.Lines(u.Sums) {
			if m := sumLine.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
				sums = append(sums, line[:64]+" "+m[2])
			}
		}
		for _, name := range []string{"relay-appliance_", "relayd_", "relaymon_"} {
			if !strings.Contains(strings.Join(sums, "\n"), " "+name) {
				faults = append(faults, fmt.Errorf("packages: the list has no checksum of %s*.deb", name))
			}
		}
	}
	if len(u.Keyring) > 0 && s.Updates.Repository == "" {
		faults = append(faults, errors.New("repository: a keyring, but the settings name none (updates.repository)"))
	}
	if len(u.Keyring) > 0 && u.Sums != "" {
		faults = append(faults, errors.New("packages: download them, or install them from the repository, not both"))
	}
	if u.RestoreKey != "" && s.Restore.From == "" {
		faults = append(faults, errors.New("restore: a key, but the settings name no backup (restore.from)"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = userData.Execute(&out, map[string]any{
		"Example": u.Example, "Keys": u.Keys, "Settings": u.Settings,
		"From": strings.TrimRight(u.From, "/"), "Sums": strings.Join(sums, "\n"),
		"Keyring": base64.StdEncoding.EncodeToString(u.Keyring), "KeyringPath": s.Updates.Key, "Repository": s.Updates.Repository,
		"RestoreKey": u.RestoreKey, "RestoreKeyPath": s.Restore.Identity,
		"Packages": len(sums) > 0 || len(u.Keyring) > 0,
	})
	if err != nil {
		return nil, err
	}
	// What was put together is what cloud-init is to read.
	var back struct {
		Files []struct {
			Path    string `yaml:"path"`
			Content string `yaml:"content"`
		} `yaml:"write_files"`
	}
	err = yaml.Unmarshal(out.Bytes(), &back)
	if err == nil && (len(back.Files) == 0 || strings.TrimRight(back.Files[0].Content, "\n") != strings.TrimRight(u.Settings, "\n")) {
		err = errors.New("the settings come out changed: begin their lines at the margin")
	}
	if err == nil && u.RestoreKey != "" && (len(back.Files) < 2 || back.Files[1].Path != s.Restore.Identity || strings.TrimSpace(back.Files[1].Content) != strings.TrimSpace(u.RestoreKey)) {
		err = errors.New("the key of the backup comes out changed")
	}
	if err != nil {
		return nil, fmt.Errorf("user-data: %w", err)
	}
	return out.Bytes(), nil
}
