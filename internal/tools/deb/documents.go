package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// documents makes what a package carries besides programs and files of the guest:
// manual, defaults with their description, change log, licences.
func (b *build) documents() error {
	changes, err := os.ReadFile(filepath.Join(b.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	if err := b.compressed("changelog.gz", changes); err != nil {
		return err
	}
	for _, c := range commands {
		page, err := b.manual(c.name, c.section)
		if err != nil {
			return fmt.Errorf("manual page of %s: %w", c.name, err)
		}
		if err := b.compressed(c.name+"."+c.section+".gz", page); err != nil {
			return err
		}
		defaults, err := b.output(b.host(c.name), strings.Fields(c.defaults)...)
		if err != nil {
			return fmt.Errorf("defaults of %s: %w", c.name, err)
		}
		if err := b.write(c.name+".defaults.yaml", []byte(defaults)); err != nil {
			return err
		}
		licences, err := b.licences(c.path)
		if err != nil {
			return fmt.Errorf("licences of %s: %w", c.name, err)
		}
		if err := b.write(c.name+".copyright", licences); err != nil {
			return err
		}
	}
	return nil
}

// manual has help2man write a page from the program's own help. The help of each
// command is a section of it, and image/deb/PROGRAM/man says what no help says.
func (b *build) manual(name, section string) ([]byte, error) {
	top, err := b.output(b.host(name), "--help")
	if err != nil {
		return nil, err
	}
	said, err := os.ReadFile(filepath.Join(b.root, "image/deb", name, "man"))
	if err != nil {
		return nil, err
	}
	include := bytes.NewBuffer(said)
	include.WriteString("\n[COMMANDS]\n")
	for _, command := range subcommands(top) {
		help, err := b.output(b.host(name), append(strings.Fields(command), "--help")...)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(include, ".SS %s %s\n.nf\n%s\n.fi\n", name, command, verbatim(help))
	}
	if err := b.write(name+".h2m", include.Bytes()); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("help2man"); err != nil {
		return nil, fmt.Errorf("%w: install it: apt-get install help2man", err)
	}
	page, err := b.output("help2man", "--no-info", "--no-discard-stderr", "--section="+section,
		"--version-string="+strings.TrimPrefix(b.linked, "v"), "--include="+filepath.Join(b.stage, name+".h2m"), b.host(name))
	return []byte(page), err
}

var subcommand = regexp.MustCompile(`^  ([a-z][a-z-]*(?: [a-z][a-z-]*)*)(?:  | <|$)`)

// subcommands are those that a program's help lists.
func subcommands(help string) []string {
	_, list, _ := strings.Cut(help, "\nCommands:\n")
	var names []string
	for line := range strings.Lines(list) {
		if m := subcommand.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

// verbatim keeps text as it is in roff, where a hyphen shall be one that can be
// searched for and copied. No line may begin with a control character of roff, nor
// with what help2man takes for the head of a section.
func verbatim(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(strings.TrimSpace(text))
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != "" && strings.ContainsRune(".'[/", rune(line[0])) {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice)`)

// licences is the copyright file: the project's own licence and those of all that
// the program links, which want to come along with it.
func (b *build) licences(program string) ([]byte, error) {
	own, err := os.ReadFile(filepath.Join(b.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	parts, err := b.linkedLicences(program)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "Source: https://%s\n\n%s\nThis program is linked statically with the modules below.\n%s", module, own, parts), nil
}

// notices writes the licences of what any of the programs links.
func (b *build) notices(file string) error {
	var programs []string
	for _, c := range commands {
		programs = append(programs, c.path)
	}
	parts, err := b.linkedLicences(programs...)
	if err != nil {
		return err
	}
	return os.WriteFile(file, append([]byte("The programs are linked statically with the modules below.\n"), parts...), 0o644)
}

// checkPage is the package whose script is made of npm packages; it holds their
// licences.
const checkPage = module + "/internal/checkpage"

// linkedLicences are the licences of the modules that programs link, of Go, and of
// what the script of the check page contains.
func (b *build) linkedLicences(programs ...string) ([]byte, error) {
	goList, err := b.goCommand(b.arch, append([]string{"list", "-deps", "-json=ImportPath,Module"}, programs...)...)
	if err != nil {
		return nil, err
	}
	list, err := output(goList)
	if err != nil {
		return nil, err
	}
	type goModule struct {
		Path, Version, Dir string
		Main               bool
	}
	modules := map[string]goModule{}
	page := false
	dec := json.NewDecoder(strings.NewReader(list))
	for {
		var p struct {
			ImportPath string
			Module     *goModule
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		page = page || p.ImportPath == checkPage
		if p.Module != nil && !p.Module.Main {
			modules[p.Module.Path] = *p.Module
		}
	}
	goEnv, err := b.goCommand(b.arch, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goroot, err := output(goEnv)
	if err != nil {
		return nil, err
	}
	modules["Go"] = goModule{Path: "The Go standard library and runtime", Dir: strings.TrimSpace(goroot)}

	var out bytes.Buffer
	all := make([]goModule, 0, len(modules))
	for _, m := range modules {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b goModule) int { return strings.Compare(a.Path, b.Path) })
	for _, m := range all {
		entries, err := os.ReadDir(m.Dir)
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) || strings.HasSuffix(e.Name(), ".go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = true
			fmt.Fprintf(&out, "\n%s\n%s %s, %s\n\n%s\n", strings.Repeat("-", 78), m.Path, m.Version, e.Name(), bytes.TrimSpace(text))
		}
		if !found {
			return nil, fmt.Errorf("%s has no licence file: it must not be shipped", m.Path)
		}
	}
	if page {
		npm, err := os.ReadFile(filepath.Join(b.root, "internal/checkpage/NOTICES.txt"))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "\n%s\n%s", strings.Repeat("-", 78), npm)
	}
	return out.Bytes(), nil
}

func (b *build) host(program string) string { return filepath.Join(b.stage, "host", program) }

func (b *build) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(b.stage, name), data, 0o644)
}

func (b *build) compressed(name string, data []byte) error {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return b.write(name, out.Bytes())
}
