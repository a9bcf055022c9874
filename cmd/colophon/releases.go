package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

func newReleasesCommand() *cobra.Command {
	var o output
	var f api.RunFilter
	cmd := &cobra.Command{
		Use:        "releases",
		SuggestFor: []string{"list", "ls", "logs", "builds"},
		Short:      "list what ran on the platform, read logs, cancel and retry",
		Long: `Releases lists the releases that were asked for, the newest first: also those that
failed, that run, and that wait. The commands below it say more about one, which is
named by its id, the first digits of that, or the invocationId of a provenance.

Whoever may release on the platform sees them all.

States: ` + states() + `.`,
		Example: `  colophon releases --state failed
  colophon releases log 3f2a91c0
  colophon releases retry 3f2a91c0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runReleases(cmd, f, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Image, "image", "", "only releases of this `IMAGE`: REGISTRY/NAME, or the end of it")
	flags.StringVar((*string)(&f.State), "state", "", "only releases in this `STATE`")
	flags.IntVar(&f.Limit, "limit", 20, "the newest `N` alone")
	o.flags(cmd)
	o.quietFlag(cmd, "ids")
	_ = cmd.RegisterFlagCompletionFunc("state", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return strings.Split(states(), ", "), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.AddCommand(newReleasesShowCommand(), newReleasesLogCommand(), newReleasesCancelCommand(), newReleasesRetryCommand())
	return cmd
}

func states() string {
	var names []string
	for _, s := range api.States {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func runReleases(cmd *cobra.Command, f api.RunFilter, o output) error {
	if f.State != "" && !slices.Contains(api.States, f.State) {
		return usageError("the states are "+states(), "--state: there is no state %q", f.State)
	}
	if f.Limit < 1 {
		return usageError("", "--limit: expected a number from 1, found %d", f.Limit)
	}
	platform, err := platformInUse(cmd.Context())
	if err != nil {
		return err
	}
	all, err := platform.Runs(cmd.Context(), f)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	switch {
	case o.quiet:
		for _, r := range all {
			fmt.Fprintln(out, r.ID)
		}
	case !o.text():
		return o.print(out, api.Runs{Releases: all})
	case len(all) == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "no releases")
	default:
		return printRuns(out, all)
	}
	return nil
}

// platformInUse returns the platform that release would use. It starts none.
func platformInUse(ctx context.Context) (*api.ClientConfig, error) {
	if c, err := configuredPlatform(ctx); c != nil || err != nil {
		return c, err
	}
	return nil, &exitError{code: exitFailure, msg: "no platform is configured, and none runs here", hint: "colophon login FILE chooses one"}
}

func printRuns(w io.Writer, all []api.Run) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tIMAGE\tREF\tASKED BY\tASKED\tTOOK")
	for _, r := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Short(), cell(string(r.State)), cell(r.Image), cell(r.Ref), cell(r.Actor), r.Asked.UTC().Format("2006-01-02 15:04:05Z"), took(r))
	}
	return t.Flush()
}

// cell makes text safe for a column.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(printable.Text(s), "\t", " ")
}

func took(r api.Run) string {
	switch {
	case r.Started.IsZero():
		return "-"
	case r.Ended.IsZero():
		return time.Since(r.Started).Round(time.Second).String()
	}
	return r.Ended.Sub(r.Started).Round(100 * time.Millisecond).String()
}

func newReleasesShowCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "show one release: what was asked for, and what became of it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			platform, id, err := runOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			run, err := platform.Run(cmd.Context(), id)
			if err != nil {
				return err
			}
			if !o.text() {
				return o.print(cmd.OutOrStdout(), run)
			}
			printRun(cmd.OutOrStdout(), run)
			return nil
		},
		ValidArgsFunction: completeRuns(),
	}
	o.flags(cmd)
	return cmd
}

// runOf returns the platform in use and the id of a release, which a person may give as
// the invocationId of a provenance too.
func runOf(ctx context.Context, arg string) (*api.ClientConfig, string, error) {
	platform, err := platformInUse(ctx)
	if err != nil {
		return nil, "", err
	}
	base := strings.TrimSuffix(platform.URL, "/")
	for _, prefix := range []string{base + api.PathReleases + "/", base + "/releases/"} {
		if id, ok := strings.CutPrefix(arg, prefix); ok {
			return platform, id, nil
		}
	}
	if strings.Contains(arg, "://") {
		return nil, "", usageError("colophon login chooses another platform", "%s is no release of the platform %s", arg, platform.URL)
	}
	return platform, arg, nil
}

func printRun(w io.Writer, r *api.Run) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-9s %s\n", name, printable.Text(value))
		}
	}
	line("release", r.ID)
	line("state", string(r.State))
	line("image", r.Image)
	line("source", r.Source)
	line("ref", r.Ref)
	line("commit", r.Commit)
	line("asked by", r.Actor)
	line("asked", r.Asked.UTC().Format(time.RFC3339))
	if !r.Started.IsZero() {
		line("took", took(*r))
	}
	if r.Error != nil {
		for l := range strings.SplitSeq(r.Error.Message, "\n") {
			line("error", l)
		}
		line("hint", r.Error.Hint)
	}
	if r.Result != nil {
		fmt.Fprintln(w)
		releaseOptions{}.printRelease(w, r.Result)
	}
}

func newReleasesLogCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "log ID",
		Short: "print the log of a release, also of one that failed",
		Long: `Log prints the progress of a release and the output of its build. A build may have
printed anything: what would control the terminal is replaced.

The exit code is that of this command, not of the release.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReleasesLog(cmd, args[0], follow)
		},
		ValidArgsFunction: completeRuns(),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more until the release has ended")
	return cmd
}

func runReleasesLog(cmd *cobra.Command, arg string, follow bool) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	platform, id, err := runOf(ctx, arg)
	if err != nil {
		return err
	}
	p := &plainProgress{w: out, replay: true, jobs: map[string]*plainJob{}}
	last, err := platform.RunEvents(ctx, id, follow, func(e api.Event) { p.event("", e) })
	switch {
	case err != nil || last == nil:
		return err
	case last.Error != nil:
		failed := platformExit(last.Error)
		failed.print(out)
	case last.Result != nil:
		releaseOptions{}.printRelease(out, last.Result)
	}
	return nil
}

func newReleasesCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "cancel a release that waits or is being built",
		Long: `Cancel ends a release, and returns when its build is gone. A release whose image is
being published is not cancelled: it is published as a whole or not at all.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			platform, id, err := runOf(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			run, err := platform.Cancel(cmd.Context(), id)
			if err != nil {
				return err
			}
			if run.State != api.Cancelled {
				return &exitError{code: exitFailure, msg: fmt.Sprintf("release %s was not cancelled: it is %s", run.Short(), run.State)}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "cancelled %s\n", run.ID)
			return nil
		},
		ValidArgsFunction: completeRuns(api.Waiting, api.Running),
	}
}

func newReleasesRetryCommand() *cobra.Command {
	var o releaseOptions
	cmd := &cobra.Command{
		Use:   "retry ID",
		Short: "ask for the same release again",
		Long: `Retry asks the platform for the same release again: the same source, commit, recipe and
image. If the ref leads to another commit by now, it fails. A release that was
interrupted is finished; one that is done is found.`,
		Args:              cobra.ExactArgs(1),
		RunE:              func(cmd *cobra.Command, args []string) error { return runReleasesRetry(cmd, args[0], o) },
		ValidArgsFunction: completeRuns(api.Failed, api.Cancelled),
	}
	o.output.flags(cmd)
	o.output.quietFlag(cmd, "IMAGE@DIGEST of what was released, and no progress")
	o.progress.flags(cmd)
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	return cmd
}

func runReleasesRetry(cmd *cobra.Command, arg string, o releaseOptions) error {
	ctx, cancel := withTimeout(cmd.Context(), o.timeout)
	defer cancel()
	if err := o.progress.check(cmd.ErrOrStderr()); err != nil {
		return err
	}
	platform, id, err := runOf(ctx, arg)
	if err != nil {
		return err
	}
	run, err := platform.Run(ctx, id)
	if err != nil {
		return err
	}
	if run.Request == nil {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("the platform does not keep any more what was asked for in release %s", run.Short()), hint: "colophon release asks for it anew"}
	}
	req := *run.Request
	req.Commit = run.Commit
	if run.Lock != "" {
		lock, err := platform.File(ctx, run.Lock, limits.Lock)
		if err != nil {
			return fmt.Errorf("the lock of the release: %w", err)
		}
		req.Lock = string(lock)
	}
	p := o.progress.start(cmd.ErrOrStderr(), o.output.quiet)
	defer p.close()
	return o.release(ctx, cmd, platform, req, p)
}

// completeRuns completes the ids of releases in some states; without states, of all.
func completeRuns(of ...api.State) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		platform, err := api.LoadConfig()
		if err != nil || len(args) > 0 {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		all, err := platform.Runs(ctx, api.RunFilter{Limit: 50})
		if err != nil {
			return nil, none
		}
		var ids []cobra.Completion
		for _, r := range all {
			if len(of) == 0 || slices.Contains(of, r.State) {
				ids = append(ids, cobra.CompletionWithDesc(r.Short(), cell(fmt.Sprintf("%s %s %s", r.State, r.Image, r.Ref))))
			}
		}
		return ids, none
	}
}
