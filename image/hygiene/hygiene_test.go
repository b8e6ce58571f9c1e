package hygiene

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

// clean is a tree with which nothing is wrong.
func clean() fstest.MapFS {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o644} }
	return fstest.MapFS{
		"etc/passwd":                           file("root:x:0:0:root:/root:/bin/bash\nrelayd:x:988:988::/var/lib/relayd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"),
		"etc/shadow":                           file("root:!:20000:0:99999:7:::\nrelayd:!*:20000::::::\nnobody:*:20000:0:99999:7:::\n"),
		"etc/machine-id":                       file(""),
		"etc/resolv.conf":                      {Data: []byte("../run/systemd/resolve/stub-resolv.conf"), Mode: fs.ModeSymlink},
		"etc/ssh/sshd_config":                  file("PasswordAuthentication no\n"),
		"etc/apt/apt.conf.d/50x":               file("// Acquire::http::Proxy \"http://example\";\n"),
		"etc/profile.d/x.sh":                   {Data: []byte("/usr/lib/x.sh"), Mode: fs.ModeSymlink},
		"home":                                 {Mode: fs.ModeDir | 0o755},
		"var/lib/relayd":                       {Mode: fs.ModeDir | 0o700},
		"var/lib/cloud":                        {Mode: fs.ModeDir | 0o755},
		"var/log/README":                       {Data: []byte("../../usr/share/doc/systemd/README.logs"), Mode: fs.ModeSymlink},
		"var/log/wtmp":                         file(""),
		"var/lib/apt/lists/partial":            {Mode: fs.ModeDir | 0o700},
		"usr/lib/python3/test_keys.py":         file("-----BEGIN PRIVATE" + " KEY-----\n"),
		"usr/share/doc/openssl/examples":       file("-----BEGIN PRIVATE" + " KEY-----\n"),
		"usr/bin/program":                      file("\x7fELF ... -----BEGIN PRIVATE" + " KEY-----\n"),
		"usr/share/keyrings/archive.gpg":       file("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"),
		"etc/ssl/certs/ca-certificates.crt":    file("-----BEGIN CERTIFICATE-----\n"),
		"usr/share/relay-appliance/sbom.json":  file("{}"),
		"var/lib/dbus":                         {Mode: fs.ModeDir | 0o755},
		"etc/relay-appliance":                  {Mode: fs.ModeDir | 0o755},
		"root/.bashrc":                         file("# ~/.bashrc\n"),
		"var/lib/systemd/deb-systemd-helper-x": file("x"),
	}
}

func TestCleanTree(t *testing.T) {
	if err := Check(clean()); err != nil {
		t.Error(err)
	}
}

// Each thing that must not be is found, and its place is named.
func TestEachIsFound(t *testing.T) {
	replace := func(name, old, with string) func(fstest.MapFS) {
		return func(tree fstest.MapFS) {
			text := string(tree[name].Data)
			if !strings.Contains(text, old) {
				panic(name + " has no " + old)
			}
			tree[name] = &fstest.MapFile{Data: []byte(strings.Replace(text, old, with, 1))}
		}
	}
	add := func(name, text string) func(fstest.MapFS) {
		return func(tree fstest.MapFS) { tree[name] = &fstest.MapFile{Data: []byte(text)} }
	}
	for what, c := range map[string]struct {
		spoil func(fstest.MapFS)
		want  string
	}{
		"host key":                 {add("etc/ssh/ssh_host_ed25519_key", "x"), "SSH host key, which all copies would share: etc/ssh/ssh_host_ed25519_key"},
		"private key":              {add("etc/ssl/private/x.pem", "text\n-----BEGIN RSA PRIVATE"+" KEY-----\nMII"), "private key, which all copies would share: etc/ssl/private/x.pem"},
		"private key in usr":       {add("usr/share/x", "-----BEGIN OPENSSH PRIVATE"+" KEY-----\n"), "usr/share/x"},
		"private key of PGP":       {add("root/key", "-----BEGIN PGP PRIVATE"+" KEY BLOCK-----\n"), "root/key"},
		"note's key":               {add("etc/key", "PRIVATE+"+"KEY+name+01234567+AAAA"), "etc/key"},
		"identity of the relay":    {add("var/lib/relayd/identity.key", "x"), "identity or state of a service, which all copies would share: var/lib/relayd/identity.key"},
		"evidence":                 {add("var/lib/relaymon/log/tile", "x"), "var/lib/relaymon/log/tile"},
		"operator's settings":      {add("etc/relay-appliance/restore.key", "secret"), "settings or a secret of an operator"},
		"authorized key":           {add("root/.ssh/authorized_keys", "ssh-ed25519 AAAA"), "key that opens the machine: root/.ssh/authorized_keys"},
		"user's authorized key":    {add("home/packer/.ssh/authorized_keys", "x"), "home/packer/.ssh/authorized_keys"},
		"root with a password":     {replace("etc/shadow", "root:!:", "root:$y$j9T$abc:"), "account with a password: root in etc/shadow"},
		"root without any":         {replace("etc/shadow", "root:!:", "root::"), "account with a password: root in etc/shadow"},
		"locked, but with a hash":  {replace("etc/shadow", "root:!:", "root:!$y$j9T$abc:"), "root in etc/shadow"},
		"service with a password":  {replace("etc/shadow", "relayd:!*:", "relayd:$6$x:"), "relayd in etc/shadow"},
		"password in passwd":       {replace("etc/passwd", "root:x:", "root::"), "root in etc/passwd"},
		"no root in shadow":        {replace("etc/shadow", "root:!:20000:0:99999:7:::\n", ""), "root is not locked"},
		"build user":               {replace("etc/passwd", "nobody:", "packer:x:1000:1000::/home/packer:/bin/bash\nnobody:"), "account of a person: packer"},
		"second root":              {replace("etc/passwd", "nobody:", "toor:x:0:0::/:/bin/sh\nnobody:"), "account of a person: toor"},
		"home":                     {add("home/packer/.bashrc", "x"), "account of a person: home/packer"},
		"machine ID":               {add("etc/machine-id", "0123456789abcdef0123456789abcdef\n"), "machine ID, which all copies would share (the file must be there, and empty): etc/machine-id"},
		"uninitialized machine ID": {add("etc/machine-id", "uninitialized\n"), "etc/machine-id"},
		"no machine ID":            {func(tree fstest.MapFS) { delete(tree, "etc/machine-id") }, "etc/machine-id is missing"},
		"machine ID of D-Bus":      {add("var/lib/dbus/machine-id", "x"), "var/lib/dbus/machine-id"},
		"random seed":              {add("var/lib/systemd/random-seed", "x"), "var/lib/systemd/random-seed"},
		"instance of cloud-init":   {add("var/lib/cloud/instances/i-1/user-data.txt", "x"), "instance of cloud-init, which would take the first boot for a later one: var/lib/cloud/instances"},
		"log":                      {add("var/log/apt/history.log", "x"), "log: var/log/apt/history.log"},
		"journal":                  {add("var/log/journal/0123/system.journal", "x"), "var/log/journal/0123/system.journal"},
		"apt's lists":              {add("var/lib/apt/lists/deb.debian.org_InRelease", "x"), "list or package: var/lib/apt/lists/deb.debian.org_InRelease"},
		"package file":             {add("var/cache/apt/archives/x.deb", "x"), "var/cache/apt/archives/x.deb"},
		"history":                  {add("root/.bash_history", "x"), "root/.bash_history"},
		"temporary file":           {add("var/tmp/relay.x/x.deb", "x"), "temporary file: var/tmp/relay.x/x.deb"},
		"lease":                    {add("var/lib/dhcp/dhclient.leases", "x"), "var/lib/dhcp/dhclient.leases"},
		"name servers":             {add("etc/resolv.conf", "nameserver 192.0.2.1\n"), "name servers of the machine that built it: etc/resolv.conf"},
		"apt's proxy":              {add("etc/apt/apt.conf.d/99proxy", "Acquire::http::Proxy \"http://x\";\n"), "etc/apt/apt.conf.d/99proxy"},
		"proxy":                    {add("etc/environment", "LANG=C\nhttps_proxy=http://x\n"), "etc/environment"},
	} {
		tree := clean()
		c.spoil(tree)
		if err := Check(tree); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", what, err, c.want)
		}
	}
}

// All faults are told at once.
func TestAllAtOnce(t *testing.T) {
	tree := clean()
	tree["etc/ssh/ssh_host_rsa_key"] = &fstest.MapFile{Data: []byte("x")}
	tree["var/log/syslog"] = &fstest.MapFile{Data: []byte("x")}
	err := Check(tree)
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v", err)
	}
}

// What cannot be read is not taken for clean.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"etc/passwd", "etc/shadow"} {
		tree := clean()
		delete(tree, name)
		if err := Check(tree); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		tree[name] = &fstest.MapFile{Data: []byte("root:!\n")}
		if err := Check(tree); err == nil || !strings.Contains(err.Error(), "fields") {
			t.Errorf("a short line in %s: %v", name, err)
		}
	}
}

// A tree on disk with links out of it: they are looked at, not followed.
func TestLinksOutOfTheTree(t *testing.T) {
	dir := t.TempDir()
	for name, f := range clean() {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case f.Mode.IsDir():
			err = os.MkdirAll(path, 0o755)
		case f.Mode&fs.ModeSymlink != 0:
			err = os.Symlink(string(f.Data), path)
		default:
			err = os.WriteFile(path, f.Data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := Check(root.FS()); err != nil {
		t.Error(err)
	}
}
