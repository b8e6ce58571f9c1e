package doctor

import (
	"testing"
	"time"
)

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		90 * time.Second: "90 s", 119 * time.Minute: "119 min", 47 * time.Hour: "47 h", 72 * time.Hour: "3 days",
	} {
		if got := InWords(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
