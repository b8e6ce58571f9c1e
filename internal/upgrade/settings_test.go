package upgrade

import (
	"strings"
	"testing"
	"time"
)

func TestWindow(t *testing.T) {
	for text, want := range map[string]Window{
		"02:00-05:00": {2 * time.Hour, 5 * time.Hour},
		"23:30-00:30": {23*time.Hour + 30*time.Minute, 24*time.Hour + 30*time.Minute},
		"00:00-24:00": {0, 24 * time.Hour},
	} {
		var w Window
		if err := w.UnmarshalText([]byte(text)); err != nil || w != want {
			t.Errorf("%s: %+v, %v", text, w, err)
		}
	}
	for _, text := range []string{"", "2:00-5:00", "02:00", "02:00-05:00 ", "24:00-25:00", "02:60-05:00", "02:00-02:10", "-1:00-05:00", "02:00-24:30", "02:00-26:00"} {
		var w Window
		if err := w.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, w)
		}
	}
}

func TestWindowOfADay(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct{ window, now, from, to string }{
		{"02:00-05:00", "2026-03-01 01:00", "2026-03-01 02:00", "2026-03-01 05:00"},
		{"02:00-05:00", "2026-03-01 02:00", "2026-03-01 02:00", "2026-03-01 05:00"},
		{"02:00-05:00", "2026-03-01 05:00", "2026-03-02 02:00", "2026-03-02 05:00"},
		{"23:00-01:00", "2026-03-01 00:30", "2026-02-28 23:00", "2026-03-01 01:00"},
		{"23:00-01:00", "2026-03-01 01:00", "2026-03-01 23:00", "2026-03-02 01:00"},
		{"00:00-24:00", "2026-03-01 23:59", "2026-03-01 00:00", "2026-03-02 00:00"},
	} {
		var w Window
		if err := w.UnmarshalText([]byte(c.window)); err != nil {
			t.Fatal(err)
		}
		from, to := w.at(at(c.now))
		if !from.Equal(at(c.from)) || !to.Equal(at(c.to)) {
			t.Errorf("%s at %s: %s to %s, want %s to %s", c.window, c.now, from, to, c.from, c.to)
		}
	}
}

func TestAllFaultsOfTheSettings(t *testing.T) {
	s := DefaultSettings()
	s.Own = "a.example.org"
	s.Siblings = []string{"b.example.org", "c.example.org"}
	s.Repository = "https://apt.example.org/apt"
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	s.RebootEvery, s.HealthyWithin = -1, time.Second
	s.Siblings = []string{"https://b.example.org", "a.example.org", "c.example.org", "c.example.org", "localhost", "B.example.org", "x y.org"}
	s.Repository, s.Key = "apt.example.org\nTrusted: yes", "keys"
	err := s.Validate()
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{"reboot_every", "healthy_within", "at most 6", `"https://b.example.org" is no domain`, "a.example.org stands for one machine",
		"c.example.org stands for one machine", `"localhost"`, `"B.example.org"`, `"x y.org"`, "updates.repository", "updates.key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in:\n%v", want, err)
		}
	}
	s = DefaultSettings()
	s.Siblings = []string{"b.example.org"}
	if err := s.Validate(); err == nil {
		t.Error("a machine without a name has a turn")
	}
}
