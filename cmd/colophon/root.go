package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/usage"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/verify"
)

// Exit codes of all commands.
const (
	exitOK        = 0 // accepted or done
	exitFailure   = 1
	exitUsage     = usage.ExitCode
	exitRejected  = 3
	exitUndecided = 4 // never treated as accepted

	// Of "log watch" alone.
	exitKeySuspect = 5
	exitMisbehaves = 6
)

// exitFor returns the error with the exit code of an outcome, nil for accepted.
func exitFor(o verify.Outcome) error {
	switch o {
	case verify.Accepted:
		return nil
	case verify.Rejected:
		return &exitError{code: exitRejected}
	}
	return &exitError{code: exitUndecided}
}

// exitWith is exitFor, and also reports that the answer could not be printed. That
// changes the exit code of an accepted image alone.
func exitWith(o verify.Outcome, unprinted error) error {
	err := exitFor(o)
	exit, refused := errors.AsType[*exitError](err)
	if !refused || unprinted == nil {
		return cmp.Or(err, unprinted)
	}
	e := &exitError{code: exit.code, msg: unprinted.Error()}
	if said, ok := errors.AsType[*exitError](unprinted); ok {
		e.hint = said.hint
	}
	return e
}

// timeoutError is the reason for which a command ends when --timeout is reached.
type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string {
	return fmt.Sprintf("not finished within --timeout %s", e.after)
}

// Is makes it a context.DeadlineExceeded, which it stands for.
func (e *timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// withTimeout returns a context that ends after d. Whatever waits for it then fails with
// an error that names --timeout.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, &timeoutError{d})
}

// platformExit returns the exit code and the message for an error of the platform. No
// kind that a platform names means success.
func platformExit(e *api.Error) *exitError {
	code := exitFailure
	if e.Kind == api.Usage {
		code = exitUsage
	}
	return &exitError{code: code, msg: e.Message, hint: e.Hint}
}

// commands are those below the root, and the task under which help lists them.
var commands = []struct {
	group, name string
	make        func() *cobra.Command
}{
	{groupRelease, "release", newReleaseCommand}, {groupRelease, "releases", newReleasesCommand}, {groupRelease, "login", newLoginCommand},
	{groupRelease, "status", newStatusCommand}, {groupRelease, "stop", newStopCommand},
	{groupSign, "sign", newSignCommand}, {groupSign, "attest", newAttestCommand},
	{groupDecide, "verify", newVerifyCommand}, {groupDecide, "why", newWhyCommand}, {groupDecide, "inspect", newInspectCommand},
	{groupDecide, "policy", newPolicyCommand}, {groupDecide, "sbom", newSBOMCommand}, {groupDecide, "copy", newCopyCommand},
	{groupDecide, "level", newLevelCommand}, {groupDecide, "init", newInitCommand}, {groupDecide, "lint", newLintCommand},
	{groupDecide, "pin", newPinCommand}, {groupDecide, "kube", newKubeCommand}, {groupDecide, "log", newLogCommand},
	{groupDecide, "investigate", newInvestigateCommand}, {groupDecide, "case", newCaseCommand}, {groupDecide, "audit", newAuditCommand},
	{groupTrust, "trust", newTrustCommand}, {groupTrust, "distrust", newDistrustCommand},
	{groupOther, "version", newVersionCommand},
}

// newRootCommand returns the root with all commands.
func newRootCommand() *cobra.Command {
	root := newRoot()
	for _, c := range commands {
		add(root, c.group, c.make())
	}
	root.AddCommand(newTopics()...)
	root.AddCommand(usage.NewManCommand(root))
	addCompletion(root)
	usage.Translate(root)
	return root
}

// rootFor returns the root with what the command line args needs: one command, if they begin with
// its name. To make all of them takes a fifth of the time of a short run.
func rootFor(args []string) *cobra.Command {
	for _, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			root := newRoot()
			add(root, c.group, c.make())
			usage.Translate(root)
			return root
		}
	}
	return newRootCommand()
}

// add puts a command below the root, into a group.
func add(root *cobra.Command, group string, c *cobra.Command) {
	c.GroupID = group
	root.AddCommand(c)
}

// newRoot returns the root without commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "colophon",
		Short: "prove which git commit a container image came from",
		Long: `Colophon proves which git commit a container image came from, and rejects
images without such a proof.

Exit codes: 0 accepted or done, 1 failure, 2 usage error, 3 rejected, 4 undecided.`,
		Example: `  colophon trust add https://colophon.example.com
  colophon verify registry.example.com/team/app:v1.2.0 --source git.example.com/team/app
  colophon release --ref v1.2.0`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddGroup(
		&cobra.Group{ID: groupRelease, Title: "Release images:"},
		&cobra.Group{ID: groupSign, Title: "Sign in any pipeline:"},
		&cobra.Group{ID: groupDecide, Title: "Decide about images:"},
		&cobra.Group{ID: groupTrust, Title: "Choose whom to trust:"},
		&cobra.Group{ID: groupOther, Title: "Other:"})
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	usage.AddVersion(root, version)
	addCAFile(root)
	return root
}

// run runs the command line args and returns the exit code.
func run(ctx context.Context, args []string) int {
	root := rootFor(args)
	root.SetArgs(args)
	return execute(ctx, root)
}

// execute runs the command line of c, prints the error, and returns the exit code. An answer that
// could not be written is a failure, unless the exit code says something else already.
func execute(ctx context.Context, c *cobra.Command) int {
	out := &checkedWriter{Writer: c.OutOrStdout()}
	if !isTerminal(out.Writer) { // commands ask whether it is one
		c.SetOut(out)
	}
	code := exitOK
	if exit := exitOf(ctx, c); exit != nil {
		exit.print(c.ErrOrStderr())
		code = exit.code
	}
	if out.err != nil && code != exitFailure {
		(&exitError{msg: "the answer is not complete: " + out.err.Error()}).print(c.ErrOrStderr())
		code = max(code, exitFailure)
	}
	return code
}

// checkedWriter notes the first error of a Writer.
type checkedWriter struct {
	io.Writer
	err error
}

// Write implements io.Writer.
func (w *checkedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.err = cmp.Or(w.err, err)
	return n, err
}

// exitOf runs the command line of c, and returns the error that its exit code is of.
func exitOf(ctx context.Context, c *cobra.Command) *exitError {
	var began bool
	noteBegin(c, &began)
	cmd, err := c.ExecuteContextC(ctx)
	if err == nil {
		return nil
	}
	exit, isExit := errors.AsType[*exitError](err)
	wrong, isUsage := errors.AsType[*usage.Error](err)
	platform, isPlatform := errors.AsType[*api.Error](err)
	switch {
	case isExit:
	case isUsage:
		exit = &exitError{code: exitUsage, msg: wrong.Message, hint: wrong.Hint}
	case ctx.Err() != nil:
		exit = &exitError{code: exitFailure, msg: "interrupted"}
	case isPlatform:
		exit = platformExit(platform)
	case !began: // cobra refused the command line
		exit = &exitError{code: exitUsage, msg: err.Error(), hint: "see " + cmd.CommandPath() + " --help"}
	default:
		exit = &exitError{code: exitFailure, msg: err.Error()}
		if path, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(err, fs.ErrNotExist) && names(cmd, path.Path) {
			exit = &exitError{code: exitUsage, msg: strings.Replace(err.Error(), path.Error(), path.Path+": "+path.Err.Error(), 1)}
		}
		if unreached, ok := errors.AsType[*reach.Error](err); errors.Is(err, api.ErrVariable) {
			exit.hint = "set it to the client.json of a platform, or unset it for that of colophon login"
		} else if ok && unreached.Why == reach.NotTrusted {
			exit.hint = "if you trust that authority, name its certificate: --ca-file FILE"
		}
	}
	return exit
}

// names reports whether the command line of cmd names a file.
func names(cmd *cobra.Command, path string) bool {
	found := slices.Contains(cmd.Flags().Args(), path)
	cmd.Flags().Visit(func(f *pflag.Flag) { found = found || f.Value.String() == path })
	return found
}

// noteBegin makes c and all commands below it set began when they start to run.
func noteBegin(c *cobra.Command, began *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			return run(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		noteBegin(sub, began)
	}
}
