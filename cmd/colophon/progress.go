package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

// progress prints the events of a release: each phase with the seconds since the
// start, and the build's output below each of its steps.
type progress struct {
	w     io.Writer
	start time.Time
	phase string
	step  string
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) event(e api.Event) {
	if e.Phase == "alive" {
		return
	}
	if e.Phase == "build" && e.Step != "" && e.Step != p.step && p.phase == "build" {
		p.step = e.Step
		fmt.Fprintf(p.w, "         │ %s\n", printable.Text(e.Step))
		e.Step = ""
	}
	if e.Phase != p.phase || e.Phase != "build" && e.Step != "" {
		p.phase = e.Phase
		fmt.Fprintf(p.w, "%7.1fs %s %s\n", time.Since(p.start).Seconds(), e.Phase, printable.Text(e.Step))
	}
	if e.Line = lastState(e.Line); e.Line != "" {
		bar := " "
		if e.Phase == "build" {
			bar = "│   "
		}
		fmt.Fprintf(p.w, "         %s%s\n", bar, printable.Text(e.Line))
	}
}

// printRelease prints what was released, and how to verify it.
func printRelease(w io.Writer, r *api.Release) {
	word := "released"
	if r.Resumed {
		word = "released (an earlier run had done all or part of it)"
	}
	fmt.Fprintf(w, "%s\n", word)
	line := func(format string, args ...any) {
		fmt.Fprintf(w, "  %s\n", printable.Text(fmt.Sprintf(format, args...)))
	}
	for _, t := range r.Tags {
		line("%s:%s", r.Image, t)
	}
	line("%s", r.Digest)
	line("from %s@%s, %s", r.Source.URI, r.Source.ID[:min(12, len(r.Source.ID))], r.Builder)
	printRequirements(w, "  ", r.Level, r.Requirements)
	fmt.Fprintf(w, "\nverify it:\n")
	line("colophon verify %s:%s --source %s", r.Image, r.Tags[0], r.Source.URI)
}

// lastState returns what a terminal finally shows of a line in which a progress
// bar overwrote itself with carriage returns.
func lastState(line string) string {
	line = strings.TrimRight(line, "\r")
	return line[strings.LastIndexByte(line, '\r')+1:]
}
