// Package lint finds what in a repository would let somebody else decide what is built, signed
// or run, and mends what can be mended: files are read, never run. The rules are those of the
// packages below it; package finding says what a finding is.
package lint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/lint/bitbucket"
	"github.com/colophon-build/colophon/lint/dockerfile"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/git"
	"github.com/colophon-build/colophon/lint/gitlab"
	"github.com/colophon-build/colophon/lint/lock"
	"github.com/colophon-build/colophon/lint/manifest"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/script"
	"github.com/colophon-build/colophon/lint/tekton"
	"github.com/colophon-build/colophon/lint/workflow"
)

// Rules of this package are about the run itself.
const (
	ruleUnread = "lint/unread"
	ruleIgnore = "lint/ignore"
	ruleUnused = "lint/unused-ignore"
	ruleFailed = "lint/failed"
)

// own returns the rules of this package.
func own() []finding.Rule {
	return []finding.Rule{
		{ID: ruleUnread, Severity: finding.Error, Title: "a file that rules are about was not read",
			Why: "What was not read was not checked, and may contain anything."},
		{ID: ruleIgnore, Severity: finding.Error, Title: "a comment or setting that ignores findings is not valid",
			Why: "Who reviews the repository must see what is ignored, and why: without a rule and a reason, nothing is ignored."},
		{ID: ruleUnused, Severity: finding.Note, Title: "a comment or setting ignores nothing",
			Why: "What ignores no finding today would hide the next one, which nobody has looked at."},
		{ID: ruleFailed, Severity: finding.Error, Title: "a checker failed",
			Why: "What made a checker fail was not checked, and may contain anything. This is a defect of Colophon."},
	}
}

// Checkers returns the checkers of all rules. r says what tags and branches point to; nil: nobody
// is asked, and nothing is pinned.
func Checkers(r *pins.Resolver) []finding.Checker {
	return []finding.Checker{
		bitbucket.Checker(r),
		dockerfile.Checker(r),
		git.Checker(),
		gitlab.Checker(r),
		lock.Checker(),
		manifest.Checker(r),
		script.Checker(),
		tekton.Checker(r),
		workflow.Checker(r),
	}
}

// Rules returns the rules of some checkers and those about the run, sorted by ID.
func Rules(checkers []finding.Checker) []finding.Rule {
	all := own()
	for _, c := range checkers {
		all = append(all, c.Rules...)
	}
	slices.SortFunc(all, func(a, b finding.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Report is what linting found.
type Report struct {
	Findings  []finding.Finding // sorted; none is ignored or undecided
	Ignored   []Ignored         // sorted
	Undecided []finding.Finding // sorted: what could not be found out
	Rules     []finding.Rule    // all that were checked, sorted by ID
	Files     int               // files of the tree
	Checked   int               // files that a checker read
}

// Worst returns the greatest severity of the findings, or "" without any.
func (r *Report) Worst() (worst finding.Severity) {
	for _, f := range r.Findings {
		if worst == "" || f.Severity.AtLeast(worst) {
			worst = f.Severity
		}
	}
	return worst
}

// Run checks a tree. The error is that of ctx, or of a checker that is not well formed: whatever
// the tree contains, there is a report.
func Run(ctx context.Context, t *finding.Tree, checkers []finding.Checker) (*Report, error) {
	r := &Report{Rules: Rules(checkers), Files: len(t.Files())}
	rules := make(map[string]finding.Rule, len(r.Rules))
	for _, rule := range r.Rules {
		if _, twice := rules[rule.ID]; twice {
			return nil, fmt.Errorf("two rules have the id %s", rule.ID)
		}
		rules[rule.ID] = rule
	}
	run := &run{tree: t, checkers: checkers}
	found, files := run.all(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.Checked = len(files)
	for i := range found {
		f := &found[i]
		rule, ok := rules[f.Rule]
		if !ok {
			return nil, fmt.Errorf("a checker found %s, which no checker declares", f.Rule)
		}
		if f.Severity == "" {
			f.Severity = rule.Severity
		}
		if f.Why == "" {
			f.Why = rule.Why
		}
		f.Message, f.Mend = printable.Line(f.Message), printable.Line(f.Mend)
	}
	r.settle(t, found, files)
	return r, nil
}

// run collects the findings of all checkers.
type run struct {
	tree     *finding.Tree
	checkers []finding.Checker

	mu    sync.Mutex
	found []finding.Finding
	files []string // that were read
	more  int      // findings past the limit
}

func (r *run) add(found ...finding.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := max(0, limits.LintFindings-len(r.found))
	r.more += max(0, len(found)-room)
	r.found = append(r.found, found[:min(room, len(found))]...)
}

// all runs the checkers on as many goroutines as there are processors.
func (r *run) all(ctx context.Context) ([]finding.Finding, []string) {
	jobs := make(chan func())
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for job := range jobs {
				if ctx.Err() == nil {
					job()
				}
			}
		})
	}
	for _, c := range r.checkers {
		if c.Whole != nil {
			jobs <- func() { r.guard(".", func() []finding.Finding { return c.Whole(ctx, r.tree) }) }
		}
	}
	for _, name := range r.tree.Files() {
		if wanted := r.wanted(name); len(wanted) > 0 {
			jobs <- func() { r.file(ctx, name, wanted) }
		}
	}
	close(jobs)
	workers.Wait()
	r.whole()
	slices.Sort(r.files)
	return r.found, r.files
}

func (r *run) wanted(name string) (wanted []finding.Checker) {
	for _, c := range r.checkers {
		if c.Wants != nil && c.Wants(name) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

func (r *run) file(ctx context.Context, name string, wanted []finding.Checker) {
	f, err := r.tree.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return // git tracks it, and it was deleted
	}
	if err != nil {
		r.add(unread(name, err.Error()))
		return
	}
	r.mu.Lock()
	r.files = append(r.files, name)
	r.mu.Unlock()
	for _, c := range wanted {
		r.guard(name, func() []finding.Finding { return c.Check(ctx, r.tree, f) })
	}
}

// guard adds what a checker finds. Parsers of others meet hostile files here: a panic of one
// is a finding, and the rest is still linted.
func (r *run) guard(name string, check func() []finding.Finding) {
	defer func() {
		if v := recover(); v != nil {
			r.add(finding.Finding{Rule: ruleFailed, Position: finding.Position{File: name}, Message: fmt.Sprintf("the checker failed: %v", v)})
		}
	}()
	r.add(check()...)
}

func unread(name, why string) finding.Finding {
	return finding.Finding{Rule: ruleUnread, Position: finding.Position{File: name}, Message: why,
		Mend: "make the file readable and small enough, or ignore it in .colophon.yaml with the reason"}
}

// whole adds what the run could not see of the tree.
func (r *run) whole() {
	if r.tree.Cut {
		r.add(unread(".", fmt.Sprintf("not read: the tree has more than %d files", limits.LintFiles)))
	}
	if err := r.tree.GitErr; err != nil {
		r.found = append(r.found, finding.Finding{Rule: ruleUnread, Position: finding.Position{File: "."}, Undecided: true,
			Message: "git could not be asked which files it tracks: " + err.Error()})
	}
	for _, name := range r.tree.Links() {
		if len(r.wanted(name)) > 0 {
			r.add(finding.Finding{Rule: ruleUnread, Severity: finding.Note, Position: finding.Position{File: name},
				Message: "not read: it is a symbolic link; its target is checked under its own name, if it is in the tree"})
		}
	}
	if r.more > 0 {
		r.found = append(r.found, unread(".", fmt.Sprintf("%d findings are left out: there are more than %d", r.more, limits.LintFindings)))
	}
}
