package coord

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		newcomers := make(chan struct{}, 1)
		var mu sync.Mutex
		var calls []time.Duration
		soFar := func() []time.Duration {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(calls)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			repeat(ctx, newcomers, func() bool {
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, time.Since(start))
				return true
			})
		}()
		at := soFar()
		if len(at) != 1 || at[0] != 0 {
			t.Fatalf("announced at %v, want at once", at)
		}

		// A crowd that comes during the gap is told once, when the gap is over.
		for range 100 {
			wake(newcomers)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		at = soFar()
		if len(at) != 2 || at[1] < announceGap || at[1] > announceGap+newcomerDelay {
			t.Fatalf("announced at %v, want the second right after %v", at, announceGap)
		}

		// Nobody comes: every two minutes. Somebody comes all the time: every ten
		// seconds at the most.
		time.Sleep(time.Hour)
		at = soFar()
		for i := 2; i < len(at); i++ {
			if d := at[i] - at[i-1]; d > 2*time.Minute || d < time.Minute {
				t.Fatalf("%v between two announcements", d)
			}
		}
		quiet := len(at)
		if quiet < 30 {
			t.Fatalf("%d announcements in an hour", quiet)
		}
		for range 6000 {
			wake(newcomers)
			time.Sleep(100 * time.Millisecond)
		}
		at = soFar()
		for i := quiet; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < announceGap {
				t.Fatalf("%v between two announcements", d)
			}
		}
		if len(at)-quiet < 30 {
			t.Fatalf("%d announcements to newcomers in ten minutes", len(at)-quiet)
		}
		cancel()
		<-done
	})
}

// Who comes first to a relay that started alone need not wait.
func TestRepeatToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		newcomers := make(chan struct{}, 1)
		var calls atomic.Int32
		var heard atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			repeat(ctx, newcomers, func() bool {
				heard.Store(int64(time.Since(start)))
				return calls.Add(1) > 1
			})
		}()
		time.Sleep(time.Second)
		wake(newcomers)
		time.Sleep(announceGap - 2*time.Second)
		synctest.Wait()
		if n, last := calls.Load(), time.Duration(heard.Load()); n != 2 || last != time.Second+newcomerDelay {
			t.Fatalf("%d announcements, the last after %v", n, last)
		}
		cancel()
		<-done
	})
}
