package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

type pinOptions struct {
	output
	update   bool
	diff     bool
	major    bool
	cooldown cooldown
	resolve  resolutionOptions
	timeout  time.Duration
}

// cooldown is a duration in whole days ("7d") or as Go writes it ("36h").
type cooldown time.Duration

func (c *cooldown) String() string {
	if d := time.Duration(*c); d%(24*time.Hour) != 0 {
		return d.String()
	}
	return strconv.Itoa(int(time.Duration(*c)/(24*time.Hour))) + "d"
}

func (c *cooldown) Type() string { return "AGE" }

func (c *cooldown) Set(s string) error {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 12)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return errors.New("expected days or hours, as in 7d or 36h")
	}
	*c = cooldown(d)
	return nil
}

func newPinCommand() *cobra.Command {
	o := pinOptions{cooldown: cooldown(7 * 24 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "pin [DIR]",
		Short: "list the pinned actions and images of a repository, and update them",
		Long: `Pin lists the actions, reusable workflows and images that the workflows, Dockerfiles and pipelines
of a repository name, by default of the current directory: the commit or digest that each is pinned
to, its tag, and what is newer.

With --update, a pinned action gets the commit of the newest release with the same major version,
a pinned image the digest that its tag has now, and what is not pinned gets a pin. The answer shows
which commits are new. Other bytes of the files stay as they are.

A release is not taken before this machine has seen it for --cooldown. The time is kept in the
user's cache (colophon/resolutions.json): times in commits are chosen by whoever made them.

The tag of a version that points to another commit than the pin, or than it did before, is an
alarm: nothing is updated there, and the exit code is 3.

Exit codes: 0 done, 1 failure, 2 usage error, 3 an alarm, 4 something could not be found out.`,
		Example: `  colophon pin
  colophon pin --diff
  colophon pin --update --cooldown 14d
  colophon pin services/web --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: inDirectory(&o.timeout, o.run),
	}
	f := cmd.Flags()
	f.BoolVar(&o.update, "update", false, "write the updates, and pin what is not pinned")
	f.BoolVar(&o.diff, "diff", false, "print what --update would change as a unified diff; change nothing")
	f.BoolVar(&o.major, "major", false, "take newer major versions too")
	f.Var(&o.cooldown, "cooldown", "how long this machine must have seen a release before it is taken: days or hours, as in 7d or 36h; 0 for none")
	o.resolve.flags(f)
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "give up after this long")
	o.output.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("update", "diff")
	cmd.MarkFlagsMutuallyExclusive("diff", "json")
	cmd.MarkFlagsMutuallyExclusive("diff", "output")
	return cmd
}

// pinAnswer is what colophon pin says, as programs read it.
type pinAnswer struct {
	Outcome verify.Outcome `json:"outcome"` // "rejected" after an alarm
	Pins    []lint.Pin     `json:"pins"`
	Written []string       `json:"written"` // files that were changed
}

func (o *pinOptions) run(ctx context.Context, cmd *cobra.Command, dir string) (err error) {
	resolver, keep, err := o.resolve.resolver(cmd)
	if err != nil {
		return err
	}
	defer keep()
	tree, err := finding.OpenTree(ctx, dir)
	if err != nil {
		return err
	}
	defer tree.Close()
	p := lint.Pinner{Resolver: resolver, Update: o.update || o.diff, Cooldown: time.Duration(o.cooldown), Major: o.major, Now: time.Now()}
	a := pinAnswer{Written: []string{}}
	if a.Pins, err = p.Pins(ctx, tree); err != nil {
		return err
	}
	a.Outcome = o.outcome(a.Pins)
	var found []finding.Finding
	for _, pin := range a.Pins {
		found = append(found, finding.Finding{Edits: pin.Edits})
	}
	changes, err := lint.Mend(tree, found)
	if err != nil {
		return err
	}
	if o.update {
		if a.Written, err = lint.Write(tree, changes); err != nil {
			return &exitError{code: exitFailure, msg: err.Error(), hint: "these files are written, and others may not be: " + printable.Line(strings.Join(a.Written, ", ")) + "; run colophon pin --update again"}
		}
	}
	out := cmd.OutOrStdout()
	switch {
	case o.diff:
		for _, c := range changes {
			if _, err = out.Write(c.Diff()); err != nil {
				break
			}
		}
		// A diff does not show why the exit code is not 0.
		refused := pinAnswer{Pins: slices.DeleteFunc(slices.Clone(a.Pins), func(pin lint.Pin) bool { return !pin.State.Alarm() && pin.State != lint.PinUndecided })}
		err = cmp.Or(err, refused.text(cmd.ErrOrStderr()))
	case o.text():
		err = a.text(out)
	default:
		err = o.print(out, a)
	}
	fmt.Fprintln(cmd.ErrOrStderr(), a.summary())
	return exitWith(a.Outcome, err)
}

func (o *pinOptions) outcome(all []lint.Pin) verify.Outcome {
	outcome := verify.Accepted
	for _, pin := range all {
		switch {
		case pin.State.Alarm():
			return verify.Rejected
		case pin.State == lint.PinUndecided && !o.resolve.offline:
			outcome = verify.Undecided
		}
	}
	return outcome
}

// shownChanges is how many new commits of a pin are shown to people. JSON has all.
const shownChanges = 20

// text writes a paragraph for each pin.
func (a *pinAnswer) text(w io.Writer) error {
	var b strings.Builder
	for _, pin := range a.Pins {
		state := string(pin.State)
		if pin.State.Alarm() {
			state = "ALARM: " + state
		}
		fmt.Fprintf(&b, "%s: %s: %s\n", printable.Line(pin.Position.String()), state, printable.Line(pin.Name))
		for _, line := range []struct{ what, tag, id string }{{"is", pin.Tag, pin.From}, {"new", pin.NewTag, pin.To}} {
			if line.id != "" {
				fmt.Fprintf(&b, "  %-4s %s\n", line.what, printable.Line(strings.TrimSpace(line.tag+" "+line.id)))
			}
		}
		if pin.Message != "" {
			fmt.Fprintf(&b, "  %s\n", printable.Line(pin.Message))
		}
		changes(&b, pin.Changes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// changes writes the commits that an update brings, the newest first. A commit has one line, which
// whoever made it does not get past.
func changes(b *strings.Builder, steps []source.Step) {
	for i, s := range steps {
		if i == shownChanges {
			fmt.Fprintf(b, "    and %d more; --json has them\n", len(steps)-i)
			return
		}
		fmt.Fprintf(b, "    %.12s %s %s: %s\n", s.Commit, s.Time.Format(time.DateOnly), printable.Line(s.Author), printable.Line(s.Subject))
	}
}

// summary returns one line about the pins.
func (a *pinAnswer) summary() string {
	counts := map[lint.PinState]int{}
	for _, pin := range a.Pins {
		counts[pin.State]++
	}
	parts := []string{"1 name"}
	if len(a.Pins) != 1 {
		parts[0] = fmt.Sprintf("%d names", len(a.Pins))
	}
	for _, s := range lint.PinStates() {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	return strings.Join(parts, ", ")
}
