// Package dockerfile finds in Dockerfiles what would let somebody else decide what is built, or
// what makes a build unlike the one before. BuildKit's own parser reads them, so that what is
// checked is what is built.
package dockerfile

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
)

// Checker checks Dockerfiles. r says what tags of images point to; nil: nothing is pinned.
func Checker(r *pins.Resolver) finding.Checker {
	return finding.Checker{Rules: rules(), Wants: Wants, Check: func(ctx context.Context, t *finding.Tree, f *finding.File) []finding.Finding {
		return Check(ctx, r, t, f)
	}}
}

// Wants reports whether a path is that of a Dockerfile: Dockerfile, Containerfile, both with an
// ending, and *.Dockerfile. Templates are none.
func Wants(name string) bool {
	base := strings.ToLower(path.Base(name))
	if base == "dockerfile" || base == "containerfile" || strings.HasSuffix(base, ".dockerfile") || strings.HasSuffix(base, ".containerfile") {
		return true
	}
	rest, ok := strings.CutPrefix(base, "dockerfile.")
	if !ok {
		rest, ok = strings.CutPrefix(base, "containerfile.")
	}
	return ok && !slices.Contains([]string{"dockerignore", "tmpl", "tpl", "template", "j2", "jinja", "jinja2", "in", "erb", "mustache", "gotmpl", "md", "txt", "sh", "py", "go", "js", "ts", "rb", "rs", "json", "yml", "yaml", "bak", "orig", "lock"}, rest[strings.LastIndexByte(rest, '.')+1:])
}

// document is one Dockerfile.
type document struct {
	ctx      context.Context // of Check
	resolver *pins.Resolver  // nil: nobody is asked
	tree     *finding.Tree   // nil: only the file is known
	file     *finding.File
	stages   []*stage
	first    map[string]int    // index of the first stage of each name
	last     map[string]*stage // last stage of each name
	args     map[string]string // defaults of ARG before the first FROM
	defaults defaults
	escape   rune
	found    []finding.Finding
}

func newDocument(f *finding.File) *document {
	return &document{file: f, first: map[string]int{}, last: map[string]*stage{}, args: map[string]string{},
		defaults: defaults{file: f, ends: map[string]int{}, bases: map[string]int{}}}
}

// stage is a FROM and what follows it.
type stage struct {
	name  string // of AS, in lower case, or ""
	image string // what FROM names, with the defaults of ARG; "" if that is not known
	local *stage // the stage that it begins from, or nil
	from  *instruction
	all   []*instruction
	runs  []*snippet
	shell bool // RUN hands its text to a POSIX shell
}

// instruction is one instruction with the place of its bytes.
type instruction struct {
	*parser.Node
	start, end int // offsets, without the last newline
	body       int // offset of the first here-document, or end
	parsed     any // *instructions.RunCommand …
}

// Check returns what is to be found in a Dockerfile of a tree. r and t may be nil.
func Check(ctx context.Context, r *pins.Resolver, t *finding.Tree, f *finding.File) []finding.Finding {
	d := newDocument(f)
	d.ctx, d.resolver, d.tree = ctx, r, t
	d.frontend()
	if err := d.parse(); err != nil {
		d.syntax(err, 0, 0)
		return d.found
	}
	for i, s := range d.stages {
		d.bases(s)
		d.copies(i, s)
		d.run(s)
		d.secrets(s)
		d.variables(s)
	}
	d.final()
	return d.found
}

// parse reads all instructions. It fails if BuildKit's parser does.
func (d *document) parse() error {
	result, err := parser.Parse(bytes.NewReader(d.file.Data))
	if err != nil {
		return err
	}
	d.escape = result.EscapeToken
	for _, n := range result.AST.Children {
		d.read(n)
	}
	return nil
}

func (d *document) syntax(err error, first, last int) {
	if at, ok := errors.AsType[*parser.LocationError](err); ok && len(at.Locations) > 0 && len(at.Locations[0]) > 0 {
		first, last = at.Locations[0][0].Start.Line, at.Locations[0][0].End.Line
	}
	first = min(max(first, 1), d.file.Lines())
	last = min(max(last, first), d.file.Lines())
	start, end := d.file.LineStart(first), d.file.LineEnd(last)
	text, _, _ := strings.Cut(err.Error(), "\n")
	d.found = append(d.found, finding.Finding{Rule: ruleSyntax, Position: d.file.Position(start, end), Message: "BuildKit cannot read it: " + text})
}

// read adds an instruction to its stage.
func (d *document) read(n *parser.Node) {
	in := &instruction{Node: n, start: d.file.LineStart(n.StartLine)}
	in.end = d.file.LineEnd(n.EndLine)
	lines := 0
	for _, h := range n.Heredocs {
		lines += strings.Count(h.Content, "\n") + 1
	}
	if in.body = in.end; lines > 0 {
		in.body = max(in.start, d.file.LineStart(n.EndLine+1-lines))
	}
	if strings.EqualFold(n.Value, "onbuild") && n.Next != nil && len(n.Next.Children) > 0 {
		// What a later build runs. Its lines are those of the ONBUILD.
		inner := n.Next.Children[0]
		inner.StartLine, inner.EndLine, inner.Heredocs = n.StartLine, n.EndLine, n.Heredocs
		d.read(inner)
		return
	}
	parsed, err := instructions.ParseInstruction(n)
	if err != nil {
		d.syntax(err, n.StartLine, n.EndLine)
		if strings.EqualFold(n.Value, "from") {
			d.begin(in, &instructions.Stage{})
		}
		return
	}
	if r, ok := parsed.(*instructions.RunCommand); ok {
		// The mounts are read when variables are expanded. Their values are not known here.
		err := r.Expand(func(word string) (string, error) { return word, nil })
		if err != nil && !strings.Contains(n.Original, "$") {
			d.syntax(err, n.StartLine, n.EndLine)
		}
	}
	in.parsed = parsed
	switch p := parsed.(type) {
	case *instructions.Stage:
		d.begin(in, p)
		return
	case *instructions.ArgCommand:
		if len(d.stages) == 0 {
			for _, a := range p.Args {
				if a.Value != nil {
					d.defaultOf(in, a.Key, *a.Value)
					if v, ok := d.expand(*a.Value); ok {
						d.args[a.Key] = v
					}
				}
			}
			return
		}
	case *instructions.ShellCommand:
		if len(d.stages) > 0 {
			d.stages[len(d.stages)-1].shell = len(p.Shell) > 0 && slices.Contains(shells, path.Base(p.Shell[0]))
		}
	}
	if len(d.stages) == 0 {
		return // BuildKit refuses all but ARG here
	}
	s := d.stages[len(d.stages)-1]
	s.all = append(s.all, in)
	if r, ok := parsed.(*instructions.RunCommand); ok {
		s.runs = append(s.runs, d.snippets(s, in, r)...)
	}
}

var shells = []string{"sh", "bash", "ash", "dash", "zsh", "ksh"}

func (d *document) begin(in *instruction, p *instructions.Stage) {
	s := &stage{name: strings.ToLower(p.Name), from: in, shell: d.escape == parser.DefaultEscapeToken}
	if image, ok := d.expand(p.BaseName); ok {
		if s.local = d.stage(image); s.local == nil {
			s.image = image
		} else {
			s.shell = s.local.shell
		}
	}
	if in.Next != nil {
		d.defaults.bases[in.Next.Value]++
	}
	if _, ok := d.first[s.name]; !ok && s.name != "" {
		d.first[s.name] = len(d.stages)
	}
	if s.name != "" {
		d.last[s.name] = s
	}
	d.stages = append(d.stages, s)
}

// stage returns the stage with a name, or nil. A later one of the same name wins.
func (d *document) stage(name string) *stage { return d.last[strings.ToLower(name)] }

// maxName caps what variables may make of the name of an image, in bytes: each ARG may use the
// one before it twice.
const maxName = 4096

// expand removes quotes, and replaces variables by the defaults of ARG. It fails if one has none.
func (d *document) expand(word string) (string, bool) {
	if !strings.ContainsAny(word, "$'\"\\`") {
		return word, true
	}
	escape := d.escape
	if escape == 0 {
		escape = parser.DefaultEscapeToken
	}
	result, err := shell.NewLex(escape).ProcessWordWithMatches(word, values(d.args))
	if err != nil || len(result.Unmatched) > 0 || len(result.Result) > maxName {
		return "", false
	}
	return result.Result, true
}

// values are variables, as package shell wants them.
type values map[string]string

func (v values) Get(name string) (string, bool) { text, ok := v[name]; return text, ok }

func (v values) Keys() (names []string) {
	for name := range v {
		names = append(names, name)
	}
	return names
}

// add adds a finding about some bytes of an instruction.
func (d *document) add(in *instruction, start, end int, rule, message, mend string) {
	d.found = append(d.found, finding.Finding{Rule: rule, Position: d.file.Position(start, end), First: in.StartLine, Message: message, Mend: mend})
}

// from returns where the image stands that a stage begins from.
func (d *document) from(s *stage) (start, end int) {
	if s.from.Next == nil {
		return d.word(s.from, "")
	}
	return d.word(s.from, s.from.Next.Value)
}

// word returns where a word first stands in an instruction, or its first line.
func (d *document) word(in *instruction, word string) (start, end int) {
	keyword := len(in.Value)
	if i := bytes.Index(d.file.Data[min(in.start+keyword, in.end):in.end], []byte(word)); i >= 0 && word != "" {
		return in.start + keyword + i, in.start + keyword + i + len(word)
	}
	return in.start, in.start + len(d.file.Line(in.StartLine))
}
