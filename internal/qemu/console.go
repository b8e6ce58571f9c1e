package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// maxConsole is how much of what the console said is kept to be searched; all
	// of it is in the file.
	maxConsole = 4 << 20
	// maxLine is how much of a line is reported.
	maxLine = 160
	// progressEvery is how often the last line is reported.
	progressEvery = 15 * time.Second
)

// Console is what the guest's serial console has said since the machine was made,
// over all its starts.
type Console struct {
	mu      sync.Mutex
	file    io.Writer
	text    []byte
	dropped int // bytes that are no longer in text
	last    time.Time
	news    chan struct{} // closed at the next byte

	progress func(line string)
	reported time.Time
}

func newConsole(file io.Writer, progress func(string)) *Console {
	return &Console{file: file, progress: progress, last: time.Now(), news: make(chan struct{})}
}

// Write is how QEMU's output comes in.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	n, err := c.file.Write(b)
	c.text = append(c.text, b[:n]...)
	if excess := len(c.text) - maxConsole; excess > 0 {
		c.text = append([]byte(nil), c.text[excess:]...)
		c.dropped += excess
	}
	c.last = time.Now()
	close(c.news)
	c.news = make(chan struct{})
	line := ""
	if c.progress != nil && c.last.Sub(c.reported) >= progressEvery {
		if line = lastLine(c.text); line != "" {
			c.reported = c.last
		}
	}
	c.mu.Unlock()
	if line != "" {
		c.progress(line)
	}
	return n, err
}

// escapes are the colours and cursor movements of a terminal.
var escapes = regexp.MustCompile("\x1b(\\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[78=>c])")

// clean is what a person reads of a terminal's text.
func clean(text []byte) string {
	return strings.ReplaceAll(string(escapes.ReplaceAll(text, nil)), "\r", "")
}

// lastLine is the last complete line with something in it, without what a boot menu
// fills the screen with.
func lastLine(text []byte) string {
	end := bytes.LastIndexByte(text, '\n')
	if end < 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(clean(text[max(0, end-4096):end])), "\n")
	last := strings.Join(strings.Fields(lines[len(lines)-1]), " ")
	return strings.ToValidUTF8(last[:min(len(last), maxLine)], "")
}

// Text is what the console has said, without a terminal's colours. Of very much it
// is the end.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clean(c.text)
}

// Mark is the present end of what the console said, for [Console.Since].
func (c *Console) Mark() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped + len(c.text)
}

// Since is what the console has said since a mark.
func (c *Console) Since(mark int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clean(c.text[min(max(mark-c.dropped, 0), len(c.text)):])
}

// Tail is the last lines of what was said, for a report of what went wrong.
func (c *Console) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(c.Text()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Why waiting was given up.
var (
	errSilent = errors.New("the console has fallen silent")
	errOff    = errors.New("the machine is off")
)

// wait is what somebody waits for on a machine.
type wait struct {
	ready   func() bool     // asked at once and after each news
	wake    <-chan struct{} // closed for news besides the console's; nil: never
	ended   <-chan struct{} // closed when the machine is off, which ends the waiting; nil: it does not
	silence time.Duration   // how long the console may say nothing, counted from now at the earliest
}

// await waits until w is ready.
func (c *Console) await(ctx context.Context, w wait) error {
	began := time.Now()
	for {
		c.mu.Lock()
		news, last := c.news, c.last
		c.mu.Unlock()
		if w.ready() {
			return nil
		}
		if last.Before(began) {
			last = began
		}
		var why error
		timer := time.NewTimer(time.Until(last.Add(w.silence)))
		select {
		case <-news:
		case <-w.wake:
		case <-timer.C:
			why = fmt.Errorf("%w for %s", errSilent, w.silence)
		case <-w.ended:
			why = errOff
		case <-ctx.Done():
			why = context.Cause(ctx)
		}
		timer.Stop()
		// What came last may be what was waited for.
		if why != nil && !w.ready() {
			return fmt.Errorf("%w; the console's end:\n%s", why, c.Tail(15))
		}
	}
}
