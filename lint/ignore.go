package lint

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/source/recipes"
)

// Ignored is a finding that somebody chose to live with.
type Ignored struct {
	finding.Finding
	Reason string           `json:"reason"`
	By     finding.Position `json:"by"` // the comment or setting
}

// ignore is a comment or a setting that ignores findings of a rule.
type ignore struct {
	rule   string
	reason string
	at     finding.Position
	glob   string // setting: the files; comment: ""
	first  int    // comment: the first line it is about
	last   int    // comment: the last one
	used   bool
}

// comment is the grammar of a comment that ignores findings, on the line of the finding or above
// it, with only comments between:
//
//	# colophon: ignore RULE REASON
//	// colophon: ignore RULE REASON
var comment = lazyregexp.New(`(?:^|\s)(?:#|//)\s*colophon:\s*ignore(?:[ \t]+(\S+))?(?:[ \t]+(\S.*?))?\s*$`)

// comments returns the comments of a file that ignore findings, and findings about those that
// are not valid.
func comments(f *finding.File, known map[string]bool) (all []*ignore, wrong []finding.Finding) {
	if !strings.Contains(string(f.Data), "colophon:") {
		return nil, nil
	}
	for n := 1; n <= f.Lines(); n++ {
		text := f.Line(n)
		m := comment.FindStringSubmatchIndex(text)
		if m == nil {
			continue
		}
		group := func(i int) string {
			if m[i] < 0 {
				return ""
			}
			return text[m[i]:m[i+1]]
		}
		at := f.LineStart(n)
		i := &ignore{rule: group(2), reason: group(4), at: f.Position(at+m[0], at+m[1]), first: n, last: n}
		if why := i.invalid(known); why != "" {
			wrong = append(wrong, finding.Finding{Rule: ruleIgnore, Position: i.at, Message: why, Mend: "write # colophon: ignore RULE REASON"})
			continue
		}
		for isComment(f.Line(i.last)) && i.last < f.Lines() {
			i.last++
		}
		all = append(all, i)
	}
	return all, wrong
}

func isComment(line string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//")
}

func (i *ignore) invalid(known map[string]bool) string {
	switch {
	case i.rule == "":
		return "it names no rule"
	case !known[i.rule]:
		return fmt.Sprintf("it names the rule %q, which does not exist", i.rule)
	case i.reason == "":
		return "it gives no reason to ignore " + i.rule
	case i.rule == ruleIgnore || i.rule == ruleUnused:
		return i.rule + " cannot be ignored"
	}
	return ""
}

// covers reports whether i ignores a finding.
func (i *ignore) covers(f *finding.Finding) bool {
	if i.rule != f.Rule {
		return false
	}
	if i.glob != "" {
		return matches(i.glob, f.File)
	}
	first := f.First
	if first == 0 {
		first = f.Line
	}
	// The finding, or the statement around it, begins on a line that the comment is about; or
	// the comment is within the statement, above the finding.
	return i.at.File == f.File && (first >= i.first && first <= i.last || f.Line >= i.first && f.Line <= i.last)
}

// matches reports whether a glob is about a path: "*" and "?" match within a name, "**" any
// number of directories. A glob of a directory is about all files below it.
func matches(glob, name string) bool {
	return matchParts(strings.Split(glob, "/"), strings.Split(name, "/"), true)
}

func matchParts(glob, name []string, below bool) bool {
	for len(glob) > 0 {
		if glob[0] == "**" {
			for i := range len(name) + 1 {
				if matchParts(glob[1:], name[i:], below) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(glob[0], name[0]); err != nil || !ok {
			return false
		}
		glob, name = glob[1:], name[1:]
	}
	return below || len(name) == 0
}

// settle sorts the findings into those that count, those that are ignored, and what is undecided.
func (r *Report) settle(t *finding.Tree, found []finding.Finding, files []string) {
	known := make(map[string]bool, len(r.Rules))
	for _, rule := range r.Rules {
		known[rule.ID] = true
	}
	global, more := settings(t, known)
	found = append(found, more...)
	perFile := map[string][]*ignore{}
	for _, name := range files {
		if f, err := t.Read(name); err == nil {
			of, wrong := comments(f, known)
			perFile[name] = of
			found = append(found, wrong...)
		}
	}
	for _, f := range found {
		by := covering(global, perFile[f.File], &f)
		switch {
		case f.Undecided:
			r.Undecided = append(r.Undecided, f)
		case by != nil:
			r.Ignored = append(r.Ignored, Ignored{Finding: f, Reason: by.reason, By: by.at})
		default:
			r.Findings = append(r.Findings, f)
		}
	}
	for _, all := range perFile {
		global = append(global, all...)
	}
	for _, i := range global {
		if !i.used {
			r.Findings = append(r.Findings, finding.Finding{Rule: ruleUnused, Severity: finding.Note, Position: i.at,
				Message: "it ignores no finding of " + i.rule, Why: own()[2].Why, Mend: "delete it"})
		}
	}
	slices.SortStableFunc(r.Findings, finding.Compare)
	r.Findings = slices.CompactFunc(r.Findings, func(a, b finding.Finding) bool { return finding.Compare(a, b) == 0 })
	slices.SortStableFunc(r.Undecided, finding.Compare)
	slices.SortStableFunc(r.Ignored, func(a, b Ignored) int { return finding.Compare(a.Finding, b.Finding) })
}

func covering(global, ofFile []*ignore, f *finding.Finding) *ignore {
	if f.Rule == ruleIgnore || f.Rule == ruleUnused {
		return nil
	}
	for _, i := range slices.Concat(ofFile, global) {
		if i.covers(f) {
			i.used = true
			return i
		}
	}
	return nil
}

// settings returns what .colophon.yaml ignores.
func settings(t *finding.Tree, known map[string]bool) (all []*ignore, wrong []finding.Finding) {
	f, err := t.Read(recipes.File)
	if err != nil {
		return nil, nil // there is none, or the run says why it was not read
	}
	list, err := recipes.Ignores(f.Data)
	if err != nil {
		return nil, []finding.Finding{{Rule: ruleIgnore, Position: finding.Position{File: f.Path}, Message: err.Error(), Mend: "see spec/recipes; until then, nothing in it is ignored"}}
	}
	for _, s := range list {
		i := &ignore{rule: s.Rule, reason: s.Reason, glob: s.Path, at: f.Position(f.LineStart(s.Line), f.LineEnd(s.Line))}
		if why := i.invalid(known); why != "" {
			wrong = append(wrong, finding.Finding{Rule: ruleIgnore, Position: i.at, Message: why})
			continue
		}
		all = append(all, i)
	}
	return all, wrong
}
