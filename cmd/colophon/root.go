package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// Exit codes, everywhere.
const (
	exitOK        = 0 // accepted or done
	exitFailure   = 1
	exitUsage     = 2
	exitRejected  = 3
	exitUndecided = 4 // never treated as accepted
)

// exitFor is how a command ends whose answer is o.
func exitFor(o verify.Outcome) error {
	switch o {
	case verify.Accepted:
		return nil
	case verify.Rejected:
		return &exitError{code: exitRejected}
	}
	return &exitError{code: exitUndecided}
}

// platformExit is how a command ends for which the platform answered with e. Whatever
// the kind that a platform names, it is never success.
func platformExit(e *api.Error) *exitError {
	code := exitFailure
	if e.Kind == api.Usage {
		code = exitUsage
	}
	return &exitError{code: code, msg: e.Message, hint: e.Hint}
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "colophon",
		Short: "prove which git commit a container image came from",
		Long: `Colophon proves which git commit a container image came from, and refuses
the images that cannot prove it.

Exit codes: 0 accepted or done, 1 failure, 2 usage, 3 rejected, 4 could not decide.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{code: exitUsage, msg: err.Error(), hint: "see " + c.CommandPath() + " --help"}
	})
	root.AddCommand(
		newReleaseCommand(),
		newVerifyCommand(),
		newInspectCommand(),
		newSaveCommand(),
		newTrustCommand(),
		newLoginCommand(),
		newVersionCommand(),
	)
	return root
}

// run is the program without the process around it.
func run(ctx context.Context, args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	var platform *api.Error
	switch {
	case errors.As(err, &exit):
	case ctx.Err() != nil:
		exit = &exitError{code: exitFailure, msg: "interrupted"}
	case errors.As(err, &platform):
		exit = platformExit(platform)
	case isUsage(err):
		exit = &exitError{code: exitUsage, msg: err.Error(), hint: "see " + cmd.CommandPath() + " --help"}
	default:
		exit = &exitError{code: exitFailure, msg: err.Error()}
	}
	exit.print(root.ErrOrStderr())
	return exit.code
}
