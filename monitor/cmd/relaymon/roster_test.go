package main

import (
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	sumnote "golang.org/x/mod/sumdb/note"

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
			// future FROM TO signs a file as a newer program might, with a key more at its margin.
			"future": func(ts *testscript.TestScript, _ bool, args []string) {
				text, _ := bounty.Text([]byte(ts.ReadFile(args[0])))
				signer, err := sumnote.NewSigner(strings.TrimSpace(ts.ReadFile("key")))
				ts.Check(err)
				signed, err := bounty.Sign(append([]byte("colour: red\n"), text...), signer)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), signed, 0o644))
			},
		},
	})
}
