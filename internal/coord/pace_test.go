package coord

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		newcomers := make(chan struct{}, 1)
		var at []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			repeat(ctx, newcomers, func() bool {
				at = append(at, time.Since(start))
				return true
			})
		}()
		synctest.Wait()
		if len(at) != 1 || at[0] != 0 {
			t.Fatalf("announced at %v, want at once", at)
		}

		// A crowd that comes during the gap is told once, when the gap is over.
		for range 100 {
			wake(newcomers)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(at) != 2 || at[1] < announceGap || at[1] > announceGap+newcomerDelay {
			t.Fatalf("announced at %v, want the second right after %v", at, announceGap)
		}

		// Nobody comes: every two minutes. Somebody comes all the time: every ten
		// seconds at the most.
		time.Sleep(time.Hour)
		synctest.Wait()
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
		synctest.Wait()
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
		calls, heard := 0, time.Duration(0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			repeat(ctx, newcomers, func() bool {
				calls++
				heard = time.Since(start)
				return calls > 1
			})
		}()
		time.Sleep(time.Second)
		wake(newcomers)
		time.Sleep(announceGap - 2*time.Second)
		synctest.Wait()
		if calls != 2 || heard != time.Second+newcomerDelay {
			t.Fatalf("%d announcements, the last after %v", calls, heard)
		}
		cancel()
		<-done
	})
}
