package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
)

// Image is an image that a Dockerfile names.
type Image struct {
	Name       string // with the defaults of ARG
	Start, End int    // offsets of the name in the file
	Literal    bool   // the file has the name there as it is, without variables
}

// Images returns the images that a Dockerfile gets from registries, in the order of the file.
func Images(f *finding.File) []Image {
	d := newDocument(f)
	out := d.frontends()
	if d.parse() != nil {
		return out
	}
	for i, s := range d.stages {
		if s.image != "" && s.image != "scratch" {
			out = append(out, d.base(s))
		}
		for _, c := range d.copied(i, s) {
			out = append(out, c.Image)
		}
	}
	return out
}

// base returns the image that a stage begins from.
func (d *document) base(s *stage) Image {
	i := Image{Name: s.image}
	var ok bool
	if i.Start, i.End, ok = d.find(s.from, s.from.start, s.from.Next.Value, ""); !ok {
		i.Start, i.End = d.word(s.from, "")
	}
	i.Literal = ok && s.from.Next.Value == i.Name
	return i
}

// find returns where a word stands in an instruction, at or after an offset: behind a text, or a
// blank if that is empty, and neither in a longer word nor in a comment.
func (d *document) find(in *instruction, from int, word, behind string) (start, end int, ok bool) {
	data := d.file.Data[:in.body]
	for at := from; word != "" && at < len(data); at = start + 1 {
		n := bytes.Index(data[at:], []byte(word))
		if n < 0 {
			break
		}
		start, end = at+n, at+n+len(word)
		before := data[in.start:start]
		isWord := bytes.HasSuffix(before, []byte(behind)) && (end == len(data) || isBlank(data[end]) || behind != "" && data[end] == ',')
		if behind == "" {
			isWord = isWord && len(before) > 0 && isBlank(before[len(before)-1])
		}
		if !isWord {
			continue
		}
		line := in.start + bytes.LastIndexByte(before, '\n') + 1
		if !bytes.HasPrefix(bytes.TrimLeft(data[line:start], " \t"), []byte("#")) {
			return start, end, true
		}
		if n := bytes.IndexByte(data[start:], '\n'); n >= 0 { // past the comment
			start += n
		}
	}
	return 0, 0, false
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// frontends returns the image of "# syntax=".
func (d *document) frontends() []Image {
	ref, _, at, ok := parser.DetectSyntax(d.file.Data)
	if !ok || len(at) == 0 {
		return nil
	}
	line := at[0].Start.Line
	key, value, _ := strings.Cut(d.file.Line(line), "=")
	column := strings.Index(value, ref)
	if column < 0 {
		return nil
	}
	start := d.file.LineStart(line) + len(key) + len("=") + column
	return []Image{{Name: ref, Start: start, End: start + len(ref), Literal: true}}
}

func (d *document) frontend() {
	for _, i := range d.frontends() {
		f := finding.Finding{Rule: ruleFrontend, Position: d.file.Position(i.Start, i.End),
			Message: "the frontend " + i.Name + " has no digest", Mend: "add the digest, as in " + withTag(i.Name) + "@sha256:…, or delete the line: BuildKit has a frontend"}
		if strings.Contains(i.Name, "@") {
			d.moved(i, f.Line)
			continue
		}
		d.fix(&f, i.Name, i.End)
		d.found = append(d.found, f)
	}
}

func withTag(name string) string {
	if last := name[strings.LastIndexByte(name, '/')+1:]; !strings.Contains(last, ":") {
		return name + ":latest"
	}
	return name
}

// bases checks the image that a stage begins from.
func (d *document) bases(s *stage) {
	if s.image == "" || s.image == "scratch" || s.from.Next == nil {
		return
	}
	i := d.base(s)
	end := i.End
	if !i.Literal {
		end = d.defaults.end(s.from.Next.Value)
	}
	d.pinned(s.from, i, end)
}

// pinned checks that the name of an image has a digest. A digest can be added at end; -1: nowhere.
func (d *document) pinned(in *instruction, i Image, end int) {
	if strings.HasPrefix(i.Name, "oci-layout://") {
		return
	}
	if strings.Contains(i.Name, "@") {
		d.moved(i, in.StartLine)
		return
	}
	last := i.Name[strings.LastIndexByte(i.Name, '/')+1:]
	_, tag, tagged := strings.Cut(last, ":")
	f := finding.Finding{Rule: ruleTag, Position: d.file.Position(i.Start, i.End), First: in.StartLine, Message: i.Name + " has a tag and no digest",
		Mend: fmt.Sprintf("add the digest and keep the tag: %s@sha256:…", withTag(i.Name))}
	if !tagged || tag == "latest" {
		what := "no tag, which means latest"
		if tagged {
			what = "the tag latest"
		}
		f.Rule, f.Message, f.Mend = ruleLatest, i.Name+" has "+what, "choose a version, and add its digest: NAME:VERSION@sha256:…"
	}
	d.fix(&f, i.Name, end)
	d.found = append(d.found, f)
}

// fix adds the edit that writes the digest of an image behind its name, which ends there.
func (d *document) fix(f *finding.Finding, name string, end int) {
	digest, err := d.resolver.Digest(d.ctx, name)
	switch {
	case err == nil && end >= 0:
		f.Edits = []finding.Edit{d.file.Replace(end, end, "@"+digest)}
	case err == nil:
		f.Mend += "; its digest is " + digest + " now"
	case !errors.Is(err, pins.ErrNotAsked):
		f.Mend += "; its digest is not known: " + err.Error()
	}
}

// moved finds a digest that its tag no longer points to. It says nothing if no server is to be asked.
func (d *document) moved(i Image, line int) {
	name, pinned, _ := strings.Cut(i.Name, "@")
	if !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") {
		return // the tag is not known
	}
	f := finding.Finding{Rule: ruleMoved, Position: d.file.Position(i.Start, i.End), First: line}
	now, err := d.resolver.Digest(d.ctx, name)
	switch {
	case errors.Is(err, pins.ErrNotAsked) || err == nil && now == pinned:
		return
	case err != nil:
		f.Undecided, f.Message = true, "whether "+name+" is still "+pinned+": "+err.Error()
	default:
		f.Message = fmt.Sprintf("%s is %s now, and %s here", name, now, pinned)
		f.Mend = "look at what changed, and run colophon pin --update"
	}
	d.found = append(d.found, f)
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
		next := in.start
		for _, word := range names {
			start, end, found := d.find(in, next, word, "from=")
			if found {
				next = end
			} else {
				start, end = d.word(in, "")
			}
			if name, ok := d.expand(word); ok && d.remote(at, name) {
				out = append(out, copied{Image{Name: name, Start: start, End: end, Literal: found && name == word}, in})
			}
		}
	}
	return out
}

// copied is an image that a COPY or a mount reads from.
type copied struct {
	Image
	in *instruction
}

// remote reports whether a name that a stage reads from is that of an image in a registry. Without a
// tag, a digest and a slash, it may be a build context, which only the command line tells.
func (d *document) remote(at int, name string) bool {
	if n, err := strconv.Atoi(name); err == nil && n < at || name == "" || name == "scratch" {
		return false
	}
	if first, ok := d.first[strings.ToLower(name)]; ok && first < at {
		return false
	}
	return strings.ContainsAny(name, ":/@")
}

func (d *document) copies(at int, s *stage) {
	for _, c := range d.copied(at, s) {
		end := -1
		if c.Literal {
			end = c.End
		}
		d.pinned(c.in, c.Image, end)
	}
}
