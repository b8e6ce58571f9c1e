package relay

import (
	"context"
	"io"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"

	"github.com/psf-relay/relay-appliance/relay/config"
)

// NewLogger is the relay's log, and takes over libp2p's. Each message appears at
// most a few times a minute, however often it happens, and no address of a peer
// stands in it above level debug.
func NewLogger(cfg config.Log, level slog.Leveler, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	h = &seldom{Handler: h, seen: &repeats{count: map[string]int{}}}
	gologshim.SetDefaultHandler(&discreet{h})
	return slog.New(h)
}

// repeatsPerMinute is how often one message may appear in a minute.
const repeatsPerMinute = 5

// seldom drops a message that was logged often within the minute; the next
// minute's first one says how many were dropped.
type seldom struct {
	slog.Handler
	seen *repeats
}

type repeats struct {
	mu     sync.Mutex
	minute time.Time
	count  map[string]int // how often within the minute
	before map[string]int // dropped in the minute before
}

func (h *seldom) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelInfo {
		dropped, ok := h.seen.admit(r.Message, r.Time)
		if !ok {
			return nil
		}
		if dropped > 0 {
			r = r.Clone()
			r.AddAttrs(slog.Int("dropped_in_last_minute", dropped))
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (s *repeats) admit(message string, now time.Time) (dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(s.minute) {
		s.before = map[string]int{}
		for m, n := range s.count {
			if n > repeatsPerMinute {
				s.before[m] = n - repeatsPerMinute
			}
		}
		s.minute, s.count = minute, map[string]int{}
	}
	// Messages are constants of the program, so that there are not many; those of
	// libraries need not be.
	if len(s.count) > 1000 {
		return 0, false
	}
	s.count[message]++
	dropped = s.before[message]
	delete(s.before, message)
	return dropped, s.count[message] <= repeatsPerMinute
}

func (h *seldom) WithAttrs(a []slog.Attr) slog.Handler {
	return &seldom{h.Handler.WithAttrs(a), h.seen}
}

func (h *seldom) WithGroup(name string) slog.Handler {
	return &seldom{h.Handler.WithGroup(name), h.seen}
}

// discreet takes the addresses out of what libp2p logs. Its own messages above
// debug are about the relay itself; libp2p's are about whoever connects.
type discreet struct{ slog.Handler }

// addresses are IPv4 and IPv6 addresses wherever they stand, in multiaddrs too.
var addresses = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}\b|(?i)\[?\b[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}(%\w+)?\]?`)

func hideAddresses(s string) string { return addresses.ReplaceAllString(s, "(address)") }

// Enabled is false for what libp2p calls information: it is that of a debugger.
func (h *discreet) Enabled(ctx context.Context, level slog.Level) bool {
	if level == slog.LevelInfo {
		level = slog.LevelDebug
	}
	return h.Handler.Enabled(ctx, level)
}

func (h *discreet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	out := slog.NewRecord(r.Time, r.Level, hideAddresses(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(hideIn(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// hidden is text without addresses. It is made when it is written: most messages about
// peers are repetitions, which are not.
type hidden struct{ slog.Value }

func (h hidden) LogValue() slog.Value { return slog.StringValue(hideAddresses(h.Value.String())) }

// hideIn keeps what cannot hold an address and turns all else into text.
func hideIn(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindBool, slog.KindDuration, slog.KindFloat64, slog.KindInt64, slog.KindTime, slog.KindUint64:
		return a
	case slog.KindGroup:
		var members []any
		for _, m := range v.Group() {
			members = append(members, hideIn(m))
		}
		return slog.Group(a.Key, members...)
	default:
		return slog.Any(a.Key, hidden{v})
	}
}

func (h *discreet) WithAttrs(as []slog.Attr) slog.Handler {
	hidden := make([]slog.Attr, len(as))
	for i, a := range as {
		hidden[i] = hideIn(a)
	}
	return &discreet{h.Handler.WithAttrs(hidden)}
}

func (h *discreet) WithGroup(name string) slog.Handler { return &discreet{h.Handler.WithGroup(name)} }
