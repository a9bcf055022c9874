package dockerfile

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/script"
)

// snippet is a script that a RUN hands to a shell.
type snippet struct {
	in       *instruction
	base     int // offset in the file. src has the same length as the bytes there
	src      string
	commands []*script.Command
}

// snippets returns the scripts of a RUN.
func (d *document) snippets(s *stage, in *instruction, r *instructions.RunCommand) (out []*snippet) {
	if !s.shell {
		return nil
	}
	add := func(base int, src string) {
		commands, _ := script.Commands(src)
		out = append(out, &snippet{in: in, base: base, src: src, commands: commands})
	}
	if !r.PrependShell { // RUN ["sh", "-c", "…"]: its offsets are not known
		if len(r.CmdLine) == 3 && slices.Contains(shells, path.Base(r.CmdLine[0])) && r.CmdLine[1] == "-c" {
			if i := bytes.Index(d.file.Data[in.start:in.end], []byte(r.CmdLine[2])); i >= 0 {
				add(in.start+i, r.CmdLine[2])
			}
		}
		return out
	}
	text := d.plain(in)
	if len(in.Heredocs) == 0 {
		add(in.start, text)
		return out
	}
	text = documents.ReplaceAllStringFunc(text, func(m string) string { return strings.Repeat(" ", len(m)) })
	add(in.start, text)
	words := strings.Fields(text)
	if len(words) > 0 && !slices.Contains(shells, path.Base(words[0])) {
		return out // data for a command
	}
	at := in.body
	for _, h := range in.Heredocs {
		if end := at + len(h.Content); end <= len(d.file.Data) && string(d.file.Data[at:end]) == h.Content && isShell(h.Content) {
			add(at, h.Content)
		}
		at += len(h.Content)
		if i := bytes.IndexByte(d.file.Data[min(at, len(d.file.Data)):], '\n'); i >= 0 {
			at += i + 1 // the line that ends the document
		}
	}
	return out
}

// documents begin here-documents().
var documents = lazyregexp.New(`[0-9]*<<-?[ \t]*["']?[A-Za-z0-9_.-]+["']?`)

func isShell(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	program, ok := strings.CutPrefix(first, "#!")
	if !ok {
		return true
	}
	words := strings.Fields(program)
	if len(words) > 1 && path.Base(words[0]) == "env" {
		words = words[1:]
	}
	return len(words) > 0 && slices.Contains(shells, path.Base(words[0]))
}

// plain returns the text of a RUN as its shell gets it, without here-documents: blanks stand for
// the keyword, flags, and lines that are comments or empty. It is as long as the bytes in the file.
func (d *document) plain(in *instruction) string {
	raw := bytes.Clone(d.file.Data[in.start:in.body])
	blank := func(from, to int) {
		for i := from; i < to; i++ {
			raw[i] = ' '
		}
	}
	first := true
	for at := 0; at < len(raw); {
		end := at + 1 + bytes.IndexByte(raw[at:], '\n')
		if end == at {
			end = len(raw)
		}
		line := bytes.TrimSpace(raw[at:end])
		switch {
		case !first && (len(line) == 0 || line[0] == '#'):
			blank(at, end)
		case bytes.HasSuffix(line, []byte{byte(d.escape)}) && !bytes.HasSuffix(raw[at:end], []byte("\\\n")):
			// "\ " and "\" before a carriage return continue a line for BuildKit, and not for a shell.
			blank(at+bytes.LastIndexByte(raw[at:end], byte(d.escape)), end)
			first = false
		default:
			first = false
		}
		at = end
	}
	text := string(raw)
	i := strings.Index(strings.ToLower(text), "run")
	if i < 0 {
		return text
	}
	blank(0, i+len("run"))
	blank(0, flagsEnd(raw, i+len("run")))
	return string(raw)
}

// flagsEnd returns where the flags of an instruction end that begin at an offset.
func flagsEnd(raw []byte, at int) int {
	for {
		next := at
		for next < len(raw) && (raw[next] == ' ' || raw[next] == '\t' || raw[next] == '\n' || raw[next] == '\r' || raw[next] == '\\' && next+1 < len(raw) && raw[next+1] == '\n') {
			next++
		}
		if !bytes.HasPrefix(raw[next:], []byte("--")) {
			return at
		}
		quote := byte(0)
		for next < len(raw) {
			c := raw[next]
			if quote == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
				break
			}
			if c == quote {
				quote = 0
			} else if quote == 0 && (c == '"' || c == '\'') {
				quote = c
			}
			next++
		}
		at = next
	}
}

// run checks what the RUNs of a stage do.
func (d *document) run(s *stage) {
	for _, in := range s.all {
		if r, ok := in.parsed.(*instructions.RunCommand); ok {
			d.flags(in, r)
		}
	}
	for _, t := range s.runs {
		for _, f := range script.CheckAt(d.file, t.base, t.src) {
			f.First = t.in.StartLine
			d.found = append(d.found, f)
		}
		for _, c := range t.commands {
			d.packages(s, t, c)
			d.locks(t, c)
			d.unauthenticated(t, c)
			d.download(s, t, c)
			d.clone(s, t, c)
			d.varies(t, c)
		}
	}
}

// at adds a finding about a command.
func (d *document) at(t *snippet, c *script.Command, rule, message, mend string) {
	d.add(t.in, t.base+c.Start, t.base+c.End, rule, message, mend)
}

// flags checks the flags of a RUN.
func (d *document) flags(in *instruction, r *instructions.RunCommand) {
	for _, flag := range in.Flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		start, end := d.word(in, flag)
		switch {
		case name == "network" && value == "host":
			d.add(in, start, end, ruleNetwork, "the step shares the network of the builder's host", "delete --network=host: a step can reach the internet without it")
		case name == "security" && value == "insecure":
			d.add(in, start, end, ruleInsecure, "the step runs without a sandbox", "delete --security=insecure, or do the privileged work outside of the build")
		}
	}
	for _, m := range instructions.GetMounts(r) {
		if m.Type == instructions.MountTypeCache && m.CacheSharing != "private" && !checked(m.Target) {
			start, end := d.word(in, "type=cache")
			d.add(in, start, end, ruleCache, "the cache at "+m.Target+" comes from earlier builds, whoever started them", "build releases on a fresh builder without caches, or delete the cache mount")
		}
	}
}

// checked reports whether the tool that uses a cache compares what is in it with hashes of the
// repository or signatures.
func checked(target string) bool {
	for _, end := range []string{"/go/pkg/mod", "/var/cache/apt", "/var/lib/apt", "/var/lib/apt/lists", "/var/cache/apk", "/etc/apk/cache", "/.npm", "/.npm/_cacache", "/var/cache/dnf", "/var/cache/yum", "/.cargo/registry", "/usr/local/cargo/registry"} {
		if strings.HasSuffix(strings.TrimSuffix(target, "/"), end) {
			return true
		}
	}
	return false
}
