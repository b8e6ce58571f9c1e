package probe

import "testing"

// What the kernel takes back while the next rung is climbed makes no number that the log
// refuses, and with it the whole attempt.
func TestPacketsAreNeverNegative(t *testing.T) {
	before, after := traffic{sent: 20, resent: 1}, traffic{sent: 22, resent: 0}
	if sent, resent := after.minus(before).packets(); sent != 2 || resent != 0 {
		t.Errorf("got %d sent and %d again, want 2 and 0", sent, resent)
	}
}
