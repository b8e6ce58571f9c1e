package alert

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/need"
)

// eximConfig has nothing of the machine's own: no names are looked up, nothing leaves it,
// and all lies in one folder. As with Debian's settings it offers STARTTLS, with a certificate
// that it signs itself.
const eximConfig = `primary_hostname = mail.test
exim_user = Debian-exim
exim_group = Debian-exim
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
host_lookup =
rfc1413_query_timeout = 0s
keep_environment =
deliver_drop_privilege
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
rcpt:
  require authenticated = *
  require domains = example.org
  accept
data:
  accept
begin routers
local:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = DIR/mail/box
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{relay@example.org}}{eq{$auth3}{sesame open}}}}
`

// exim is a real mail server, started for each connection as inetd does, so that there is
// no daemon to wait for. A mail is in its file when over returns: the last of its connections
// has ended.
func exim(t *testing.T) (addr, dir string, over func()) {
	t.Helper()
	need.Root(t)
	need.Tools(t, "exim4")
	as, err := user.Lookup("Debian-exim")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(as.Uid)
	gid, _ := strconv.Atoi(as.Gid)
	if dir, err = os.MkdirTemp("", "alert-exim-"); err != nil { // the one of the test is root's alone
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, err := range []error{os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "conf"), []byte(strings.ReplaceAll(eximConfig, "DIR", dir)), 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"spool", "log", "mail"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(dir, name), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	var busy sync.Mutex // while a connection is served
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f, err := c.(*net.TCPConn).File()
			c.Close()
			if err != nil {
				t.Error(err)
				return
			}
			cmd := exec.CommandContext(t.Context(), "exim4", "-C", filepath.Join(dir, "conf"), "-bs", "-odi")
			cmd.Stdin, cmd.Stdout = f, f
			busy.Lock()
			err = cmd.Run()
			busy.Unlock()
			if err != nil && t.Context().Err() == nil {
				t.Logf("exim4: %v", err) // it ends with 1 where somebody was refused
			}
			f.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-served })
	return l.Addr().String(), dir, func() { busy.Lock(); defer busy.Unlock() }
}

// mails are those to somebody.
func mails(t *testing.T, dir, to string) (list []*mail.Message) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "mail", "box"))
	if err != nil {
		said, _ := os.ReadFile(filepath.Join(dir, "log", "mainlog"))
		t.Fatalf("%v; exim4 says: %s", err, said)
	}
	for _, text := range strings.Split("\n"+string(b), "\nFrom ")[1:] {
		_, text, _ = strings.Cut(text, "\n") // the line with the envelope
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		if m.Header.Get("To") == to {
			list = append(list, m)
		}
	}
	return list
}

// A real mail server delivers what is told: alerts, and the digest.
func TestMail(t *testing.T) {
	addr, dir, over := exim(t)
	u := fmt.Sprintf("smtp://relay%%40example.org:sesame%%20open@%s/?from=relay@example.org&fromname=Relay&to=you@example.org,other@example.org", addr)
	c := Config{Receivers: []URL{URL(u)}, Digest: "08:00", TimeZone: "UTC", Subject: "relay.example.org"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	k, err := c.Open(filepath.Join(t.TempDir(), "alerts.json"), "relayd", slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 3, 7, 0, 0, 0, time.UTC)
	k.wall = func() time.Time { return now }
	k.digest.At = k.times.lastDigest(now)
	long := "the certificate — " + strings.Repeat("of this and that ", 50)
	k.Set(now, append(severe("critical", "CertificateNotRenewed"), Alert{Name: "Long", Summary: long}, severe("warning", "BudgetNearlySpent")[0]))
	deliver := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, c := range k.to { // one for each box
			if _, err := k.send(ctx, c); err != nil {
				t.Fatal(err)
			}
			if err := k.sendDigest(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	deliver()
	now = now.Add(time.Hour)
	k.Digest(func(time.Time) []string { return []string{"The month is on its way."} })
	k.writeDigest()
	deliver()
	over()
	for _, box := range []string{"you@example.org", "other@example.org"} {
		var subjects, texts []string
		for _, m := range mails(t, dir, box) {
			subjects = append(subjects, m.Header.Get("Subject"))
			b, err := io.ReadAll(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, string(b))
			if from := m.Header.Get("From"); from != "Relay <relay@example.org>" {
				t.Errorf("got a mail from %q", from)
			}
		}
		if want := []string{"relayd on relay.example.org: long", "relayd on relay.example.org: certificate not renewed", "relayd on relay.example.org: 3 alerts hold"}; strings.Join(subjects, "; ") != strings.Join(want, "; ") {
			t.Errorf("%s got the subjects %q, want %q", box, subjects, want)
		}
		all := strings.Join(texts, "")
		for _, want := range []string{"Since 2026-11-03 07:00 UTC: it is CertificateNotRenewed", "the certificate — of this", "it is BudgetNearlySpent", "The month is on its way."} {
			if !strings.Contains(all, want) {
				t.Errorf("%s got %q, want %q in it", box, all, want)
			}
		}
	}
}

// What the server says reaches the operator, and the password does not.
func TestMailIsRefused(t *testing.T) {
	addr, _, _ := exim(t)
	wrong := newPerson(URL("smtp://relay%40example.org:sesame%20shut@"+addr+"/?from=relay@example.org&to=you@example.org"), words{"relayd", "r", time.UTC})
	if err := wrong.Send(t.Context(), alerts("x")); err == nil || !strings.Contains(err.Error(), "535") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v, want the server's refusal without the password", err)
	}
}
