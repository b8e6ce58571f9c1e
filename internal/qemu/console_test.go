package qemu

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (c *Console) says(text string) { _, _ = io.WriteString(c, text) }

// Waiting goes on as long as something is said, and ends soon after nothing is.
func TestAwait(t *testing.T) {
	contains := func(c *Console, text string) func() bool {
		return func() bool { return strings.Contains(c.Text(), text) }
	}
	t.Run("said", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newConsole(io.Discard, nil)
			go func() {
				for range 10 {
					time.Sleep(50 * time.Second)
					c.says("[  \x1b[0;32mOK\x1b[0m  ] Reached\r\n")
				}
				c.says("lo")
				c.says("gin: ")
			}()
			if err := c.await(t.Context(), wait{ready: contains(c, "login:"), silence: time.Minute}); err != nil {
				t.Error(err)
			}
			if got := c.Tail(2); got != "[  OK  ] Reached\nlogin:" {
				t.Errorf("got %q", got)
			}
		})
	})
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newConsole(io.Discard, nil)
			began := time.Now()
			go func() {
				time.Sleep(50 * time.Second)
				c.says("panic\n")
			}()
			err := c.await(t.Context(), wait{ready: contains(c, "login:"), silence: time.Minute})
			if !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "panic") {
				t.Errorf("%v", err)
			}
			if d := time.Since(began); d != 110*time.Second {
				t.Errorf("given up after %s", d)
			}
		})
	})
	t.Run("off", func(t *testing.T) {
		c := newConsole(io.Discard, nil)
		off := make(chan struct{})
		close(off)
		if err := c.await(t.Context(), wait{ready: contains(c, "login:"), ended: off, silence: time.Minute}); !errors.Is(err, errOff) {
			t.Errorf("%v", err)
		}
		c.says("login:")
		if err := c.await(t.Context(), wait{ready: contains(c, "login:"), ended: off, silence: time.Minute}); err != nil {
			t.Error(err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		c := newConsole(io.Discard, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		cancel(why)
		if err := c.await(ctx, wait{ready: contains(c, "login:"), silence: time.Minute}); !errors.Is(err, why) {
			t.Errorf("%v", err)
		}
	})
}

// What was said before a mark is not found after it, also when it is dropped.
func TestSince(t *testing.T) {
	c := newConsole(io.Discard, nil)
	c.says("first boot\n")
	mark := c.Mark()
	c.says("second boot\n")
	if got := c.Since(mark); got != "second boot\n" {
		t.Errorf("got %q", got)
	}
	c.says(strings.Repeat("x", maxConsole-5))
	c.says("third\n")
	if got := c.Since(mark); len(got) != maxConsole || !strings.HasSuffix(got, "xthird\n") {
		t.Errorf("%d bytes are kept", len(got))
	}
	mark = c.Mark()
	c.says("fourth\n")
	if got := c.Since(mark); got != "fourth\n" {
		t.Errorf("got %d bytes", len(got))
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		c := newConsole(io.Discard, func(line string) { told = append(told, line) })
		c.says("one\n")
		c.says("two\n")
		time.Sleep(progressEvery)
		c.says("thr")
		c.says("ee\n\x1b[0m\nfo")
		if got := strings.Join(told, "|"); got != "one|two" {
			t.Errorf("told %q", got)
		}
		time.Sleep(progressEvery)
		c.says("ur")
		if got := strings.Join(told, "|"); got != "one|two|three" {
			t.Errorf("told %q", got)
		}
	})
}
