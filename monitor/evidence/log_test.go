package evidence

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"golang.org/x/mod/sumdb/note"
)

// firstHour is in the middle of a day near a month's end, so that short tests cross it.
var firstHour = HourOf(time.Date(2026, 10, 31, 20, 0, 0, 0, time.UTC))

// testRelay is a relay that can sign vouchers.
type testRelay struct {
	key crypto.PrivKey
	id  peer.ID
}

func newRelay(t testing.TB, typ, bits int) testRelay {
	t.Helper()
	key, _, err := crypto.GenerateKeyPairWithReader(typ, bits, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return testRelay{key, id}
}

func (r testRelay) voucher(t testing.TB, for_ peer.ID, expires time.Time) []byte {
	t.Helper()
	e, err := record.Seal(&relayv2.ReservationVoucher{Relay: r.id, Peer: for_, Expiration: expires}, r.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reservation is what a relay grants an identity made for hour h.
func (r testRelay) reservation(t testing.TB, monitorKey string, h Hour, at time.Time) *Reservation {
	t.Helper()
	c := Challenge{MonitorKey: monitorKey, Relay: r.id, Hour: h, Salt: make([]byte, 32)}
	rand.Read(c.Salt)
	key, err := c.Key()
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	expires := at.Add(time.Hour)
	return &Reservation{Peer: id.String(), Salt: c.Salt, Voucher: r.voucher(t, id, expires), Expires: TimeOf(expires)}
}

// attempt is a full climb that began after so much of hour h.
func (r testRelay) attempt(t testing.TB, monitorKey string, h Hour, after time.Duration, cert *Certificate) Attempt {
	t.Helper()
	at := h.Start().Add(after)
	return Attempt{
		Started:  TimeOf(at),
		PeerID:   r.id.String(),
		TCP4Addr: "/ip4/203.0.113.7/tcp/4001/p2p/" + r.id.String(),
		WSSAddr:  "/dns4/relay.example.org/tcp/443/wss/p2p/" + r.id.String(),
		Rungs: []Rung{
			{Name: "tcp4", Component: TCP4, Outcome: OK, DurationUS: 41_000},
			{Name: "wss", Component: WSS, Outcome: OK, OffsetUS: 50_000, DurationUS: 120_000},
			{Name: "reserve", Component: Relay, Outcome: OK, OffsetUS: 200_000, DurationUS: 40_000},
			{Name: "circuit", Component: Relay, Outcome: OK, OffsetUS: 300_000, DurationUS: 90_000},
		},
		Results: map[Component]Result{
			TCP4:  {Outcome: OK, DurationUS: 41_000},
			WSS:   {Outcome: OK, DurationUS: 120_000},
			Relay: {Outcome: OK, DurationUS: 130_000},
		},
		Level: LevelEchoed,
		Facts: Facts{
			AgentVersion: "relayd/1.2.3 <&> ünïcode",
			Protocols:    []string{"/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/libp2p/circuit/relay/0.2.0/hop"},
			ResolvedIPv4: []string{"203.0.113.7"}, LookupRetries: 2,
			Certificate: cert,
			HTTPStatus:  101,
			PingUS:      []int64{40_100, 39_900, 40_000},
			HopReserve:  100,
			HopConnect:  100,
			Reservation: r.reservation(t, monitorKey, h, at),
			CircuitAddr: "/ip4/203.0.113.7/tcp/4001/p2p/" + r.id.String() + "/p2p-circuit",
		},
	}
}

func newCertificate(t testing.TB, name string) (der []byte, c *Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: firstHour.Start().Add(-24 * time.Hour), NotAfter: firstHour.Start().Add(90 * 24 * time.Hour),
	}
	if der, err = x509.CreateCertificate(rand.Reader, x, x, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	if c, err = NewCertificate(der); err != nil {
		t.Fatal(err)
	}
	return der, c
}

func newLog(t testing.TB) (*Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	l, err := Create(dir, Options{Name: "monitor.example.org", Network: PSF, First: firstHour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, dir
}

// watch does what a monitor does at the start of an hour.
func watch(t testing.TB, l *Log, h Hour) {
	t.Helper()
	must(t, l.Begin(h, h.Start().Add(time.Second), "relaymon/test"))
	must(t, l.Mark(h, Mark{Clock: &ClockSample{At: TimeOf(h.Start().Add(2 * time.Second)), Synchronised: true, UpMS: 5}}))
}

// closing is the first moment at which hour h may be sealed.
func closing(h Hour) time.Time { return h.End().Add(CloseAfter) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
}

func sound(t testing.TB, dir string) CheckReport {
	t.Helper()
	r, err := Check(dir)
	must(t, err)
	if len(r.Faults) > 0 {
		t.Fatalf("store has faults:\n%s", strings.Join(r.Faults, "\n"))
	}
	return r
}

// testWitness is another monitor's.
type testWitness struct{ secretKey }

func newWitness(t testing.TB, name string) testWitness {
	t.Helper()
	k, err := newSecretKey(rand.Reader, name, algCosignature)
	must(t, err)
	return testWitness{k}
}

func (w testWitness) vkey() string { return w.public().String() }

// cosign is the witness's signature line under a checkpoint.
func (w testWitness) cosign(t testing.TB, checkpoint []byte, at time.Time) []byte {
	t.Helper()
	text, _, ok := strings.Cut(string(checkpoint), "\n\n")
	if !ok {
		t.Fatalf("not a checkpoint: %q", checkpoint)
	}
	b, err := note.Sign(&note.Note{Text: text + "\n"}, cosigner{w.secretKey, at})
	must(t, err)
	_, line, _ := strings.Cut(string(b), "\n\n")
	return []byte(line)
}

func TestLogFromEndToEnd(t *testing.T) {
	l, dir := newLog(t)
	if l.Origin() != "monitor.example.org/relaymon/psf" || l.Network() != PSF || l.First() != firstHour || l.Size() != 0 {
		t.Fatalf("new log: %s %s %s %d", l.Origin(), l.Network(), l.First(), l.Size())
	}
	relay, other := newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.RSA, 2048)
	der, cert := newCertificate(t, "relay.example.org")
	w1, w2 := newWitness(t, "w1.example.net/witness"), newWitness(t, "w2.example.net/witness")

	// Eight hours over the month's end, with a gap of two.
	for h := firstHour; h < firstHour+8; h++ {
		if h == firstHour+2 || h == firstHour+3 {
			continue
		}
		watch(t, l, h)
		must(t, l.Append(h, relay.attempt(t, l.Key(), h, 10*time.Minute, cert), der))
		must(t, l.Append(h, other.attempt(t, l.Key(), h, 59*time.Minute, nil)))
		must(t, l.Append(h, other.attempt(t, l.Key(), h, 65*time.Minute, nil))) // a retry past the hour's end
		if got, err := l.Seal(closing(h).Add(-time.Second)); err != nil || len(got) > 0 && got[len(got)-1].Hour >= h {
			t.Fatalf("sealed %v before :16 (%v)", got, err)
		}
		got, err := l.Seal(closing(h))
		must(t, err)
		if len(got) == 0 || got[len(got)-1].Hour != h || got[len(got)-1].State != StateOK || got[len(got)-1].Records != 2 {
			t.Fatalf("sealed %+v", got)
		}
		if err := l.Append(h, relay.attempt(t, l.Key(), h, time.Minute, cert)); !errors.Is(err, ErrSealed) {
			t.Fatalf("append to a sealed hour: %v", err)
		}
		if left, err := os.ReadDir(l.path(walDir)); err != nil || len(left) > 0 {
			t.Fatalf("write-ahead files of sealed hours stay: %v, %v", left, err)
		}
		cp, err := l.Checkpoint()
		must(t, err)
		must(t, l.AddCosignatures(l.Size(), append(w2.cosign(t, cp, closing(h).Add(2*time.Minute)), w1.cosign(t, cp, closing(h).Add(time.Minute))...), w1.vkey(), w2.vkey()))
	}
	// And one that is open.
	open := firstHour + 8
	watch(t, l, open)
	must(t, l.Append(open, relay.attempt(t, l.Key(), open, 5*time.Minute, cert)))

	report := sound(t, dir)
	if report.Blocks != 8 || report.Watched != 6 || report.Gaps != 2 || report.Records != 13 || report.Attempts != 19 ||
		report.Checkpoints != 7 || report.Others != 12 || report.Certificates != 1 || len(report.Open) != 1 {
		t.Fatalf("check: %+v", report)
	}

	asOf := open.Start().Add(30 * time.Minute)
	keys := Keys{Log: l.Key(), Witnesses: []string{w1.vkey(), w2.vkey()}}
	oct, err := l.Month(firstHour.Month(), relay.id.String(), asOf, keys.Witnesses...)
	must(t, err)
	nov, err := l.Month(firstHour.Month()+1, relay.id.String(), asOf, keys.Witnesses...)
	must(t, err)
	v, err := VerifyMonth(oct, keys)
	must(t, err)
	if v.Name != "monitor.example.org" || v.Network != PSF || v.Size != 4 || len(v.Hours) != 4 || len(v.Open) != 0 || len(v.Certificates) != 1 {
		t.Fatalf("October: %+v", v)
	}
	if v.Hours[2].Header.State != StateGap || v.Hours[2].Record != nil || v.Hours[2].ClockFault == "" || v.Hours[0].ClockFault != "" {
		t.Fatalf("gap: %+v", v.Hours[2])
	}
	if got := v.Hours[0].Vouchers; len(got) != 1 || got[0].State != VoucherBound {
		t.Fatalf("vouchers: %+v", got)
	}
	want := []Cosigned{{w1.vkey(), closing(firstHour).Add(time.Minute)}, {w2.vkey(), closing(firstHour).Add(2 * time.Minute)}}
	if d := cmp.Diff(want, v.Hours[0].Cosigned); d != "" {
		t.Fatal(d)
	}
	v, err = VerifyMonth(nov, keys)
	must(t, err)
	if v.Size != 8 || len(v.Hours) != 4 || len(v.Open) != 1 || v.Open[0].Hour != open || len(v.Open[0].Attempts) != 1 {
		t.Fatalf("November: %+v", v)
	}
	// The gap of October was sealed together with the first hour of November, and cosigned with it.
	if nov.StartSize != 4 || nov.Start == nil {
		t.Fatalf("start: %d %q", nov.StartSize, nov.Start)
	}

	// The same again after a start, byte for byte; also read while the log is open.
	before, err := nov.Files()
	must(t, err)
	must(t, l.Close())
	if l, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := OpenRead(dir)
	must(t, err)
	for _, l := range []*Log{l, r} {
		again, err := l.Month(firstHour.Month()+1, relay.id.String(), asOf, keys.Witnesses...)
		must(t, err)
		after, err := again.Files()
		must(t, err)
		if d := cmp.Diff(before, after); d != "" {
			t.Fatal(d)
		}
	}
	if err := r.Begin(open, asOf, "x"); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("write to a log opened for reading: %v", err)
	}
	parsed, err := MonthFromFiles(before)
	must(t, err)
	if _, err := VerifyMonth(parsed, keys); err != nil {
		t.Fatal(err)
	}
}

func TestCreateIsOnce(t *testing.T) {
	l, dir := newLog(t)
	o := Options{Name: "monitor.example.org", Network: PSF, First: firstHour}
	_, err := Create(dir, o)
	wantError(t, err, "in use by another process")
	_, err = Open(dir)
	wantError(t, err, "in use by another process")
	must(t, l.Close())
	if _, err := Create(dir, o); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second Create: %v", err)
	}
	for _, name := range []string{keyFile, witnessFile} {
		fi, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, fi.Mode())
		}
	}
	again, err := Open(dir)
	must(t, err)
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
		{Name: "", Network: PSF, First: firstHour},
		{Name: "Monitor", Network: PSF, First: firstHour},
		{Name: "a b", Network: PSF, First: firstHour},
		{Name: "a/relaymon/psf", Network: PSF, First: firstHour},
		{Name: "a", Network: "main", First: firstHour},
		{Name: "a", Network: PSF},
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
	must(t, l.Close())
	must(t, os.Remove(filepath.Join(dir, metaFile)))
	again, err := Create(dir, Options{Name: "monitor.example.org", Network: PSF, First: firstHour})
	must(t, err)
	must(t, again.Close())
	if again.Key() != l.Key() {
		t.Fatal("a key was made anew")
	}
	must(t, os.Remove(filepath.Join(dir, metaFile)))
	_, err = Create(dir, Options{Name: "other.example.org", Network: PSF, First: firstHour})
	wantError(t, err, "it is the key of monitor.example.org/relaymon/psf")
}

func TestOpenWantsItsOwnKeys(t *testing.T) {
	l, dir := newLog(t)
	must(t, l.Close())
	k, err := newSecretKey(rand.Reader, l.Origin(), algNote)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, keyFile), []byte(k.String()+"\n"), 0o600))
	_, err = Open(dir)
	wantError(t, err, "restore the files from one backup")
	must(t, os.WriteFile(filepath.Join(dir, keyFile), []byte("nonsense\n"), 0o600))
	_, err = Open(dir)
	wantError(t, err, "not a signer key")
}

func TestAppendRefuses(t *testing.T) {
	l, _ := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	der, cert := newCertificate(t, "relay.example.org")
	good := func() Attempt { return relay.attempt(t, l.Key(), firstHour, time.Minute, nil) }
	for name, c := range map[string]struct {
		change func(*Attempt)
		hour   Hour
		certs  [][]byte
		want   string
	}{
		"hour before the log": {nil, firstHour - 1, nil, "hour is sealed"},
		"hour after":          {nil, firstHour + 1, nil, "does not belong to hour"},
		"only a retry":        {func(a *Attempt) { a.Started = TimeOf(firstHour.End()) }, firstHour, nil, "first attempt of"},
		"far too late":        {func(a *Attempt) { a.Started = TimeOf(closing(firstHour)) }, firstHour, nil, "does not belong to hour"},
		"peer ID":             {func(a *Attempt) { a.PeerID = "x" }, firstHour, nil, `peer ID "x"`},
		"peer ID as CID":      {func(a *Attempt) { a.PeerID = peer.ToCid(relay.id).String() }, firstHour, nil, "write it " + relay.id.String()},
		"no result":           {func(a *Attempt) { delete(a.Results, WSS) }, firstHour, nil, "results, want one for each"},
		"strange result":      {func(a *Attempt) { delete(a.Results, WSS); a.Results["x"] = Result{Outcome: OK} }, firstHour, nil, "no result for wss"},
		"outcome":             {func(a *Attempt) { a.Results[WSS] = Result{Outcome: "up"} }, firstHour, nil, `outcome "up"`},
		"rung":                {func(a *Attempt) { a.Rungs[0].Outcome = "" }, firstHour, nil, `outcome ""`},
		"rung's component":    {func(a *Attempt) { a.Rungs[0].Component = "udp" }, firstHour, nil, `component "udp"`},
		"tries":               {func(a *Attempt) { a.Rungs = []Rung{{Name: "x", Outcome: OK, Tries: -1}} }, firstHour, nil, "-1 tries"},
		"packets": {func(a *Attempt) {
			a.Controls = []Control{{Name: "c", Component: TCP4, Outcome: OK, Sent: 3, Resent: 4}}
		}, firstHour, nil, "3 packets sent, 4 of them again"},
		"control":   {func(a *Attempt) { a.Controls = []Control{{Name: "c", Component: TCP4}} }, firstHour, nil, `control "c"`},
		"level":     {func(a *Attempt) { a.Level = 5 }, firstHour, nil, "level 5"},
		"not UTF-8": {func(a *Attempt) { a.Facts.AgentVersion = "\xff" }, firstHour, nil, "not UTF-8"},
		"2^53+1":    {func(a *Attempt) { a.Facts.Reservation.LimitBytes = 1<<53 + 1 }, firstHour, nil, "beyond 2^53"},
		"too long": {func(a *Attempt) {
			a.Facts.Protocols = slices.Repeat([]string{strings.Repeat("\"", maxText)}, maxProtocols)
		}, firstHour, nil, "too long"},
		"negative offset":  {func(a *Attempt) { a.Rungs[1].OffsetUS = -1 }, firstHour, nil, "rung \"wss\": offset_us is -1"},
		"late offset":      {func(a *Attempt) { a.Rungs[1].OffsetUS = 3_600_000_001 }, firstHour, nil, "offset_us is 3600000001"},
		"negative rung":    {func(a *Attempt) { a.Rungs[1].DurationUS = -1 }, firstHour, nil, "duration_us is -1"},
		"long rung":        {func(a *Attempt) { a.Rungs[1].DurationUS = 3_600_000_001 }, firstHour, nil, "duration_us is 3600000001"},
		"long result":      {func(a *Attempt) { a.Results[WSS] = Result{OK, "", 3_600_000_001} }, firstHour, nil, "result of wss: duration_us is 3600000001"},
		"negative ping":    {func(a *Attempt) { a.Facts.PingUS = []int64{-1} }, firstHour, nil, "ping_us is -1"},
		"HTTP status":      {func(a *Attempt) { a.Facts.HTTPStatus = 1000 }, firstHour, nil, "http_status is 1000"},
		"expired long ago": {func(a *Attempt) { a.Facts.Reservation.Expires = TimeOf(time.Unix(-1, 0)) }, firstHour, nil, "no time before 1970"},
		"negative limit":   {func(a *Attempt) { a.Facts.Reservation.LimitSeconds = -1 }, firstHour, nil, "-1 seconds"},
		"long control": {func(a *Attempt) {
			a.Controls = []Control{{Name: "c", Component: TCP4, Outcome: OK, Started: a.Started, DurationUS: -1}}
		}, firstHour, nil, `control "c": duration_us is -1`},
		"control long ago": {func(a *Attempt) { a.Controls = []Control{{Name: "c", Component: TCP4, Outcome: OK}} }, firstHour, nil, "further than 1h0m0s from the attempt"},
		"control to come": {func(a *Attempt) {
			a.Controls = []Control{{Name: "c", Component: TCP4, Outcome: OK, Started: TimeOf(a.Started.Add(time.Hour + time.Millisecond))}}
		}, firstHour, nil, "further than 1h0m0s from the attempt"},
		"rungs":        {func(a *Attempt) { a.Rungs = make([]Rung, maxRungs+1) }, firstHour, nil, "rungs: 33, want 32"},
		"controls":     {func(a *Attempt) { a.Controls = make([]Control, maxControls+1) }, firstHour, nil, "controls: 129, want 128"},
		"pings":        {func(a *Attempt) { a.Facts.PingUS = make([]int64, maxPings+1) }, firstHour, nil, "ping_us: 17, want 16"},
		"protocols":    {func(a *Attempt) { a.Facts.Protocols = make([]string, maxProtocols+1) }, firstHour, nil, "protocols: 129, want 128"},
		"addresses":    {func(a *Attempt) { a.Facts.Reservation.Addrs = make([]string, maxAddrs+1) }, firstHour, nil, "reservation.addrs: 33, want 32"},
		"names":        {func(a *Attempt) { a.Facts.Certificate = &Certificate{DNSNames: make([]string, maxNames+1)} }, firstHour, nil, "dns_names: 101, want 100"},
		"voucher":      {func(a *Attempt) { a.Facts.Reservation.Voucher = make([]byte, maxVoucher+1) }, firstHour, nil, "reservation.voucher: bytes: 16385"},
		"long agent":   {func(a *Attempt) { a.Facts.AgentVersion = strings.Repeat("x", maxText+1) }, firstHour, nil, "agent_version has 257 bytes"},
		"long detail":  {func(a *Attempt) { a.Rungs[0].Detail = strings.Repeat("x", maxDetail+1) }, firstHour, nil, "detail has 301 bytes"},
		"long peer ID": {func(a *Attempt) { a.PeerID = strings.Repeat("1", maxPeer+1) }, firstHour, nil, "peer ID has 129 bytes"},

		"no leaf":          {func(a *Attempt) { a.Facts.Certificate = cert }, firstHour, nil, "no such file"},
		"wrong leaf":       {func(a *Attempt) { c := *cert; c.Issuer = "CN=x"; a.Facts.Certificate = &c }, firstHour, [][]byte{der}, "the record says"},
		"bad hash":         {func(a *Attempt) { c := *cert; c.SHA256 = "../log.key"; a.Facts.Certificate = &c }, firstHour, nil, "not a SHA-256"},
		"leaf for nothing": {nil, firstHour, [][]byte{der}, "refers to none"},
		"far year":         {func(a *Attempt) { a.Facts.Reservation.Expires = TimeOf(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) }, firstHour, nil, "year 10000"},
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
	must(t, l.Append(firstHour, good()))
	for i := 1; i < maxAttempts; i++ {
		must(t, l.Append(firstHour, good()))
	}
	wantError(t, l.Append(firstHour, good()), "16 attempts on")
	if got, err := l.Records(firstHour); err != nil || len(got) != 1 || len(got[0].Attempts) != maxAttempts {
		t.Fatalf("records: %d, %v", len(got), err)
	}
}

func TestStates(t *testing.T) {
	l, dir := newLog(t)
	relay := newRelay(t, crypto.Ed25519, 0)
	h := firstHour
	reopen := func() {
		t.Helper()
		must(t, l.Close())
		var err error
		l, err = Open(dir)
		must(t, err)
	}
	defer func() { l.Close() }()

	must(t, l.Begin(h, h.Start().Add(10*time.Minute), "late")) // 0: begun late
	watch(t, l, h+1)                                           // 1: begun twice
	must(t, l.Begin(h+1, (h+1).Start().Add(time.Minute), "again"))
	must(t, l.Append(h+2, relay.attempt(t, l.Key(), h+2, time.Minute, nil))) // 2: never begun, but there is an attempt
	watch(t, l, h+4)                                                         // 3: gap, 4: sealed by another process
	reopen()
	watch(t, l, h+5) // 5: all is well
	must(t, l.Mark(h+5, Mark{Clock: &ClockSample{At: TimeOf((h + 5).End()), UpMS: 3600_000 - 4495}}))
	must(t, l.Mark(h+5, Mark{Missed: 4})) // first attempts, at the hour's end
	must(t, l.Mark(h+5, Mark{Missed: 3})) // retries, later
	got, err := l.Seal(closing(h + 5))
	must(t, err)
	var states []State
	for _, head := range got {
		states = append(states, head.State)
		again, err := l.Header(head.Hour)
		must(t, err)
		if d := cmp.Diff(head, again); d != "" {
			t.Error(d)
		}
	}
	want := []State{StateOK, StateOK, StateOK, StateGap, StateOK, StateOK}
	if d := cmp.Diff(want, states); d != "" {
		t.Fatal(d)
	}
	last := got[5]
	if last.Software != "relaymon/test" || last.Missed != 7 ||
		!cmp.Equal(last.Clock, Clock{Samples: 2, Synchronised: true, DriftMS: 2500, Steps: []ClockStep{{TimeOf((h + 5).End()), 2500}}}) {
		t.Fatalf("header %+v", last)
	}
	for _, m := range []Mark{
		{},
		{Clock: &ClockSample{UpMS: -1}},
		{Clock: &ClockSample{Boot: strings.Repeat("x", maxBoot+1)}},
		{Missed: -1},
		{Missed: maxMissed + 1},
		{Missed: 1, Clock: &ClockSample{}},
	} {
		if err := l.Mark(h+6, m); err == nil {
			t.Errorf("took mark %+v", m)
		}
	}
	sound(t, dir)
}

func TestSealAfterALongTime(t *testing.T) {
	l, dir := newLog(t)
	watch(t, l, firstHour)
	got, err := l.Seal(closing(firstHour + 3000))
	must(t, err)
	if len(got) != 3001 || l.Size() != 3001 {
		t.Fatalf("sealed %d, size %d", len(got), l.Size())
	}
	if r := sound(t, dir); r.Gaps != 3000 || r.Checkpoints != 6 {
		t.Fatalf("%+v", r)
	}
	if got, err := l.Seal(closing(firstHour)); err != nil || len(got) > 0 {
		t.Fatalf("a clock that went back sealed %v (%v)", got, err)
	}
	_, err = l.Seal(closing(firstHour + 3000 + maxGap + 1))
	wantError(t, err, "the clock is more than 400 days ahead")
	must(t, l.Close())
	l2, err := Open(dir)
	must(t, err)
	defer l2.Close()
	if l2.Size() != 3001 {
		t.Fatalf("size %d after a start", l2.Size())
	}
}

func TestOlderCopy(t *testing.T) {
	l, dir := newLog(t)
	for h := firstHour; h < firstHour+3; h++ {
		watch(t, l, h)
		_, err := l.Seal(closing(h))
		must(t, err)
	}
	older := filepath.Join(t.TempDir(), "older")
	must(t, os.CopyFS(older, os.DirFS(dir)))
	watch(t, l, firstHour+3)
	_, err := l.Seal(closing(firstHour + 3))
	must(t, err)
	newest, err := l.Checkpoint()
	must(t, err)
	must(t, l.Close())

	must(t, os.Chmod(filepath.Join(older, keyFile), 0o600))
	l, err = Open(older)
	must(t, err)
	defer l.Close()
	l.Hold()
	if _, err := l.Seal(closing(firstHour + 3)); !errors.Is(err, ErrHeld) {
		t.Fatalf("a held log sealed: %v", err)
	}
	var oldCopy *OlderCopyError
	if err := l.Confront(newest); !errors.As(err, &oldCopy) || oldCopy.Size != 3 || oldCopy.Known != 4 {
		t.Fatalf("Confront: %v", err)
	}
	if _, err := l.Seal(closing(firstHour + 3)); !errors.Is(err, ErrHeld) {
		t.Fatalf("an older copy sealed: %v", err)
	}
	if err := l.Confront(); !errors.Is(err, ErrHeld) {
		t.Fatalf("no witness answered: %v", err)
	}
	// Had it gone on, it would have forked.
	must(t, l.Release())
	_, err = l.Seal(closing(firstHour + 3).Add(time.Second))
	must(t, err)
	wantError(t, l.Confront(newest), "has forked")
	if _, err := l.Seal(closing(firstHour + 4)); !errors.Is(err, ErrHeld) {
		t.Fatalf("a forked log sealed: %v", err)
	}
	other, _ := newLog(t)
	watch(t, other, firstHour)
	_, err = other.Seal(closing(firstHour))
	must(t, err)
	foreign, err := other.Checkpoint()
	must(t, err)
	if err := l.Confront(foreign); err == nil {
		t.Fatal("took the checkpoint of another log")
	}
}

func TestAddCosignatures(t *testing.T) {
	l, dir := newLog(t)
	watch(t, l, firstHour)
	_, err := l.Seal(closing(firstHour))
	must(t, err)
	cp, err := l.Checkpoint()
	must(t, err)
	w1, w2, w3 := newWitness(t, "w1"), newWitness(t, "w2"), newWitness(t, "w3")
	at := closing(firstHour).Add(time.Minute)

	must(t, l.AddCosignatures(1, w2.cosign(t, cp, at), w1.vkey(), w2.vkey()))
	must(t, l.AddCosignatures(1, w3.cosign(t, cp, at), w1.vkey(), w2.vkey())) // a stranger's is left out
	must(t, l.AddCosignatures(1, w1.cosign(t, cp, at), w1.vkey(), w2.vkey()))
	must(t, l.AddCosignatures(1, w1.cosign(t, cp, at.Add(time.Hour)), w1.vkey())) // the first one stays
	if r := sound(t, dir); r.Others != 2 {
		t.Fatalf("%d cosignatures", r.Others)
	}
	got, err := l.Checkpoint()
	must(t, err)
	v1, _ := witnessVerifier(w1.vkey())
	v2, _ := witnessVerifier(w2.vkey())
	c, err := openCheckpoint(got, noteVerifier{l.key.public()}, v1, v2)
	must(t, err)
	if first, err := cosignedAt(c.sigs[0]); err != nil || !first.Equal(at.Truncate(time.Second)) || c.sigs[0].Name != "w1" {
		t.Fatalf("cosigned at %v by %s, %v", first, c.sigs[0].Name, err)
	}
	bad := w3.cosign(t, []byte("other\n1\nAAAA\n\n"), at)
	wantError(t, l.AddCosignatures(1, bad, w3.vkey()), "invalid signature")
	wantError(t, l.AddCosignatures(1, []byte("nonsense\n"), w1.vkey()), "malformed note")
	if err := l.AddCosignatures(2, nil, w1.vkey()); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("cosignature of a size that was not signed: %v", err)
	}
	if after, err := l.Checkpoint(); err != nil || string(after) != string(got) {
		t.Fatalf("a refused cosignature changed the checkpoint: %v", err)
	}
}

func ExampleParseOrigin() {
	fmt.Println(ParseOrigin("monitor.example.org/relaymon/psf"))
	fmt.Println(ParseOrigin("monitor.example.org/relaymon/main"))
	// Output:
	// monitor.example.org psf <nil>
	//   origin "monitor.example.org/relaymon/main": want <name>/relaymon/<lab or psf>
}

// Whoever keeps what a log holds is told what is new, and reads of sealed hours the same
// as was written, or nothing.
func TestProgressAndRecords(t *testing.T) {
	l, dir := newLog(t)
	relay, other := newRelay(t, crypto.Ed25519, 0), newRelay(t, crypto.Ed25519, 0)
	if p := l.Progress(); p.Next != firstHour || len(p.Unsealed) != 0 {
		t.Fatalf("a new log: %+v", p)
	}
	watch(t, l, firstHour)
	must(t, l.Append(firstHour, relay.attempt(t, l.Key(), firstHour, time.Minute, nil)))
	before := l.Progress()
	must(t, l.Append(firstHour, other.attempt(t, l.Key(), firstHour, 2*time.Minute, nil)))
	watch(t, l, firstHour+1)
	after := l.Progress()
	if len(before.Unsealed) != 1 || len(after.Unsealed) != 2 || after.Unsealed[0].Hour != firstHour || after.Unsealed[1].Hour != firstHour+1 || after.Unsealed[0].Bytes <= before.Unsealed[0].Bytes {
		t.Errorf("one attempt: %+v, then two: %+v", before, after)
	}
	open, err := l.Records(firstHour)
	must(t, err)
	_, err = l.Seal(closing(firstHour))
	must(t, err)
	if p := l.Progress(); p.Next != firstHour+1 || len(p.Unsealed) != 1 {
		t.Errorf("sealed: %+v", p)
	}
	sealed, err := l.Records(firstHour)
	must(t, err)
	if len(sealed) != 2 || !cmp.Equal(sealed, open) {
		t.Errorf("sealed %+v, want %+v", sealed, open)
	}
	must(t, l.Close())

	// A byte on the disk turns.
	file := l.recordsPath(firstHour)
	b, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte(strings.Replace(string(b), `"outcome":"ok"`, `"outcome":"no"`, 1)), 0o600))
	again, err := OpenRead(dir)
	must(t, err)
	defer again.Close()
	_, err = again.Records(firstHour)
	wantError(t, err, "not those that were sealed")
}
