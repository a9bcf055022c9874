package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/report"
	"github.com/colophon-build/colophon/verify"
)

type lintOptions struct {
	fix     bool
	diff    bool
	resolve resolutionOptions
	format  string
	failOn  string
	timeout time.Duration
}

func newLintCommand() *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [DIR]",
		Short: "find what in a repository would break the chain, and mend it",
		Long: `Lint reads a repository, by default the current directory, and finds what would let somebody
else decide what is built, signed or run: in Dockerfiles, workflows, manifests, lock files and
git. It runs nothing of the repository. In a git working directory it reads what git tracks,
and what git neither tracks nor ignores.

A comment on the line of a finding, or above it, ignores it, with a reason:

  # colophon: ignore dockerfile/base-by-tag the base image is built in this repository

For more than one place, .colophon.yaml does (spec/recipes). docs/lint.md lists the rules.

Exit codes: 0 no finding is at or above --fail-on, 1 failure, 2 usage error, 3 findings are,
4 something could not be found out.`,
		Example: `  colophon lint
  colophon lint --diff
  colophon lint services/web --fix
  colophon lint --format sarif --fail-on error > lint.sarif`,
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error {
			return o.check()
		},
		RunE: inDirectory(&o.timeout, o.run),
	}
	f := cmd.Flags()
	f.BoolVar(&o.fix, "fix", false, "mend what can be mended; bytes elsewhere stay as they are")
	f.BoolVar(&o.diff, "diff", false, "print what --fix would change as a unified diff instead of the findings; change nothing")
	o.resolve.flags(f)
	f.StringVar(&o.format, "format", "text", "`FORMAT` of the answer on standard output: "+strings.Join(report.Names(), ", "))
	f.StringVar(&o.failOn, "fail-on", string(finding.Warning), "least `SEVERITY` of a finding for exit code 3: note, warning or error")
	f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "give up after this long")
	cmd.MarkFlagsMutuallyExclusive("fix", "diff")
	return cmd
}

func (o *lintOptions) check() error {
	if !slices.Contains(report.Names(), o.format) {
		return usageError("", "--format: expected %s, found %q", strings.Join(report.Names(), ", "), o.format)
	}
	if !slices.Contains(finding.Severities(), finding.Severity(o.failOn)) {
		return usageError("", "--fail-on: expected note, warning or error, found %q", o.failOn)
	}
	return nil
}

func (o *lintOptions) run(ctx context.Context, cmd *cobra.Command, dir string) error {
	resolver, keep, err := o.resolve.resolver(cmd)
	if err != nil {
		return err
	}
	defer keep()
	checkers := lint.Checkers(resolver)
	var mended []string
	for n := 0; ; n++ {
		found, changes, wrote, err := o.once(ctx, checkers, dir, n < rounds)
		mended = append(mended, wrote...)
		if err != nil {
			return o.stopped(err, mended)
		}
		if len(wrote) > 0 {
			continue // what is left, and what mending has shown
		}
		d := report.Of(found, finding.Severity(o.failOn), o.resolve.offline)
		slices.Sort(mended)
		d.Mended = slices.Compact(mended)
		return o.print(cmd, d, changes)
	}
}

// rounds is how many times --fix mends: edits that overlap wait for the next time.
const rounds = 5

// once lints, and mends if that is asked for.
func (o *lintOptions) once(ctx context.Context, checkers []finding.Checker, dir string, mend bool) (found *lint.Report, changes []lint.Change, wrote []string, err error) {
	tree, err := finding.OpenTree(ctx, dir)
	if err != nil {
		return nil, nil, nil, err
	}
	defer tree.Close()
	if found, err = lint.Run(ctx, tree, checkers); err != nil {
		return nil, nil, nil, err
	}
	if o.fix || o.diff {
		if changes, err = lint.Mend(tree, found.Findings); err != nil {
			return nil, nil, nil, err
		}
	}
	if o.fix && mend {
		wrote, err = lint.Write(tree, changes)
	}
	return found, changes, wrote, err
}

// stopped returns the error of a run that may have mended files before it failed.
func (o *lintOptions) stopped(err error, mended []string) error {
	if len(mended) == 0 {
		return err
	}
	return &exitError{code: exitFailure, msg: err.Error(), hint: "these files are mended, and others may not be: " + printable.Line(strings.Join(mended, ", ")) + "; run colophon lint --fix again"}
}

func (o *lintOptions) print(cmd *cobra.Command, d *report.Document, changes []lint.Change) error {
	var out []byte
	var err error
	if o.diff {
		for _, c := range changes {
			out = append(out, c.Diff()...)
		}
	} else if out, err = report.Formats()[o.format](d, version); err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(out)
	for _, name := range d.Mended {
		fmt.Fprintln(cmd.ErrOrStderr(), "mended", printable.Line(name))
	}
	fmt.Fprintln(cmd.ErrOrStderr(), d.Summary())
	var outcome verify.Outcome
	err = errors.Join(err, outcome.UnmarshalText([]byte(d.Outcome)))
	return exitWith(outcome, err)
}
