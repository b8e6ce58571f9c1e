package bundle

import (
	"bytes"

	"github.com/psf-relay/relay-appliance/internal/scene"
)

// inputOf is what a bundle of the scene is made of.
func inputOf(w *scene.Scene) Input {
	return Input{
		Rules: w.RulesFile(), Roster: w.Signed(w.RosterYAML()), Releases: w.Releases, Logs: w.Logs(),
		Relay: w.RelayID, Month: w.First.Month(), Sign: w.Monitors[0].Log.SignStatement,
	}
}

func optionsOf(w *scene.Scene, in Input) Options {
	return Options{Rules: in.Rules, Roster: in.Roster, Committee: w.CommitteeKey, Geo: in.Geo, Beacon: in.Beacon}
}

func bundleOf(w *scene.Scene, in Input) []byte {
	var b bytes.Buffer
	_, err := Write(&b, in)
	w.Must(err)
	return b.Bytes()
}

func verify(b []byte, o Options) (Result, error) {
	return Verify(bytes.NewReader(b), int64(len(b)), o)
}
