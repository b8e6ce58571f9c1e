package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/psf-relay/relay-appliance/internal/e2e/readme"
	"github.com/psf-relay/relay-appliance/internal/qemu"
)

// proxyPort is where the guest finds the way to Debian's archive.
const proxyPort = 3142

// archiveHost is where Debian's packages come from, and all that the proxy leads to.
const archiveHost = "deb.debian.org"

// A fresh server becomes a relay by README.md's lines alone, with Debian's archive and the
// real systemd, and then sends its operator a mail by a mail server of Debian's.
func TestReadme(t *testing.T) {
	full(t)
	lines := readme.Relay(t, top(t))
	version := packages(t, "amd64")
	plain := buildPlain(t, "trixie")
	ctx, cancel := context.WithTimeout(t.Context(), 5*bootTime)
	defer cancel()
	a := makeMachine(ctx, t, settings{image: plain})
	a.leadToArchive(t)
	proxy := fmt.Sprintf("Acquire::http::Proxy \"http://%s:%d\";\n", qemu.ServiceHost, proxyPort)
	if err := a.Seed(ctx, qemu.Seed{UserData: []byte(cloudConfig(map[string]string{"/etc/apt/apt.conf.d/90proxy": proxy}))}); err != nil {
		t.Fatal(err)
	}
	a.start(ctx, t)
	p := &person{a, ctx, t, 0}
	// What the stand-in has for the tests without a mirror, and a provider's Debian has not.
	p.run("apt-get --yes --autoremove purge nftables unattended-upgrades")
	p.typed = 0

	began := time.Now()
	p.typed++
	debs, err := filepath.Glob(filepath.Join(top(t), "dist", "*_"+version+"_*.deb"))
	if err != nil || len(debs) < 4 {
		t.Fatalf("packages of %s: %q, %v", version, debs, err)
	}
	for _, deb := range debs {
		if err := a.Copy(ctx, deb, "/root/"+filepath.Base(deb)); err != nil {
			t.Fatal(err)
		}
	}
	p.run(lines[1])
	p.run(readme.Own(lines[2], domain))
	if err := a.writeFile(ctx, t, "/etc/relay-appliance/ca.pem", string(a.ca.RootPEM)); err != nil {
		t.Fatal(err)
	}
	p.write(ownCA)
	p.run(lines[3])
	p.run(lines[4])
	a.peerID = a.learnPeerID(ctx, t)
	a.probeUntilOK(ctx, t)
	a.note(t, "a relay by README.md alone: %d commands, %s", p.typed, time.Since(began).Round(time.Second))
	p.mailed(began)
}

// leadToArchive gives the guest, which has no internet, a way to Debian's archive.
func (a *appliance) leadToArchive(t *testing.T) {
	t.Helper()
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.Host = archiveHost }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Scheme != "http" || r.URL.Host != archiveHost || r.Method != http.MethodGet {
			http.Error(w, "it leads to "+archiveHost+" only", http.StatusForbidden)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	if err := a.Serve(proxyPort, server.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
}

// person sits at the machine.
type person struct {
	*appliance
	ctx   context.Context
	t     *testing.T
	typed int // commands so far
}

// run types a command, in root's folder, and wants it to work.
func (p *person) run(line string) string {
	p.t.Helper()
	p.typed++
	out, err := p.Run(p.ctx, "export DEBIAN_FRONTEND=noninteractive; cd /root; { "+line+"; } </dev/null")
	if err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
	p.t.Logf("%s\n%s", line, out)
	return out
}

// write adds to the settings, as in an editor.
func (p *person) write(text string) {
	p.t.Helper()
	p.typed++
	if _, err := p.Run(p.ctx, "cat >> /etc/relay-appliance/appliance.yaml <<'END'\n"+text+"END\n"); err != nil {
		p.t.Fatal(err)
	}
}

// mailed installs a mail server, names it in the settings as docs/operator.md says, and waits
// for a test message and for an alert that is real.
func (p *person) mailed(began time.Time) {
	p.run("apt-get install --yes exim4-daemon-light && useradd --create-home me")
	p.write("alerts:\n  receivers:\n    - smtp://localhost:25/?from=relay@localhost&to=me@localhost\n")
	p.run("relay-appliance first-boot")
	p.run("relay-appliance alert test")
	p.awaitMail("this is a test")
	p.note(p.t, "a test message in the mailbox: %d commands, %s", p.typed, time.Since(began).Round(time.Second))

	p.run("for i in 1 2 3 4 5; do systemctl restart relayd; done")
	p.awaitMail("relayd was started 5 times within an hour")
	p.note(p.t, "five starts in an hour, in the mailbox %s after the first line", time.Since(began).Round(time.Second))
}

// awaitMail waits until somebody has got a message with these words.
func (p *person) awaitMail(words string) {
	p.t.Helper()
	box, err := eventually(p.ctx, p.t, func() (string, error) {
		box, err := p.Run(p.ctx, "cat /var/mail/me")
		if err == nil && !strings.Contains(box, words) {
			err = errors.New("no message says so")
		}
		return box, err
	})
	if err != nil {
		log, _ := p.Run(p.ctx, "journalctl --no-pager --unit=relayd --lines=40; tail /var/log/exim4/mainlog")
		p.t.Fatalf("wait for %q: %v\nin the mailbox:\n%s\n%s", words, err, box, log)
	}
	p.t.Log(strings.TrimSpace(box))
}
