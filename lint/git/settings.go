package git

import (
	"strings"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/lint/finding"
)

func lineOf(f *finding.File, n int) finding.Position {
	return f.Position(f.LineStart(n), f.LineEnd(n))
}

// submodules checks .gitmodules: the grammar of a line is that of git-config(1).
//
//	LINE = [ "[submodule " QUOTED "]" ] [ NAME "=" VALUE ] [ ( "#" / ";" ) COMMENT ]
func submodules(f *finding.File) (found []finding.Finding) {
	section, url := "", ""
	for n := 1; n <= f.Lines(); n++ {
		line, _, _ := cut(f.Line(n), "#;")
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "[") {
			header, rest, ended := cut(line, "]")
			section, url = header, ""
			if !ended {
				found = append(found, finding.Finding{Rule: ruleBroken, Position: lineOf(f, n), Message: "the section has no end", Mend: `write [submodule "NAME"]`})
			}
			line = strings.TrimSpace(rest)
		}
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(value), `"`)
		switch {
		case !ok || section == "":
			found = append(found, finding.Finding{Rule: ruleBroken, Position: lineOf(f, n), Message: "expected NAME = VALUE in a section", Mend: "see gitmodules(5)"})
		case name == "url":
			url = value
		case name == "branch":
			if url == "" {
				url = section + "]"
			}
			found = append(found, finding.Finding{Rule: ruleSubmodule, Position: lineOf(f, n), Message: "the submodule " + credential.URL(url) + " follows the branch " + value, Mend: "delete the line, and take a new commit with git add when you have read it"})
		}
	}
	return found
}

// cut cuts a line at the first of some characters that is not in quotes, where a backslash hides what follows it.
func cut(line, at string) (before, after string, found bool) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(at, c) >= 0:
			return line[:i], line[i+1:], true
		}
	}
	return line, "", false
}

// attributes checks that files which Git LFS keeps can be locked: one finding is about all lines of a file.
func attributes(f *finding.File) []finding.Finding {
	var first finding.Position
	var patterns []string
	for n := 1; n <= f.Lines(); n++ {
		words := strings.Fields(f.Line(n))
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		lfs, lock := false, false
		for _, w := range words[1:] {
			lfs = lfs || w == "filter=lfs"
			lock = lock || w == "lockable"
		}
		if lfs && !lock {
			if patterns = append(patterns, words[0]); len(patterns) == 1 {
				first = lineOf(f, n)
			}
		}
	}
	if len(patterns) == 0 {
		return nil
	}
	return []finding.Finding{{Rule: ruleLock, Position: first, Message: "Git LFS keeps " + few(patterns) + ", which nobody can lock", Mend: "add the attribute lockable: git lfs track --lockable PATTERN"}}
}
