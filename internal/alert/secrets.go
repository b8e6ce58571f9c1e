package alert

import (
	"encoding/base64"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// minSecret is how long a part of an address is at least for it to be hidden.
	minSecret = 4
	// minValue is how long the value of an option is at least for it to be hidden, unless
	// its key says that it is a secret: "yes" and "https" are values of options.
	minValue = 6
)

var (
	piece     = regexp.MustCompile(`[0-9A-Za-z_]{8,}`)
	secretKey = regexp.MustCompile(`(?i)^[@$]|token|key|pass|secret|code`)
)

// ordinary are words that are shown even if they stand in an address: a placeholder such as
// TOKEN that was left standing must not hide the words of the message that says so.
var ordinary = []string{
	"token", "password", "user", "username", "channel", "channels", "chat", "chats", "topic", "room", "rooms",
	"webhook", "hook", "oauth2", "plain", "login", "crammd5", "default", "explicittls", "implicittls", "warning", "critical",
}

// secrets finds every part of an address that may be a secret, in the forms that it may
// have in an error: as it stands there, decoded, encoded, in quotes, or in pieces.
func secrets(u URL) *regexp.Regexp {
	parts := []string{string(u)}
	if p, err := url.Parse(string(u)); err == nil {
		whole := credentials(p)
		if u.place() == hidden {
			whole = append(whole, p.Host, p.Hostname())
		}
		whole = append(whole, p.Path, p.EscapedPath(), p.Fragment, p.EscapedFragment())
		whole = append(whole, strings.Split(p.Path, "/")...)
		parts = append(append(append(parts, whole...), p.RawQuery), ofOptions(p)...)
		for _, w := range whole { // slack joins a token's parts with another sign
			parts = append(parts, piece.FindAllString(w, -1)...)
		}
	}
	forms := map[string]bool{}
	for _, s := range parts {
		quoted := strconv.Quote(s)
		for _, form := range []string{s, url.PathEscape(s), url.QueryEscape(s), quoted[1 : len(quoted)-1], strings.Trim(s, "/")} {
			if len(form) >= minSecret && !isOrdinary(form) {
				forms[regexp.QuoteMeta(form)] = true
			}
		}
	}
	// The longest first: of one that is a part of another nothing is left.
	list := slices.SortedFunc(maps.Keys(forms), func(a, b string) int { return len(b) - len(a) })
	return regexp.MustCompile("(?i)" + strings.Join(list, "|"))
}

// isOrdinary says whether a word is one that messages need: names of services, too, stand in
// the place of the host, as in telegram://TOKEN@telegram.
func isOrdinary(word string) bool {
	word = strings.ToLower(word)
	_, service := services[word]
	return service || slices.Contains(ordinary, word)
}

// credentials are user and password, also in the forms in which a mail server is sent them
// and may repeat them: PLAIN, LOGIN, OAuth2 and HTTP's Basic.
func credentials(p *url.URL) []string {
	if p.User == nil {
		return nil
	}
	user := p.User.Username()
	password, _ := p.User.Password()
	list := []string{p.User.String(), user, password}
	for _, sent := range []string{
		"\x00" + user + "\x00" + password, user + "\x00" + user + "\x00" + password,
		user, password, user + ":" + password, "user=" + user + "\x01auth=Bearer " + password + "\x01\x01",
	} {
		list = append(list, base64.RawStdEncoding.EncodeToString([]byte(sent)), base64.RawURLEncoding.EncodeToString([]byte(sent)))
	}
	return list
}

// ofOptions are values that are secrets or long, and keys without a value: a token is written
// like one by mistake. generic has headers, and what it posts, in keys with a sign.
func ofOptions(p *url.URL) (list []string) {
	for key, values := range p.Query() {
		secret := secretKey.MatchString(key)
		if values[0] == "" || strings.HasPrefix(key, "@") || strings.HasPrefix(key, "$") {
			list = append(list, strings.TrimLeft(key, "@$"))
		}
		for _, v := range values {
			for _, one := range append(strings.Split(v, ","), v) {
				if secret || len(one) >= minValue {
					list = append(list, one)
				}
			}
		}
	}
	return list
}
