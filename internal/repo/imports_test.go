package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/psf-relay/relay-appliance"

// listed is what `go list` tells of a package.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Dir          string
	GoFiles      []string
}

// short is the package's path inside the module.
func (p listed) short() string { return short(p.ImportPath) }

func short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports,Deps,Dir,GoFiles", module+"/...")
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// mayImport lists, for each package of the module, the packages of the module
// that it may import. A package that is not listed here fails the test: whoever
// adds one says where it stands. A trailing /... covers a subtree.
var mayImport = map[string][]string{
	// The relay knows nothing of its judges. Its root puts the rooms together; circuit and
	// doctor do not know each other.
	"relay":           {"relay/circuit", "relay/config", "relay/doctor", "relay/monitors", "relay/refusal", "relay/status", "relay/trend", "internal/alert", "internal/bounded", "internal/buildinfo", "internal/cashaddr", "internal/certs", "internal/checkpage", "internal/coord", "internal/durable", "internal/listen", "internal/maintenance", "internal/stateformat", "internal/statement", "internal/systemd"},
	"relay/circuit":   {"relay/config", "relay/refusal", "relay/status", "internal/durable", "internal/wallclock"},
	"relay/doctor":    {"relay/config", "relay/refusal", "relay/status", "internal/buildinfo", "internal/certs", "internal/coord", "internal/download", "internal/durable", "internal/release", "internal/release/feed", "internal/wallclock"},
	"relay/monitors":  {"relay/status", "internal/alert", "internal/buildinfo", "internal/download"},
	"relay/config":    {"internal/alert", "internal/config"},
	"relay/refusal":   {},
	"relay/trend":     {"relay/config", "internal/bounded", "internal/durable"},
	"relay/status":    {"internal/maintenance", "internal/publicip"}, // data only: programs link it that know nothing of libp2p
	"relay/relaytest": {"relay/config", "internal/need"},
	// It writes user-data for an appliance, checked as that will check it.
	"relay/cmd/relayd": {"internal/alert", "internal/alert/alertcmd", "relay", "relay/circuit", "relay/config", "relay/doctor", "relay/status", "internal/agefile", "internal/alert/alertcmd", "internal/bounded", "internal/cli", "internal/buildinfo", "internal/appliance"},

	// The monitor, from the outside in.
	"monitor":                       {"monitor/bucket", "monitor/probe", "monitor/browser", "monitor/evidence", "monitor/store", "monitor/witness", "monitor/beacon", "monitor/bounty", "monitor/bundle", "monitor/committee", "monitor/site", "monitor/decision", "monitor/web", "monitor/history", "monitor/tiles", "monitor/tiles/tileserver", "monitor/mirror", "internal/alert", "internal/bounded", "internal/certs", "internal/checkpage", "internal/config", "internal/download", "internal/durable", "internal/buildinfo", "internal/coord", "internal/listen", "internal/systemd", "internal/release", "internal/release/feed", "internal/maintenance", "internal/stateformat", "internal/wallclock", "monitor/schedule"},
	"monitor/web":                   {"monitor/evidence", "monitor/bounty", "monitor/chart", "monitor/history", "monitor/page", "internal/buildinfo"},
	"monitor/site":                  {"monitor/committee", "monitor/decision", "monitor/evidence", "monitor/bounty", "monitor/bundle", "monitor/chart", "monitor/page", "internal/durable", "internal/listen"},
	"monitor/site/sitetest":         {"monitor/bounty", "monitor/committee", "monitor/decision", "monitor/evidence", "internal/statement"},
	"monitor/page":                  {},
	"monitor/chart":                 {},
	"monitor/history":               {"monitor/evidence", "monitor/store", "monitor/bounty"},
	"monitor/store":                 {"monitor/evidence", "internal/bls", "internal/bounded", "internal/durable"},
	"monitor/witness":               {"monitor/evidence", "internal/buildinfo", "internal/durable", "internal/listen"},
	"monitor/tiles":                 {"monitor/evidence", "internal/bounded", "internal/durable"}, // relayaudit links it, which works offline
	"monitor/tiles/tileserver":      {"monitor/tiles", "monitor/evidence", "internal/listen"},
	"monitor/decision":              {"monitor/evidence", "monitor/tiles", "internal/bounded", "internal/durable", "internal/statement"},
	"monitor/bucket":                {"monitor/tiles"},
	"monitor/mirror":                {"monitor/bucket", "monitor/tiles", "monitor/evidence", "internal/bounded", "internal/download", "internal/durable"},
	"monitor/beacon":                {"monitor/evidence", "internal/bls"},
	"monitor/beacon/beacontest":     {"monitor/beacon", "internal/bls"},
	"monitor/schedule":              {"monitor/evidence", "monitor/beacon", "monitor/bounty", "monitor/probe", "internal/buildinfo", "internal/download", "internal/wallclock"},
	"monitor/browser":               {"monitor/evidence", "internal/checkpage", "internal/listen"},
	"monitor/probe":                 {"monitor/evidence", "internal/coord", "internal/buildinfo", "internal/download", "internal/publicip"},
	"monitor/bundle":                {"monitor/bounty", "monitor/chart", "monitor/evidence", "internal/buildinfo", "internal/release"},
	"monitor/bounty":                {"monitor/evidence", "internal/bls", "internal/config", "internal/statement", "internal/release"},
	"monitor/committee":             {"monitor/bounty", "monitor/bundle", "monitor/evidence", "internal/release"},
	"monitor/evidence":              {"internal/bls"}, // see TestEvidenceIsPure
	"monitor/evidence/evidencetest": {"monitor/evidence"},
	"monitor/cmd/relaymon":          {"monitor", "monitor/bucket", "monitor/site", "monitor/mirror", "monitor/tiles", "monitor/browser", "monitor/probe", "monitor/evidence", "monitor/store", "monitor/bounty", "monitor/bundle", "internal/agefile", "internal/alert/alertcmd", "internal/bounded", "internal/cli", "internal/coord", "internal/buildinfo", "internal/durable", "internal/publicip"},
	"monitor/cmd/relayaudit":        {"monitor/bundle", "monitor/bounty", "monitor/decision", "monitor/evidence", "monitor/beacon", "internal/bounded", "internal/cli", "internal/buildinfo"},

	// Small parts that stand on their own.
	"internal/alert":               {"internal/buildinfo", "internal/config", "internal/download", "internal/durable", "internal/publicip"},
	"internal/alert/alertcmd":      {"internal/alert", "internal/cli"},
	"internal/agefile":             {"internal/cli", "internal/durable"},
	"internal/bls":                 {},
	"internal/bounded":             {},
	"internal/arch":                {},
	"internal/archive":             {"internal/arch", "internal/deb822", "internal/durable"},
	"internal/buildinfo":           {},
	"internal/cashaddr":            {},
	"internal/publicip":            {},
	"internal/certs":               {"internal/download", "internal/durable", "internal/listen"},
	"internal/checkpage":           {},
	"internal/cli":                 {"internal/buildinfo"},
	"internal/config":              {},
	"internal/coord":               {"internal/durable"},
	"internal/deb822":              {},
	"internal/durable/durabletest": {"internal/durable"},
	"internal/durable":             {},
	"internal/need":                {"internal/npm"},
	"internal/listen":              {},
	"internal/listen/listentest":   {},
	"internal/s3test":              {"internal/need"},
	"internal/npm":                 {},
	"internal/pgtest":              {"internal/need"},
	"internal/sbom":                {"internal/deb822"},
	"internal/scene":               {"monitor/bounty", "monitor/evidence", "monitor/store", "internal/statement"},
	"internal/release":             {"internal/config"},
	"internal/release/feed":        {"internal/release", "internal/config", "internal/download", "internal/durable"},
	"internal/release/releasetest": {"internal/release"},
	"internal/download":            {},
	"internal/statement":           {},
	"internal/systemd":             {},
	"internal/wallclock":           {"internal/buildinfo"},

	// What keeps a machine up to date.
	"internal/stateformat": {"internal/durable"},
	"internal/maintenance": {"internal/durable"},
	"internal/upgrade":     {"internal/maintenance", "internal/release/feed", "internal/durable", "internal/cli", "relay/status"},

	// What sets a machine up. It runs the programs, and of relay and monitor it knows what
	// relayd writes of its state.
	"internal/appliance":                     {"relay/status", "internal/agefile", "internal/alert", "internal/arch", "internal/bounded", "internal/cashaddr", "internal/config", "internal/download", "internal/release", "internal/durable", "internal/buildinfo", "internal/upgrade", "internal/publicip"},
	"internal/appliance/bucket":              {"internal/appliance"},
	"internal/appliance/cmd/relay-appliance": {"internal/agefile", "internal/alert/alertcmd", "internal/appliance", "internal/appliance/bucket", "internal/upgrade", "internal/cli"},

	// What starts or tests the whole.
	"internal/pebble":        {},
	"internal/qemu":          {},
	"internal/tools/release": {"internal/arch", "internal/archive", "internal/cli", "internal/durable", "internal/release", "internal/release/feed", "internal/sbom"},
	"internal/demo":          {"internal/durable", "internal/pebble"},
	"internal/demo/cmd/demo": {"internal/demo", "internal/cli"},
	"internal/e2e/...":       {"..."},
	// It simulates the network alone; the rest is the monitors' own.
	"internal/month":           {"internal/bls", "monitor", "monitor/probe", "monitor/evidence", "monitor/bounty", "monitor/bundle", "monitor/store", "internal/listen", "internal/statement"},
	"internal/month/cmd/month": {"internal/month", "internal/cli"},
	// It makes up the network and drand, and measures the rest.
	"internal/scale":           {"monitor", "monitor/beacon", "monitor/bounty", "monitor/bundle", "monitor/committee", "monitor/evidence", "monitor/evidence/evidencetest", "monitor/mirror", "monitor/store", "monitor/tiles", "internal/bls", "internal/statement"},
	"internal/scale/cmd/scale": {"internal/scale", "internal/cli"},

	// The benchmark sees the relay as a process, as everybody else does.
	"internal/bench":           {"internal/bench/lab", "internal/bench/load", "internal/bench/subject"},
	"internal/bench/lab":       {},
	"internal/bench/load":      {"internal/bench/lab", "internal/coord"},
	"internal/bench/subject":   {"internal/bench/lab", "internal/bench/load"},
	"internal/bench/cmd/bench": {"internal/bench", "internal/bench/lab", "internal/bench/load", "internal/bench/subject", "internal/cli", "internal/npm"},

	"internal/repo": {},
}

// testOnly are packages that no program may link.
var testOnly = []string{"relay/relaytest", "internal/e2e", "internal/scale", "internal/scale/cmd/scale", "internal/repo", "internal/need", "internal/s3test", "internal/pgtest", "internal/release/releasetest", "internal/listen/listentest", "internal/scene", "monitor/beacon/beacontest", "monitor/evidence/evidencetest", "monitor/site/sitetest", "internal/durable/durabletest", "relay/relaytest"}

// tests may import, besides what the package itself may.
var testsMayImport = []string{"internal/need", "internal/s3test", "internal/pgtest", "internal/pebble", "internal/statement", "internal/release/releasetest", "internal/listen/listentest", "internal/scene", "monitor/beacon/beacontest", "monitor/site/sitetest", "internal/bls", "relay/relaytest"}

// testMayImport is what the tests of one package may import, too.
var testMayImport = map[string][]string{
	"internal/qemu":        {"internal/arch"}, // it boots what the table names
	"monitor/tiles":        {"monitor/store"},
	"monitor/mirror":       {"monitor/store", "monitor/tiles/tileserver"},
	"monitor/bucket":       {"internal/config", "monitor/store", "monitor/evidence", "monitor/mirror"}, // what is written is read
	"monitor/committee":    {"monitor/mirror", "monitor/store", "internal/release"},                    // logs as they are read
	"monitor/cmd/relaymon": {"monitor/store", "monitor/committee", "internal/month", "internal/pgtest"},
	"monitor/probe":        {"monitor/bounty"},                   // what an attempt comes to as a vote
	"monitor":              {"internal/bls", "internal/agefile"}, // whose plan it is; who writes a backup

	"relay/monitors": {"monitor/bounty", "monitor/evidence", "monitor/web"}, // what a monitor really answers

	// A witness is tested with real logs, and a log with a real witness; what is verified
	// is written by a real log. None of them knows the others outside of tests.
	"monitor/evidence": {"monitor/store", "monitor/evidence/evidencetest"},
	"monitor/store":    {"monitor/witness", "monitor/evidence/evidencetest", "internal/durable/durabletest"},
	"monitor/witness":  {"monitor/store", "monitor/evidence/evidencetest", "internal/durable/durabletest"},

	// What is bundled and judged is written by a real log.
	"monitor/bundle":         {"monitor/store", "monitor/evidence/evidencetest"},
	"monitor/cmd/relayaudit": {"monitor/store", "monitor/evidence/evidencetest", "internal/statement"},
	"monitor/decision":       {"monitor/evidence/evidencetest"},
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		allowed, known := lookup(p.short())
		if !known {
			t.Errorf("%s: not in mayImport: add it with what it may import", p.short())
			continue
		}
		check := func(imports, extra []string, where string) {
			for _, path := range imports {
				in, ok := strings.CutPrefix(path, module+"/")
				if !ok || path == p.ImportPath || covers(allowed, in) || covers(extra, in) {
					continue
				}
				t.Errorf("%s%s imports %s, which mayImport does not allow", p.short(), where, in)
			}
		}
		check(p.Imports, nil, "")
		forTests := slices.Concat(testsMayImport, testMayImport[p.short()])
		check(p.TestImports, forTests, " (test)")
		check(p.XTestImports, forTests, " (test)")
		for _, path := range p.Imports {
			if covers(testOnly, short(path)) && !covers(testOnly, p.short()) {
				t.Errorf("%s imports %s outside of tests", p.short(), short(path))
			}
			if strings.Contains(path, module) && strings.Contains(path, "/cmd/") {
				t.Errorf("%s imports the command %s", p.short(), short(path))
			}
		}
	}
}

// The picture of the relay's rooms shows the imports there are between them.
func TestPictureOfTheRelay(t *testing.T) {
	const page = "ARCHITECTURE.md"
	_, picture, _ := strings.Cut(string(read(t, page)), "graph TD\n")
	picture, _, ok := strings.Cut(picture, "```")
	if !ok {
		t.Fatalf("%s has no picture of the relay", page)
	}
	names := map[string]string{} // of what has another name in the picture
	for _, m := range regexp.MustCompile(`(\w+)\[([^]]+)\]`).FindAllStringSubmatch(picture, -1) {
		names[m[1]] = m[2]
	}
	path := func(name string) string {
		name, _, _ = strings.Cut(name, "[")
		if in, ok := names[name]; ok {
			return in
		}
		return strings.TrimSuffix("relay/"+name, "/relay")
	}
	var drawn, real []string
	for line := range strings.Lines(picture) {
		if from, to, ok := strings.Cut(strings.TrimSpace(line), " --> "); ok {
			drawn = append(drawn, path(from)+" -> "+path(to))
		}
	}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			if to := short(imported); !covers(testOnly, p.short()) && (to == "relay" || strings.HasPrefix(to, "relay/")) {
				real = append(real, p.short()+" -> "+to)
			}
		}
	}
	slices.Sort(drawn)
	slices.Sort(real)
	if !slices.Equal(drawn, real) {
		t.Errorf("%s shows\n%s\nand the imports are\n%s", page, strings.Join(drawn, "\n"), strings.Join(real, "\n"))
	}
}

func lookup(pkg string) ([]string, bool) {
	if allowed, ok := mayImport[pkg]; ok {
		return allowed, true
	}
	for pattern, allowed := range mayImport {
		if prefix, ok := strings.CutSuffix(pattern, "/..."); ok && (pkg == prefix || strings.HasPrefix(pkg, prefix+"/")) {
			return allowed, true
		}
	}
	return nil, false
}

// covers says whether one of the patterns is pkg, a folder above it, or "...".
func covers(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return pattern == "..." || pkg == pattern || slices.Contains(testOnly, pattern) && strings.HasPrefix(pkg, pattern+"/")
	})
}

// reserved says who alone may import a library from outside.
var reserved = []struct {
	library string // a path, with /... for the subtree
	users   []string
	reason  string
}{
	{"github.com/robfig/cron/v3", []string{"monitor"}, "one place decides when a probe is due"},
	{"github.com/libp2p/go-libp2p", []string{"relay", "relay/doctor", "relay/relaytest", "monitor/probe", "internal/coord", "internal/bench"}, "hosts are made by the relay, by the probe and by what the relay is compared with"},
	{"github.com/libp2p/go-libp2p/p2p/host/...", []string{"relay", "relay/doctor", "monitor/probe", "internal/coord", "internal/bench"}, "as above"},
	{"github.com/libp2p/go-libp2p/p2p/transport/...", []string{"relay", "relay/config", "relay/doctor", "relay/relaytest", "monitor/probe", "internal/bench"}, "as above"},
	{"github.com/letsencrypt/pebble/...", []string{"internal/pebble"}, "a certificate authority for tests and make run"},
	{"filippo.io/age/...", []string{"internal/agefile"}, "files are encrypted in one way"},
	{"github.com/minio/minio-go/v7/...", []string{"internal/appliance/bucket"}, "relayd, which knows the appliance's settings, is not to link it"},
	{"gocloud.dev/...", []string{"monitor/bucket"}, "one place knows which URLs are taken, and keeps secrets out of errors"},
	{"github.com/Azure/...", []string{"monitor/bucket"}, "as above"},
	{"github.com/nicholas-fedor/shoutrrr/...", []string{"internal/alert"}, "its errors and logs hold secrets, and one place keeps them in"},
	{"golang.org/x/crypto/acme/...", []string{"internal/certs"}, "certificates are obtained, served and stored in one way"},
	{"testing", []string{"internal/need", "internal/s3test", "internal/pgtest", "internal/release/releasetest", "internal/listen/listentest", "internal/scene", "internal/scale", "monitor/beacon/beacontest", "monitor/evidence/evidencetest", "monitor/site/sitetest", "relay/relaytest", "internal/e2e", "internal/repo"}, "no testing code in a program"},
}

func TestReservedLibraries(t *testing.T) {
	for _, p := range packages(t) {
		for _, r := range reserved {
			prefix, tree := strings.CutSuffix(r.library, "/...")
			for _, path := range p.Imports {
				if path != prefix && (!tree || !strings.HasPrefix(path, prefix+"/")) {
					continue
				}
				if !slices.ContainsFunc(r.users, func(u string) bool {
					return p.short() == u || strings.HasPrefix(p.short(), u+"/") && u != "monitor" && u != "relay"
				}) {
					t.Errorf("%s imports %s, which is reserved to %s: %s", p.short(), path, strings.Join(r.users, ", "), r.reason)
				}
			}
		}
	}
}

// What relayaudit links decides what a committee member has to trust: a program
// that is said to work offline must not hold a network stack of peers.
func TestAuditorIsOffline(t *testing.T) {
	banned := []string{
		"github.com/libp2p/go-libp2p",
		"github.com/libp2p/go-libp2p/p2p/host",
		"github.com/libp2p/go-libp2p/p2p/net",
		"github.com/libp2p/go-libp2p/p2p/transport",
		"github.com/libp2p/go-libp2p-pubsub",
		"github.com/robfig/cron/v3",
		"gocloud.dev",
	}
	ours := []string{"net/http", "net/rpc", "net/smtp"} // in no package of this module that it links
	all := packages(t)
	byPath := map[string]listed{}
	for _, p := range all {
		byPath[p.ImportPath] = p
	}
	audit, ok := byPath[module+"/monitor/cmd/relayaudit"]
	if !ok {
		t.Fatal("monitor/cmd/relayaudit is gone: this test would guard nothing")
	}
	for _, dep := range audit.Deps {
		for _, b := range banned {
			if dep == b || b != banned[0] && strings.HasPrefix(dep, b+"/") {
				t.Errorf("relayaudit links %s", dep)
			}
		}
		if p, own := byPath[dep]; own {
			for _, path := range p.Imports {
				if slices.Contains(ours, path) {
					t.Errorf("relayaudit links %s, which imports %s", p.short(), path)
				}
			}
		}
	}
}
