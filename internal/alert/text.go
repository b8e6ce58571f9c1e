package alert

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
)

// words make messages for people.
type words struct {
	program string
	subject string // whose alerts they are; empty: this machine's
	zone    *time.Location
}

// message is what people get: a title, and lines of text.
type message struct {
	Title string   `json:"title"`
	Lines []string `json:"lines"`
}

const (
	maxTitle = 120  // bytes; more is cut off by some services
	maxLine  = 1000 // ... of a line
)

// title is a line such as "relayd on relay.example.org: certificate not renewed".
func (w words) title(text string) string {
	name := w.subject
	if name == "" {
		host, err := os.Hostname()
		name = cmp.Or(host, "this machine")
		if err != nil {
			name = "this machine"
		}
	}
	return cut(fmt.Sprintf("%s on %s: %s", w.program, name, text), maxTitle)
}

// message tells of alerts: what holds first.
func (w words) message(alerts []Alert) message {
	var hold, over []Alert
	for _, a := range alerts {
		if a.Ended.IsZero() {
			hold = append(hold, a)
		} else {
			over = append(over, a)
		}
	}
	text := ""
	switch first := append(hold, over...); {
	case len(first) == 0:
	case len(hold) == 0:
		text = "over: " + plain(first[0].Name)
	default:
		text = plain(first[0].Name)
	}
	if more := len(alerts) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return message{w.title(text), append(w.lines(hold), w.lines(over)...)}
}

// lines are one for each alert.
func (w words) lines(alerts []Alert) (list []string) {
	for _, a := range alerts {
		line := a.Summary
		switch {
		case a.Since.IsZero(): // of no keeper
		case a.Ended.IsZero():
			line = fmt.Sprintf("Since %s: %s", w.at(a.Since), a.Summary)
		default:
			line = fmt.Sprintf("Over since %s (it began %s): %s", w.at(a.Ended), w.at(a.Since), a.Summary)
		}
		list = append(list, cut(line, maxLine))
	}
	return list
}

func (w words) at(t time.Time) string { return t.In(w.zone).Format("2006-01-02 15:04 MST") }

// fit is the text in so many bytes at most.
func (m message) fit(most int) string {
	var b strings.Builder
	for i, line := range m.Lines {
		left := fmt.Sprintf("and %d more lines, for which there is no room here", len(m.Lines)-i)
		if b.Len()+len(line)+len(left)+2 > most {
			b.WriteString(left + "\n")
			break
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// plain is an alert's name in words: "certificate not renewed".
func plain(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// cut is text on one line, without what would steer a terminal, and not too long.
func cut(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(printable, text)), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most-len(hidden)], "") + hidden
	}
	return text
}

func printable(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case !unicode.IsPrint(r):
		return -1
	}
	return r
}

// folded breaks lines that are longer than a mail server has to take (RFC 5321: 998
// bytes) at a space.
func folded(text string) string {
	const longest = 500
	var b strings.Builder
	for line := range strings.Lines(text) {
		for len(line) > longest {
			at := strings.LastIndexByte(line[:longest], ' ')
			if at <= 0 {
				break // no space in it: an address, which is not that long
			}
			b.WriteString(line[:at] + "\n  ")
			line = line[at+1:]
		}
		b.WriteString(line)
	}
	return b.String()
}
