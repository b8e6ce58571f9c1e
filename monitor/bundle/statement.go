package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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
	Predicate     predicate `json:"predicate"`
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
}

func statementOver(files map[string][]byte, v *bounty.Verdict) ([]byte, error) {
	s := inTotoStatement{
		Type: statementType, PredicateType: predicateType, Subject: []subject{},
		Predicate: predicate{v.Relay.PeerID, v.Network, v.Month, v.AsOf, v.Headline},
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name != dsseFile {
			s.Subject = append(s.Subject, subject{name, map[string]string{"sha256": hashOf(files[name])}})
		}
	}
	return evidence.Encode(s)
}

// verifyStatement checks that a monitor of the roster signed for exactly these
// files, and returns its name.
func verifyStatement(files map[string][]byte, roster *bounty.Roster) (string, error) {
	envelope, ok := files[dsseFile]
	if !ok {
		return "", fmt.Errorf("%s is missing", dsseFile)
	}
	var (
		signer string
		body   []byte
		faults []error
	)
	for _, m := range roster.Monitors {
		b, err := evidence.VerifyStatement(envelope, m.LogKey)
		if err == nil {
			signer, body = m.Name, b
			break
		}
		faults = append(faults, err)
	}
	if signer == "" {
		return "", fmt.Errorf("%s is signed by no monitor of the roster: %w", dsseFile, errors.Join(faults...))
	}
	var s inTotoStatement
	if err := evidence.Decode(body, &s); err != nil {
		return "", fmt.Errorf("%s: %w", dsseFile, err)
	}
	if s.Type != statementType || s.PredicateType != predicateType {
		return "", fmt.Errorf("%s: a statement of type %s about %s is none about a relay's month", dsseFile, s.Type, s.PredicateType)
	}
	signed := map[string]bool{}
	for _, sub := range s.Subject {
		data, ok := files[sub.Name]
		switch {
		case !ok:
			return "", fmt.Errorf("%s is missing: %s vouches for it", sub.Name, dsseFile)
		case len(sub.Digest) != 1 || sub.Digest["sha256"] != hashOf(data):
			return "", fmt.Errorf("%s was changed: its SHA-256 is not the one in %s", sub.Name, dsseFile)
		}
		signed[sub.Name] = true
	}
	for name := range files {
		if name != dsseFile && !signed[name] {
			return "", fmt.Errorf("%s was added: %s does not vouch for it", name, dsseFile)
		}
	}
	return signer, nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
