package alert

import (
	"errors"
	"fmt"
	"maps"
	"net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"

	"github.com/psf-relay/relay-appliance/internal/config"
)

const (
	example    = "smtp://USER:PASSWORD@mail.example.org:587/?from=relay@example.org&to=you@example.org or ntfy://ntfy.sh/TOPIC"
	unreadable = "it cannot be read as a URL: in a password write %2F for /, %23 for #, %25 for % and %40 for @; a port is a number"
)

// CheckReceiver says what is wrong with the address of a receiver that people read. It
// repeats nothing of the address but the service: the rest may hold a token.
func CheckReceiver(u URL) error {
	if err := checkText(u); err != nil {
		return err
	}
	if err := checkScheme(u); err != nil {
		return err
	}
	kind, p := u.kind()
	if p == nil || strings.Contains(p.Fragment, "@") || p.User == nil && strings.Contains(p.Path, "@") && !services[kind].signs {
		return errors.New(unreadable) // a / or # in the password ends the host
	}
	options, err := url.ParseQuery(p.RawQuery)
	switch {
	case err != nil:
		return errors.New("its options cannot be read: write %25 for % and %3B for ;")
	case p.Fragment != "" && !services[kind].signs:
		return errors.New("there is a # in it, which ends the address: write # as %23")
	}
	if faults := slices.Concat(missing(kind, p), checkOptions(kind, options)); len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	switch err := checkByLibrary(u, kind, p); {
	case err == nil:
		return nil
	case errors.Is(err, errNoTLS):
		return errNoTLS // it holds no secret
	default:
		return fmt.Errorf("the address is not as %s wants it (%s): see https://shoutrrr.nickfedor.com/services/overview/", kind, cause(secrets(u), err))
	}
}

func checkByLibrary(u URL, kind string, p *url.URL) error {
	if kind != "matrix" {
		_, err := open(u, heard{})
		return err
	}
	return safely(func() error { // to set it up is to log in
		s, err := new(router.ServiceRouter).NewService(kind)
		if err != nil {
			return err
		}
		return format.GetServiceConfig(s).SetURL(p)
	})
}

// checkText refuses what no address of any list has in it. YAML makes one value of an entry
// and a next one that is indented too far, with a space in between.
func checkText(u URL) error {
	s := string(u)
	switch {
	case s == "":
		return errors.New("it is empty: write an address, or leave the line out")
	case len(s) > maxURL:
		return fmt.Errorf("want %d bytes at most", maxURL)
	case strings.ContainsFunc(s, unicode.IsSpace):
		return errors.New("there is a space in it: is the next receiver indented too far? A space that belongs there is written %20")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("there is a character in it that does not print: type the address anew")
	case s[0] == '"' || s[0] == '\'':
		return errors.New("it begins with a quotation mark: write one pair of quotes at most around an address")
	}
	return nil
}

var beginning = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]{0,19})(\+[A-Za-z]+)?:(//)?`)

// checkScheme looks for the service at the beginning of the address.
func checkScheme(u URL) error {
	names := slices.Sorted(maps.Keys(services))
	list := "services: " + strings.Join(names, ", ")
	m := beginning.FindStringSubmatch(string(u))
	if m == nil {
		return fmt.Errorf("want a URL such as %s; %s", example, list)
	}
	kind := strings.ToLower(m[1])
	_, known := services[kind]
	switch {
	case known && m[3] != "":
		return nil
	case known:
		return fmt.Errorf("there is no // behind %s: write %[1]s://", kind)
	case kind == "mailto":
		return fmt.Errorf("mailto names no mail server: want a URL such as %s", example)
	case m[3] == "": // it may be a token
		return fmt.Errorf("want a URL such as %s; %s", example, list)
	case kind == "smtps":
		return errors.New("there is no service smtps: write smtp:// and the port 465, which has TLS from the beginning")
	case kind == "http" || kind == "https":
		return fmt.Errorf("there is no service %s: write an address that takes alerts as JSON below alerts.webhooks; %s", kind, list)
	}
	hint := ""
	if near := config.Nearest(kind, names); near != "" {
		hint = fmt.Sprintf(": did you mean %s?", near)
	}
	return fmt.Errorf("there is no service %s%s; %s", kind, hint, list)
}

// missing is what the library does not ask for, and without which nobody is told.
func missing(kind string, p *url.URL) (faults []string) {
	if services[kind].host && !services[kind].hostless && p.Host == "" {
		faults = append(faults, "the host is missing")
	}
	if what := map[string]string{"gotify": "token", "ntfy": "topic"}[kind]; what != "" && strings.Trim(p.Path, "/") == "" {
		faults = append(faults, fmt.Sprintf("the %s is missing: write %s://HOST/%s", what, kind, strings.ToUpper(what)))
	}
	return faults
}

// checkOptions says what is wrong with the options of an address.
func checkOptions(kind string, options url.Values) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(options)) {
		key, value := strings.ToLower(name), options[name][0]
		all := strings.Split(value, ",")
		lists := slices.Contains(services[kind].each, key)
		switch {
		case slices.Contains(services[kind].markup, key) && !slices.Contains([]string{"no", "false", "0", "none"}, strings.ToLower(value)):
			fault("leave %s out: alerts hold words of others, which must not become links or tags", key)
		case lists && len(all) > maxRecipients:
			fault("want %d recipients at most, not %d", maxRecipients, len(all))
		case lists && slices.Contains(all, ""):
			fault("%s is missing behind %s=", services[kind].one, key)
		case kind == "smtp" && (lists || key == "from" || key == "fromaddress") && slices.ContainsFunc(all, func(s string) bool { return !isMail(s) }):
			fault("%s: want a mail address such as you@example.org", key)
		}
	}
	return faults
}

func isMail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

// CheckURL says what is wrong with the address of a webhook.
func CheckURL(u URL) error { return checkWeb(u, "https://alerts.example.org/hook") }

func checkAlertmanager(u URL) error { return checkWeb(u, "http://127.0.0.1:9093") }

func checkWeb(u URL, example string) error {
	if err := checkText(u); err != nil {
		return err
	}
	p, err := url.Parse(string(u))
	lower := strings.ToLower(string(u))
	switch {
	case err != nil && (strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")):
		return errors.New(unreadable)
	case err != nil || p.Scheme != "http" && p.Scheme != "https" || p.Host == "":
		return fmt.Errorf("want an address such as %s", example) // not what was given: it may hold a token
	}
	return nil
}
