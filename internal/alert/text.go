package alert

import (
	"cmp"
	"fmt"
	"os"
	"slices"
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
	// IDs are the alerts that the lines are about; empty: a line is about none.
	IDs []string `json:"ids,omitempty"`
}

// add adds lines about these alerts.
func (m *message) add(w words, alerts []Alert) {
	for _, a := range alerts {
		m.IDs = append(m.IDs, a.id())
	}
	m.Lines = append(m.Lines, w.lines(alerts)...)
}

// say adds lines that are about no alert.
func (m *message) say(lines ...string) {
	m.IDs = append(m.IDs, make([]string, len(lines))...)
	m.Lines = append(m.Lines, lines...)
}

// from is the message without the lines before.
func (m message) from(line int) message {
	line = min(line, len(m.Lines), len(m.IDs))
	return message{m.Title, m.Lines[line:], m.IDs[line:]}
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

// latest sorts alerts that are over: the program's own first, of these the latest.
func latest(over []Alert) {
	slices.SortStableFunc(over, func(a, b Alert) int {
		if a.foreign() != b.foreign() {
			return a.rank() - b.rank()
		}
		return b.Ended.Compare(a.Ended)
	})
}

// message tells of alerts: what holds first, then what is over.
func (w words) message(alerts []Alert) message {
	var hold, over []Alert
	for _, a := range alerts {
		if a.Ended.IsZero() {
			hold = append(hold, a)
		} else {
			over = append(over, a)
		}
	}
	latest(over)
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
	m := message{Title: w.title(text)}
	m.add(w, hold)
	m.add(w, over)
	return m
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

// fit is the text in so many bytes at most, and how many lines it shows: one at least.
func (m message) fit(most int) (text string, shown int) {
	var b strings.Builder
	more := func(n int) string { return fmt.Sprintf("and %d more lines\n", n) }
	for i, line := range m.Lines {
		left := len(m.Lines) - i
		room := most - b.Len() - len("\n")
		if left > 1 {
			room -= len(more(left - 1))
		}
		if i == 0 {
			line = cut(line, room)
		}
		if len(line) > room {
			return b.String() + more(left), i
		}
		b.WriteString(line + "\n")
	}
	return b.String(), len(m.Lines)
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
