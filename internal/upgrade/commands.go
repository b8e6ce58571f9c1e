package upgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/psf-relay/relay-appliance/internal/cli"
	"github.com/psf-relay/relay-appliance/internal/maintenance"
)

// restartNotice is how long a restart of the machine is announced before it happens.
const restartNotice = time.Minute

func local(s *Settings, out *cli.IO) *Gate {
	m := Local(slog.New(slog.NewTextHandler(out.Stderr, nil)))
	return &Gate{Machine: m, Settings: *s, Checks: m.Checks, Notice: restartNotice}
}

// GateCmd is "relay-appliance gate".
type GateCmd struct{}

// Help is what --help says besides.
func (GateCmd) Help() string {
	return `Compares the installed versions with those that have proved themselves. A new one is looked at: do the programs start and keep running, does relayd serve, relay (a probe by relaymon) and show its certificate, does relaymon's evidence log verify. What the version before did not do either is not asked for. A version that does not do its work within the time of the settings is taken back: the packages before it are installed again, apt is told not to install that version again, and the console, relayd's status page and relaymon's alerts say so.

systemd runs it after each dpkg, at each boot, and every quarter of an hour; where a power cut ended it, it goes on.

Exit code 0: nothing is wrong; 1: an update was bad.`
}

// Run runs the gate.
func (*GateCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	return local(s, out).Run(ctx)
}

// UpdatesCmd is "relay-appliance updates".
type UpdatesCmd struct {
	Status    statusCmd    `cmd:"" help:"Say which versions proved themselves, which are held, and what comes next."`
	Rollback  rollbackCmd  `cmd:"" help:"Put the version before the installed one back, and hold the installed one."`
	Release   releaseCmd   `cmd:"" help:"Allow a held version again."`
	Configure configureCmd `cmd:"" help:"Write what apt and systemd read of the settings."`
	Turn      turnCmd      `cmd:"" help:"Say whether this machine may be updated now (exit code 0), or why not."`
	Reboot    rebootCmd    `cmd:"" help:"Restart the machine if an update needs that and it may be now."`
	Keep      keepCmd      `cmd:"" help:"Keep package files of this project, for the day on which they are to be put back."`
	Before    beforeCmd    `cmd:"" hidden:"" help:"What apt runs before it calls dpkg: reads the names of package files."`
}

type statusCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// statusJSON is what scripts get.
type statusJSON struct {
	State
	Installed map[string]string    `json:"installed"`
	From      time.Time            `json:"window_from"`
	To        time.Time            `json:"window_to"`
	Planned   *maintenance.Planned `json:"planned,omitempty"`
}

func (c *statusCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	m := Local(slog.New(slog.NewTextHandler(out.Stderr, nil)))
	state, err := m.Load()
	if err != nil {
		return err
	}
	have, err := m.installed(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	from, to := s.next(now)
	planned := s.planned(m, state, now)
	if c.JSON {
		return out.JSON(statusJSON{state, current(have), from, to, planned})
	}
	fmt.Fprintf(out.Stdout, "installed: %s\n", list(current(have)))
	if len(state.Good) > 0 {
		fmt.Fprintf(out.Stdout, "proven: %s\n", list(state.good()))
	}
	for _, line := range state.Lines() {
		fmt.Fprintln(out.Stdout, line)
	}
	if s.Automatic {
		fmt.Fprintf(out.Stdout, "next window: %s to %s\n", from.Format("2006-01-02 15:04"), to.Format("15:04 MST"))
	} else {
		fmt.Fprintf(out.Stdout, "next window: none: %v\n", errOff)
	}
	if planned != nil {
		fmt.Fprintf(out.Stdout, "planned: %s\n", planned.Why)
	}
	return nil
}

type rollbackCmd struct{}

func (*rollbackCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	g := local(s, out)
	if err := g.TakeBack(ctx); err != nil {
		return err
	}
	state, err := g.Machine.Load()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.Stdout, strings.Join(state.Lines(), "\n"))
	return err
}

type releaseCmd struct {
	Version string `arg:"" help:"The version, as \"relay-appliance updates status\" prints it."`
}

func (c *releaseCmd) Run(out *cli.IO, s *Settings) error { return local(s, out).Release(c.Version) }

type configureCmd struct{}

func (*configureCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	if err := s.Validate(); err != nil {
		return cli.BadInput(err)
	}
	m := Local(slog.New(slog.NewTextHandler(out.Stderr, nil)))
	if err := s.Configure(m); err != nil {
		return err
	}
	if !exists("/run/systemd/system") {
		return nil // an image is being built
	}
	if _, err := command(exec.CommandContext(ctx, "systemctl", "daemon-reload")); err != nil {
		return err
	}
	timers := []string{"apt-daily.timer", "apt-daily-upgrade.timer"}
	_, err := command(exec.CommandContext(ctx, "systemctl", append([]string{"try-restart"}, timers...)...))
	return err
}

type turnCmd struct{}

func (*turnCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	err := local(s, out).Turn(ctx, http.DefaultClient, time.Now())
	if errors.Is(err, errNotNow) || errors.Is(err, errOff) {
		fmt.Fprintln(out.Stdout, err)
		return cli.Exit(cli.Failed, nil)
	}
	return err
}

type rebootCmd struct{}

func (*rebootCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	why, err := local(s, out).RebootIfNeeded(ctx, http.DefaultClient, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.Stdout, why)
	return err
}

type keepCmd struct {
	File []string `arg:"" type:"existingfile" help:"Package files."`
}

func (c *keepCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	m := local(s, out).Machine
	var errs []error
	for _, f := range c.File {
		errs = append(errs, m.Keep(ctx, f))
	}
	return errors.Join(errs...)
}

type beforeCmd struct{}

func (*beforeCmd) Run(ctx context.Context, out *cli.IO, s *Settings) error {
	return local(s, out).Before(ctx, os.Stdin)
}

// Before is run by apt (DPkg::Pre-Install-Pkgs) before it calls dpkg, with the names
// of the package files on r. It keeps those of this project, notes which services
// run, and announces the restart. What fails is said and keeps nobody from updating:
// an update that cannot be taken back is better than none.
func (g *Gate) Before(ctx context.Context, r io.Reader) error {
	log := g.Machine.Log
	var ours []string
	for lines := bufio.NewScanner(r); lines.Scan(); {
		name := lines.Text()
		pkg, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "_")
		if !slices.Contains(Packages, pkg) {
			continue
		}
		ours = append(ours, pkg)
		if err := g.Machine.Keep(ctx, name); err != nil {
			log.Warn("the package file is not kept; if the version is bad it has to be fetched again", "err", err)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	s, err := g.Machine.Load()
	if err != nil {
		log.Warn("what runs is not noted", "err", err)
		return nil
	}
	have, err := g.Machine.installed(ctx)
	if err == nil && s.proven(have) { // not in the middle of an update of several steps
		s.Running = g.running(ctx)
	}
	now := time.Now().UTC().Truncate(time.Second)
	slices.Sort(ours)
	if err := g.Machine.save(s, &maintenance.Planned{From: now, To: now.Add(10 * time.Minute), Why: "an update of " + strings.Join(slices.Compact(ours), ", ")}); err != nil {
		log.Warn("what runs is not noted", "err", err)
	}
	return nil
}
