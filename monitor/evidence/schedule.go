package evidence

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Offset is how far into the hour the first attempt at a relay is due (rule R2):
// a second that nobody can tell who does not hold the secret of the hour's day.
func Offset(secret []byte, relay string, h Hour) time.Duration {
	mac := hmac.New(sha256.New, secret)
	_ = binary.Write(mac, binary.BigEndian, int64(h))
	mac.Write([]byte(relay))
	n := binary.BigEndian.Uint64(mac.Sum(nil))
	return time.Duration(n%hourSeconds) * time.Second
}

// schedule finds out when the first attempts were due, for the hours whose secret
// was committed to by then and has been published since.
func (v *monthVerifier) schedule() error {
	type commitment struct{ day, sha256 string }
	published := make(map[commitment][]byte)
	for _, h := range v.hours {
		for _, s := range h.Header.Schedule {
			if s.SHA256 == "" {
				published[commitment{s.Day, SHA256Hex(s.Secret)}] = s.Secret
			}
		}
	}
	current := make(map[string]string) // by day, the last hash that was committed to
	for i := range v.hours {
		h := v.hours[i].Header
		day := h.Hour.Start().Format(time.DateOnly)
		changed := false // the day's plan began anew within this hour
		for _, s := range h.Schedule {
			if s.SHA256 == "" {
				continue
			}
			old, ok := current[s.Day]
			changed = changed || s.Day == day && ok && old != s.SHA256
			current[s.Day] = s.SHA256
		}
		secret, ok := published[commitment{day, current[day]}]
		if ok && !changed {
			v.hours[i].Due = h.Hour.Start().Add(Offset(secret, v.m.Relay, h.Hour))
		}
	}
	return nil
}
