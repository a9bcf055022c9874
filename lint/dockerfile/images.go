package dockerfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/colophon-build/colophon/lint/finding"
)

// Image is an image that a Dockerfile names.
type Image struct {
	Name       string // with the defaults of ARG
	Start, End int    // offsets of the name in the file
	Literal    bool   // the file has the name there as it is, without variables
}

// Images returns the images that a Dockerfile gets from registries, in the order of the file.
func Images(f *finding.File) []Image {
	d := &document{file: f, args: map[string]string{}}
	out := d.frontends()
	result, err := parser.Parse(strings.NewReader(string(f.Data)))
	if err != nil {
		return out
	}
	d.escape = result.EscapeToken
	for _, n := range result.AST.Children {
		d.read(n)
	}
	for i, s := range d.stages {
		if s.image != "" && s.image != "scratch" {
			out = append(out, d.named(s.from, s.from.Next.Value, s.image))
		}
		for _, c := range d.copied(i, s) {
			out = append(out, c.Image)
		}
	}
	return out
}

// named returns the image that a word of an instruction names.
func (d *document) named(in *instruction, word, name string) Image {
	i := Image{Name: name}
	i.Start, i.End = d.word(in, word)
	i.Literal = string(d.file.Data[i.Start:i.End]) == name
	return i
}

// frontends returns the image of "# syntax=".
func (d *document) frontends() []Image {
	ref, _, at, ok := parser.DetectSyntax(d.file.Data)
	if !ok || len(at) == 0 {
		return nil
	}
	line := at[0].Start.Line
	column := strings.Index(d.file.Line(line), ref)
	if column < 0 {
		return nil
	}
	start := d.file.LineStart(line) + column
	return []Image{{Name: ref, Start: start, End: start + len(ref), Literal: true}}
}

func (d *document) frontend() {
	for _, i := range d.frontends() {
		if !strings.Contains(i.Name, "@sha256:") {
			d.found = append(d.found, finding.Finding{Rule: ruleFrontend, Position: d.file.Position(i.Start, i.End),
				Message: "the frontend " + i.Name + " has no digest", Mend: "add the digest, as in " + withTag(i.Name) + "@sha256:…, or delete the line: BuildKit has a frontend"})
		}
	}
}

func withTag(name string) string {
	if last := name[strings.LastIndexByte(name, '/')+1:]; !strings.Contains(last, ":") {
		return name + ":latest"
	}
	return name
}

// bases checks the image that a stage begins from.
func (d *document) bases(_ int, s *stage) {
	if s.image == "" || s.image == "scratch" || s.from.Next == nil {
		return
	}
	d.pinned(s.from, d.named(s.from, s.from.Next.Value, s.image))
}

// pinned checks that the name of an image has a digest.
func (d *document) pinned(in *instruction, i Image) {
	if strings.Contains(i.Name, "@") || strings.HasPrefix(i.Name, "oci-layout://") {
		return
	}
	last := i.Name[strings.LastIndexByte(i.Name, '/')+1:]
	_, tag, tagged := strings.Cut(last, ":")
	mend := fmt.Sprintf("add the digest and keep the tag: %s@sha256:…", withTag(i.Name))
	if !tagged || tag == "latest" {
		what := "no tag, which means latest"
		if tagged {
			what = "the tag latest"
		}
		d.add(in, i.Start, i.End, ruleLatest, i.Name+" has "+what, "choose a version, and add its digest: NAME:VERSION@sha256:…")
		return
	}
	d.add(in, i.Start, i.End, ruleTag, i.Name+" has a tag and no digest", mend)
}

// copied is an image that a COPY or a mount reads from.
type copied struct {
	Image
	in *instruction
}

// copied returns the images that COPY --from and RUN --mount=from read.
func (d *document) copied(at int, s *stage) (out []copied) {
	for _, in := range s.all {
		var names []string
		switch p := in.parsed.(type) {
		case *instructions.CopyCommand:
			names = append(names, p.From)
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(p) {
				names = append(names, m.From)
			}
		}
		for _, word := range names {
			name, ok := d.expand(word)
			if !ok || !d.remote(at, name) {
				continue
			}
			out = append(out, copied{d.named(in, word, name), in})
		}
	}
	return out
}

// remote reports whether a name that a stage reads from is that of an image in a registry. Without a
// tag, a digest and a slash, it may be a build context, which only the command line tells.
func (d *document) remote(at int, name string) bool {
	if n, err := strconv.Atoi(name); err == nil && n < at || name == "" || name == "scratch" {
		return false
	}
	if slices.ContainsFunc(d.stages[:at], func(s *stage) bool { return s.name != "" && strings.EqualFold(s.name, name) }) {
		return false
	}
	return strings.ContainsAny(name, ":/@")
}

func (d *document) copies(at int, s *stage) {
	for _, c := range d.copied(at, s) {
		d.pinned(c.in, c.Image)
	}
}
