package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"maps"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
)

// service is what must be known of one of the library's, besides how to send by it.
type service struct {
	// host: what stands in the place of the host is one, and no token.
	host bool
	// titled: it shows a title of its own. Elsewhere the title is the first line.
	titled bool
	// most is how many bytes it takes in a message; 0: mostText.
	most int
}

// mostText fits into a message of Telegram (4096), Lark and ntfy.
const mostText = 3500

// services are those of the library but "logger", which sends nothing. One that is not
// listed here is not to be used: nobody has looked whether it repeats secrets.
var services = map[string]service{
	"bark":       {host: true, titled: true, most: 2000},
	"discord":    {titled: true, most: 1900},
	"generic":    {host: true},
	"googlechat": {host: true},
	"gotify":     {host: true, titled: true},
	"hangouts":   {host: true},
	"ifttt":      {},
	"join":       {},
	"lark":       {host: true},
	"matrix":     {host: true},
	"mattermost": {host: true},
	"notifiarr":  {},
	"ntfy":       {host: true, titled: true},
	"opsgenie":   {host: true, titled: true},
	"pagerduty":  {host: true, most: 1000},
	"pushbullet": {titled: true},
	"pushover":   {titled: true, most: 1000},
	"rocketchat": {host: true},
	"signal":     {host: true, most: 1900},
	"slack":      {},
	"smtp":       {host: true, titled: true, most: 60_000},
	"teams":      {titled: true},
	"telegram":   {},
	"wecom":      {most: 1900},
	"zulip":      {host: true},
}

// reader is a receiver whose messages people read.
type reader interface {
	Receiver
	// tell sends a title and lines; lines for which there is no room are counted.
	tell(ctx context.Context, m message) error
}

// person sends by one of the library's services. The library knows no context: a try that
// does not come back goes on, in its goroutine, until the other side ends it.
type person struct {
	url    URL
	kind   string
	secret *regexp.Regexp // every part of the address that may be one
	words  words

	mu      sync.Mutex
	hanging []time.Time   // when the tries began that did not come back
	service types.Service // of the last try, if that was good
}

const (
	// After retryHanging another try is made beside one that hangs; no more than mostHanging
	// hang at the same time.
	retryHanging = 15 * time.Minute
	mostHanging  = 4
	maxCause     = 300  // bytes of an error
	maxURL       = 2000 // bytes of an address
)

func newPerson(u URL, w words) *person {
	kind, _ := u.kind()
	return &person{url: u, kind: kind, secret: secrets(u), words: w}
}

// kind is the service, and the address for it.
func (u URL) kind() (string, *url.URL) {
	p, err := url.Parse(string(u))
	if err != nil {
		return "", nil
	}
	kind, _, _ := strings.Cut(strings.ToLower(p.Scheme), "+")
	return kind, p
}

// CheckReceiver says what is wrong with the address of a receiver that people read.
func CheckReceiver(u URL) error {
	kind, p := u.kind()
	if _, known := services[kind]; p == nil || !known {
		return fmt.Errorf("want a URL such as smtp://USER:PASSWORD@mail.example.org:587/?from=relay@example.org&to=you@example.org or ntfy://ntfy.sh/TOPIC: %s", strings.Join(slices.Sorted(maps.Keys(services)), ", ")) // not what was given: it may hold a token
	}
	if len(u) > maxURL {
		return fmt.Errorf("want %d bytes at most", maxURL)
	}
	var err error
	if kind == "matrix" { // to set it up is to log in
		err = safely(func() error {
			s, err := new(router.ServiceRouter).NewService(kind)
			if err != nil {
				return err
			}
			return format.GetServiceConfig(s).SetURL(p)
		})
		if err == nil && p.Host == "" {
			err = errors.New("the server's name is missing")
		}
	} else {
		_, err = open(u)
	}
	if err != nil {
		return fmt.Errorf("the address is not as %s wants it (%s): see https://shoutrrr.nickfedor.com/services/overview/", kind, cause(secrets(u), err))
	}
	return nil
}

// open makes the library's service for an address. Its router would do, but keeps the
// cause of a fault to itself, and runs senders where a panic ends the program.
func open(u URL) (s types.Service, err error) {
	err = safely(func() error {
		kind, p := u.kind()
		if s, err = new(router.ServiceRouter).NewService(kind); err != nil {
			return err
		}
		if strings.Contains(p.Scheme, "+") { // such as generic+https
			custom, ok := s.(types.CustomURLService)
			if !ok {
				return fmt.Errorf("write %s://", kind)
			}
			if p, err = custom.GetConfigURLFromCustom(p); err != nil {
				return err
			}
		}
		return s.Initialize(p, stdlog.New(io.Discard, "", 0)) // what it logs may be a secret
	})
	return s, err
}

// safely makes an error of a panic: of version 0.13.2, zulip panics where the network is
// down, and matrix at a room without a name.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the library failed: %v", r)
		}
	}()
	return f()
}

// Name is the service, the host and a sum that tells two of them apart.
func (r *person) Name() string {
	if place := r.url.place(); place != hidden {
		return r.kind + " " + place + " " + r.url.sum()
	}
	return r.kind + " " + r.url.sum()
}

func (*person) Repeats() bool { return false }

func (r *person) Send(ctx context.Context, alerts []Alert) error {
	return r.tell(ctx, r.words.message(alerts))
}

func (r *person) tell(ctx context.Context, m message) error {
	s := services[r.kind]
	most := s.most
	if most == 0 {
		most = mostText
	}
	text, params := m.fit(most), types.Params{}
	switch {
	case r.kind == "smtp":
		params.SetTitle(mime.QEncoding.Encode("utf-8", m.Title))
		text = folded(text)
	case s.titled:
		params.SetTitle(m.Title)
	default:
		text = m.Title + "\n\n" + text
	}
	begun := time.Now()
	if err := r.begin(begun); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := r.send(text, params)
		r.end(begun)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return errors.New(cause(r.secret, err))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it has not answered in %s", time.Since(begun).Round(time.Second))
	}
}

// begin notes that a try begins, unless earlier ones hang.
func (r *person) begin(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.hanging); n >= mostHanging || n > 0 && now.Sub(r.hanging[n-1]) < retryHanging {
		return fmt.Errorf("the try of %s has not come back yet: the server took the connection and does not answer", r.hanging[n-1].UTC().Format("15:04:05 MST"))
	}
	r.hanging = append(r.hanging, now)
	return nil
}

func (r *person) end(begun time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hanging = slices.DeleteFunc(r.hanging, begun.Equal)
}

// send sends by the service of the last try: matrix logs in with each new one.
func (r *person) send(text string, params types.Params) (err error) {
	r.mu.Lock()
	s := r.service
	r.service = nil // until this one has come back
	r.mu.Unlock()
	if s == nil {
		if s, err = open(r.url); err != nil {
			return err
		}
	}
	if err := safely(func() error { return s.Send(text, &params) }); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.service = s
	return nil
}

// cause is an error of the library in few words, without any secret.
func cause(secret *regexp.Regexp, err error) string {
	var fault *url.Error
	if errors.As(err, &fault) {
		err = fault.Err // the rest is the address
	}
	said := strings.Join(strings.Fields(strings.Map(printable, err.Error())), " ")
	said = secret.ReplaceAllLiteralString(said, hidden)
	if len(said) > maxCause {
		said = strings.ToValidUTF8(said[:maxCause], "") + hidden
	}
	return said
}

// minSecret is how long a part of an address is at least for it to be hidden: "yes" is an
// option's value.
const minSecret = 4

var piece = regexp.MustCompile(`[0-9A-Za-z_]{8,}`)

// secrets finds every part of an address that may be a secret, in the forms that it may
// have in an error: as it stands there, decoded, encoded, in quotes, or in pieces.
func secrets(u URL) *regexp.Regexp {
	parts := []string{string(u)}
	p, err := url.Parse(string(u))
	if err == nil {
		var whole []string
		if p.User != nil {
			password, _ := p.User.Password()
			whole = append(whole, p.User.String(), p.User.Username(), password)
		}
		if u.place() == hidden {
			whole = append(whole, p.Host, p.Hostname())
		}
		whole = append(whole, p.Path, p.EscapedPath(), p.Fragment, p.EscapedFragment())
		whole = append(whole, strings.Split(p.Path, "/")...)
		parts = append(append(parts, whole...), p.RawQuery)
		for key, values := range p.Query() {
			parts = append(append(parts, values...), strings.TrimLeft(key, "@$")) // generic has headers there
			for _, v := range values {
				parts = append(parts, strings.Split(v, ",")...)
			}
		}
		for _, w := range whole { // slack joins a token's parts with another sign
			parts = append(parts, piece.FindAllString(w, -1)...)
		}
	}
	forms := map[string]bool{}
	for _, s := range parts {
		quoted := strconv.Quote(s)
		for _, form := range []string{s, url.PathEscape(s), url.QueryEscape(s), quoted[1 : len(quoted)-1], strings.Trim(s, "/")} {
			if len(form) >= minSecret {
				forms[regexp.QuoteMeta(form)] = true
			}
		}
	}
	// The longest first: of one that is a part of another nothing is left.
	list := slices.SortedFunc(maps.Keys(forms), func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile("(?i)" + strings.Join(list, "|"))
}
