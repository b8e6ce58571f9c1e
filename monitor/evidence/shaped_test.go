package evidence

import (
	"strings"
	"testing"
)

// Text does not count as structure.
func TestShaped(t *testing.T) {
	for text, good := range map[string]bool{
		`{"a":"[[[[[[[[[[[["}`: true, `{"a":"\"[[[[[[[[[[\\"}`: true, `[[[[[[[[]]]]]]]]`: true, `[[[[[[[[[]]]]]]]]]`: false,
		`}`: false, `"` + strings.Repeat(",", 300) + `"`: true, `[` + strings.Repeat(`"",`, 255) + `""]`: true, `[` + strings.Repeat(`"",`, 256) + `""]`: false,
		`"\`: true, ``: true,
	} {
		if err := shaped([]byte(text)); (err == nil) != good {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}
