package evidence

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
)

// ErrOutside is wrapped by the refusal of an attempt that started outside its hour.
var ErrOutside = errors.New("does not belong to hour")

// checkPeer accepts the one spelling of a peer ID.
func checkPeer(s string) error {
	if err := CheckText("peer ID", s, maxPeer); err != nil {
		return err
	}
	id, err := peer.Decode(s)
	if err != nil {
		return fmt.Errorf("peer ID %q: %w", s, err)
	}
	if id.String() != s {
		return fmt.Errorf("peer ID %q: write it %s", s, id)
	}
	return nil
}

// CheckAttempt says whether an attempt may stand in the record of hour h. It
// judges form and time, not what was seen.
func CheckAttempt(a Attempt, h Hour) error {
	if err := checkPeer(a.PeerID); err != nil {
		return err
	}
	if a.Started.Before(h.Start()) || !a.Started.Before(h.End().Add(CloseAfter)) {
		return fmt.Errorf("attempt of %s: %w %s", a.Started, ErrOutside, h)
	}
	if len(a.Results) != len(Components) {
		return fmt.Errorf("attempt has %d results, want one for each of %v", len(a.Results), Components)
	}
	for _, c := range Components {
		r, ok := a.Results[c]
		if !ok {
			return fmt.Errorf("attempt has no result for %s", c)
		}
		if err := errors.Join(checkOutcome(r.Outcome), CheckText("class", string(r.Class), maxWord), checkTook("duration_us", r.DurationUS)); err != nil {
			return fmt.Errorf("result of %s: %w", c, err)
		}
	}
	if err := errors.Join(CheckText("tcp4_addr", a.TCP4Addr, maxAddr), CheckText("wss_addr", a.WSSAddr, maxAddr),
		checkCount("rungs", len(a.Rungs), maxRungs), checkCount("controls", len(a.Controls), maxControls)); err != nil {
		return fmt.Errorf("attempt of %s: %w", a.Started, err)
	}
	for _, r := range a.Rungs {
		if err := errors.Join(CheckText("name", r.Name, maxWord), CheckText("class", string(r.Class), maxWord), CheckText("detail", r.Detail, maxDetail),
			checkTook("offset_us", r.OffsetUS), checkTook("duration_us", r.DurationUS)); err != nil {
			return fmt.Errorf("rung %.80q: %w", r.Name, err)
		}
		if err := checkOutcome(r.Outcome); err != nil {
			return fmt.Errorf("rung %q: %w", r.Name, err)
		}
		if r.Tries < 0 || r.Tries > maxTries {
			return fmt.Errorf("rung %q: %d tries, want 0 to %d", r.Name, r.Tries, maxTries)
		}
		if r.Component != "" && !slices.Contains(Components, r.Component) {
			return fmt.Errorf("rung %q: component %q is not known", r.Name, r.Component)
		}
	}
	if err := checkFacts(a.Facts); err != nil {
		return fmt.Errorf("attempt of %s: facts: %w", a.Started, err)
	}
	for _, c := range a.Controls {
		if err := checkControl(c); err != nil {
			return err
		}
		if off := c.Started.Sub(a.Started.Time); !a.Stepped && (off > maxTook || off < -maxTook) {
			return fmt.Errorf("control %q: it started at %s, further than %s from the attempt of %s", c.Name, c.Started, maxTook, a.Started)
		}
	}
	if a.Level < LevelNone || a.Level > LevelEchoed {
		return fmt.Errorf("level %d is not known", a.Level)
	}
	return nil
}

// checkFacts bounds what strangers said.
func checkFacts(f Facts) error {
	err := errors.Join(
		CheckText("agent_version", f.AgentVersion, MaxTextBytes),
		checkTexts("protocols", f.Protocols, maxProtocols, MaxTextBytes),
		checkTexts("resolved_ipv4", f.ResolvedIPv4, maxIPv4, maxWord),
		CheckText("circuit_addr", f.CircuitAddr, maxAddr),
		CheckText("announced", f.Announced, maxWord),
		checkCount("ping_us", len(f.PingUS), maxPings),
	)
	for _, us := range f.PingUS {
		err = errors.Join(err, checkTook("ping_us", us))
	}
	if f.HTTPStatus < 0 || f.HTTPStatus > 999 {
		err = errors.Join(err, fmt.Errorf("http_status is %d, want 0 to 999", f.HTTPStatus))
	}
	if c := f.Certificate; c != nil {
		err = errors.Join(err, CheckText("certificate.issuer", c.Issuer, MaxTextBytes), checkTexts("certificate.dns_names", c.DNSNames, maxNames, MaxTextBytes))
	}
	if r := f.Reservation; r != nil {
		err = errors.Join(err,
			CheckText("reservation.peer", r.Peer, MaxTextBytes),
			checkCount("reservation.salt: bytes", len(r.Salt), maxWord),
			checkCount("reservation.beacon: bytes", len(r.Beacon), maxBeacon),
			checkCount("reservation.voucher: bytes", len(r.Voucher), maxVoucher),
			checkTexts("reservation.addrs", r.Addrs, maxAddrs, maxAddr))
		if r.LimitBytes < 0 || r.LimitSeconds < 0 || r.Expires.Unix() < 0 {
			err = errors.Join(err, fmt.Errorf("reservation: limits of %d bytes and %d seconds, expires %s: want none below 0, and no time before 1970", r.LimitBytes, r.LimitSeconds, r.Expires))
		}
	}
	return errors.Join(err, checkLookups(f))
}

func checkCount(what string, n, limit int) error {
	if n > limit {
		return fmt.Errorf("%s: %d, want %d at most", what, n, limit)
	}
	return nil
}

// CheckText accepts text of no more than limit bytes; what names it in the error.
func CheckText(what, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%s has %d bytes, want %d at most: %.40q", what, len(s), limit, s)
	}
	return nil
}

func checkTexts(what string, list []string, limit, each int) error {
	err := checkCount(what, len(list), limit)
	for _, s := range list {
		err = errors.Join(err, CheckText(what, s, each))
	}
	return err
}

// checkTook accepts a span of time within an attempt.
func checkTook(what string, us int64) error {
	if us < 0 || us > maxTook.Microseconds() {
		return fmt.Errorf("%s is %d, want 0 to %d", what, us, maxTook.Microseconds())
	}
	return nil
}

// checkLookups bounds what resolvers said.
func checkLookups(f Facts) error {
	if f.LookupRetries < 0 || f.LookupRetries > maxTries {
		return fmt.Errorf("lookup_retries is %d, want 0 to %d", f.LookupRetries, maxTries)
	}
	if len(f.Lookups) > maxLookups {
		return fmt.Errorf("%d lookups, want %d at most", len(f.Lookups), maxLookups)
	}
	for i, l := range f.Lookups {
		if (l.Resolver == OwnResolver) != (i == 0) || l.Resolver == "" || len(l.Resolver) > MaxTextBytes {
			return fmt.Errorf("lookups[%d]: resolver %.40q: want %s first, then others", i, l.Resolver, OwnResolver)
		}
		if len(l.IPv4) > maxIPv4 {
			return fmt.Errorf("lookups[%d]: %d addresses, want %d at most", i, len(l.IPv4), maxIPv4)
		}
		for _, s := range l.IPv4 {
			if ip, err := netip.ParseAddr(s); err != nil || !ip.Is4() || ip.String() != s {
				return fmt.Errorf("lookups[%d]: %.40q is not an IPv4 address", i, s)
			}
		}
		switch l.Class {
		case "":
			if len(l.IPv4) == 0 {
				return fmt.Errorf("lookups[%d]: want addresses or a class", i)
			}
		case NameNotFound, NoARecord, NameLookup, Resolver:
			if len(l.IPv4) > 0 {
				return fmt.Errorf("lookups[%d]: addresses and class %s", i, l.Class)
			}
		default:
			return fmt.Errorf("lookups[%d]: class %.40q is not one of a look-up", i, l.Class)
		}
	}
	return nil
}

func checkControl(c Control) error {
	if !slices.Contains(Components, c.Component) {
		return fmt.Errorf("control %q: component %q is not known", c.Name, c.Component)
	}
	if err := checkOutcome(c.Outcome); err != nil {
		return fmt.Errorf("control %q: %w", c.Name, err)
	}
	if err := errors.Join(CheckText("name", c.Name, maxControl), checkTook("duration_us", c.DurationUS)); err != nil {
		return fmt.Errorf("control %.80q: %w", c.Name, err)
	}
	if c.Resent < 0 || c.Resent > c.Sent || c.Sent > maxPackets {
		return fmt.Errorf("control %q: %d packets sent, %d of them again", c.Name, c.Sent, c.Resent)
	}
	return nil
}

func checkOutcome(o Outcome) error {
	switch o {
	case OK, Fail, Busy, Blind, Skipped:
		return nil
	}
	return fmt.Errorf("outcome %q is not known", o)
}

// CheckRecord says whether a record may stand in the block of hour h: at least
// one attempt, all on the same relay, in order, the first within the hour (rule R1).
func CheckRecord(r Record, h Hour) error {
	if r.Hour != h {
		return fmt.Errorf("record is of hour %s, not %s", r.Hour, h)
	}
	if n := len(r.Plan); n != 0 && n != PlanSize {
		return fmt.Errorf("record has a plan of %d bytes, want %d", n, PlanSize)
	}
	if len(r.Attempts) == 0 || len(r.Attempts) > MaxAttempts {
		return fmt.Errorf("record has %d attempts, want 1 to %d", len(r.Attempts), MaxAttempts)
	}
	for i, a := range r.Attempts {
		if a.PeerID != r.PeerID {
			return fmt.Errorf("record of %s has an attempt on %s", r.PeerID, a.PeerID)
		}
		if err := CheckAttempt(a, h); err != nil {
			return err
		}
		if i > 0 && a.Started.Before(r.Attempts[i-1].Started.Time) {
			return errors.New("attempts are not in the order of their start")
		}
	}
	if first := r.Attempts[0]; !first.Started.Before(h.End()) {
		return fmt.Errorf("first attempt of %s is after hour %s", first.Started, h)
	}
	return nil
}

// DecodeRecord reads the canonical record of a relay and an hour.
func DecodeRecord(b []byte, h Hour) (Record, error) {
	var r Record
	if err := DecodeLine(b, MaxRecordBytes, &r); err != nil || r.Version != FormatVersion {
		return Record{}, wrongVersion("the record", b, err)
	}
	return r, CheckRecord(r, h)
}

// DecodeHeader reads the canonical header of the hour after the one before.
func DecodeHeader(b []byte) (Header, error) {
	var h Header
	if err := DecodeLine(b, MaxHeaderBytes, &h); err != nil || h.Version != FormatVersion {
		return Header{}, wrongVersion("the header", b, err)
	}
	switch h.State {
	case StateOK:
	case StateGap:
		if h.Records != 0 || h.Missed != 0 {
			return Header{}, fmt.Errorf("block %s is a gap with records or missed attempts", h.Hour)
		}
	default:
		return Header{}, fmt.Errorf("block %s: state %q is not known", h.Hour, h.State)
	}
	if h.Records < 0 || h.Records > MaxRecords {
		return Header{}, fmt.Errorf("block %s: %d records", h.Hour, h.Records)
	}
	if (h.Records == 0) != (h.Root == emptyRoot) {
		return Header{}, fmt.Errorf("block %s: %d records, and the root is %s: that of no records is %s", h.Hour, h.Records, h.Root, emptyRoot)
	}
	if err := errors.Join(checkMissed(h.Missed), checkCount("round: bytes", len(h.Round), maxBeacon), CheckText("software", h.Software, MaxTextBytes)); err != nil {
		return Header{}, fmt.Errorf("block %s: %w", h.Hour, err)
	}
	if err := checkHeld(h.Cosigned); err != nil {
		return Header{}, fmt.Errorf("block %s: %w", h.Hour, err)
	}
	if err := h.Clock.check(); err != nil {
		return Header{}, fmt.Errorf("block %s: %w", h.Hour, err)
	}
	if h.SealedAt.Before(h.Hour.End().Add(CloseAfter)) {
		return Header{}, fmt.Errorf("block %s was sealed at %s, before its hour had closed", h.Hour, h.SealedAt)
	}
	return h, nil
}

// checkHeld accepts the cosignatures of which a header tells: one a witness, in order.
func checkHeld(list []Held) error {
	if err := checkCount("cosigned", len(list), maxHeld); err != nil {
		return err
	}
	for i, c := range list {
		name, hash, _ := strings.Cut(c.Witness, "+")
		if b, err := hex.DecodeString(hash); err != nil || len(b) != 4 || hash != strings.ToLower(hash) || !validKeyName(name) {
			return fmt.Errorf("cosigned[%d]: witness %.100q: want <name>+<8 hex digits>", i, c.Witness)
		}
		if i > 0 && c.Witness <= list[i-1].Witness {
			return fmt.Errorf("cosigned[%d]: witness %s is not in order", i, c.Witness)
		}
	}
	return nil
}

// check refuses a clock with steps that its drift does not show.
func (c Clock) check() error {
	if c.Samples < 0 || c.DriftMS < 0 || len(c.Steps) > MaxSteps {
		return fmt.Errorf("clock: %d samples, drift of %d ms, %d steps", c.Samples, c.DriftMS, len(c.Steps))
	}
	for _, s := range c.Steps {
		if by := max(s.ByMS, -s.ByMS); by < MinStep.Milliseconds() || by > c.DriftMS {
			return fmt.Errorf("clock: a step of %d ms in a drift of %d ms", s.ByMS, c.DriftMS)
		}
	}
	return nil
}

// Check accepts a mark that says one thing, and says it in its bounds.
func (m Mark) Check() error {
	set := 0
	for _, is := range []bool{m.Clock != nil, m.Missed != 0} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("mark wants exactly one of clock, missed")
	case m.Clock != nil:
		return m.Clock.check()
	}
	return checkMissed(m.Missed)
}

// check accepts a look at the clocks.
func (s ClockSample) check() error {
	if s.UpMS < 0 || len(s.Boot) > maxBoot {
		return fmt.Errorf("clock: up for %d ms since boot %.80q", s.UpMS, s.Boot)
	}
	return nil
}

func checkMissed(n int64) error {
	if n < 0 || n > MaxMissed {
		return fmt.Errorf("%d missed attempts, want 0 to %d", n, MaxMissed)
	}
	return nil
}

// IsSHA256Hex says whether s is a SHA-256 in lower-case hex.
func IsSHA256Hex(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
