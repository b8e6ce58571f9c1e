package alert

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
)

// What has no room in a message comes with the next one, and each alert once: what is
// critical first, what strangers say last.
func TestNothingIsLostForWantOfRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{most: 1000}
		d.name = "d"
		k, stop := Config{TimeZone: "UTC"}.keep(t, filepath.Join(t.TempDir(), "alerts.json"), d)
		defer stop()
		list := append(severe("critical", "strange"), severe("warning", "late", "long")...)
		list[0].Labels["source"] = "monitors"
		list[2].Summary = strings.Repeat("long ", 300)
		for i := range 40 {
			list = append(list, severe("critical", fmt.Sprintf("a%02d", i))...)
		}
		k.Set(time.Now(), list)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		var got []string
		for _, m := range d.mail {
			got = append(got, m.Lines...)
		}
		if len(got) != len(list) || k.Waiting() != 0 {
			t.Fatalf("got %d lines and %d alerts wait, want %d and 0: %q", len(got), k.Waiting(), len(list), got)
		}
		if !strings.Contains(got[0], "a00") || !strings.Contains(got[40], "late") || !strings.Contains(got[42], "strange") {
			t.Errorf("got %q, want critical ones first and the stranger's last", got)
		}
		// Their ends, too, the latest first.
		d.mail = nil
		k.Set(time.Now(), nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		n := 0
		for _, m := range d.mail {
			n += len(m.Lines)
		}
		if n != len(list) || len(k.alerts) != 0 {
			t.Errorf("got %d ends and %d alerts are known, want %d and 0", n, len(k.alerts), len(list))
		}
	})
}

// A digest that has no room comes in parts. Of what none of them shows nothing is noted.
func TestDigestInParts(t *testing.T) {
	for n, told := range map[int]int{20: 20, 200: 0} {
		synctest.Test(t, func(t *testing.T) {
			d := &desk{most: 500}
			k, stop := Config{Digest: "08:00", TimeZone: "UTC"}.keep(t, filepath.Join(t.TempDir(), "alerts.json"), d)
			defer stop()
			var list []Alert
			for i := range n {
				list = append(list, severe("warning", fmt.Sprintf("a%03d", i))...)
			}
			k.Set(time.Now(), list)
			till(1, 9, 0)
			synctest.Wait()
			shown := 0
			for _, m := range d.mail {
				shown += strings.Count(strings.Join(m.Lines, "\n"), "it is a")
			}
			if len(k.to[0].told) != shown || told > 0 && shown != told || len(d.mail) > mostParts || shown < 10 {
				t.Errorf("got %d alerts in %d messages, and %d are noted as told; want the same number, %d", shown, len(d.mail), len(k.to[0].told), told)
			}
			k.Set(time.Now(), nil)
			till(4, 9, 0)
			synctest.Wait()
			if len(k.alerts) != 0 || k.digest.Last != nil {
				t.Errorf("%d alerts are known, want none after their end", len(k.alerts))
			}
		})
	}
}

// Who ended last is in the digest, and strangers take nobody's room.
func TestStrangersTakeNoRoom(t *testing.T) {
	k, err := New(filepath.Join(t.TempDir(), "alerts.json"), quiet, &inbox{name: "in"})
	if err != nil {
		t.Fatal(err)
	}
	k.times.digests = true
	var list []Alert
	for i := range 2 * maxAlerts {
		a := severe("critical", fmt.Sprint("s", i))[0]
		a.Labels["source"] = "monitors"
		list = append(list, a)
	}
	k.Set(time.Now(), list)
	if n := len(k.Holding()); n != maxForeign {
		t.Errorf("got %d alerts, want %d", n, maxForeign)
	}
	k.Add(time.Now(), severe("warning", "own"))
	if list := k.Holding(); len(list) != maxForeign+1 || list[0].Name != "own" {
		t.Errorf("got %d alerts, first %v; want %d and the own one", len(list), list[0], maxForeign+1)
	}
	k.Set(time.Now(), nil)
	for i := range 2 * maxOver {
		k.ended(Alert{Name: fmt.Sprint("own", i)})
	}
	over := k.digest.Over
	if len(over) != maxOver || over[0].Name != fmt.Sprint("own", maxOver) || over[maxOver-1].Name != fmt.Sprint("own", 2*maxOver-1) {
		t.Errorf("got %d that ended, from %q to %q; want the %d latest of the program's own", len(over), over[0].Name, over[len(over)-1].Name, maxOver)
	}
}

// mailServer speaks as much SMTP as a receiver needs. The box is what it took, by the
// recipient.
type mailServer struct {
	addr string
	// before is asked before each answer to a command; false: the connection ends.
	before func(command string) bool

	mu  sync.Mutex
	box map[string]int
}

func newMailServer(t *testing.T, before func(command string) bool) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{addr: l.Addr().String(), before: before, box: map[string]int{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); s.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return s
}

func (s *mailServer) serve(c net.Conn) {
	in, to, data := bufio.NewScanner(c), "", false
	fmt.Fprint(c, "220 mail.test\r\n")
	for in.Scan() {
		line := in.Text()
		if data && line != "." {
			continue
		}
		if !s.before(line) {
			return
		}
		answer := "250 ok"
		switch {
		case data:
			data = false
			s.mu.Lock()
			s.box[to]++
			s.mu.Unlock()
		case strings.HasPrefix(line, "RCPT"):
			to = strings.Trim(strings.TrimPrefix(line, "RCPT TO:"), "<>")
			if strings.HasPrefix(to, "bad") {
				answer = "550 no such box"
			}
		case line == "DATA":
			data, answer = true, "354 go on"
		case line == "QUIT":
			answer = "221 bye"
		}
		fmt.Fprint(c, answer+"\r\n")
	}
}

func (s *mailServer) got() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]int{"you@example.org": s.box["you@example.org"], "bad@example.org": s.box["bad@example.org"]}
}

// turns has the keeper send to each of its receivers, as often as that.
func turns(t *testing.T, k *Keeper, n int, limit time.Duration) (last []error) {
	t.Helper()
	for range n {
		last = nil
		for _, c := range k.to {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			_, err := k.send(ctx, c)
			cancel()
			last = append(last, err)
		}
	}
	return last
}

func mailKeeper(t *testing.T, s *mailServer, to string) *Keeper {
	t.Helper()
	k, err := Config{Receivers: []URL{URL("smtp://" + s.addr + "/?from=a@example.org&to=" + to)}, TimeZone: "UTC"}.Open(filepath.Join(t.TempDir(), "alerts.json"), "relayd", quiet)
	if err != nil {
		t.Fatal(err)
	}
	k.Set(time.Now(), alerts("down"))
	return k
}

// One recipient that is refused has the other not told again.
func TestEachRecipientIsTold(t *testing.T) {
	s := newMailServer(t, func(string) bool { return true })
	k := mailKeeper(t, s, "you@example.org,bad@example.org")
	last := turns(t, k, 3, time.Minute)
	if len(last) != 2 || last[0] != nil || last[1] == nil {
		t.Errorf("got %v, want that one is refused", last)
	}
	if got := s.got(); got["you@example.org"] != 1 {
		t.Errorf("got %v, want one mail", got)
	}
}

// What fails after the server took the mail fails nobody's mail.
func TestMailIsTakenBeforeTheEnd(t *testing.T) {
	stop := make(chan struct{})
	for name, quit := range map[string]func() bool{
		"closes":    func() bool { return false },
		"is silent": func() bool { <-stop; return false },
	} {
		s := newMailServer(t, func(command string) bool { return command != "QUIT" || quit() })
		k := mailKeeper(t, s, "you@example.org")
		if last := turns(t, k, 3, time.Minute); last[0] != nil || s.got()["you@example.org"] != 1 {
			t.Errorf("%s: got %v and %v, want one mail", name, last, s.got())
		}
	}
	t.Cleanup(func() { close(stop) })
}

// A server that answers late has taken the mail: it is not sent again, also if other alerts
// have begun since.
func TestMailIsTakenLate(t *testing.T) {
	stop := make(chan struct{})
	s := newMailServer(t, func(command string) bool {
		if command == "." {
			<-stop
		}
		return true
	})
	k := mailKeeper(t, s, "you@example.org")
	for range 3 {
		if last := turns(t, k, 1, time.Millisecond); !errors.Is(last[0], errSilent) {
			t.Fatalf("got %v, want that it has not answered", last)
		}
	}
	k.Set(time.Now(), alerts("down", "other"))
	if last := turns(t, k, 1, time.Millisecond); !errors.Is(last[0], errSilent) {
		t.Fatalf("got %v, want that it has not answered", last)
	}
	close(stop)
	if last := turns(t, k, 1, time.Minute); last[0] != nil || s.got()["you@example.org"] != 1 || k.Waiting() != 1 {
		t.Errorf("got %v, %v and %d waiting; want the first mail noted and the second alert waiting", last, s.got(), k.Waiting())
	}
	if last := turns(t, k, 2, time.Minute); last[0] != nil || s.got()["you@example.org"] != 2 || k.Waiting() != 0 {
		t.Errorf("got %v, %v and %d waiting; want one more mail", last, s.got(), k.Waiting())
	}
}

func TestRecipients(t *testing.T) {
	for u, want := range map[URL][]URL{
		"smtp://h.example/?from=a@b.c&to=a%2Bx@b.c,d@e.f,d@e.f": {"smtp://h.example/?from=a%40b.c&to=a%2Bx%40b.c", "smtp://h.example/?from=a%40b.c&to=d%40e.f"},
		"smtp://h.example/?from=a@b.c&to=d@e.f":                 {"smtp://h.example/?from=a@b.c&to=d@e.f"},
		"telegram://1:A@telegram?channels=@a,@b":                {"telegram://1:A@telegram?channels=%40a", "telegram://1:A@telegram?channels=%40b"},
		"ntfy://h.example/a,b":                                  {"ntfy://h.example/a,b"},
	} {
		if got := recipients(u); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", string(u), got, want)
		}
	}
}

// Mail goes through TLS, unless the operator or the loopback says otherwise.
func TestMailNeedsTLS(t *testing.T) {
	for u, want := range map[URL]bool{
		"smtp://u:p@mail.example.org:587/?from=a@b.c&to=d@e.f":                   true,
		"smtp://u:p@mail.example.org:587/?from=a@b.c&to=d@e.f&encryption=None":   false,
		"smtp://u:p@mail.example.org:587/?from=a@b.c&to=d@e.f&usestarttls=no":    false,
		"smtp://u:p@127.0.0.1:25/?from=a@b.c&to=d@e.f":                           false,
		"smtp://u:p@localhost:25/?from=a@b.c&to=d@e.f":                           false,
		"smtp://u:p@[::1]:25/?from=a@b.c&to=d@e.f":                               false,
		"smtp://u:p@mail.example.org:587/?from=a@b.c&to=d@e.f&auth=OAuth2":       true,
		"smtp://u:p@mail.example.org:25/?from=a@b.c&to=d@e.f&requirestarttls=no": true,
	} {
		s, err := open(u, heard{})
		if err != nil {
			t.Errorf("%s: %v", string(u), err)
			continue
		}
		c := s.(*smtp.Service).Config
		if got := c.RequireStartTLS; got != want {
			t.Errorf("%s: got TLS required %v, want %v", string(u), got, want)
		}
		if near := !strings.Contains(string(u), "mail.example.org"); c.SkipTLSVerify != near {
			t.Errorf("%s: got a certificate taken unseen %v, want %v", string(u), c.SkipTLSVerify, near)
		}
	}
	if err := CheckReceiver("smtp://u:sesame@mail.example.org:587/?from=a@b.c&to=d@e.f&auth=OAuth2&usestarttls=no"); err == nil || !strings.Contains(err.Error(), "OAuth2") {
		t.Errorf("got %v, want that OAuth2 needs TLS", err)
	}
	if err := CheckReceiver("smtp://u:sesame@mail.example.org:465/?from=a@b.c&to=d@e.f&auth=OAuth2&usestarttls=no"); err != nil {
		t.Errorf("got %v, want no fault where all is TLS", err)
	}
}

// Words of others become no links and no tags.
func TestMarkupIsRefused(t *testing.T) {
	for u, option := range map[URL]string{
		"smtp://h.example/?from=a@b.c&to=d@e.f&UseHTML=yes":                                               "usehtml",
		"telegram://123456789:AAsesame1AAAAAAAAAAAAAAAAAAAAAAAAAA@telegram?chats=@a&parsemode=HTML":       "parsemode",
		"telegram://123456789:AAsesame1AAAAAAAAAAAAAAAAAAAAAAAAAA@telegram?chats=@a&parseMode=MarkdownV2": "parsemode",
	} {
		if err := CheckReceiver(u); err == nil || !strings.Contains(err.Error(), "leave "+option+" out: alerts hold words of others") {
			t.Errorf("%s: got %v, want that the option is refused", string(u), err)
		}
	}
	if err := CheckReceiver("smtp://h.example/?from=a@b.c&to=d@e.f&usehtml=no"); err != nil {
		t.Errorf("got %v, want no fault", err)
	}
	if err := CheckReceiver(URL("smtp://h.example/?from=a@b.c&to=" + strings.Repeat("d@e.f,", maxRecipients+1))); err == nil || !strings.Contains(err.Error(), "want 20 recipients at most") {
		t.Errorf("got %v, want a bound", err)
	}
	r := newPerson("slack://hook:SESAME1AA-SESAME2AA-SeSame3aaaaaaaaaaaaaaaaa@webhook", words{"relayd", "r", time.UTC})
	if text, _, _ := r.write(message{Title: "t", Lines: []string{"<!channel> & <https://x.example|here>"}}); !strings.Contains(text, "&lt;!channel&gt; &amp; &lt;https") {
		t.Errorf("got %q, want no calls and links for Slack", text)
	}
}

// A server can neither fill the memory nor lead the message, with its token, elsewhere.
func TestServersAreKeptInBounds(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(other.Close)
	sent := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Moved") != "" || strings.Contains(r.URL.Path, "moved") {
			http.Redirect(w, r, other.URL+"/sesame", http.StatusFound)
			return
		}
		sent = 0
		for {
			n, err := w.Write(make([]byte, 32<<10))
			if sent += n; err != nil || sent > 256<<20 {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	for _, kind := range []string{"generic://%s/%s?disabletls=yes", "ntfy://%s/%s?scheme=http", "bark://:key@%s/%s?scheme=http", "mattermost://%s/%s?disabletls=yes", "signal://%s/%s/+4915112345678/+4915187654321?disabletls=yes", "matrix://u:p@%s/%s?rooms=!a:b.c&disableTLS=yes"} {
		big := newPerson(URL(fmt.Sprintf(kind, host, "sesame")), words{"relayd", "r", time.UTC})
		if err := big.Send(t.Context(), alerts("x")); err == nil || sent > 64<<20 {
			t.Errorf("%s: got %v after %d bytes, want an error early", kind, err, sent)
		}
	}
	for _, kind := range []string{"generic://%s/moved?disabletls=yes", "ntfy://%s/moved?scheme=http", "mattermost://%s/moved?disabletls=yes"} {
		err := newPerson(URL(fmt.Sprintf(kind, host)), words{"relayd", "r", time.UTC}).Send(t.Context(), alerts("x"))
		if err == nil || asked || !strings.Contains(err.Error(), "it leads to the host "+strings.TrimPrefix(other.URL, "http://")+", which is not followed") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v (the other host was asked: %v), want that it leads elsewhere", kind, err, asked)
		}
	}
	// The rest of the program sends as ever.
	res, err := http.Post(srv.URL+"/moved", "text/plain", nil)
	if err != nil || !asked {
		t.Fatalf("got %v, want that others follow", err)
	}
	res.Body.Close()
}

// A token in the place of the host is not shown, and a name says nothing of the password.
func TestNames(t *testing.T) {
	for u, want := range map[URL]string{
		"gotify://Asesame1sesame2":            "gotify",
		"bark://sesame":                       "bark",
		"opsgenie://sesame/":                  "opsgenie",
		"googlechat://sesame":                 "googlechat",
		"generic://sesame":                    "generic",
		"ntfy://ntfy.sh/sesame":               "ntfy ntfy.sh",
		"ntfy://localhost/sesame":             "ntfy localhost",
		"smtp://u:sesame@mail:25/?from=a@b.c": "smtp mail:25",
	} {
		if got := newPerson(u, words{}).Name(); got != want || strings.Contains(u.String(), "sesame") {
			t.Errorf("%s: got %q and %s, want %q", string(u), got, u, want)
		}
	}
}

// Receivers keep what they were told wherever they stand in the list, and their keys cannot
// be held against guessed passwords.
func TestReceiversChangePlaces(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alerts.json")
	c := Config{Webhooks: []URL{"https://h.example/sesame1", "https://h.example/sesame2", "https://h.example/sesame1"}, TimeZone: "UTC"}
	k, err := c.Open(file, "relayd", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if len(k.to) != 2 || k.to[0].name != "webhook h.example 1" || k.to[1].name != "webhook h.example 2" {
		t.Fatalf("got %d receivers, want two with a number", len(k.to))
	}
	k.Set(time.Now(), alerts("down"))
	k.to[0].told[k.Holding()[0].id()] = 1
	k.save()
	slices.Reverse(c.Webhooks[:2])
	again, err := c.Open(file, "relayd", quiet)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.to[0].told) != 0 || len(again.to[1].told) != 1 || again.Waiting() != 1 {
		t.Errorf("got %v and %v, want that the second one knows now", again.to[0].told, again.to[1].told)
	}
	other, err := c.Open(filepath.Join(t.TempDir(), "alerts.json"), "relayd", quiet)
	if err != nil || other.to[0].key == again.to[0].key {
		t.Errorf("got the same key %s with another salt", other.to[0].key)
	}
}

// Where starts cannot be noted it is told all the same, once in an hour at most.
func TestCannotStartWithoutItsFile(t *testing.T) {
	h := newHook(t, nil)
	h.Config.SetKeepAlivesEnabled(false) // an idle connection would keep the bubble's time from passing
	c := Config{Webhooks: []URL{URL(h.URL)}, TimeZone: "UTC"}
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "absent", StartsFile)
		time.Sleep(30 * time.Minute)
		for end := time.Now().Add(3 * time.Hour); time.Now().Before(end); time.Sleep(10 * time.Second) {
			c.CannotStart(t.Context(), file, "relayd", quiet, nil, errors.New("no room"))
		}
	})
	if got := h.all(); len(got) != 3 || !strings.Contains(got[0], "how often it was tried is not known: no room") {
		t.Errorf("got %q, want one message in each hour", got)
	}
}

// On a full disk starts are counted on: the file is written over.
func TestStartsOnAFullDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), StartsFile)
	now := time.Date(2026, 11, 3, 7, 0, 0, 0, time.UTC)
	for i := range 10 {
		if _, err := Starts(file, now.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := readStarts(file)
	if err != nil {
		t.Fatal(err)
	}
	s.Told = now
	if err := s.overwrite(file); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(file)
	if err != nil || after.Size() != before.Size() {
		t.Errorf("got %d bytes, want %d", after.Size(), before.Size())
	}
	if s, err := readStarts(file); err != nil || len(s.Starts) < TooOften || !s.Told.Equal(now) || !s.Starts[len(s.Starts)-1].Equal(now.Add(9*time.Second)) {
		t.Errorf("got %v, %v; want the latest starts and when it was told", s, err)
	}
}

// An address in the place of a time is quoted without its password.
func TestTimesKeepAddresses(t *testing.T) {
	const u = "smtp://u:sesame@h.example/"
	err := Config{Quiet: u, Digest: u, TimeZone: u}.Validate()
	if err == nil || strings.Contains(err.Error(), "sesame") || strings.Count(err.Error(), "smtp://…") != 3 {
		t.Errorf("got %v, want three faults without the address", err)
	}
}

// neverAsked are parts of a library that looks for Google's credentials by itself. Package
// monitor/bucket gives it some, so that it never does: see TestOpenUnderAnotherTransport.
var neverAsked = []string{"/credentials/internal/externalaccount", "/credentials/internal/gdch"}

// Nothing that is linked takes http.DefaultTransport for the standard library's: with the
// guard in its place that would panic.
func TestDefaultTransportIsTakenForNoOther(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}",
		"../../relay/cmd/relayd", "../../monitor/cmd/...", "../appliance/cmd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := strings.Fields(string(out))
	if len(dirs) < 100 {
		t.Fatalf("got %d packages, want all", len(dirs))
	}
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.go"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(dir, "internal/download") || slices.ContainsFunc(neverAsked, func(end string) bool { return strings.HasSuffix(dir, end) }) {
				continue
			}
			for _, line := range bytes.Split(b, []byte("\n")) {
				// Whoever asks first whether it is one does without.
				if bytes.Contains(line, []byte("DefaultTransport.(*")) && !bytes.Contains(line, []byte(", ok")) {
					t.Errorf("%s takes http.DefaultTransport for a *http.Transport: %s", file, bytes.TrimSpace(line))
				}
			}
		}
	}
}
