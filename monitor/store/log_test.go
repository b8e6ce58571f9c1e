package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/bls"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
	"github.com/psf-relay/relay-appliance/monitor/evidence/evidencetest"
)

func newLog(t testing.TB) (*Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Create(dir, Options{Name: "monitor.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, dir
}

func sound(t testing.TB, dir string) CheckReport {
	t.Helper()
	r, err := Check(dir)
	evidencetest.Must(t, err)
	if len(r.Faults) > 0 {
		t.Fatalf("store has faults:\n%s", strings.Join(r.Faults, "\n"))
	}
	return r
}

func TestLogFromEndToEnd(t *testing.T) {
	l, dir := newLog(t)
	if l.Origin() != "monitor.example.org/relaymon/psf" || l.Network() != evidence.PSF || l.First() != evidencetest.FirstHour || l.Size() != 0 {
		t.Fatalf("new log: %s %s %s %d", l.Origin(), l.Network(), l.First(), l.Size())
	}
	relay, other := evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.RSA, 2048)
	der, cert := evidencetest.NewLeaf(t, "relay.example.org")
	w1, w2 := evidencetest.NewWitness(t, "w1.example.net/witness"), evidencetest.NewWitness(t, "w2.example.net/witness")

	// Eight hours over the month's end, with a gap of two.
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+8; h++ {
		if h == evidencetest.FirstHour+2 || h == evidencetest.FirstHour+3 {
			continue
		}
		evidencetest.Watch(t, l, h)
		evidencetest.Must(t, l.Append(h, relay.Attempt(t, l.Key(), h, 10*time.Minute, cert), der))
		evidencetest.Must(t, l.Append(h, other.Attempt(t, l.Key(), h, 59*time.Minute, nil)))
		evidencetest.Must(t, l.Append(h, other.Attempt(t, l.Key(), h, 65*time.Minute, nil))) // a retry past the hour's end
		if got, err := l.Seal(evidencetest.Closing(h).Add(-time.Second)); err != nil || len(got) > 0 && got[len(got)-1].Hour >= h {
			t.Fatalf("sealed %v before :16 (%v)", got, err)
		}
		got, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
		if len(got) == 0 || got[len(got)-1].Hour != h || got[len(got)-1].State != evidence.StateOK || got[len(got)-1].Records != 2 {
			t.Fatalf("sealed %+v", got)
		}
		if err := l.Append(h, relay.Attempt(t, l.Key(), h, time.Minute, cert)); !errors.Is(err, ErrSealed) {
			t.Fatalf("append to a sealed hour: %v", err)
		}
		if left, err := os.ReadDir(l.path(walDir)); err != nil || len(left) > 0 {
			t.Fatalf("write-ahead files of sealed hours stay: %v, %v", left, err)
		}
		cp, err := l.Checkpoint()
		evidencetest.Must(t, err)
		evidencetest.Must(t, l.AddCosignatures(l.Size(), append(w2.Cosign(t, cp, evidencetest.Closing(h).Add(2*time.Minute)), w1.Cosign(t, cp, evidencetest.Closing(h).Add(time.Minute))...), w1.VKey(), w2.VKey()))
	}
	// And one that is open.
	open := evidencetest.FirstHour + 8
	evidencetest.Watch(t, l, open)
	evidencetest.Must(t, l.Append(open, relay.Attempt(t, l.Key(), open, 5*time.Minute, cert)))

	report := sound(t, dir)
	if report.Blocks != 8 || report.Watched != 6 || report.Gaps != 2 || report.Records != 13 || report.Attempts != 19 ||
		report.Checkpoints != 7 || report.Others != 12 || report.Certificates != 1 || len(report.Open) != 1 {
		t.Fatalf("check: %+v", report)
	}

	asOf := open.Start().Add(30 * time.Minute)
	keys := evidence.Keys{Log: l.Key(), Witnesses: []string{w1.VKey(), w2.VKey()}}
	oct, err := l.Month(evidencetest.FirstHour.Month(), relay.ID.String(), asOf, keys.Witnesses...)
	evidencetest.Must(t, err)
	nov, err := l.Month(evidencetest.FirstHour.Month()+1, relay.ID.String(), asOf, keys.Witnesses...)
	evidencetest.Must(t, err)
	v, err := evidence.VerifyMonth(oct, keys)
	evidencetest.Must(t, err)
	if v.Name != "monitor.example.org" || v.Network != evidence.PSF || v.Size != 4 || len(v.Hours) != 4 || len(v.Certificates) != 1 {
		t.Fatalf("October: %+v", v)
	}
	if v.Hours[2].Header.State != evidence.StateGap || v.Hours[2].Record != nil || v.Hours[2].ClockFault == "" || v.Hours[0].ClockFault != "" {
		t.Fatalf("gap: %+v", v.Hours[2])
	}
	if got := v.Hours[0].Vouchers; len(got) != 1 || got[0].State != evidence.VoucherBound {
		t.Fatalf("vouchers: %+v", got)
	}
	want := []evidence.Cosigned{{Witness: w1.VKey(), At: evidencetest.Closing(evidencetest.FirstHour).Add(time.Minute)}, {Witness: w2.VKey(), At: evidencetest.Closing(evidencetest.FirstHour).Add(2 * time.Minute)}}
	if d := cmp.Diff(want, v.Hours[0].Cosigned); d != "" {
		t.Fatal(d)
	}
	v, err = evidence.VerifyMonth(nov, keys)
	evidencetest.Must(t, err)
	if v.Size != 8 || len(v.Hours) != 4 {
		t.Fatalf("November: %+v", v)
	}
	// The gap of October was sealed together with the first hour of November, and cosigned with it.
	if nov.StartSize != 4 || nov.Start == nil {
		t.Fatalf("start: %d %q", nov.StartSize, nov.Start)
	}

	// The same again after a start, byte for byte; also read while the log is open.
	before, err := nov.Files()
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())
	if l, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := OpenRead(dir)
	evidencetest.Must(t, err)
	for _, l := range []*Log{l, r} {
		again, err := l.Month(evidencetest.FirstHour.Month()+1, relay.ID.String(), asOf, keys.Witnesses...)
		evidencetest.Must(t, err)
		after, err := again.Files()
		evidencetest.Must(t, err)
		if d := cmp.Diff(before, after); d != "" {
			t.Fatal(d)
		}
	}
	if err := r.Begin(open, asOf, "x"); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("write to a log opened for reading: %v", err)
	}
	parsed, err := evidence.MonthFromFiles(before)
	evidencetest.Must(t, err)
	if _, err := evidence.VerifyMonth(parsed, keys); err != nil {
		t.Fatal(err)
	}
}

func TestCreateIsOnce(t *testing.T) {
	l, dir := newLog(t)
	o := Options{Name: "monitor.example.org", Network: evidence.PSF, First: evidencetest.FirstHour}
	_, err := Create(dir, o)
	evidencetest.WantError(t, err, "in use by another process")
	_, err = Open(dir)
	evidencetest.WantError(t, err, "in use by another process")
	evidencetest.Must(t, l.Close())
	if _, err := Create(dir, o); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create: %v", err)
	}
	for _, name := range []string{keyFile, witnessFile, planFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		evidencetest.Must(t, err)
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	again, err := Open(dir)
	evidencetest.Must(t, err)
	defer again.Close()
	if again.Key() != l.Key() || again.WitnessKey() != l.WitnessKey() {
		t.Fatal("keys changed")
	}
	if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of nothing: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, o := range []Options{
		{Name: "", Network: evidence.PSF, First: evidencetest.FirstHour},
		{Name: "Monitor", Network: evidence.PSF, First: evidencetest.FirstHour},
		{Name: "a b", Network: evidence.PSF, First: evidencetest.FirstHour},
		{Name: "a/relaymon/psf", Network: evidence.PSF, First: evidencetest.FirstHour},
		{Name: "a", Network: "main", First: evidencetest.FirstHour},
		{Name: "a", Network: evidence.PSF},
	} {
		dir := filepath.Join(t.TempDir(), "log")
		if l, err := Create(dir, o); err == nil {
			l.Close()
			t.Errorf("created %+v", o)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%+v left a folder behind", o)
		}
	}
}

// A log that was interrupted while it was created is completed with the keys it has.
func TestCreateGoesOn(t *testing.T) {
	l, dir := newLog(t)
	evidencetest.Must(t, l.Close())
	evidencetest.Must(t, os.Remove(filepath.Join(dir, metaFile)))
	again, err := Create(dir, Options{Name: "monitor.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.Must(t, err)
	evidencetest.Must(t, again.Close())
	if again.Key() != l.Key() {
		t.Fatal("a key was made anew")
	}
	evidencetest.Must(t, os.Remove(filepath.Join(dir, metaFile)))
	_, err = Create(dir, Options{Name: "other.example.org", Network: evidence.PSF, First: evidencetest.FirstHour})
	evidencetest.WantError(t, err, "it is the key of monitor.example.org/relaymon/psf")
}

func TestOpenWantsItsOwnKeys(t *testing.T) {
	l, dir := newLog(t)
	evidencetest.Must(t, l.Close())
	k, err := evidence.NewSigningKey(rand.Reader, l.Origin(), evidence.LogKeyType)
	evidencetest.Must(t, err)
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, keyFile), []byte(k.String()+"\n"), 0o600))
	_, err = Open(dir)
	evidencetest.WantError(t, err, "restore the files from one backup")
	evidencetest.Must(t, os.WriteFile(filepath.Join(dir, keyFile), []byte("nonsense\n"), 0o600))
	_, err = Open(dir)
	evidencetest.WantError(t, err, "not a signer key")
}

// The plan key stands in rosters, and no record counts by another one: it is never made anew.
func TestOpenWantsItsPlanKey(t *testing.T) {
	l, dir := newLog(t)
	evidencetest.Must(t, l.Close())
	file := filepath.Join(dir, planFile)
	another, err := bls.GenerateKey()
	evidencetest.Must(t, err)
	for content, want := range map[string]string{another.Text() + "\n": "restore the files from one backup", "nonsense\n": "restore the file from the backup", "": "restore the file from the backup"} {
		evidencetest.Must(t, os.WriteFile(file, []byte(content), 0o600))
		_, err = Open(dir)
		evidencetest.WantError(t, err, want)
	}
	evidencetest.Must(t, os.Remove(file))
	_, err = Open(dir)
	evidencetest.WantError(t, err, "is never made anew")
	if _, err := os.Stat(file); err == nil {
		t.Error("a plan key was made anew")
	}

	// A log that was made before there were plan keys.
	file = filepath.Join(dir, metaFile)
	meta, err := os.ReadFile(file)
	evidencetest.Must(t, err)
	older := regexp.MustCompile(`"plan_key":"[^"]*",?`).ReplaceAll(meta, nil)
	evidencetest.Must(t, os.WriteFile(file, older, 0o644))
	_, err = Open(dir)
	evidencetest.WantError(t, err, "make another with \"relaymon init\"")
}

// What is sealed holds the plan, in the record of each relay; what is due follows from it.
func TestSealedRecordsHoldThePlan(t *testing.T) {
	l, dir := newLog(t)
	relays := []evidencetest.Relay{evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)}
	for _, r := range relays {
		evidencetest.Must(t, l.Append(evidencetest.FirstHour, r.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil)))
	}
	before := l.Offset(relays[0].ID.String(), evidencetest.FirstHour)
	evidencetest.Must(t, l.Close())
	l, err := Open(dir)
	evidencetest.Must(t, err)
	defer l.Close()
	if after := l.Offset(relays[0].ID.String(), evidencetest.FirstHour); after != before {
		t.Errorf("due %s before a restart and %s after it", before, after)
	}
	_, err = l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	for _, r := range relays {
		m, err := l.Month(evidencetest.FirstHour.Month(), r.ID.String(), evidencetest.Closing(evidencetest.FirstHour))
		evidencetest.Must(t, err)
		v, err := evidence.VerifyMonth(m, evidence.Keys{Log: l.Key(), Plan: l.PlanKey()})
		evidencetest.Must(t, err)
		want := evidencetest.FirstHour.Start().Add(l.Offset(r.ID.String(), evidencetest.FirstHour))
		if h := v.Hours[0]; h.PlanFault != "" || !h.Due.Equal(want) {
			t.Errorf("got fault %q, due at %s, want none, %s", h.PlanFault, h.Due, want)
		}
		another, err := bls.GenerateKey()
		evidencetest.Must(t, err)
		v, err = evidence.VerifyMonth(m, evidence.Keys{Log: l.Key(), Plan: another.Public().String()})
		evidencetest.Must(t, err)
		if h := v.Hours[0]; h.PlanFault != evidence.ForeignPlan || !h.Due.IsZero() {
			t.Errorf("by another key: fault %q, due at %s, want %q", h.PlanFault, h.Due, evidence.ForeignPlan)
		}
	}
}

func TestAppendRefuses(t *testing.T) {
	l, _ := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	der, cert := evidencetest.NewLeaf(t, "relay.example.org")
	good := func() evidence.Attempt { return relay.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil) }
	for name, c := range map[string]struct {
		change func(*evidence.Attempt)
		hour   evidence.Hour
		certs  [][]byte
		want   string
	}{
		"hour before the log": {nil, evidencetest.FirstHour - 1, nil, "hour is sealed"},
		"hour after":          {nil, evidencetest.FirstHour + 1, nil, "does not belong to hour"},
		"only a retry":        {func(a *evidence.Attempt) { a.Started = evidence.TimeOf(evidencetest.FirstHour.End()) }, evidencetest.FirstHour, nil, "first attempt of"},
		"far too late":        {func(a *evidence.Attempt) { a.Started = evidence.TimeOf(evidencetest.Closing(evidencetest.FirstHour)) }, evidencetest.FirstHour, nil, "does not belong to hour"},
		"peer ID":             {func(a *evidence.Attempt) { a.PeerID = "x" }, evidencetest.FirstHour, nil, `peer ID "x"`},
		"peer ID as CID":      {func(a *evidence.Attempt) { a.PeerID = peer.ToCid(relay.ID).String() }, evidencetest.FirstHour, nil, "write it " + relay.ID.String()},
		"no result":           {func(a *evidence.Attempt) { delete(a.Results, evidence.WSS) }, evidencetest.FirstHour, nil, "results, want one for each"},
		"strange result": {func(a *evidence.Attempt) {
			delete(a.Results, evidence.WSS)
			a.Results["x"] = evidence.Result{Outcome: evidence.OK}
		}, evidencetest.FirstHour, nil, "no result for wss"},
		"outcome":          {func(a *evidence.Attempt) { a.Results[evidence.WSS] = evidence.Result{Outcome: "up"} }, evidencetest.FirstHour, nil, `outcome "up"`},
		"rung":             {func(a *evidence.Attempt) { a.Rungs[0].Outcome = "" }, evidencetest.FirstHour, nil, `outcome ""`},
		"rung's component": {func(a *evidence.Attempt) { a.Rungs[0].Component = "udp" }, evidencetest.FirstHour, nil, `component "udp"`},
		"tries":            {func(a *evidence.Attempt) { a.Rungs = []evidence.Rung{{Name: "x", Outcome: evidence.OK, Tries: -1}} }, evidencetest.FirstHour, nil, "-1 tries"},
		"packets": {func(a *evidence.Attempt) {
			a.Controls = []evidence.Control{{Name: "c", Component: evidence.TCP4, Outcome: evidence.OK, Sent: 3, Resent: 4}}
		}, evidencetest.FirstHour, nil, "3 packets sent, 4 of them again"},
		"control":   {func(a *evidence.Attempt) { a.Controls = []evidence.Control{{Name: "c", Component: evidence.TCP4}} }, evidencetest.FirstHour, nil, `control "c"`},
		"level":     {func(a *evidence.Attempt) { a.Level = 5 }, evidencetest.FirstHour, nil, "level 5"},
		"not UTF-8": {func(a *evidence.Attempt) { a.Facts.AgentVersion = "\xff" }, evidencetest.FirstHour, nil, "not UTF-8"},
		"2^53+1":    {func(a *evidence.Attempt) { a.Facts.Reservation.LimitBytes = 1<<53 + 1 }, evidencetest.FirstHour, nil, "beyond 2^53"},
		"too long": {func(a *evidence.Attempt) {
			a.Facts.Protocols = slices.Repeat([]string{strings.Repeat("\"", evidence.MaxTextBytes)}, 128)
		}, evidencetest.FirstHour, nil, "too long"},
		"negative offset": {func(a *evidence.Attempt) { a.Rungs[1].OffsetUS = -1 }, evidencetest.FirstHour, nil, "rung \"wss\": offset_us is -1"},
		"late offset":     {func(a *evidence.Attempt) { a.Rungs[1].OffsetUS = 3_600_000_001 }, evidencetest.FirstHour, nil, "offset_us is 3600000001"},
		"negative rung":   {func(a *evidence.Attempt) { a.Rungs[1].DurationUS = -1 }, evidencetest.FirstHour, nil, "duration_us is -1"},
		"long rung":       {func(a *evidence.Attempt) { a.Rungs[1].DurationUS = 3_600_000_001 }, evidencetest.FirstHour, nil, "duration_us is 3600000001"},
		"long result": {func(a *evidence.Attempt) {
			a.Results[evidence.WSS] = evidence.Result{Outcome: evidence.OK, Class: "", DurationUS: 3_600_000_001}
		}, evidencetest.FirstHour, nil, "result of wss: duration_us is 3600000001"},
		"negative ping":    {func(a *evidence.Attempt) { a.Facts.PingUS = []int64{-1} }, evidencetest.FirstHour, nil, "ping_us is -1"},
		"HTTP status":      {func(a *evidence.Attempt) { a.Facts.HTTPStatus = 1000 }, evidencetest.FirstHour, nil, "http_status is 1000"},
		"expired long ago": {func(a *evidence.Attempt) { a.Facts.Reservation.Expires = evidence.TimeOf(time.Unix(-1, 0)) }, evidencetest.FirstHour, nil, "no time before 1970"},
		"negative limit":   {func(a *evidence.Attempt) { a.Facts.Reservation.LimitSeconds = -1 }, evidencetest.FirstHour, nil, "-1 seconds"},
		"long control": {func(a *evidence.Attempt) {
			a.Controls = []evidence.Control{{Name: "c", Component: evidence.TCP4, Outcome: evidence.OK, Started: a.Started, DurationUS: -1}}
		}, evidencetest.FirstHour, nil, `control "c": duration_us is -1`},
		"control long ago": {func(a *evidence.Attempt) {
			a.Controls = []evidence.Control{{Name: "c", Component: evidence.TCP4, Outcome: evidence.OK}}
		}, evidencetest.FirstHour, nil, "further than 1h0m0s from the attempt"},
		"control to come": {func(a *evidence.Attempt) {
			a.Controls = []evidence.Control{{Name: "c", Component: evidence.TCP4, Outcome: evidence.OK, Started: evidence.TimeOf(a.Started.Add(time.Hour + time.Millisecond))}}
		}, evidencetest.FirstHour, nil, "further than 1h0m0s from the attempt"},
		"rungs":        {func(a *evidence.Attempt) { a.Rungs = make([]evidence.Rung, 33) }, evidencetest.FirstHour, nil, "rungs: 33, want 32"},
		"controls":     {func(a *evidence.Attempt) { a.Controls = make([]evidence.Control, 129) }, evidencetest.FirstHour, nil, "controls: 129, want 128"},
		"pings":        {func(a *evidence.Attempt) { a.Facts.PingUS = make([]int64, 17) }, evidencetest.FirstHour, nil, "ping_us: 17, want 16"},
		"protocols":    {func(a *evidence.Attempt) { a.Facts.Protocols = make([]string, 129) }, evidencetest.FirstHour, nil, "protocols: 129, want 128"},
		"addresses":    {func(a *evidence.Attempt) { a.Facts.Reservation.Addrs = make([]string, 33) }, evidencetest.FirstHour, nil, "reservation.addrs: 33, want 32"},
		"names":        {func(a *evidence.Attempt) { a.Facts.Certificate = &evidence.Certificate{DNSNames: make([]string, 101)} }, evidencetest.FirstHour, nil, "dns_names: 101, want 100"},
		"voucher":      {func(a *evidence.Attempt) { a.Facts.Reservation.Voucher = make([]byte, 16<<10+1) }, evidencetest.FirstHour, nil, "reservation.voucher: bytes: 16385"},
		"long agent":   {func(a *evidence.Attempt) { a.Facts.AgentVersion = strings.Repeat("x", evidence.MaxTextBytes+1) }, evidencetest.FirstHour, nil, "agent_version has 257 bytes"},
		"long detail":  {func(a *evidence.Attempt) { a.Rungs[0].Detail = strings.Repeat("x", 301) }, evidencetest.FirstHour, nil, "detail has 301 bytes"},
		"long peer ID": {func(a *evidence.Attempt) { a.PeerID = strings.Repeat("1", 129) }, evidencetest.FirstHour, nil, "peer ID has 129 bytes"},

		"no leaf":    {func(a *evidence.Attempt) { a.Facts.Certificate = cert }, evidencetest.FirstHour, nil, "no such file"},
		"wrong leaf": {func(a *evidence.Attempt) { a.Facts.Certificate = cert }, evidencetest.FirstHour, [][]byte{append(bytes.Clone(der), 0)}, "the record names"},
		"leaf too long": {func(a *evidence.Attempt) {
			a.Facts.Certificate = &evidence.Certificate{SHA256: evidence.SHA256Hex(make([]byte, evidence.MaxCertificateBytes+1))}
		}, evidencetest.FirstHour, [][]byte{make([]byte, evidence.MaxCertificateBytes+1)}, "is too long"},
		"bad hash":         {func(a *evidence.Attempt) { c := *cert; c.SHA256 = "../log.key"; a.Facts.Certificate = &c }, evidencetest.FirstHour, nil, "not a SHA-256"},
		"leaf for nothing": {nil, evidencetest.FirstHour, [][]byte{der}, "refers to none"},
		"far year": {func(a *evidence.Attempt) {
			a.Facts.Reservation.Expires = evidence.TimeOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
		}, evidencetest.FirstHour, nil, "year 10000"},
	} {
		a := good()
		if c.change != nil {
			c.change(&a)
		}
		err := l.Append(c.hour, a, c.certs...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, good()))
	for i := 1; i < evidence.MaxAttempts; i++ {
		evidencetest.Must(t, l.Append(evidencetest.FirstHour, good()))
	}
	evidencetest.WantError(t, l.Append(evidencetest.FirstHour, good()), "16 attempts on")
	if got, err := l.Records(evidencetest.FirstHour); err != nil || len(got) != 1 || len(got[0].Attempts) != evidence.MaxAttempts {
		t.Fatalf("records: %d, %v", len(got), err)
	}
}

func TestStates(t *testing.T) {
	l, dir := newLog(t)
	relay := evidencetest.NewRelay(t, crypto.Ed25519, 0)
	h := evidencetest.FirstHour
	reopen := func() {
		t.Helper()
		evidencetest.Must(t, l.Close())
		var err error
		l, err = Open(dir)
		evidencetest.Must(t, err)
	}
	defer func() { l.Close() }()

	evidencetest.Must(t, l.Begin(h, h.Start().Add(10*time.Minute), "late")) // 0: begun late
	evidencetest.Watch(t, l, h+1)                                           // 1: begun twice
	evidencetest.Must(t, l.Begin(h+1, (h+1).Start().Add(time.Minute), "again"))
	evidencetest.Must(t, l.Append(h+2, relay.Attempt(t, l.Key(), h+2, time.Minute, nil))) // 2: never begun, but there is an attempt
	evidencetest.Watch(t, l, h+4)                                                         // 3: gap, 4: sealed by another process
	reopen()
	evidencetest.Watch(t, l, h+5) // 5: all is well
	evidencetest.Must(t, l.Mark(h+5, evidence.Mark{Clock: &evidence.ClockSample{At: evidence.TimeOf((h + 5).End()), UpMS: 3600_000 - 4495}}))
	evidencetest.Must(t, l.Mark(h+5, evidence.Mark{Missed: 4})) // first attempts, at the hour's end
	evidencetest.Must(t, l.Mark(h+5, evidence.Mark{Missed: 3})) // retries, later
	got, err := l.Seal(evidencetest.Closing(h + 5))
	evidencetest.Must(t, err)
	var states []evidence.State
	for _, head := range got {
		states = append(states, head.State)
		again, err := l.Header(head.Hour)
		evidencetest.Must(t, err)
		if d := cmp.Diff(head, again); d != "" {
			t.Error(d)
		}
	}
	want := []evidence.State{evidence.StateOK, evidence.StateOK, evidence.StateOK, evidence.StateGap, evidence.StateOK, evidence.StateOK}
	if d := cmp.Diff(want, states); d != "" {
		t.Fatal(d)
	}
	last := got[5]
	if last.Software != "relaymon/test" || last.Missed != 7 ||
		!cmp.Equal(last.Clock, evidence.Clock{Samples: 2, Synchronised: true, DriftMS: 2500, Steps: []evidence.ClockStep{{At: evidence.TimeOf((h + 5).End()), ByMS: 2500}}}) {
		t.Fatalf("header %+v", last)
	}
	for _, m := range []evidence.Mark{
		{},
		{Clock: &evidence.ClockSample{UpMS: -1}},
		{Clock: &evidence.ClockSample{Boot: strings.Repeat("x", 65)}},
		{Missed: -1},
		{Missed: evidence.MaxMissed + 1},
		{Missed: 1, Clock: &evidence.ClockSample{}},
	} {
		if err := l.Mark(h+6, m); err == nil {
			t.Errorf("took mark %+v", m)
		}
	}
	sound(t, dir)
}

func TestSealAfterALongTime(t *testing.T) {
	l, dir := newLog(t)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	got, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3000))
	evidencetest.Must(t, err)
	if len(got) != 3001 || l.Size() != 3001 {
		t.Fatalf("sealed %d, size %d", len(got), l.Size())
	}
	if r := sound(t, dir); r.Gaps != 3000 || r.Checkpoints != 6 {
		t.Fatalf("%+v", r)
	}
	if got, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour)); err != nil || len(got) > 0 {
		t.Fatalf("a clock that went back sealed %v (%v)", got, err)
	}
	_, err = l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3000 + maxGap + 1))
	evidencetest.WantError(t, err, "the clock is more than 400 days ahead")
	evidencetest.Must(t, l.Close())
	l2, err := Open(dir)
	evidencetest.Must(t, err)
	defer l2.Close()
	if l2.Size() != 3001 {
		t.Fatalf("size %d after a start", l2.Size())
	}
}

func TestOlderCopy(t *testing.T) {
	l, dir := newLog(t)
	for h := evidencetest.FirstHour; h < evidencetest.FirstHour+3; h++ {
		evidencetest.Watch(t, l, h)
		_, err := l.Seal(evidencetest.Closing(h))
		evidencetest.Must(t, err)
	}
	older := filepath.Join(t.TempDir(), "older")
	evidencetest.Must(t, os.CopyFS(older, os.DirFS(dir)))
	evidencetest.Watch(t, l, evidencetest.FirstHour+3)
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3))
	evidencetest.Must(t, err)
	newest, err := l.Checkpoint()
	evidencetest.Must(t, err)
	evidencetest.Must(t, l.Close())

	evidencetest.Must(t, os.Chmod(filepath.Join(older, keyFile), 0o600))
	l, err = Open(older)
	evidencetest.Must(t, err)
	defer l.Close()
	l.Hold()
	if _, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3)); !errors.Is(err, ErrHeld) {
		t.Fatalf("a held log sealed: %v", err)
	}
	var oldCopy *OlderCopyError
	if err := l.Confront(newest); !errors.As(err, &oldCopy) || oldCopy.Size != 3 || oldCopy.Known != 4 {
		t.Fatalf("Confront: %v", err)
	}
	if _, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3)); !errors.Is(err, ErrHeld) {
		t.Fatalf("an older copy sealed: %v", err)
	}
	if err := l.Confront(); !errors.Is(err, ErrHeld) {
		t.Fatalf("no witness answered: %v", err)
	}
	// Had it gone on, it would have forked.
	evidencetest.Must(t, l.Release())
	_, err = l.Seal(evidencetest.Closing(evidencetest.FirstHour + 3).Add(time.Second))
	evidencetest.Must(t, err)
	evidencetest.WantError(t, l.Confront(newest), "has forked")
	if _, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour + 4)); !errors.Is(err, ErrHeld) {
		t.Fatalf("a forked log sealed: %v", err)
	}
	other, _ := newLog(t)
	evidencetest.Watch(t, other, evidencetest.FirstHour)
	_, err = other.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	foreign, err := other.Checkpoint()
	evidencetest.Must(t, err)
	if err := l.Confront(foreign); err == nil {
		t.Fatal("took the checkpoint of another log")
	}
}

// What a newer copy holds under a checkpoint that is here, too, comes in with its blocks:
// their headers tell of it, and no month is taken without.
func TestAdoptCosignatures(t *testing.T) {
	l, dir := newLog(t)
	cp := evidencetest.Grow(t, l, 1)
	w, own := evidencetest.NewWitness(t, "w"), evidencetest.NewWitness(t, "own")
	older := filepath.Join(t.TempDir(), "older")
	evidencetest.Must(t, os.CopyFS(older, os.DirFS(dir)))
	at := evidencetest.Closing(evidencetest.FirstHour).Add(time.Minute)
	evidencetest.Must(t, l.AddCosignatures(1, w.Cosign(t, cp, at), w.VKey()))
	evidencetest.Grow(t, l, 1)
	evidencetest.Must(t, l.Close())

	for _, name := range []string{keyFile, witnessFile, planFile} {
		evidencetest.Must(t, os.Chmod(filepath.Join(older, name), 0o600))
	}
	o, err := Open(older)
	evidencetest.Must(t, err)
	defer o.Close()
	// It was asked for once more after the restore, and is later.
	evidencetest.Must(t, o.AddCosignatures(1, append(w.Cosign(t, cp, at.Add(time.Hour)), own.Cosign(t, cp, at)...), w.VKey(), own.VKey()))
	n, err := o.Adopt(dir)
	evidencetest.Must(t, err)
	if r := sound(t, older); n != 1 || r.Blocks != 2 || r.Others != 2 {
		t.Errorf("%d blocks came in, %+v", n, r)
	}
	m, err := o.Month(evidencetest.FirstHour.Month(), evidencetest.NewRelay(t, crypto.Ed25519, 0).ID.String(), evidencetest.Closing(evidencetest.FirstHour+2), w.VKey())
	evidencetest.Must(t, err)
	_, err = evidence.VerifyMonth(m, evidence.Keys{Log: o.Key(), Witnesses: []string{w.VKey()}})
	evidencetest.Must(t, err)

	// Without it the log is damaged, and that is seen.
	evidencetest.Must(t, os.WriteFile(o.checkpointPath(1), cp, 0o644))
	if r, err := Check(older); err != nil || len(r.Faults) != 1 || !strings.Contains(r.Faults[0], "that cosignature is not there") {
		t.Errorf("%v, %v", r.Faults, err)
	}
}

func TestAddCosignatures(t *testing.T) {
	l, dir := newLog(t)
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	_, err := l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	cp, err := l.Checkpoint()
	evidencetest.Must(t, err)
	w1, w2, w3 := evidencetest.NewWitness(t, "w1"), evidencetest.NewWitness(t, "w2"), evidencetest.NewWitness(t, "w3")
	at := evidencetest.Closing(evidencetest.FirstHour).Add(time.Minute)

	evidencetest.Must(t, l.AddCosignatures(1, w2.Cosign(t, cp, at), w1.VKey(), w2.VKey()))
	evidencetest.Must(t, l.AddCosignatures(1, w3.Cosign(t, cp, at), w1.VKey(), w2.VKey())) // a stranger's is left out
	evidencetest.Must(t, l.AddCosignatures(1, w1.Cosign(t, cp, at), w1.VKey(), w2.VKey()))
	evidencetest.Must(t, l.AddCosignatures(1, w1.Cosign(t, cp, at.Add(time.Hour)), w1.VKey())) // the first one stays
	if r := sound(t, dir); r.Others != 2 {
		t.Fatalf("%d cosignatures", r.Others)
	}
	got, err := l.Checkpoint()
	evidencetest.Must(t, err)
	v1, _ := evidence.WitnessVerifier(w1.VKey())
	v2, _ := evidence.WitnessVerifier(w2.VKey())
	c, err := evidence.OpenCheckpoint(got, l.key.Verifier(), v1, v2)
	evidencetest.Must(t, err)
	if first, err := evidence.CosignedAt(c.Cosignatures[0]); err != nil || !first.Equal(at.Truncate(time.Second)) || c.Cosignatures[0].Name != "w1" {
		t.Fatalf("cosigned at %v by %s, %v", first, c.Cosignatures[0].Name, err)
	}
	bad := w3.Cosign(t, []byte("other\n1\nAAAA\n\n"), at)
	evidencetest.WantError(t, l.AddCosignatures(1, bad, w3.VKey()), "invalid signature")
	evidencetest.WantError(t, l.AddCosignatures(1, []byte("nonsense\n"), w1.VKey()), "malformed note")
	if err := l.AddCosignatures(2, nil, w1.VKey()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("cosignature of a size that was not signed: %v", err)
	}
	if after, err := l.Checkpoint(); err != nil || string(after) != string(got) {
		t.Fatalf("a refused cosignature changed the checkpoint: %v", err)
	}
}

// Whoever keeps what a log holds is told what is new, and reads of sealed hours the same
// as was written, or nothing.
func TestProgressAndRecords(t *testing.T) {
	l, dir := newLog(t)
	relay, other := evidencetest.NewRelay(t, crypto.Ed25519, 0), evidencetest.NewRelay(t, crypto.Ed25519, 0)
	if p := l.Progress(); p.Next != evidencetest.FirstHour || len(p.Unsealed) != 0 {
		t.Fatalf("a new log: %+v", p)
	}
	evidencetest.Watch(t, l, evidencetest.FirstHour)
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, relay.Attempt(t, l.Key(), evidencetest.FirstHour, time.Minute, nil)))
	before := l.Progress()
	evidencetest.Must(t, l.Append(evidencetest.FirstHour, other.Attempt(t, l.Key(), evidencetest.FirstHour, 2*time.Minute, nil)))
	evidencetest.Watch(t, l, evidencetest.FirstHour+1)
	after := l.Progress()
	if len(before.Unsealed) != 1 || len(after.Unsealed) != 2 || after.Unsealed[0].Hour != evidencetest.FirstHour || after.Unsealed[1].Hour != evidencetest.FirstHour+1 || after.Unsealed[0].Bytes <= before.Unsealed[0].Bytes {
		t.Errorf("one attempt: %+v, then two: %+v", before, after)
	}
	open, err := l.Records(evidencetest.FirstHour)
	evidencetest.Must(t, err)
	_, err = l.Seal(evidencetest.Closing(evidencetest.FirstHour))
	evidencetest.Must(t, err)
	if p := l.Progress(); p.Next != evidencetest.FirstHour+1 || len(p.Unsealed) != 1 {
		t.Errorf("sealed: %+v", p)
	}
	sealed, err := l.Records(evidencetest.FirstHour)
	evidencetest.Must(t, err)
	for i, r := range open {
		open[i].Plan = l.Plan(r.PeerID, r.Hour) // comes with the sealing
	}
	if len(sealed) != 2 || !cmp.Equal(sealed, open) {
		t.Errorf("sealed %+v, want %+v", sealed, open)
	}
	evidencetest.Must(t, l.Close())

	// A byte on the disk turns.
	file := l.recordsPath(evidencetest.FirstHour)
	b, err := os.ReadFile(file)
	evidencetest.Must(t, err)
	evidencetest.Must(t, os.WriteFile(file, []byte(strings.Replace(string(b), `"outcome":"ok"`, `"outcome":"no"`, 1)), 0o600))
	again, err := OpenRead(dir)
	evidencetest.Must(t, err)
	defer again.Close()
	_, err = again.Records(evidencetest.FirstHour)
	evidencetest.WantError(t, err, "not those that were sealed")
}
