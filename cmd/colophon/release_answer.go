package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/provenance"
)

// printRelease prints what was released, what it proves, and the command that verifies
// it. verbose adds what the SLSA level rests on.
func (o releaseOptions) printRelease(w io.Writer, r *api.Release) {
	name := r.Image + "@" + r.Digest
	switch {
	case r.Unchanged:
		name = "nothing to do: " + name + " was released before"
	case r.Resumed:
		name = "released " + name + ", of which an earlier run had done a part"
	default:
		name = "released " + name
	}
	fmt.Fprintln(w, printable.Text(name))
	line := func(what, text string) { fmt.Fprintf(w, "  %-7s %s\n", what, printable.Text(text)) }
	for _, t := range r.Tags {
		line("tag", r.Image+":"+t)
	}
	line("proves", provenFrom(r))
	line("", fmt.Sprintf("by %s: %s", r.Builder, o.level(r)))
	line("verify", o.verifyCommand(r))
	if o.progress.verbose {
		printRequirements(w, "  ", r.Level, r.Requirements)
	}
}

// provenFrom says which commit a release comes from.
func provenFrom(r *api.Release) string {
	from := "built from " + r.Source.URI + "@" + r.Source.ID[:min(12, len(r.Source.ID))]
	if r.Source.Ref != "" {
		from += ", " + r.Source.Ref
	}
	return from
}

// level says which SLSA level a release reached, and what cost it the next one.
func (o releaseOptions) level(r *api.Release) string {
	text := levelAndNext(r.Level, r.Requirements)
	if o.cacheMounts && r.Level < 3 {
		text += ", because cache mounts are kept between builds"
	}
	return text
}

// levelAndNext says which SLSA level is reached, and what the next one lacks.
func levelAndNext(level int, rs []provenance.Requirement) string {
	var lacks []string
	next := 0
	for _, r := range rs {
		if r.Level <= level || r.Status == provenance.IsMet || next != 0 && r.Level > next {
			continue
		}
		if r.Level < next {
			lacks = nil
		}
		next, lacks = r.Level, append(lacks, r.Name)
	}
	if len(lacks) == 0 {
		return levelName(level)
	}
	return fmt.Sprintf("%s (L%d lacks: %s)", levelName(level), next, strings.Join(lacks, ", "))
}

// verifyCommand returns the command with which others verify the release. What the
// requester chose and not the commit, it has to name.
func (o releaseOptions) verifyCommand(r *api.Release) string {
	return o.verifyWords(r.Image+":"+r.Tags[0], r)
}

// verifyWords is verifyCommand for what a release is called.
func (o releaseOptions) verifyWords(what string, r *api.Release) string {
	words := []string{"colophon", "verify", what, "--source", r.Source.URI}
	for _, f := range [][2]string{
		{"context", o.recipe.Context}, {"dockerfile", o.recipe.Dockerfile}, {"target", o.recipe.Target}, {"package", o.recipe.Package}, {"locked", o.locked},
	} {
		if f[1] != "" {
			words = append(words, "--"+f[0], f[1])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.recipe.BuildArgs)) {
		words = append(words, "--build-arg", name+"="+o.recipe.BuildArgs[name])
	}
	for i, w := range words {
		words[i] = printable.ShellWord(w)
	}
	return strings.Join(words, " ")
}
