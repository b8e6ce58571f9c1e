package bounty

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Rules and rosters are signed as notes (golang.org/x/mod/sumdb/note): the YAML,
// an empty line, and a line for each signature.

// Text is the YAML of a file that may be a signed note, and the keys that its
// signatures name ("name+hash"). Nothing is verified: see [Verified].
func Text(file []byte) (text []byte, signedBy []string) {
	i := bytes.LastIndex(file, []byte("\n\n— "))
	if i < 0 {
		return file, nil
	}
	n, err := note.Open(file, note.VerifierList())
	unverified, ok := err.(*note.UnverifiedNoteError)
	if n == nil && !ok {
		return file, nil
	}
	for _, sig := range unverified.Note.UnverifiedSigs {
		signedBy = append(signedBy, fmt.Sprintf("%s+%08x", sig.Name, sig.Hash))
	}
	return []byte(unverified.Note.Text), signedBy
}

// Verified is the YAML of a file that the committee's key vouches for.
func Verified(name string, file []byte, committee string) ([]byte, error) {
	verifier, err := note.NewVerifier(committee)
	if err != nil {
		return nil, fmt.Errorf("the committee's key: %w: want the verifier key that \"relaymon roster key\" prints", err)
	}
	n, err := note.Open(file, note.VerifierList(verifier))
	if err != nil {
		return nil, fmt.Errorf("%s: no signature by the committee's key %s: %w", name, verifier.Name(), err)
	}
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		// The bits that are left over in the last letter are read by nobody: with others it
		// would be another file, of the same serial.
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return nil, fmt.Errorf("%s: the signature by %s is not written as it was made: %w", name, s.Name, err)
		}
	}
	return []byte(n.Text), nil
}

// Sign puts the YAML into a note of the committee's. Signatures that are there
// already are dropped: they vouch for what was written before.
func Sign(file []byte, signer note.Signer) ([]byte, error) {
	text, _ := Text(file)
	if !strings.HasSuffix(string(text), "\n") {
		text = append(bytes.Clone(text), '\n')
	}
	return note.Sign(&note.Note{Text: string(text)}, signer)
}

// OpenRules reads rules that are signed by the committee's key or, with an
// empty key, may be unsigned. Signed ones may have grown: see [Rules.Unknown].
func OpenRules(name string, file []byte, committee string) (*Rules, []string, error) {
	text, signedBy, err := open(name, file, committee)
	if err != nil {
		return nil, nil, err
	}
	signed := len(signedBy) > 0
	r, err := parseRules(name, file, text, signed, signed)
	return r, signedBy, err
}

// OpenRoster reads a whole roster that is signed by the committee's key or, with
// an empty key, may be unsigned. A signed one may have grown: see [Roster.Unknown].
func OpenRoster(name string, file []byte, committee string) (*Roster, []string, error) {
	text, signedBy, err := open(name, file, committee)
	if err != nil {
		return nil, nil, err
	}
	signed := len(signedBy) > 0
	r, err := parseRoster(name, file, text, signed, func(r *Roster) error {
		var f faults
		validateLink(&f, r.Link(), signed)
		return errors.Join(append(f, r.Validate())...)
	})
	if err == nil && len(r.Unknown) > 0 {
		// Of rules all is unknown here: they must not pass for a roster of nobody.
		if _, notRules := parseRules(name, file, text, true, true); notRules == nil {
			return nil, nil, fmt.Errorf("%s holds rules, not a roster", name)
		}
	}
	return r, signedBy, err
}

// Mistaken says if a file that is taken for rules, or for a roster, is whole as the other
// of the two. Each of its keys would be a fault of its own.
func Mistaken(name string, file []byte, rules bool) error {
	_, _, notRules := OpenRules(name, file, "")
	roster, _, notRoster := OpenRoster(name, file, "")
	switch {
	case rules && notRules != nil && notRoster == nil && (len(roster.Unknown) == 0 || len(roster.Monitors) > 0):
		return fmt.Errorf("%s holds a roster, not rules", name)
	case !rules && notRoster != nil && notRules == nil:
		return fmt.Errorf("%s holds rules, not a roster", name)
	}
	return nil
}

func open(name string, file []byte, committee string) (text []byte, signedBy []string, err error) {
	if len(file) > MaxBytes {
		return nil, nil, fmt.Errorf("%s: %d bytes, at most %d are read", name, len(file), MaxBytes)
	}
	text, signedBy = Text(file)
	if committee != "" {
		text, err = Verified(name, file, committee)
	}
	return text, signedBy, err
}
