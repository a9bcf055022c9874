package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/investigate"
	"github.com/colophon-build/colophon/verify"
)

// printCase prints the conclusions of a case. said is the first line, if it was printed before.
func printCase(w io.Writer, c *investigate.Case, said string) {
	out := c.Conclusion
	if said != out.Line {
		colour := map[investigate.State]string{investigate.Broken: red, investigate.Undecided: yellow, investigate.Whole: green}[out.State]
		if colour == "" {
			colour = faint
		}
		fmt.Fprintln(w, paint(w, colour, printable.Text(out.Line)))
	}
	if c.Subject.Digest != "" {
		fmt.Fprintln(w, printable.Text(c.Subject.Digest))
	}
	fmt.Fprintln(w)
	marks := map[verify.Status]string{verify.Holds: paint(w, green, "✓"), verify.Broken: paint(w, red, "✗"), verify.Absent: paint(w, red, "✗"), verify.Unknown: paint(w, yellow, "?"), verify.NotAsked: paint(w, faint, "-")}
	for _, f := range out.Findings {
		fmt.Fprintf(w, "  %s %-11s %s\n", marks[f.Status], printable.Text(f.Name), printable.Text(f.Says))
	}
	section := func(title string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s\n", title)
		}
		for _, l := range lines {
			fmt.Fprintf(w, "  %s\n", printable.Text(l))
		}
	}
	var events []string
	for _, e := range out.Timeline {
		events = append(events, fmt.Sprintf("%s  %-7s  %s", e.Time.Format("2006-01-02 15:04:05Z"), e.Basis, e.What))
	}
	section("time line:", events)
	section("concerned:", concerned(c))
	section("what to do:", out.Do)
	section("without an answer:", out.Open)
}

// concerned says what else the answers name.
func concerned(c *investigate.Case) (out []string) {
	for _, a := range c.Answers {
		f := a.Facts
		if f.Found != nil {
			about := map[string]bool{}
			for _, e := range f.Found.Entries {
				for _, d := range e.About {
					about[d] = true
				}
			}
			out = append(out, fmt.Sprintf("%s: %s log entries, about %d digests that are known", a.ID, c.Count(f.Found), len(about)))
		}
		for _, t := range f.Tags {
			out = append(out, "tag: "+t.Name)
		}
		for _, r := range f.Releases {
			out = append(out, strings.TrimSpace(fmt.Sprintf("release: %s of %s, %s %s", short(r.ID), r.Image, r.State, r.Digest)))
		}
		if f.Decided != nil {
			out = append(out, decisions(f.Decided.Records)...)
		}
		for _, r := range f.Running {
			out = append(out, fmt.Sprintf("runs: %s, %s", r.Where, r.Digest))
		}
	}
	return out
}

// decisions sums up what a ledger has, a line for each place and outcome.
func decisions(all []investigate.Decision) (out []string) {
	count := map[string]int{}
	for _, r := range all {
		text := strings.TrimSpace(fmt.Sprintf("%s: %s by %s %s", recordedAs(r.Kind), strings.TrimSuffix(r.Outcome+"/"+r.Effect, "/"), r.Role, r.Where))
		if count[text]++; count[text] == 1 {
			out = append(out, text)
		}
	}
	for i, text := range out {
		out[i] = fmt.Sprintf("%s (%d)", text, count[text])
	}
	return out
}

// recordedAs says what kind of decision a record of a ledger is.
func recordedAs(kind string) string {
	switch audit.Kind(kind) {
	case audit.KindRunning:
		return "ran"
	case audit.KindEvict:
		return "evicted"
	}
	return "decided"
}

func short(id string) string { return id[:min(len(id), 12)] }
