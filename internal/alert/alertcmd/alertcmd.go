// Package alertcmd is the command "alert test" of relayd, relaymon and relay-appliance.
package alertcmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/psf-relay/relay-appliance/internal/alert"
	"github.com/psf-relay/relay-appliance/internal/cli"
)

// Test sends a test message to each receiver. A program's own command embeds it and calls
// [Test.Send].
type Test struct {
	JSON bool `name:"json" help:"Print JSON: for each receiver whether it took the message, and why not."`
}

// Help is what --help says besides.
func (Test) Help() string {
	return `Sends one message to each receiver that stands below "alerts" in the configuration, now, also in the quiet hours, and says whether it took the message. Look then whether the message has arrived: a mail server may take one and drop it later.

Exit code 0: all took it; 1: one did not; 2: there is no receiver, or the configuration is at fault.`
}

// outcome is what becomes of the message to one receiver.
type outcome struct {
	To string `json:"to"`
	// Place is where it stands in the configuration, such as alerts.receivers[1].
	Place string `json:"receiver"`
	Sent  bool   `json:"sent"`
	Err   string `json:"error,omitempty"`
}

// Send sends the message to the receivers of c, in the name of the program, and prints
// what became of it. where is the file, or the files, that c is from.
func (t Test) Send(ctx context.Context, out *cli.IO, program, where string, c alert.Config) error {
	if !c.Any() {
		return cli.BadInput(fmt.Errorf("nobody is to be told of alerts: write who is into %s, such as\n\nalerts:\n  receivers:\n    - smtp://USER:PASSWORD@mail.example.org:587/?from=relay@example.org&to=you@example.org", where))
	}
	outcomes, err := c.Send(ctx, program, alert.Alert{
		Name: "Test", Labels: map[string]string{"severity": "warning"}, Since: time.Now().UTC(),
		Summary: "this is a test: alerts of " + program + " arrive here, and nothing is wrong",
	})
	if err != nil {
		return cli.BadInput(err)
	}
	list, failed := []outcome{}, false
	for _, o := range outcomes {
		said := outcome{To: o.To, Place: o.Place, Sent: o.Err == nil}
		if o.Err != nil {
			said.Err, failed = o.Err.Error(), true
		}
		list = append(list, said)
	}
	if t.JSON {
		err = out.JSON(list)
	} else {
		err = say(out, list)
	}
	if failed {
		err = errors.Join(err, cli.Exit(cli.Failed, nil))
	}
	return err
}

func say(out *cli.IO, list []outcome) error {
	for _, o := range list {
		text := "sent"
		if !o.Sent {
			text = "not sent: " + o.Err
		}
		if _, err := fmt.Fprintf(out.Stdout, "%s (%s): %s\n", o.To, o.Place, text); err != nil {
			return err
		}
	}
	return nil
}
