// Package cli gives the programs one manner on the command line: the same exit
// codes, errors, version and shell completion.
//
//	0  done, and what was asked for is so
//	1  failed: the error is on stderr, in one message
//	2  usage or bad input: a wrong flag, a bad file, a value that cannot be
//
// Commands are kong structs with a Run method; what a person reads goes to
// [IO].Stdout, progress and errors go to Stderr.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	completion "github.com/jotaen/kong-completion"

	"github.com/psf-relay/relay-appliance/internal/buildinfo"
)

// The exit codes that all programs share.
const (
	Failed   = 1
	BadUsage = 2
)

// IO is where a command writes.
type IO struct{ Stdout, Stderr io.Writer }

// JSON writes v to stdout, indented, with a newline at its end.
func (o *IO) JSON(v any) error {
	enc := json.NewEncoder(o.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Exit gives err an exit code of its own. With a nil err nothing is printed:
// the command has already said on stdout what was found.
func Exit(code int, err error) error { return &exitError{code, err} }

// BadInput marks err as the fault of what was handed in: exit code 2.
func BadInput(err error) error {
	if err == nil {
		return nil
	}
	return Exit(BadUsage, err)
}

type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// untilSignal is the context of Run methods that ask for one: it ends at the
// first SIGINT or SIGTERM. The second ends the program at once, as the first does
// for commands that ask for no context.
func untilSignal() (context.Context, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, nil
}

// common is what every program has besides its own commands.
type common struct {
	Version    versionCmd            `cmd:"" help:"Print the program's version."`
	Completion completion.Completion `cmd:"" help:"Say how to switch shell completion on (bash, zsh, fish)."`
}

type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

func (c *versionCmd) Run(program *kong.Kong, out *IO) error {
	if c.JSON {
		return out.JSON(map[string]string{"program": program.Model.Name, "version": buildinfo.Version()})
	}
	_, err := fmt.Fprintln(out.Stdout, buildinfo.String(program.Model.Name))
	return err
}

// Main runs the command that args name and returns the exit code. The grammar is
// a pointer to a kong struct; Run methods can ask for an *IO, for a
// context.Context that ends with SIGINT or SIGTERM, and for what options bind.
func Main(name, description string, grammar any, args []string, stdout, stderr io.Writer, options ...kong.Option) (code int) {
	// kong leaves through its Exit function after --help; nothing else panics with this type.
	type leave int
	defer func() {
		if r := recover(); r != nil {
			l, ok := r.(leave)
			if !ok {
				panic(r)
			}
			code = int(l)
		}
	}()
	parser, err := kong.New(grammar, append([]kong.Option{
		kong.Name(name),
		kong.Description(description),
		kong.Embed(&common{}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(leave(code)) }),
		kong.Bind(&IO{Stdout: stdout, Stderr: stderr}),
		kong.BindSingletonProvider(untilSignal),
	}, options...)...)
	if err != nil {
		panic(err) // the grammar itself is wrong: no input can cause it
	}
	completion.Register(parser, completion.WithExitFunc(func(code int) { panic(leave(code)) }))
	ctx, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nrun \"%s --help\" for the usage\n", name, err, name)
		return BadUsage
	}
	err = ctx.Run(parser)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
		}
		return exit.code
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return Failed
	}
}
