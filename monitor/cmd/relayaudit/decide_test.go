package main

import (
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/psf-relay/relay-appliance/monitor/evidence"
)

var transaction = strings.Repeat("7", 64)

// decide runs relayaudit decide on the play's bundle.
func (p *play) decide(code int, words string, more ...string) string {
	p.t.Helper()
	return p.said(code, words, append(p.deciding(), more...)...)
}

func (p *play) deciding() []string {
	return []string{"decide", "bundle.zip", "--rules", "rules.yaml", "--roster", "roster.yaml", "--key", "committee.key", "--log", "log"}
}

// said runs the built relayaudit, and looks at its exit code and words.
func (p *play) said(code int, words string, args ...string) string {
	p.t.Helper()
	got, out := p.run(args...)
	if got != code || !regexp.MustCompile(`(?m)`+words).MatchString(out) {
		p.t.Errorf("%s: exit code %d, want %d and %q; it said:\n%s", strings.Join(args, " "), got, code, words, out)
	}
	return out
}

// decided is a play with a bundle and the committee's key.
func decided(t *testing.T, change func(*play)) *play {
	p := newPlay(t, 3).sees(nil)
	if change != nil {
		change(p)
	}
	p.write()
	p.save("committee.key", []byte(p.CommitteeSigner+"\n"))
	return p
}

// The life of a month: the operator objects, the committee must answer, and everybody sees
// both.
func TestAppealIsAnswered(t *testing.T) {
	p := decided(t, nil)
	line, id := appealLine(p.Relay, "psf", p.First.Month().String(), "Look at the last hour, please.")
	p.save("appeal.txt", []byte(line))
	out := p.said(0, `^entry   0 of committee.example.org/decisions/psf$`, "appeal", "appeal.txt", "--key", "committee.key", "--log", "log", "--first")
	answer := regexp.MustCompile(`--answer [0-9a-f]{64}`).FindString(out)
	if id != p.RelayID || answer == "" {
		t.Fatalf("the appeal of %s is of %s, %q", p.RelayID, id, answer)
	}
	p.decide(2, "answers: appeal [0-9a-f]+ stands open: a decision answers all that do", "--pay", transaction)
	p.decide(0, "paid to .* by transaction 7777", append([]string{"--pay", transaction}, strings.Fields(answer)...)...)
	p.said(0, "answered appeal", "decisions", "log", "--committee", p.CommitteeKey)
	p.decide(0, "in the log already", append([]string{"--pay", transaction}, strings.Fields(answer)...)...)
	// A stranger objects in the name of nobody but himself.
	line, id = appealLine(appellant, "psf", p.First.Month().String(), "Me, too.")
	p.save("stranger.txt", []byte(line))
	p.said(0, "appeal of "+id, "appeal", "stranger.txt", "--key", "committee.key", "--log", "log")
	p.said(0, "\"open_appeals\": \\[\\]", "decisions", "log", "--committee", p.CommitteeKey, "--relay", p.RelayID, "--json")
}

// A log that is missing is waived by name, with a reason.
func TestPaidWithoutALog(t *testing.T) {
	p := decided(t, func(p *play) {
		p.logs = func(all []evidence.MonitorMonth) []evidence.MonitorMonth { return all[:2] }
	})
	name := p.Monitors[2].Name
	p.decide(2, "--pay: not all that the monitors know is here: the log of "+name+" is missing", "--first", "--pay", transaction)
	p.decide(2, "why: it is without the logs of "+name, "--first", "--pay", transaction, "--without", name)
	p.decide(0, "paid to", "--first", "--pay", transaction, "--without", name, "--why", "Its disk died.")
	p.said(0, "^    without "+name+"$", "decisions", "log", "--committee", p.CommitteeKey)
}

// Members of the committee who decide at once do not decide twice.
func TestManyDecideAtOnce(t *testing.T) {
	p := decided(t, nil)
	program, err := built()
	p.Must(err)
	line, _ := appealLine(appellant, "psf", p.First.Month().String(), "First.")
	p.save("appeal.txt", []byte(line))
	p.said(0, "", "appeal", "appeal.txt", "--key", "committee.key", "--log", "log", "--first")
	var all sync.WaitGroup
	codes := make([]int, 6)
	for i := range codes {
		all.Go(func() {
			word := []string{"--pay", transaction}
			if i%2 == 1 {
				word = []string{"--refuse", "No."}
			}
			cmd := exec.Command(program, append(p.deciding(), word...)...)
			cmd.Dir = p.dir
			cmd.Run()
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	all.Wait()
	done := 0
	for _, code := range codes {
		if code == 0 {
			done++
		}
	}
	if done == 0 {
		t.Errorf("exit codes %v: nobody decided", codes)
	}
	out := p.said(0, "verified: 2 entries", "decisions", "log", "--committee", p.CommitteeKey)
	if n := strings.Count(out, "  decided "); n != 1 {
		t.Errorf("%d decisions, want one:\n%s", n, out)
	}
}
