package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What "alert test" says of receivers, without their secrets.
func TestAlertTest(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/no") {
			w.WriteHeader(http.StatusForbidden)
		}
		fmt.Fprint(w, `{"id":"x"}`)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	file := filepath.Join(t.TempDir(), "relaymon.yaml")
	test := func(mode os.FileMode, alerts string, args ...string) (code int, stdout, stderr string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("name: m1\nnetwork: lab\ndata_dir: data\nroster: roster.yaml\n"+alerts), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code = run(append([]string{"alert", "test", "--config", file}, args...), &out, &errs)
		if said := out.String() + errs.String(); strings.Contains(said, "sesame") {
			t.Errorf("a secret is told: %s", said)
		}
		return code, out.String(), errs.String()
	}
	good := fmt.Sprintf("ntfy://%s/sesame?scheme=http", host)
	bad := fmt.Sprintf("ntfy://%s/no-sesame?scheme=http", host)

	code, stdout, stderr := test(0o600, fmt.Sprintf("alerts: {receivers: [%q], webhooks: [%q]}\n", good, srv.URL+"/sesame"))
	if code != 0 || strings.Count(stdout, ": sent\n") != 2 || !strings.Contains(stdout, " (alerts.webhooks[0]): sent") || stderr != "" {
		t.Errorf("got %d, %q, %q; want that both took it", code, stdout, stderr)
	}
	code, stdout, stderr = test(0o644, fmt.Sprintf("alerts: {receivers: [%q, %q]}\n", good, bad), "--json")
	var list []struct {
		To    string `json:"to"`
		Place string `json:"receiver"`
		Sent  bool   `json:"sent"`
		Err   string `json:"error"`
	}
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 1 || len(list) != 2 || !list[0].Sent || list[1].Sent || list[1].Err == "" || !strings.HasPrefix(list[1].To, "ntfy "+host) || list[1].Place != "alerts.receivers[1]" {
		t.Errorf("got %d, %v, %s; want that one did not take it, and why", code, err, stdout)
	}
	if !strings.Contains(stderr, "others can read "+file) {
		t.Errorf("got %q, want a remark on the file's mode", stderr)
	}
	if code, _, stderr = test(0o600, ""); code != 2 || !strings.Contains(stderr, "write who is into "+file) {
		t.Errorf("got %d, %q; want what to write where", code, stderr)
	}
	if code, _, stderr = test(0o600, "alerts: {receivers: [smtp://sesame]}\n"); code != 2 || !strings.Contains(stderr, file+":5: alerts.receivers[0]: the address is not as smtp wants it") {
		t.Errorf("got %d, %q; want the fault", code, stderr)
	}
}
