package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/psf-relay/relay-appliance/internal/agefile"
	"github.com/psf-relay/relay-appliance/internal/appliance"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

type cloudInitCmd struct {
	Role     string   `help:"What the machine is to be: relay, monitor or both."`
	Domain   string   `placeholder:"NAME" help:"Its name in DNS."`
	Email    string   `placeholder:"ADDR" help:"Where the certificate authority may write to."`
	Settings string   `type:"path" placeholder:"FILE" help:"All settings of the appliance, instead of the three above; \"relay-appliance settings\" prints them."`
	SSHKey   []string `name:"ssh-key" sep:"none" placeholder:"KEY" help:"Your public key, or the file with it; more than one if you like."`

	Restore    string `placeholder:"URL" help:"Make the machine from this encrypted backup. Without other settings, those are taken from it, too."`
	RestoreKey string `type:"path" placeholder:"FILE" help:"The secret key that the backup is encrypted to."`

	Packages   string `type:"path" placeholder:"FILE" help:"Install the packages whose SHA-256 sums are in this file. Without it and --keyring the file is for the image, which has them."`
	From       string `placeholder:"URL" help:"Where these packages are."`
	Repository string `placeholder:"URL" help:"The appliance's signed apt repository, for updates."`
	Keyring    string `type:"path" placeholder:"FILE" help:"The repository's keys (binary OpenPGP): install the packages from there."`
	Example    bool   `help:"Write a file to be edited: its values need not be good ones."`
}

// Help is what --help says besides.
func (cloudInitCmd) Help() string {
	return `Prints user-data (cloud-init) for a machine that sets itself up: paste it where your provider asks for user-data. What it says is checked as the machine itself will check it.

    relayd cloud-init --role relay --domain relay.example.org --email you@example.org --ssh-key ~/.ssh/id_ed25519.pub > user-data`
}

func (c *cloudInitCmd) Run(out *cli.IO) error {
	u, err := c.userData()
	if err != nil {
		return cli.BadInput(err)
	}
	text, err := u.Render()
	if err != nil {
		return cli.BadInput(err)
	}
	for _, remark := range u.Remarks() {
		fmt.Fprintln(out.Stderr, "note: "+remark)
	}
	_, err = out.Stdout.Write(text)
	return err
}

func (c *cloudInitCmd) userData() (appliance.UserData, error) {
	u := appliance.UserData{From: c.From, Example: c.Example}
	var faults []error
	read := func(path string) []byte {
		if path == "" {
			return nil
		}
		b, err := os.ReadFile(path)
		faults = append(faults, err)
		return b
	}
	if c.Settings != "" && c.Role+c.Domain+c.Email != "" {
		faults = append(faults, errors.New("--settings: role, domain and email stand in that file, not beside it"))
	}
	u.Settings = string(read(c.Settings))
	for _, line := range []struct{ key, value string }{{"role", c.Role}, {"domain", c.Domain}, {"email", c.Email}} {
		if line.value != "" {
			// Quoted where YAML would not read the same.
			quoted, err := yaml.Marshal(map[string]string{line.key: line.value})
			faults = append(faults, err)
			u.Settings += string(quoted)
		}
	}
	if c.Restore != "" {
		u.Settings += fmt.Sprintf("restore: {from: %q}\n", c.Restore)
	}
	u.RestoreKey = string(read(c.RestoreKey))
	if c.RestoreKey != "" { // the file may be empty
		if _, err := agefile.Identities(c.RestoreKey); err != nil {
			faults = append(faults, err)
		}
	}
	if c.Repository != "" {
		u.Settings += fmt.Sprintf("updates: {repository: %q}\n", c.Repository)
	}
	for _, key := range c.SSHKey {
		// A key has spaces in it; what has none is a file.
		if !strings.Contains(key, " ") {
			key = string(read(key))
		}
		u.Keys = append(u.Keys, strings.TrimSpace(key))
	}
	u.Sums, u.Keyring = string(read(c.Packages)), read(c.Keyring)
	return u, errors.Join(faults...)
}
