package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"relayd": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// The scripts run the program as operators do. Each has a free port of its own in
// $METRICS; "fill FILE" puts variables into a file, "await URL" waits until a page
// is there.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				return err
			}
			e.Setenv("METRICS", l.Addr().String())
			return l.Close()
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fill": func(ts *testscript.TestScript, _ bool, args []string) {
				file := ts.MkAbs(args[0])
				ts.Check(os.WriteFile(file, []byte(os.Expand(ts.ReadFile(args[0]), ts.Getenv)), 0o600))
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(await(args[0])) },
		},
	})
}

func await(url string) error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var resp *http.Response
		if resp, err = http.Get(url); err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return err
}
