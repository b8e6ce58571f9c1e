package main

import (
	"fmt"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/monitor/bounty"
)

type diffCmd struct {
	A         string   `arg:"" type:"existingfile" placeholder:"RULES_A" help:"Rules; with --bundle those that it was judged by."`
	B         string   `arg:"" type:"existingfile" placeholder:"RULES_B" help:"Other rules."`
	Bundle    string   `type:"existingfile" placeholder:"FILE" help:"A bundle whose verdict under both rules to compare."`
	Roster    []string `sep:"none" type:"existingfile" placeholder:"FILE" help:"The roster of that bundle; give it again for others of the committee's."`
	Committee string   `xor:"trust" placeholder:"VKEY" help:"The committee's verifier key."`
	Unsigned  bool     `xor:"trust" help:"Take rules and roster as they are."`
	JSON      bool     `help:"Print JSON."`
}

// difference is a field in which two rules files differ.
type difference struct {
	Field string `json:"field"`
	A     string `json:"a"`
	B     string `json:"b"`
	// Alone is the verdict under A with this field alone from B.
	Alone   string `json:"alone,omitempty"`
	Changes bool   `json:"changes_verdict"`
}

type diffReport struct {
	A           string       `json:"verdict_a,omitempty"`
	B           string       `json:"verdict_b,omitempty"`
	Differences []difference `json:"differences"`
}

func (c *diffCmd) Run(out *cli.IO) error {
	a, err := readRules(c.A)
	if err != nil {
		return cli.BadInput(err)
	}
	b, err := readRules(c.B)
	if err != nil {
		return cli.BadInput(err)
	}
	report := diffReport{Differences: differences(a, b)}
	if c.Bundle != "" {
		if len(c.Roster) == 0 {
			return cli.BadInput(fmt.Errorf("--bundle needs the bundle's --roster"))
		}
		if err := c.judge(&report, a, b); err != nil {
			return err
		}
	}
	if c.JSON {
		return out.JSON(report)
	}
	t := tabwriter.NewWriter(out.Stdout, 0, 0, 2, ' ', 0)
	if len(report.Differences) == 0 {
		fmt.Fprintln(t, "the rules are the same")
	} else {
		fmt.Fprintln(t, "FIELD\tA\tB\tALONE")
	}
	for _, d := range report.Differences {
		mark := ""
		if d.Changes {
			mark = "  <- changes the verdict"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s%s\n", d.Field, d.A, d.B, d.Alone, mark)
	}
	if report.A != "" {
		fmt.Fprintf(t, "\nunder A: %s\nunder B: %s\n", report.A, report.B)
	}
	return t.Flush()
}

// differences goes through the fields of both rules.
func differences(a, b *bounty.Rules) []difference {
	out := []difference{}
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		name, _, _ := strings.Cut(va.Type().Field(i).Tag.Get("yaml"), ",")
		if name == "-" || reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			continue
		}
		out = append(out, difference{Field: name, A: valueWords(va.Field(i)), B: valueWords(vb.Field(i))})
	}
	return out
}

func valueWords(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, " ")
	}
	return fmt.Sprint(v.Interface())
}

// judge recomputes the bundle's verdict under A, under B, and under A with each
// difference alone.
func (c *diffCmd) judge(report *diffReport, a, b *bounty.Rules) error {
	res, done, err := (&trust{Rules: []string{c.A}, Roster: c.Roster, Committee: c.Committee, Unsigned: c.Unsigned}).open(c.Bundle)
	if err != nil {
		return err
	}
	defer done()
	if res.Case.Rules.SHA256 != a.SHA256 {
		return cli.BadInput(fmt.Errorf("the bundle was judged by rules serial %d, not by %s: give the rules that stand in it first", res.Case.Rules.Serial, c.A))
	}
	words := func(v *bounty.Verdict) string {
		return fmt.Sprintf("%s, uptime %s (%d h up, %d down, %d unknown)", v.Headline, v.Findings[0].Outcome, v.Hours.Up, v.Hours.Down, v.Hours.Unknown)
	}
	verdict := func(r bounty.Rules) string {
		v, err := res.Judge(&r)
		if err != nil {
			return "cannot be judged: " + err.Error()
		}
		return words(v)
	}
	report.A, report.B = words(res.Counts()), verdict(*b)
	for i := range report.Differences {
		d := &report.Differences[i]
		alone := *res.Case.Rules
		va, vb := reflect.ValueOf(&alone).Elem(), reflect.ValueOf(b).Elem()
		for k := range va.NumField() {
			if name, _, _ := strings.Cut(va.Type().Field(k).Tag.Get("yaml"), ","); name == d.Field {
				va.Field(k).Set(vb.Field(k))
			}
		}
		d.Alone = verdict(alone)
		d.Changes = d.Alone != report.A
	}
	return nil
}
