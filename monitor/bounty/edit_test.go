package bounty

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/psf-relay/relay-appliance/internal/statement"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// announce makes the lines with which a relay enrols and moves.
func announce(t testing.TB, network string) (id, enrol, move string) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := statement.Statement{
		Kind: statement.Enrol, Network: network, PeerID: pid.String(), Operator: "carol", IPv4: "198.41.0.7", TCPPort: 4001,
		Domain: "carol.example.org", WSSPort: 443, Payout: "bitcoincash:qc", From: at(t, "2026-12-01T00:00:00Z").UTC(), Made: at(t, "2026-11-20T00:00:00Z").UTC(),
	}
	line := func() string {
		b, err := statement.Sign(s, key)
		if err != nil {
			t.Fatal(err)
		}
		return statement.Text(b) + "\n"
	}
	enrol = line()
	s.Kind, s.IPv4, s.From = statement.Move, "198.41.0.8", at(t, "2026-12-10T00:00:00Z").UTC()
	return pid.String(), enrol, line()
}

// What the relay signed of its country need not be said again, and cannot be contradicted.
func TestAddRelayWithRegion(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	from := at(t, "2026-12-01T00:00:00Z").UTC()
	raw, err := statement.Sign(statement.Statement{
		Kind: statement.Enrol, Network: "psf", PeerID: id.String(), Operator: "carol", IPv4: "198.41.0.7", TCPPort: 4001,
		Domain: "carol.example.org", WSSPort: 443, Region: "SG", Payout: "bitcoincash:qc", From: from, Made: from,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	added, err := AddRelay("roster", []byte(wholeRoster(t, nil)), statement.Text(raw), "")
	if err != nil || !strings.Contains(string(added), "region: SG") {
		t.Errorf("%v:\n%s", err, added)
	}
	if _, err := AddRelay("roster", []byte(wholeRoster(t, nil)), statement.Text(raw), "JP"); err == nil || !strings.Contains(err.Error(), "the relay signed region SG, the roster says JP") {
		t.Errorf("another country: %v", err)
	}
	if _, err := AddRelay("roster", []byte(wholeRoster(t, nil)), " \n", ""); err == nil || !strings.Contains(err.Error(), "nothing is there") {
		t.Errorf("no line: %v", err)
	}
}

func TestAddAndMove(t *testing.T) {
	signer, _ := logKey(t, "committee")
	file := mustSign(t, []byte("# kept by the committee\n"+wholeRoster(t, nil)), signer)
	id, enrol, move := announce(t, "psf")
	announced := hour(t, "2026-12-09T00:00:00Z")

	if _, err := MoveRelay("roster", file, move, announced); err == nil || !strings.Contains(err.Error(), "enrol first") {
		t.Errorf("a move of a stranger: %v", err)
	}
	added, err := AddRelay("roster", file, enrol, "JP")
	if err != nil {
		t.Fatal(err)
	}
	moved, err := MoveRelay("roster", added, move, announced)
	if err != nil {
		t.Fatal(err)
	}
	again, err := MoveRelay("roster", moved, move, announced)
	if err == nil {
		t.Errorf("the same move twice:\n%s", again)
	}
	r, err := ParseRoster("roster", moved)
	if err != nil {
		t.Fatal(err)
	}
	e := r.Relay(id)
	if len(r.Relays) != 2 || e == nil || e.Region != "JP" || e.Payout != "bitcoincash:qc" || e.Statement == nil {
		t.Fatalf("got %+v", e)
	}
	if a := e.At(hour(t, "2026-12-10T00:00:00Z")); a.IPv4 != "198.41.0.8" {
		t.Errorf("after the move: %+v", a)
	}
	if !strings.Contains(string(moved), "# kept by the committee") || strings.Contains(string(moved), "— committee") {
		t.Errorf("comments stay, signatures go:\n%s", moved)
	}
	// The relay that was there has a move already: a second one is appended.
	if len(r.Relays[0].Moves) != 1 {
		t.Errorf("got %+v", r.Relays[0].Moves)
	}
	empty, err := AddRelay("roster", []byte("version: 1\nnetwork: psf\n"), enrol, "")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := ParseRoster("roster", empty); err != nil || r.Relay(id) == nil {
		t.Errorf("into an empty roster: %v\n%s", err, empty)
	}
	_, lab, _ := announce(t, "lab")
	for name, tc := range map[string]struct{ file, line, want string }{
		"twice":             {string(added), enrol, "in it already"},
		"a move":            {string(file), move, "of kind move"},
		"another network":   {string(file), lab, "network lab"},
		"nonsense":          {string(file), "nonsense!", "base64"},
		"cut":               {string(file), enrol[:40], "statement"},
		"a broken roster":   {"relays: 1", enrol, "want a list"},
		"a broken roster 2": {"network: 5g", enrol, "network"},
	} {
		if _, err := AddRelay("roster", []byte(tc.file), tc.line, ""); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	if _, err := MoveRelay("roster", added, move, hour(t, "2026-12-11T00:00:00Z")); err == nil || !strings.Contains(err.Error(), "retroactively") {
		t.Errorf("announced after it took effect: %v", err)
	}
}

func TestFollows(t *testing.T) {
	now := hour(t, "2026-11-15T12:00:00Z")
	file := wholeRoster(t, nil)
	_, key := logKey(t, "w")
	file += "witnesses: [{name: w, operator: w, key: " + key + ", from: 2026-11-01T00:00:00Z}]\nreleases: " + hashOf([]byte("list")) + "\n"
	old, err := ParseRoster("roster", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	past, ahead := now-1, now+1
	for name, tc := range map[string]struct {
		change func(r *Roster)
		want   string // empty: it may follow
	}{
		"nothing changed":           {func(*Roster) {}, ""},
		"a monitor leaves":          {func(r *Roster) { r.Monitors[0].Until = &ahead }, ""},
		"a monitor had left":        {func(r *Roster) { r.Monitors[0].Until = &past }, "end lies in the past"},
		"a monitor is gone":         {func(r *Roster) { r.Monitors = nil }, "is gone"},
		"another key":               {func(r *Roster) { r.Monitors[0].LogKey = "x" }, "never change within a term"},
		"the committee's after all": {func(r *Roster) { r.Monitors[0].Committee = false }, "never change within a term"},
		"a monitor joins":           {func(r *Roster) { r.Monitors = append(r.Monitors, Monitor{Name: "n", Term: Term{From: ahead}}) }, ""},
		"a monitor had joined":      {func(r *Roster) { r.Monitors = append(r.Monitors, Monitor{Name: "n", Term: Term{From: now}}) }, "not ahead"},
		"a relay joins":             {func(r *Roster) { r.Relays = append(r.Relays, Relay{PeerID: "n", Enrolled: ahead}) }, ""},
		"a relay had joined":        {func(r *Roster) { r.Relays = append(r.Relays, Relay{PeerID: "n", Enrolled: past}) }, "not ahead"},
		"a relay is gone":           {func(r *Roster) { r.Relays = nil }, "is gone"},
		"a relay leaves":            {func(r *Roster) { r.Relays[0].Until = &ahead }, ""},
		"another address":           {func(r *Roster) { r.Relays[0].IPv4 = "198.41.0.9" }, "never change"},
		"enrolled earlier":          {func(r *Roster) { r.Relays[0].Enrolled-- }, "is not ahead of"},
		"another operator":          {func(r *Roster) { r.Relays[0].Operator = "mallory" }, "never change"},
		"another payout":            {func(r *Roster) { r.Relays[0].Payout = "bitcoincash:r" }, `payout: it was "bitcoincash:q": it may be added where there is none`},
		"no payout any more":        {func(r *Roster) { r.Relays[0].Payout = "" }, "payout: it was"},
		"another statement":         {func(r *Roster) { r.Relays[0].Statement = Statement("x") }, "statement: it may be added"},
		"no statement any more":     {func(r *Roster) { r.Relays[0].Statement = nil }, "statement: it may be added"},
		"another region":            {func(r *Roster) { r.Relays[0].Region = "JP" }, `region: it was "SG"`},
		"a monitor's place":         {func(r *Roster) { r.Monitors[0].Place.Lat = 2 }, "its place never changes"},
		"a monitor without a place": {func(r *Roster) { r.Monitors[0].Place = nil }, "its place never changes"},
		"its witness moves":         {func(r *Roster) { r.Monitors[0].WitnessURL = "https://other.example.org" }, ""},
		"a control is gone":         {func(r *Roster) { r.Controls = r.Controls[1:] }, "control c1, in force from ever, is gone"},
		"a control had joined":      {func(r *Roster) { r.Controls = append(r.Controls, ControlHost{Name: "c4"}) }, "control c4: from: ever is not ahead"},
		"a control joins":           {func(r *Roster) { r.Controls = append(r.Controls, ControlHost{Name: "c4", Term: Term{From: ahead}}) }, ""},
		"a control leaves":          {func(r *Roster) { r.Controls[0].Until = &ahead }, ""},
		"a control had left":        {func(r *Roster) { r.Controls[0].Until = &past }, "control c1: its end lies in the past"},
		"another's control":         {func(r *Roster) { r.Controls[0].Operator = "alice" }, "control c1: operator and addresses never change"},
		"a control elsewhere":       {func(r *Roster) { r.Controls[0].TCP4 = "/ip4/192.5.5.9/tcp/53" }, "control c1: operator and addresses never change"},
		"a witness is gone":         {func(r *Roster) { r.Witnesses = nil }, "witness w, in force from"},
		"another witness's key":     {func(r *Roster) { r.Witnesses[0].Key = "x" }, "witness w: operator and key never change"},
		"a witness had joined":      {func(r *Roster) { r.Witnesses = append(r.Witnesses, Witness{Name: "x", Term: Term{From: past}}) }, "witness x: from"},
		"a newer release list":      {func(r *Roster) { r.Releases = hashOf(nil) }, ""},
		"no release list any more":  {func(r *Roster) { r.Releases = "" }, "releases: a release list is replaced"},
		"a move is taken back":      {func(r *Roster) { r.Relays[0].Moves = nil }, "never changed"},
		"a move is changed":         {func(r *Roster) { r.Relays[0].Moves[0].IPv4 = "198.41.0.9" }, "never changed"},
		"a move":                    {func(r *Roster) { r.Relays[0].Moves = append(r.Relays[0].Moves, Move{From: ahead}) }, ""},
		"a move in the past":        {func(r *Roster) { r.Relays[0].Moves = append(r.Relays[0].Moves, Move{From: past}) }, "not ahead"},
		"another network":           {func(r *Roster) { r.Network = evidence.Lab }, "network"},
		"notes are free":            {func(r *Roster) { r.Notes = nil }, ""},
	} {
		r, err := ParseRoster("roster", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		tc.change(r)
		err = r.Follows(old, now)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// What a relay lacked it may add: whom to pay, and what its key says of all that.
func TestFollowsAdds(t *testing.T) {
	now := hour(t, "2026-11-15T12:00:00Z")
	r, err := ParseRoster("roster", []byte(wholeRoster(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	old, err := ParseRoster("roster", []byte(wholeRoster(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	*old = *r
	old.Relays = []Relay{r.Relays[0]}
	old.Relays[0].Payout, old.Relays[0].Region, old.Relays[0].Statement = "", "", nil
	if err := r.Follows(old, now); err != nil {
		t.Error(err)
	}
	// Of what has not begun nothing is settled.
	if err := old.Follows(r, hour(t, "2026-10-30T00:00:00Z")); err != nil {
		t.Error(err)
	}
}
