package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

// The in-toto statement (https://in-toto.io/Statement/v1) that vouches for all
// other files of the bundle.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://github.com/psf-relay/relay-appliance/relay-month/v1"
)

type inTotoStatement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	// Predicate is a predicate, and may have members that nobody knows yet.
	Predicate json.RawMessage `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

// predicate says what the files show, for those who read no further.
type predicate struct {
	Relay    string           `json:"relay"`
	Network  evidence.Network `json:"network"`
	Month    evidence.Month   `json:"month"`
	AsOf     evidence.Time    `json:"as_of"`
	Headline string           `json:"headline"`
	// DrawnBy is the version of the program that made the bundle. It is the only word in a
	// bundle that nobody can check. If it is not the verifier's, drawings that differ from
	// his own are not taken for bad, and not for checked either.
	DrawnBy string `json:"drawn_by"`
}

func predicateOf(v *bounty.Verdict, drawnBy string) predicate {
	return predicate{v.Relay.PeerID, v.Network, v.Month, v.AsOf, v.Headline, drawnBy}
}

// versionPattern is what the version of a program may look like.
var versionPattern = regexp.MustCompile(`^v[0-9A-Za-z.+-]{1,100}$`)

func statementOver(files folder, p predicate) ([]byte, error) {
	raw, err := evidence.Encode(p)
	if err != nil {
		return nil, err
	}
	return statementWith(files, raw)
}

// statementWith is the one over these files, with a predicate as it stands there.
func statementWith(files folder, predicate []byte) ([]byte, error) {
	s := inTotoStatement{Type: statementType, PredicateType: predicateType, Subject: []subject{}, Predicate: predicate}
	for _, f := range files {
		if f.name != dsseFile {
			s.Subject = append(s.Subject, subject{f.name, map[string]string{"sha256": f.sum}})
		}
	}
	return evidence.Encode(s)
}

// verifyStatement checks that a monitor of the roster signed for exactly these
// files, and returns its name and what it says about them.
func verifyStatement(files folder, roster *bounty.Roster) (string, predicate, error) {
	fail := func(err error) (string, predicate, error) {
		return "", predicate{}, fmt.Errorf("%s: %w", dsseFile, err)
	}
	envelope, err := files.read(dsseFile)
	if err != nil {
		return "", predicate{}, err
	}
	id, err := evidence.StatementKeyID(envelope)
	if err != nil {
		return fail(err)
	}
	i := slices.IndexFunc(roster.Monitors, func(m bounty.Monitor) bool {
		own, err := evidence.KeyID(m.LogKey)
		return err == nil && own == id
	})
	if i < 0 {
		return fail(fmt.Errorf("it is signed by no monitor of the roster, but by %.100q", id))
	}
	body, err := evidence.VerifyStatement(envelope, roster.Monitors[i].LogKey)
	if err != nil {
		return fail(err)
	}
	// Of the statement only the predicate is read. What it says of the files is
	// compared with what would have to be said of them.
	var s inTotoStatement
	var p predicate
	if err := json.Unmarshal(body, &s); err != nil {
		return fail(err)
	}
	if err := evidence.DecodeGrown(s.Predicate, &p); err != nil {
		return fail(err)
	}
	if !versionPattern.MatchString(p.DrawnBy) {
		return fail(fmt.Errorf("drawn_by: %.100q is no version of a program", p.DrawnBy))
	}
	want, err := statementWith(files, s.Predicate)
	if err != nil {
		return fail(err)
	}
	if !bytes.Equal(body, want) {
		return fail(whatDiffers(body, files))
	}
	return roster.Monitors[i].Name, p, nil
}

// whatDiffers says why a statement is not the one over these files.
func whatDiffers(body []byte, files folder) error {
	var s inTotoStatement
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	if s.Type != statementType || s.PredicateType != predicateType {
		return fmt.Errorf("a statement of type %.100q about %.100q is none about a relay's month", s.Type, s.PredicateType)
	}
	signed := map[string]bool{}
	for _, sub := range s.Subject {
		switch f := files.file(sub.Name); {
		case f == nil:
			return fmt.Errorf("%.200q is missing: the statement vouches for it", sub.Name)
		case len(sub.Digest) != 1 || sub.Digest["sha256"] != f.sum:
			return fmt.Errorf("%s was changed: its SHA-256 is not the one in the statement", sub.Name)
		}
		signed[sub.Name] = true
	}
	for _, f := range files {
		if f.name != dsseFile && !signed[f.name] {
			return fmt.Errorf("%s was added: the statement does not vouch for it", f.name)
		}
	}
	return errors.New("the statement is not in its one spelling: canonical JSON (RFC 8785), the subjects sorted by name")
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
