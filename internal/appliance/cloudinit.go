package appliance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/config"
)

const (
	userDataPath = "/var/lib/cloud/instance/user-data.txt"
	// Each script in it that fails is an error of cloud-init's, by its name.
	scriptsDir   = "/var/lib/cloud/scripts/per-boot"
	scriptPrefix = "relay-appliance: "
)

// tellCloudInit makes `cloud-init status --long` say what is wrong. cloud-init
// counts the scripts that fail, and gives their names; so a script has the fault
// for its name. It is run after the first boot, and gone when the fault is.
func (m *Machine) tellCloudInit(faults ...string) error {
	if !m.has(scriptsDir) {
		return nil // no cloud-init here
	}
	entries, err := os.ReadDir(m.path(scriptsDir))
	if err != nil {
		return fmt.Errorf("tell cloud-init: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), scriptPrefix) {
			if err := os.Remove(filepath.Join(m.path(scriptsDir), e.Name())); err != nil {
				return fmt.Errorf("tell cloud-init: %w", err)
			}
		}
	}
	for _, fault := range faults {
		if err := m.write(filepath.Join(scriptsDir, scriptPrefix+fileName(fault)), []byte("#!/bin/sh\n# Made by relay-appliance, which removes it when what it is called is mended.\nrelay-appliance status --fault >&2\nexit 1\n"), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// fileName is a fault as a file may be called: one line, no slash, not too long.
func fileName(fault string) string {
	const longest = 180
	lines := strings.Split(strings.TrimSpace(fault), "\n")
	text := printable(oneLine(lines[0]))
	if n := len(lines) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	text = strings.ReplaceAll(text, filepath.Dir(SettingsPath)+"/", "")
	text = strings.ReplaceAll(text, "/", "_")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}

// userDataFault says why user-data that was given has led to no settings. cloud-init
// drops what it cannot read, with a warning in its log.
func (m *Machine) userDataFault() error {
	b, err := m.readFile(userDataPath)
	if errors.Is(err, fs.ErrNotExist) || len(strings.TrimSpace(string(b))) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the user-data: %w", err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "#cloud-config") {
		// What is no file of the form that the appliance asks for need not be about it.
		other := func(prefix string) bool { return strings.HasPrefix(text, prefix) }
		if !utf8.ValidString(text) || slices.ContainsFunc([]string{"#!", "#include", "Content-Type:", "## template:"}, other) {
			return nil
		}
		return errors.New("user-data: its first line must be #cloud-config, or cloud-init does not read it")
	}
	if err = config.CheckBounds("user-data", b); err != nil {
		return err
	}
	var content map[string]any
	err = yaml.Unmarshal(b, &content)
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: mend it there and create the machine anew, or write %s and run \"relay-appliance first-boot\"", config.SyntaxFault("user-data", err), SettingsPath)
}
