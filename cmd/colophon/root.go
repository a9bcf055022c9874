package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/platform/api"
)

// Exit codes, everywhere.
const (
	exitOK        = 0 // accepted or done
	exitFailure   = 1
	exitUsage     = 2
	exitRejected  = 3
	exitUndecided = 4 // never treated as accepted
)

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
		exit = &exitError{code: platform.Exit, msg: platform.Message, hint: platform.Hint}
	case isUsage(err):
		exit = &exitError{code: exitUsage, msg: err.Error(), hint: "see " + cmd.CommandPath() + " --help"}
	default:
		exit = &exitError{code: exitFailure, msg: err.Error()}
	}
	exit.print(root.ErrOrStderr())
	return exit.code
}
