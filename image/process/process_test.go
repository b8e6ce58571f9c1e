package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOutput(t *testing.T) {
	got, err := Output(t.Context(), []string{"WORD=environment"}, strings.NewReader("input "), "/bin/sh", "-c", `read -r line; echo "$line $WORD $HOME"; echo not this >&2`)
	if err != nil || got != "input environment \n" {
		t.Errorf("%q %v", got, err)
	}
}

// The error names the program and ends with its last words.
func TestError(t *testing.T) {
	for script, want := range map[string]string{
		"echo out; echo why >&2; exit 3":              "/bin/sh: exit status 3\nwhy",
		"echo only this; exit 3":                      "/bin/sh: exit status 3\nonly this",
		"yes long | head -c 100000 >&2; echo end >&2": "",
	} {
		err := Run(t.Context(), nil, nil, "/bin/sh", "-c", script)
		if want == "" {
			if err != nil {
				t.Error(err)
			}
		} else if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	err := Run(t.Context(), nil, nil, "/bin/sh", "-c", "yes long | head -c 100000 >&2; echo end >&2; exit 1")
	if err == nil || len(err.Error()) > said+100 || !strings.HasSuffix(err.Error(), "end") {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
	if err := Run(t.Context(), nil, nil, "no-such-program"); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("%v", err)
	}
}

// What a program has started ends with it.
func TestCancel(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "alive")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		// The grandchild holds the pipe open as long as it lives.
		ended <- Run(ctx, nil, nil, "/bin/sh", "-c", "(exec >"+fifo+"; echo up; sleep 1000) & sleep 1000")
	}()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("enough")
	cancel(reason)
	if err := <-ended; !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	if err := f.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the grandchild lives on: %d %v", n, err)
	}
}
