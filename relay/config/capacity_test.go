package config

import (
	"testing"
)

func TestCapacity(t *testing.T) {
	const mib = 1 << 20
	for _, tc := range []struct {
		memory     int64
		files      int
		configured int
		want       int
	}{
		{512 * mib, 65536, 0, 2949}, // the smallest VPS
		{456 * mib, 65536, 0, 2519}, // and what its kernel leaves of it: 2,000 places
		{512 * mib, 1024, 0, 1024 - OwnFiles},
		{128 * mib, 65536, 0, minConns},
		{8 << 30, 1 << 20, 0, 61931},
		{1 << 40, 1 << 20, 0, maxConns},
		{512 * mib, 1024, 5000, 5000},
	} {
		c := Capacity{Memory: tc.memory, Files: tc.files}.Derive(Limits{Connections: tc.configured})
		if c.Connections != tc.want {
			t.Errorf("%d MiB, %d files: %d connections, want %d", tc.memory/mib, tc.files, c.Connections, tc.want)
		}
	}
	if c := MeasureCapacity(DefaultConfig().Limits); c.Memory < 32*mib || c.Files < 64 || c.Connections < minConns {
		t.Errorf("this machine: %+v", c)
	}
}

// What stands for "worked out" is filled in, what the operator said stays.
func TestLimitsWorkedOut(t *testing.T) {
	const mib = 1 << 20
	small := Capacity{Memory: 456 * mib, Files: 65536}
	l := DefaultConfig().Limits
	if got := small.Derive(l).Fill(l); got.Reservations < 2000 || got.Reservations >= got.Connections ||
		got.Circuits < 1000 || got.GuestReservations != l.GuestReservations || got.GuestCircuits != l.GuestCircuits {
		t.Errorf("a VPS of 512 MiB: %+v", got)
	}
	few := Capacity{Memory: 64 * mib, Files: 200}
	if got := few.Derive(l).Fill(l); got.GuestReservations > got.Reservations || got.GuestCircuits > got.Circuits {
		t.Errorf("a very small machine: %+v", got)
	}
	// Memory decides: with 4 GiB more than 20,000 peers may reserve.
	large := Capacity{Memory: 4096 * mib, Files: 65536}
	if got := large.Derive(l).Fill(l); got.Reservations < 20000 || got.Circuits < 9000 {
		t.Errorf("a machine of 4 GiB: %+v", got)
	}
	l.Reservations, l.Circuits, l.Connections = 7, 8, 9
	l.GuestReservations, l.GuestCircuits = 1, 2
	if got := small.Derive(l).Fill(l); got != l {
		t.Errorf("got %+v, want what was given: %+v", got, l)
	}
}
