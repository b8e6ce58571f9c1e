package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

func TestRoster(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/roster",
		Setup: func(env *testscript.Env) error {
			return os.WriteFile(env.WorkDir+"/rules.yaml", bounty.DefaultRules, 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// oldkey sets OLDKEY to the verifier key of the secret key in the file "key".
			"oldkey": func(ts *testscript.TestScript, _ bool, _ []string) {
				key, err := verifierKey(strings.TrimSpace(ts.ReadFile("key")))
				ts.Check(err)
				ts.Setenv("OLDKEY", key)
			},
		},
	})
}
