// Command oci makes container images of the project's Debian packages.
//
// For each program that runs as a service there is an image with the program as the
// package has it, byte for byte, its licences, the certificate authorities that browsers
// trust, and its bill of materials; there is no shell, and its user is not root. The same
// packages give the same bytes: all times are those of the files in the packages.
//
// PROGRAM_VERSION.oci.tar holds the image for all architectures, as an OCI image layout,
// with the bill of materials of each attached as an attestation, in the way of BuildKit.
// PROGRAM_VERSION_ARCH.docker.tar is what every version of docker load takes.
//
// It is a module of its own so that what it takes stays out of the go.mod of those who
// only install a program; so does the tool that reads compose files as their specification
// wants it ("go tool").
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// service is a program that gets an image.
type service struct{ name, title string }

var services = []service{
	{"relayd", "public libp2p relay of the PSF network"},
	{"relaymon", "watches libp2p relays from outside and writes evidence"},
}

func run(args []string) error {
	flags := flag.NewFlagSet("oci", flag.ExitOnError)
	debs := flags.String("debs", "../../../dist", "the `folder` with the packages of one version")
	out := flags.String("out", "../../../dist", "the `folder` for the images")
	version := flags.String("version", "", "the packages' `version`, where the folder holds several")
	commit := flags.String("commit", "", "the `commit` that they were built from")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for _, s := range services {
		files, err := s.packages(*debs, *version)
		if err != nil {
			return err
		}
		made, err := s.make(files, *debs, *commit, *out)
		if err != nil {
			return fmt.Errorf("image of %s: %w", s.name, err)
		}
		fmt.Println(strings.Join(made, "\n"))
	}
	return nil
}

// packages are those of a service, of one version and each for another architecture.
func (s service) packages(dir, version string) ([]string, error) {
	if version == "" {
		version = "*"
	}
	files, err := filepath.Glob(filepath.Join(dir, s.name+"_"+version+"_*.deb"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s holds no package %s_%s_*.deb: make deb", dir, s.name, version)
	}
	versions := map[string]bool{}
	for _, f := range files {
		versions[strings.Split(filepath.Base(f), "_")[1]] = true
	}
	if len(versions) > 1 {
		return nil, errors.New("packages of several versions are in " + dir + ": give -version")
	}
	slices.Sort(files)
	return files, nil
}
