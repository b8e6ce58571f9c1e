package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestGet(t *testing.T) {
	var answer http.HandlerFunc
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.UserAgent(); got != "test/1" {
			t.Errorf("the server sees %q", got)
		}
		answer(w, r)
	}))
	defer s.Close()
	text := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		fault  string // empty: "12345678" is got
	}{
		"as long as may be": {text("12345678"), ""},
		"too long":          {text("123456789"), "more than 8 bytes"},
		"empty":             {text(""), "empty"},
		"not there":         {http.NotFound, "404 Not Found"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "8")
			_, _ = w.Write([]byte("1234"))
		}, "unexpected EOF"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "more than 8 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			answer = tc.answer
			b, err := Get(t.Context(), s.Client(), s.URL+"/doc", "test/1", 8)
			if tc.fault == "" && (err != nil || string(b) != "12345678") {
				t.Errorf("got %q, %v", b, err)
			}
			if tc.fault != "" && (err == nil || b != nil || !strings.Contains(err.Error(), tc.fault) || !strings.Contains(err.Error(), s.URL+"/doc")) {
				t.Errorf("got %q, %v; want %q and the URL", b, err, tc.fault)
			}
		})
	}
	// A token, or the signature of a link, is not repeated.
	secret := strings.Replace(s.URL, "://", "://me:sesame@", 1) + "/doc?sig=sesame"
	for name, address := range map[string]string{"answers": secret, "is gone": "http://me:sesame@127.0.0.1:1/doc?sig=sesame", "is no address": "http://me:sesame@[/doc"} {
		answer = http.NotFound
		if _, err := Get(t.Context(), s.Client(), address, "test/1", 8); err == nil || strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "me:") {
			t.Errorf("the server %s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	answer = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	if _, err := Get(ctx, s.Client(), s.URL, "test/1", 8); !errors.Is(err, context.Canceled) {
		t.Errorf("a server that does not answer: %v", err)
	}
}

// What a server writes beside its code may steer a terminal.
func TestStatus(t *testing.T) {
	for code, want := range map[int]string{http.StatusNotFound: "404 Not Found", 599: "599"} {
		if got := Status(&http.Response{StatusCode: code, Status: "x\x1b[2J"}); got != want {
			t.Errorf("%d: %q, want %q", code, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("read: %w", io.EOF), "read: it closed the connection"},
		{io.ErrUnexpectedEOF, "it closed the connection"},
		{context.DeadlineExceeded, "it has not answered in 3s"},
		{errors.New("refused"), "refused"},
	} {
		if got := Words(tc.err, 3*time.Second); got != tc.want {
			t.Errorf("%v: got %q, want %q", tc.err, got, tc.want)
		}
	}
}
