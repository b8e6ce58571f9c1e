package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
	"github.com/psf-relay/relay-appliance/internal/scene"
	"github.com/psf-relay/relay-appliance/monitor/beacon"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/bundle"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// A play is a month of three monitors: m1 is the committee's, m2 and m3 are others',
// each of an operator of its own and a witness of the other two. All keys are real,
// and whoever lies in it has only what such a person has.
type play struct {
	*scene.Scene
	t      *testing.T
	dir    string
	rules  map[string]string // fields that differ from the defaults
	roster func(yaml string) string
	logs   func([]evidence.MonitorMonth) []evidence.MonitorMonth
	forks  [][]byte
}

const releasesYAML = `valid_until: 2027-12-01T00:00:00Z
products:
- name: relayd
  agent: relayd/*
  releases:
  - {version: v1.1.0, published: 2026-01-01T00:00:00Z}
  - {version: v1.2.3, published: 2026-09-01T00:00:00Z}
`

func newPlay(t *testing.T, monitors int) *play {
	w := scene.New(t, evidence.PSF, monitors)
	w.Releases = []byte(releasesYAML)
	w.Place = "{lat: 1.3521, lon: 103.8198}"
	return &play{Scene: w, t: t, dir: t.TempDir(), rules: map[string]string{"hours_required": "5", "coverage_flag": "0", "committee_dissent": "2"}}
}

// good is what an honest monitor sees of a relay in Singapore that is up.
func (p *play) good(m *scene.Watcher, h evidence.Hour) evidence.Attempt {
	a := p.Attempt(m, h, 10*time.Minute)
	a.Facts.PingUS = []int64{2_300, 2_100}
	return a
}

func (p *play) down(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
	return []evidence.Attempt{p.Down(m, h, 10*time.Minute), p.Down(m, h, 16*time.Minute)}
}

// unsigned is a lie: up, without a word of the relay's.
func (p *play) unsigned(m *scene.Watcher, h evidence.Hour) evidence.Attempt {
	a := p.good(m, h)
	a.Facts.Reservation = nil
	return a
}

// sees lets the monitors watch: each number stands for m1, m2, ..., the hour is
// counted from the first one. nil: an honest look.
func (p *play) sees(see func(i int, m *scene.Watcher, n int, h evidence.Hour) []evidence.Attempt) *play {
	p.t.Helper()
	p.Watch(func(m *scene.Watcher, h evidence.Hour) []evidence.Attempt {
		if see != nil {
			if a := see(slices.Index(p.Monitors, m)+1, m, int(h-p.First), h); a != nil {
				return a
			}
		}
		return []evidence.Attempt{p.good(m, h)}
	})
	return p
}

func (p *play) rulesFile() []byte {
	text := string(bounty.DefaultRules)
	for field, value := range p.rules {
		text = regexp.MustCompile(`(?m)^`+field+`: .*$`).ReplaceAllString(text, field+": "+value)
	}
	return p.Signed(text)
}

func (p *play) rosterFile() []byte {
	text := p.RosterYAML()
	if p.roster != nil {
		text = p.roster(text)
	}
	return p.Signed(text)
}

// write puts the bundle and the committee's files into the play's folder.
func (p *play) write() *play {
	p.t.Helper()
	logs := p.Logs()
	if p.logs != nil {
		logs = p.logs(logs)
	}
	rules, roster := p.rulesFile(), p.rosterFile()
	var b bytes.Buffer
	_, err := bundle.Write(&b, bundle.Input{
		Rules: rules, Roster: roster, Releases: p.Releases, Relay: p.RelayID, Month: p.First.Month(),
		Logs: logs, Forks: p.forks, Beacon: beacon.Quicknet(), Sign: p.Monitors[0].Log.SignStatement,
	})
	p.Must(err)
	p.save("bundle.zip", b.Bytes())
	p.save("rules.yaml", rules)
	p.save("roster.yaml", roster)
	return p
}

func (p *play) save(name string, data []byte) {
	p.t.Helper()
	p.Must(os.WriteFile(filepath.Join(p.dir, name), data, 0o644))
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "relayaudit")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "relayaudit")
	// Of the version of the test, which draws the bundles.
	linked := "-X github.com/psf-relay/relay-appliance/internal/buildinfo.linked=" + buildinfo.Version()
	out, err := exec.Command("go", "build", "-ldflags", linked, "-o", file, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build relayaudit: %w: %s", err, out)
	}
	return file, nil
})

// run runs the built relayaudit in the play's folder.
func (p *play) run(args ...string) (code int, output string) {
	p.t.Helper()
	program, err := built()
	p.Must(err)
	cmd := exec.Command(program, args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (p *play) verify(more ...string) (code int, output string) {
	p.t.Helper()
	return p.run(append([]string{"verify", "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--committee", p.CommitteeKey}, more...)...)
}

// want runs relayaudit verify --require eligible and looks at its exit code and words.
func (p *play) want(code int, words ...string) {
	p.t.Helper()
	p.wantOf(code, []string{"--require", "eligible"}, words...)
}

func (p *play) wantOf(code int, args []string, words ...string) {
	p.t.Helper()
	got, out := p.verify(args...)
	if got != code {
		p.t.Errorf("verify %s: exit code %d, want %d", strings.Join(args, " "), got, code)
	}
	for _, w := range words {
		if !regexp.MustCompile(`(?m)` + w).MatchString(out) {
			p.t.Errorf("verify %s: no %q in its words", strings.Join(args, " "), w)
		}
	}
	if p.t.Failed() {
		p.t.Logf("it said:\n%s", out)
	}
}

// forged are the files of an exported month, with changes.
func (p *play) forged(month evidence.MonitorMonth, change func(files map[string][]byte)) map[string][]byte {
	p.t.Helper()
	files, err := month.Files()
	p.Must(err)
	change(files)
	return files
}

// peek reads the files of the bundle.
func (p *play) peek(see func(files map[string][]byte)) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, "bundle.zip"))
	p.Must(err)
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	p.Must(err)
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		p.Must(err)
		files[f.Name], err = io.ReadAll(r)
		p.Must(err)
	}
	see(files)
}

// repack changes files of the bundle and lets a monitor of the roster sign that, which
// takes nothing but its own key.
func (p *play) repack(change func(files map[string][]byte), predicate func(map[string]any)) {
	p.t.Helper()
	var files map[string][]byte
	p.peek(func(all map[string][]byte) { files = all })
	var envelope struct{ Payload string }
	p.Must(json.Unmarshal(files["report.dsse.json"], &envelope))
	body, err := base64.StdEncoding.DecodeString(envelope.Payload)
	p.Must(err)
	var statement map[string]any
	p.Must(json.Unmarshal(body, &statement))
	if change != nil {
		change(files)
	}
	if predicate != nil {
		predicate(statement["predicate"].(map[string]any))
	}
	delete(files, "report.dsse.json")
	subjects := []any{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		subjects = append(subjects, map[string]any{"name": name, "digest": map[string]any{"sha256": hex.EncodeToString(sum[:])}})
	}
	statement["subject"] = subjects
	again, err := evidence.Encode(statement)
	p.Must(err)
	files["report.dsse.json"], err = p.Monitors[0].Log.SignStatement(again)
	p.Must(err)
	p.save("bundle.zip", packed(p.t, files))
}

// packed is a ZIP as a bundle has it.
func packed(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		f, err := z.CreateRaw(&zip.FileHeader{
			Name: name, CreatorVersion: 20, ReaderVersion: 20, Method: zip.Store,
			//lint:ignore SA1019 Modified would add an extra field with the zone of this machine
			ModifiedDate: 1<<5 | 1,
			CRC32:        crc32.ChecksumIEEE(data), CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(data)),
		})
		if err != nil {
			t.Fatal(err)
		}
		f.Write(data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// logDir is where a monitor's files stand in a bundle.
func logDir(m *scene.Watcher) string {
	sum := sha256.Sum256([]byte(m.Log.Key()))
	return "logs/" + hex.EncodeToString(sum[:8]) + "/"
}

// stored is a voucher that a relay's operator signs for a monitor, whenever he likes.
func (p *play) stored(m *scene.Watcher, h evidence.Hour, started time.Time, fresh string, valid time.Duration) *evidence.Reservation {
	p.t.Helper()
	id, err := peer.Decode(p.RelayID)
	p.Must(err)
	salt := bytes.Repeat([]byte{7}, 32)
	key, err := evidence.Challenge{MonitorKey: m.Log.Key(), Cosigned: fresh, Relay: id, Hour: h, Salt: salt}.Key()
	p.Must(err)
	self, err := peer.IDFromPrivateKey(key)
	p.Must(err)
	expires := started.Add(valid)
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: id, Peer: self, Expiration: expires}, p.Relay)
	p.Must(err)
	voucher, err := e.Marshal()
	p.Must(err)
	return &evidence.Reservation{Peer: self.String(), Salt: salt, Cosigned: fresh, Voucher: voucher, Expires: evidence.TimeOf(expires)}
}
