// Package script finds in the shell scripts of pipelines what would break the chain from commit
// to image: signatures of tags, deprecated commands of cosign, identities that match too much,
// programs from the network that nobody checks.
//
// Scripts are parsed by mvdan.cc/sh (Bash, of which POSIX sh is a part). What cannot be parsed is
// skipped, and the rest is read. Expressions of CI systems, "${{ … }}" and "$[[ … ]]", are words.
package script

import (
	"errors"
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxScript caps one script, in bytes: the parser calls itself for everything that is nested.
const maxScript = 64 << 10

// maxParens caps the opening parentheses of one script, for the same reason.
const maxParens = 4096

// maxBroken caps the lines of one script at which the parser starts again.
const maxBroken = 50

// Word is one word of a command.
type Word struct {
	Text       string // without quotes; variables and expressions as they are written
	Start, End int    // offsets in the script, with quotes
	Quote      byte   // the quote around the whole word, or 0

	parts []syntax.WordPart
}

// Command is one command that a script may run.
type Command struct {
	Name       string // without its directory; "" if the command is only assignments
	Args       []Word // after the name
	Assigned   []Assignment
	Start, End int
	// Reads is the command whose output this one reads, through a pipe, <<< or < <(…); or nil.
	Reads *Command
	// Sourced are commands whose output this one gets as an argument: $(…) and <(…).
	Sourced []*Command
}

// Assignment sets a variable, for one command or for the rest of the script.
type Assignment struct {
	Name, Value string
	Start, End  int // offsets in the script
	Exported    bool
}

// Commands returns the commands of a script in the order in which they are written, and whether
// all of the script was read.
func Commands(src string) (commands []*Command, whole bool) {
	if len(src) > maxScript || strings.Count(src, "(") > maxParens {
		return nil, false
	}
	r := reader{src: src}
	defer func() { // the parser's own panics are bugs, and the script is a stranger's
		if recover() != nil {
			commands, whole = r.commands, false
		}
	}()
	masked := mask(src)
	for at, tries := 0, 0; at < len(masked); tries++ {
		if tries == maxBroken {
			return r.commands, false
		}
		p := syntax.NewParser(syntax.Variant(syntax.LangBash))
		broken := -1
		r.base = at
		for stmt, err := range p.StmtsSeq(strings.NewReader(masked[at:])) {
			switch { // without break: after an error, the parser may go on, and must find somebody
			case broken >= 0:
			case err != nil:
				broken = errorOffset(err)
			default:
				r.stmt(stmt, nil)
			}
		}
		if broken < 0 {
			return r.commands, true
		}
		next := strings.IndexByte(masked[min(at+broken, len(masked)):], '\n')
		if next < 0 {
			break
		}
		at += broken + next + 1
	}
	return r.commands, true
}

func errorOffset(err error) int {
	if parse, ok := errors.AsType[syntax.ParseError](err); ok {
		return int(parse.Pos.Offset())
	}
	if lang, ok := errors.AsType[syntax.LangError](err); ok {
		return int(lang.Pos.Offset())
	}
	return 0
}

// mask replaces the expressions of CI systems by as many letters, because a shell reads them only
// when their values are in place.
func mask(src string) string {
	if !strings.Contains(src, "${{") && !strings.Contains(src, "$[[") {
		return src
	}
	out := []byte(src)
	for i := 0; i+3 <= len(src); i++ {
		end := map[string]string{"${{": "}}", "$[[": "]]"}[src[i:i+3]]
		if end == "" {
			continue
		}
		n := strings.Index(src[i+3:], end)
		if n < 0 {
			break
		}
		for j := i; j < i+3+n+2; j++ {
			if out[j] != '\n' {
				out[j] = '_'
			}
		}
		i += 3 + n + 1
	}
	return string(out)
}

// reader collects the commands of statements.
type reader struct {
	src      string
	base     int // offset in src of the text that is parsed
	commands []*Command
}

func (r *reader) at(p syntax.Pos) int { return min(r.base+int(p.Offset()), len(r.src)) }

// stmt adds the commands of a statement that reads the output of before, and returns the last one.
func (r *reader) stmt(s *syntax.Stmt, before *Command) *Command {
	if s == nil {
		return before
	}
	last := before
	switch c := s.Cmd.(type) {
	case nil: // redirects alone
	case *syntax.CallExpr:
		last = r.call(c, before)
	case *syntax.DeclClause:
		last = r.declared(c)
	case *syntax.BinaryCmd:
		left := r.stmt(c.X, before)
		if c.Op == syntax.Pipe || c.Op == syntax.PipeAll {
			return r.stmt(c.Y, left)
		}
		last = r.stmt(c.Y, before)
	case *syntax.Subshell:
		last = r.group(c.Stmts, before)
	case *syntax.Block:
		last = r.group(c.Stmts, before)
	default:
		r.inside(c)
		last = nil
	}
	for _, redirect := range s.Redirs {
		if redirect.Word != nil {
			from := r.substitutions(redirect.Word)
			if _, call := s.Cmd.(*syntax.CallExpr); call && len(from) > 0 && (redirect.Op == syntax.RdrIn || redirect.Op == syntax.WordHdoc) {
				last.Reads = from[len(from)-1]
			}
		}
		if redirect.Hdoc != nil {
			r.substitutions(redirect.Hdoc)
		}
	}
	return last
}

// group adds the commands of statements that run one after the other, each of which may read the output of before,
// and returns the last one.
func (r *reader) group(all []*syntax.Stmt, before *Command) (last *Command) {
	for _, s := range all {
		last = r.stmt(s, before)
	}
	return last
}

// inside reads the statements of a compound command.
func (r *reader) inside(n syntax.Node) {
	syntax.Walk(n, func(n syntax.Node) bool {
		if s, ok := n.(*syntax.Stmt); ok {
			r.stmt(s, nil)
			return false
		}
		return true
	})
}

// substitutions reads the commands whose output becomes part of a word, and returns them.
func (r *reader) substitutions(n syntax.Node) []*Command {
	first := len(r.commands)
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst:
			for _, s := range n.Stmts {
				r.stmt(s, nil)
			}
			return false
		case *syntax.ProcSubst:
			for _, s := range n.Stmts {
				r.stmt(s, nil)
			}
			return false
		}
		return true
	})
	return slices.Clone(r.commands[first:])
}

func (r *reader) declared(c *syntax.DeclClause) *Command {
	out := &Command{Start: r.at(c.Pos()), End: r.at(c.End())}
	for _, a := range c.Args {
		out.Assigned = append(out.Assigned, r.assignment(a, c.Variant.Value == "export"))
		out.Sourced = append(out.Sourced, r.substitutions(a)...)
	}
	r.commands = append(r.commands, out)
	return out
}

func (r *reader) assignment(a *syntax.Assign, exported bool) Assignment {
	out := Assignment{Start: r.at(a.Pos()), End: r.at(a.End()), Exported: exported}
	if a.Name != nil {
		out.Name = a.Name.Value
	}
	if a.Value != nil {
		out.Value = r.word(a.Value).Text
	}
	return out
}

func (r *reader) call(c *syntax.CallExpr, before *Command) *Command {
	out := &Command{Reads: before, Start: r.at(c.Pos()), End: r.at(c.End())}
	for _, a := range c.Assigns {
		out.Assigned = append(out.Assigned, r.assignment(a, false))
		out.Sourced = append(out.Sourced, r.substitutions(a)...)
	}
	var words []Word
	for _, w := range c.Args {
		words = append(words, r.word(w))
		out.Sourced = append(out.Sourced, r.substitutions(w)...)
	}
	words = unwrap(words)
	if len(words) > 0 {
		out.Name, out.Args = path.Base(words[0].Text), words[1:]
	}
	r.commands = append(r.commands, out)
	return out
}

func (r *reader) word(w *syntax.Word) Word {
	out := Word{Start: r.at(w.Pos()), End: r.at(w.End()), parts: w.Parts}
	if len(w.Parts) == 1 {
		out.Quote = quoteOf(w.Parts[0])
	}
	var b strings.Builder
	for _, p := range w.Parts {
		from, to := r.at(p.Pos()), r.at(p.End())
		switch p := p.(type) {
		case *syntax.SglQuoted:
			from = r.at(p.Left) + len("'")
			if p.Dollar {
				from++
			}
			to = r.at(p.Right)
		case *syntax.DblQuoted:
			from = r.at(p.Left) + len(`"`)
			if p.Dollar {
				from++
			}
			to = r.at(p.Right)
		}
		if from < to {
			b.WriteString(r.src[from:to])
		}
	}
	out.Text = strings.ReplaceAll(b.String(), "\\\n", "")
	return out
}

// wrappers run the command that follows them. The value lists their options that take a value.
var wrappers = map[string]string{
	"command": "", "env": "-u --unset -C --chdir -S", "exec": "-a", "nice": "-n", "nohup": "", "sudo": "-u --user -g --group -C -h -p -r -t",
	"time": "-f -o", "timeout": "-k --kill-after -s --signal", "xargs": "-I -i -n -P -L -d -E -s -a --max-args --max-procs --delimiter", "doas": "-u", "retry": "-t -d",
}

// unwrap removes what runs a command from its words: sudo, env, xargs.
func unwrap(words []Word) []Word {
	for len(words) > 1 {
		name := path.Base(words[0].Text)
		valued, ok := wrappers[name]
		if !ok {
			return words
		}
		i := 1
		for ; i < len(words); i++ {
			text := words[i].Text
			if slices.Contains(strings.Fields(valued), text) {
				i++
				continue
			}
			assigns := name == "env" || name == "sudo"
			if !strings.HasPrefix(text, "-") && (!assigns || !strings.Contains(text, "=")) {
				break
			}
		}
		if name == "timeout" {
			i++ // the duration
		}
		if i >= len(words) {
			return words[:1]
		}
		words = words[i:]
	}
	return words
}

// First returns the first argument that is no option, as "build" of "docker build".
func (c *Command) First() string {
	for _, a := range c.Args {
		if !strings.HasPrefix(a.Text, "-") {
			return a.Text
		}
	}
	return ""
}

// Has reports whether a command has a word among its arguments.
func (c *Command) Has(texts ...string) bool {
	return slices.ContainsFunc(c.Args, func(w Word) bool { return slices.Contains(texts, w.Text) })
}

// Flag returns the value of an option, "--name value" or "--name=value", and its place. The
// place is that of the value without the option's name.
func (c *Command) Flag(name string) (value Word, ok bool) {
	for i, a := range c.Args {
		if a.Text == name && i+1 < len(c.Args) {
			return c.Args[i+1], true
		}
		v, found := strings.CutPrefix(a.Text, name+"=")
		if !found {
			continue
		}
		value := Word{Text: v, Start: a.Start + len(name) + 1, End: a.End, parts: a.parts}
		if len(a.parts) == 2 && value.Start == a.End-len(v)-2 { // --name="value"
			value.parts = a.parts[1:]
			value.Quote = quoteOf(a.parts[1])
		}
		if a.Quote != 0 { // "--name=value"
			value.parts = nil
		}
		return value, true
	}
	return Word{}, false
}

// quoteOf returns the quote around a part of a word, or 0.
func quoteOf(p syntax.WordPart) byte {
	switch p.(type) {
	case *syntax.SglQuoted:
		return '\''
	case *syntax.DblQuoted:
		return '"'
	}
	return 0
}
