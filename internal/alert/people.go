package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"mime"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/psf-relay/relay-appliance/internal/download"
)

// service is what must be known of one of the library's, besides how to send by it.
type service struct {
	// host: what stands in the place of the host is one, and no token.
	host bool
	// titled: it shows a title of its own. Elsewhere the title is the first line.
	titled bool
	// most is how many bytes it takes in a message; 0: mostText.
	most int
	// each are the options that list several recipients; one is what stands in them.
	each []string
	one  string
	// hostless: the library knows a host if none is written.
	hostless bool
	// signs: # and @ mean something behind the host.
	signs bool
	// markup are the options by which words become links or tags.
	markup []string
}

// mostText fits into a message of Telegram (4096), Lark and ntfy.
const mostText = 3500

// services are those of the library but "logger", which sends nothing. One that is not
// listed here is not to be used: nobody has looked whether it repeats secrets.
var services = map[string]service{
	"bark":       {host: true, titled: true, most: 2000},
	"discord":    {titled: true, most: 1900},
	"generic":    {host: true, signs: true},
	"googlechat": {host: true},
	"gotify":     {host: true, titled: true},
	"hangouts":   {host: true},
	"ifttt":      {each: []string{"events"}, one: "an event"},
	"join":       {},
	"lark":       {host: true},
	"matrix":     {host: true, each: []string{"rooms", "room"}, one: "a room"},
	"mattermost": {host: true, signs: true},
	"notifiarr":  {},
	"ntfy":       {host: true, titled: true},
	"opsgenie":   {host: true, titled: true},
	"pagerduty":  {host: true, hostless: true, most: 1000},
	"pushbullet": {titled: true, signs: true},
	"pushover":   {titled: true, most: 1000},
	"rocketchat": {host: true, signs: true},
	"signal":     {host: true, hostless: true, most: 1900},
	"slack":      {},
	"smtp":       {host: true, titled: true, most: 60_000, each: []string{"toaddresses", "to"}, one: "a recipient", markup: []string{"usehtml"}},
	"teams":      {titled: true},
	"telegram":   {each: []string{"chats", "channels"}, one: "a chat", markup: []string{"parsemode"}},
	"wecom":      {most: 1900},
	"zulip":      {host: true},
}

// reader is a receiver whose messages people read.
type reader interface {
	Receiver
	// tell sends a title and lines, and says how many of the lines had room. On errSilent
	// it may be taken yet: told the same again, it finds out.
	tell(ctx context.Context, m message) (shown int, err error)
}

// person sends by one of the library's services.
type person struct {
	tries
	url    URL
	kind   string
	secret *regexp.Regexp // every part of the address that may be one
	words  words
	at     string // where it stands in the configuration

	session types.Service // of the last try, if that was good: matrix logs in with each new one
}

const (
	maxCause = 300  // bytes of an error
	maxURL   = 2000 // bytes of an address
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

// open makes the library's service for an address. Its router would do, but keeps the
// cause of a fault to itself, and runs senders where a panic ends the program.
func open(u URL, log types.StdLogger) (s types.Service, err error) {
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
		if err := s.Initialize(p, log); err != nil {
			return err
		}
		guarded(s)
		if mail, ok := s.(*smtp.Service); ok {
			return secure(mail)
		}
		return nil
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

// Name is the service and the host.
func (r *person) Name() string {
	if place := r.url.place(); place != hidden {
		return r.kind + " " + place
	}
	return r.kind
}

func (r *person) address() string { return string(r.url) }

func (r *person) place() string { return r.at }

func (*person) Repeats() bool { return false }

func (r *person) Send(ctx context.Context, alerts []Alert) error {
	_, err := r.tell(ctx, r.words.message(alerts))
	return err
}

func (r *person) tell(ctx context.Context, m message) (shown int, err error) {
	text, params, shown := r.write(m)
	t, err := r.begin(time.Now(), m.Title+"\n"+text, func(t *try) error { return r.send(t, text, params) })
	if err == nil {
		err = r.wait(ctx, t)
	}
	switch {
	case errors.Is(err, errSilent):
		return 0, err
	case err != nil:
		return 0, errors.New(cause(r.secret, err))
	}
	return shown, nil
}

// write is a message as the service takes it.
func (r *person) write(m message) (text string, params types.Params, shown int) {
	s := services[r.kind]
	most := cmp.Or(s.most, mostText)
	if !s.titled {
		most -= len(m.Title) + len("\n\n")
	}
	text, shown = m.fit(most)
	params = types.Params{}
	switch {
	case r.kind == "smtp":
		params.SetTitle(mime.QEncoding.Encode("utf-8", m.Title))
		text = folded(text)
	case s.titled:
		params.SetTitle(m.Title)
	default:
		text = m.Title + "\n\n" + text
	}
	if r.kind == "slack" { // it makes links and calls of what stands between < and >
		text = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	}
	return text, params, shown
}

// send sends, and ends when the library does.
func (r *person) send(t *try, text string, params types.Params) (err error) {
	r.mu.Lock()
	s := r.session
	r.session = nil // until this one has come back
	r.mu.Unlock()
	if s == nil {
		if s, err = open(r.url, heard{t}); err != nil {
			return err
		}
	}
	if err := safely(func() error { return s.Send(text, &params) }); err != nil {
		return err
	}
	if r.kind == "matrix" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.session = s
	}
	return nil
}

// cause is an error of the library in few words, without any secret.
func cause(secret *regexp.Regexp, err error) string {
	var fault *url.Error
	if errors.As(err, &fault) {
		err = fault.Err // the rest is the address
	}
	said := strings.Join(strings.Fields(strings.Map(printable, download.Words(err, sendTimeout))), " ")
	said = secret.ReplaceAllLiteralString(said, hidden)
	if len(said) > maxCause {
		said = strings.ToValidUTF8(said[:maxCause], "") + hidden
	}
	return said
}
