package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

type grammar struct {
	Do doCmd `cmd:"" help:"Do it."`
}

type doCmd struct {
	How string `arg:"" enum:"well,badly,wrong,quietly" help:"How."`
}

func (c *doCmd) Run(out *IO, thing *string) error {
	switch c.How {
	case "badly":
		return errors.New("it broke")
	case "wrong":
		return BadInput(errors.New("no such thing"))
	case "quietly":
		return Exit(3, nil)
	}
	return out.JSON(map[string]string{"thing": *thing})
}

func TestMainCodes(t *testing.T) {
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"do well", 0, `"thing": "bound"`, ""},
		{"do badly", 1, "", "prog: it broke\n"},
		{"do wrong", 2, "", "prog: no such thing\n"},
		{"do quietly", 3, "", ""},
		{"do", 2, "", "prog --help"},
		{"nonsense", 2, "", `unexpected argument nonsense`},
		{"--help", 0, "Usage: prog", ""},
		{"do --help", 0, "Do it.", ""},
		{"version", 0, "prog v", ""},
		{"version --json", 0, `"program": "prog"`, ""},
		{"completion -c bash", 0, "complete -o", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			thing := "bound"
			code := Main("prog", "A program.", &grammar{}, strings.Fields(c.args), &stdout, &stderr, kong.Bind(&thing))
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, s := range []struct {
				name, got, want string
			}{{"stdout", stdout.String(), c.stdout}, {"stderr", stderr.String(), c.stderr}} {
				if !strings.Contains(s.got, s.want) || s.want == "" && s.got != "" {
					t.Errorf("%s is %q, want it to hold %q", s.name, s.got, s.want)
				}
			}
		})
	}
}
