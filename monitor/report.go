package monitor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"github.com/psf-relay/relay-appliance/monitor/bundle"
)

// Report writes the bundle of one relay's month into a file, verifies it as a
// stranger would, and returns what it says as Markdown for a forum post or a pull
// request: the verdict, and how everybody can check it.
func Report(ctx context.Context, cfg Config, q BundleRequest, file string) ([]byte, error) {
	if _, err := WriteBundle(ctx, cfg, q, file); err != nil {
		return nil, err
	}
	packed, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	by, err := judgedBy(cfg, q.Month)
	if err != nil {
		return nil, err
	}
	o := bundle.Options{Rules: by.files.rules, Roster: by.files.roster, Committee: cfg.Committee}
	rules := "--rules rules.yaml"
	if cfg.Rules == "" {
		o.Committee = "" // the program's own rules are signed by nobody
		rules = "--rules rules.yaml # \"relayaudit rules > rules.yaml\" prints them"
	}
	o.Unsigned = o.Committee == ""
	res, err := bundle.Verify(bytes.NewReader(packed), int64(len(packed)), o)
	if err != nil {
		return nil, fmt.Errorf("the bundle %s does not verify: %w", file, err)
	}
	b := bytes.NewBuffer(bundle.Markdown(res.Verdict))
	say := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	if v := res.Verdict; v.Hours.Remaining > 0 {
		say("\n## How the month can still end\n")
		for _, words := range v.Forecast(by.rules).Words(by.rules.HoursRequired) {
			say("- %s", words)
		}
	}
	say("\n## Check it\n")
	say("The evidence is `%s`, %d bytes, SHA-256 `%x`, signed by monitor %s.", filepath.Base(file), len(packed), sha256.Sum256(packed), res.SignedBy)
	say("`relayaudit` recomputes the verdict from it, without a network; take rules and roster from the committee, not from this post:\n")
	say("```sh")
	key := "--unsigned"
	if o.Committee != "" {
		key = "--committee '" + o.Committee + "'"
	}
	say("relayaudit verify %s --roster roster.yaml %s %s", filepath.Base(file), key, rules)
	say("```")
	for _, w := range res.Warnings {
		say("\n*%s*", w)
	}
	return b.Bytes(), nil
}
