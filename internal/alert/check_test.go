package alert

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const goodMail = "smtp://u:sesame@mail.example.org/?from=a@example.org&to=b@example.org"

// Each fault of an address is named, without any of its secrets.
func TestFaultsOfReceivers(t *testing.T) {
	const telegram = "telegram://123456789:AAsesame1AAAAAAAAAAAAAAAAAAAAAAAAAA@telegram"
	for bad, want := range map[URL]string{
		goodMail + " - ntfy://ntfy.sh/sesame":               "there is a space in it: is the next receiver indented too far?",
		goodMail + "\x07":                                   "a character in it that does not print",
		`"` + goodMail + `"`:                                "it begins with a quotation mark",
		"smtp://u:sesame/x@h.example/?from=a@b.c&to=d@e.f":  "in a password write %2F for /, %23 for #, %25 for % and %40 for @",
		"smtp://u:sesame#x@h.example/?from=a@b.c&to=d@e.f":  "in a password write %2F",
		"smtp://u:12/sesame@h.example/?from=a@b.c&to=d@e.f": "in a password write %2F",
		"smtp://u:12#sesame@h.example/?from=a@b.c&to=d@e.f": "in a password write %2F",
		"smtp://u:sesame%x@h.example/?from=a@b.c&to=d@e.f":  "%25 for %",
		"smtp://u:p@h.example:port/?from=a@b.c&to=d@e.f":    "a port is a number",
		"ntfy://ntfy.sh/sesame?title=100%":                  "its options cannot be read: write %25 for %",
		"stmp://u:sesame@h.example/":                        "there is no service stmp: did you mean smtp?; services: bark, ",
		"smtps://u:sesame@h.example/":                       "write smtp:// and the port 465",
		"mailto:sesame@example.org":                         "mailto names no mail server",
		"ntfy:/ntfy.sh/sesame":                              "there is no // behind ntfy",
		"sesame:x":                                          "want a URL such as",
		telegram + "?chats=":                                "a chat is missing behind chats=",
		telegram + "?chats=@a,":                             "a chat is missing behind chats=",
		telegram + "?chat=@x":                               "chat (valid keys: [channels chats notification",
		"telegram://TOKEN@telegram?chats=@CHANNEL":          "invalid telegram token",
		"smtp://h.example/?from=a@b.c&to=":                  "a recipient is missing behind to=",
		"smtp://h.example/?from=relay&to=you":               "from: want a mail address such as you@example.org; to: want a mail address",
		"generic://":                                        "the host is missing",
		"gotify://gotify.example":                           "the token is missing",
		"ntfy://ntfy.example/":                              "the topic is missing",
		"matrix://u:sesame@h.example/?rooms=#r:x":           "write # as %23",
		"matrix://u:sesame@h.example/?rooms=":               "a room is missing behind rooms=",
		"smtp://h.example/?from=a@b.c&to=" + URL(strings.Repeat("sesame@e.f,", 3)): "a recipient is missing",
	} {
		if err := CheckReceiver(bad); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%q: got %v, want %q without the address", string(bad), err, want)
		}
	}
	for _, good := range []URL{goodMail, "matrix://u:p@h.example/?rooms=%23r:x", "rocketchat://h.example/tokenA/tokenB/@user", "pushbullet://o.sesame1sesame2sesame3sesame4sesa/#channel", "pagerduty:///5e5a3e15e5a3e25e5a3e35e5a3e45e5a", "ntfy+x://h"} {
		if err := CheckReceiver(good); (err == nil) == (good == "ntfy+x://h") {
			t.Errorf("%q: got %v", string(good), err)
		}
	}
}

// Addresses of programs have faults and examples of their own.
func TestFaultsOfAddresses(t *testing.T) {
	c := Config{TimeZone: "UTC", Webhooks: []URL{"https://h.example/sesame - https://i.example/", "https://u:se/same@h.example/"}, Alertmanagers: []URL{"127.0.0.1:9093"}}
	err := c.Validate()
	for _, want := range []string{"alerts.webhooks[0]: there is a space in it", "alerts.webhooks[1]: it cannot be read as a URL", "alerts.alertmanagers[0]: want an address such as http://127.0.0.1:9093"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A mail server may repeat what it was sent: that is the password in base64.
func TestPasswordsInBase64(t *testing.T) {
	hide := secrets("smtp://me:SECRETPW@h.example/?from=a@b.c&to=d@e.f")
	for _, sent := range []string{"\x00me\x00SECRETPW", "me\x00me\x00SECRETPW", "SECRETPW", "me:SECRETPW", "user=me\x01auth=Bearer SECRETPW\x01\x01"} {
		said := base64.StdEncoding.EncodeToString([]byte(sent))
		if got := cause(hide, errors.New("535 refused: AUTH PLAIN "+said)); strings.Contains(got, said[:6]) || !strings.HasPrefix(got, "535 refused: AUTH PLAIN …") {
			t.Errorf("%q: got %q, want it without %s", sent, got, said)
		}
	}
}

// refuses is a receiver that refuses, until it does not.
type refuses struct{ err error }

func (*refuses) Name() string                              { return "ntfy ntfy.sh" }
func (*refuses) place() string                             { return "alerts.receivers[1]" }
func (*refuses) Repeats() bool                             { return false }
func (r *refuses) Send(context.Context, []Alert) (_ error) { return r.err }

// A receiver that refuses everything is named, with its place, until it takes a message.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &refuses{errors.New("dial tcp 10.0.0.7:443: it answers 500")}
		var log bytes.Buffer
		k, err := New(filepath.Join(t.TempDir(), "alerts.json"), slog.New(slog.NewTextHandler(&log, nil)), r)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { k.Run(ctx); close(over) }()
		began := time.Now()
		k.Set(began, alerts("down"))
		synctest.Wait()
		if got := k.Failing(); got != nil {
			t.Errorf("got %q after one failure, want nothing", got)
		}
		time.Sleep(2 * time.Minute)
		want := fmt.Sprintf(" failures in a row, since %s: it answers 500", began.UTC().Format("2006-01-02 15:04 MST"))
		if got := k.Failing(); len(got) != 1 || !strings.HasPrefix(got[0], "alerts do not reach ntfy ntfy.sh (alerts.receivers[1]): ") || !strings.HasSuffix(got[0], want) {
			t.Errorf("got %q, want the receiver and %q", got, want)
		}
		r.err = nil
		time.Sleep(2 * lastPause)
		if got := k.Failing(); got != nil {
			t.Errorf("got %q, want nothing when it takes messages again", got)
		}
		cancel()
		<-over
		if !strings.Contains(log.String(), "receiver=alerts.receivers[1]") {
			t.Errorf("the log does not say where the receiver stands: %s", log.String())
		}
	})
}

// The same receiver in two lines gets a test message once, and an outcome says which it is.
func TestOutcomesNamePlaces(t *testing.T) {
	h := newHook(t, nil)
	c := Config{Webhooks: []URL{"http://127.0.0.1:1/", URL(h.URL), URL(h.URL)}, TimeZone: "UTC"}
	got, err := c.Send(t.Context(), "relayd", alerts("test")...)
	if err != nil || len(got) != 2 || got[0].Err == nil || got[0].Place != "alerts.webhooks[0]" || got[1].Err != nil || got[1].Place != "alerts.webhooks[1]" {
		t.Errorf("got %v, %v; want two outcomes with their places", got, err)
	}
	if sent := h.all(); len(sent) != 1 {
		t.Errorf("got %q, want one message", sent)
	}
}

// What fails on the way is said in words for people, of receivers for people and for programs.
func TestFailuresInWords(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c)) // closed unread, it would be reset
			c.Close()
		}
	}()
	host := l.Addr().String()
	for _, r := range []Receiver{
		Webhook(URL("http://"+host+"/sesame"), "relayd"),
		newPerson(URL("ntfy://"+host+"/sesame?scheme=http"), words{}),
		newPerson(URL("matrix://u:sesame@"+host+"/?rooms=!r:x&disableTLS=yes"), words{}),
	} {
		if err := r.Send(t.Context(), alerts("down")); err == nil || !strings.Contains(err.Error(), "it closed the connection") || strings.Contains(err.Error(), "EOF") {
			t.Errorf("%s: got %v, want that the server closed the connection", r.Name(), err)
		}
	}
	slow := fmt.Errorf("Post: %w (Client.Timeout exceeded while awaiting headers)", context.DeadlineExceeded)
	if got := cause(secrets(goodMail), slow); got != "Post: it has not answered in 15s" {
		t.Errorf("got %q, want for how long it has not answered", got)
	}
}

// Everybody reads on the pages which receivers do not answer: where one in a private network
// is stands there no more than what its certificate says.
func TestFailingNamesNoPrivateHost(t *testing.T) {
	person := Config{Receivers: []URL{"gotify://nas/Asesame1sesame2"}}.receivers("relayd", time.UTC)[0]
	to := []Receiver{person, Webhook("https://192.168.1.5:9093/path", "relayd"), Alertmanager("http://localhost:9093", "relayd"), Webhook("https://hooks.example.org/path", "relayd")}
	k, err := New(filepath.Join(t.TempDir(), "alerts.json"), slog.New(slog.DiscardHandler), to...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range k.to {
		for range manyFailures {
			k.failed(c, errors.New("x509: certificate is valid for nas.lan"))
		}
	}
	for i, want := range []string{"gotify (alerts.receivers[0]): ", "webhook in a private network: ", "alertmanager on this machine: ", "webhook hooks.example.org: "} {
		got := k.Failing()[i]
		if shown := strings.Contains(got, "nas.lan"); !strings.HasPrefix(got, "alerts do not reach "+want) || shown != (i == 3) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
