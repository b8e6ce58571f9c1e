// Package hygiene looks for what an image must not carry: keys and identities that
// its copies would share, ways in that its operator did not ask for, and traces of the
// machine that built it.
package hygiene

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
)

// Scrub is a shell script that removes what [Check] would find of a machine's usual
// life. It does not hide mistakes: a password that was set, it leaves, to be found.
//
//go:embed scrub.sh
var Scrub string

// rule is one thing that must not be; find says where it is.
type rule struct {
	what string
	find func(fs.FS) ([]string, error)
}

// Check looks through the tree of a finished image and names all that it finds.
func Check(tree fs.FS) error {
	var faults []error
	for _, r := range rules {
		found, err := r.find(tree)
		if err != nil {
			return fmt.Errorf("look for %s: %w", r.what, err)
		}
		for _, where := range found {
			faults = append(faults, fmt.Errorf("%s: %s", r.what, where))
		}
	}
	return errors.Join(faults...)
}

var rules = []rule{
	{"an SSH host key, which all copies would share", matching("etc/ssh/ssh_host_*")},
	{"a private key, which all copies would share", privateKeys},
	{"an identity or state of a service, which all copies would share", filesBelow("var/lib/relayd", "var/lib/relaymon")},
	{"settings or a secret of an operator", matching("etc/relay-appliance/*")},
	{"a key that opens the machine", authorizedKeys},
	{"an account with a password", passwords},
	{"an account of a person", people},
	{"a machine ID, which all copies would share (the file must be there, and empty)", machineID},
	{"a seed or secret of systemd, which all copies would share", matching("var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/dbus/machine-id")},
	{"an instance of cloud-init, which would take the first boot for a later one", matching("var/lib/cloud/*")},
	{"a log", filesBelow("var/log")},
	{"a downloaded list or package", filesBelow("var/lib/apt/lists", "var/cache/apt/archives")},
	{"a shell's history", matching("root/.*_history", "home/*/.*_history")},
	{"a temporary file", filesBelow("tmp", "var/tmp")},
	{"a lease of an address", filesBelow("var/lib/dhcp")},
	{"the name servers of the machine that built it", nameServers},
	{"a proxy of the machine that built it", proxies},
}
