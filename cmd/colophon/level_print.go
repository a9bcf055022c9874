package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/level/report"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source/forge"
	"github.com/colophon-build/colophon/verify"
)

func (o *levelOptions) print(w io.Writer, d *report.Document) error {
	switch {
	case o.output.quiet && d.Image != "":
		_, err := fmt.Fprintln(w, d.Build.Level)
		return err
	case o.output.quiet:
		_, err := fmt.Fprintln(w, d.Source.Level)
		return err
	case !o.output.text():
		return o.output.print(w, d)
	}
	fmt.Fprintln(w, d.Title())
	for _, line := range d.About() {
		fmt.Fprintln(w, line)
	}
	if d.Build != nil {
		printReached(w, d.Build)
		fmt.Fprintf(w, "\nSLSA Build L%d\n", d.Build.Level)
		printPossible(w, d.Build)
	}
	printReached(w, d.Source)
	fmt.Fprintf(w, "\nSLSA Source L%d, reviewers other than the author: %d\n", d.Source.Level, d.Reviewers)
	printPossible(w, d.Source)
	printRoadmap(w, d)
	if d.VSA != "" {
		fmt.Fprintf(w, "signed: %s\n", printable.Text(d.VSA))
	}
	if o.demand != (policy.SourceTrack{}) || o.minBuild > 0 || d.Image != "" {
		fmt.Fprintf(w, "%s\n", paint(w, outcomeMark(d.Outcome)[0], d.Outcome.String()))
	}
	if d.Why != "" {
		fmt.Fprintf(w, "%s\n", printable.Text(d.Why))
	}
	if slices.ContainsFunc(d.Source.Requirements, func(q level.Judged) bool { return strings.Contains(q.Evidence, forge.ErrNoForge.Error()) }) {
		printHint(w, "say which forge hosts it: --forge github, gitlab or gitea")
	}
	return nil
}

// levelMarks holds the colour and the symbol of each status of a requirement.
var levelMarks = map[level.Status][2]string{
	level.Met:      marks[verify.Holds],
	level.NotMet:   marks[verify.Broken],
	level.NotKnown: marks[verify.Unknown],
}

// printReached prints the requirements of a track that count for a level, one per line; or one
// line, if the same is missing for all.
func printReached(w io.Writer, t *level.Reached) {
	fmt.Fprintln(w)
	first := t.Requirements[0]
	if !slices.ContainsFunc(t.Requirements, func(q level.Judged) bool {
		return q.Level > 0 && (q.Status != level.NotKnown || q.Evidence != first.Evidence)
	}) {
		mark := levelMarks[level.NotKnown]
		fmt.Fprintf(w, "  %s     %-47s  %s\n", paint(w, mark[0], mark[1]), "all requirements", printable.Text(first.Evidence))
		return
	}
	for _, q := range t.Requirements {
		if q.Level > 0 {
			mark := levelMarks[q.Status]
			fmt.Fprintf(w, "  %s L%d  %-47s  %s\n", paint(w, mark[0], mark[1]), q.Level, q.Name, printable.Text(q.Evidence))
		}
	}
}

func printPossible(w io.Writer, t *level.Reached) {
	if t.Possible > t.Level {
		fmt.Fprintf(w, "up to L%d if what is not known (?) were met\n", t.Possible)
	}
}

// printRoadmap prints how far each phase is, and what to do next.
func printRoadmap(w io.Writer, d *report.Document) {
	fmt.Fprint(w, "\nroadmap\n")
	for _, p := range d.Roadmap {
		done := 0
		for _, s := range p.Steps {
			if s.Status == level.Met {
				done++
			}
		}
		box := "[ ]"
		if p.Done {
			box = "[x]"
		}
		fmt.Fprintf(w, "  %s %-41s  %d of %d steps\n", box, p.Title, done, len(p.Steps))
	}
	for i, s := range d.Next {
		if i == 0 {
			fmt.Fprint(w, "\nnext\n")
		}
		mark := levelMarks[s.Status]
		fmt.Fprintf(w, "  %d. %s %s\n       found: %s\n       do:    %s\n", i+1, paint(w, mark[0], mark[1]), printable.Text(s.Text), printable.Text(s.Evidence), printable.Text(s.Mend))
	}
	fmt.Fprintln(w)
}
