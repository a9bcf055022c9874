// Package track says which level of SLSA's Source track a commit has
// (slsa.dev/spec/v1.2/source-requirements), from what the repository and its forge answered.
// It decides from what it is handed, and keeps "not met" and "not known" apart: one look at a
// forge does not show everything.
package track

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
)

// Facts are what is known about a commit. An error says why something is not known.
type Facts struct {
	URI    string // canonical address of the repository
	Commit string // full id
	Ref    string // full name of the branch or tag that is asked for

	Standing    source.Standing // the answer of the repository about Commit and Ref
	StandingErr error
	Branch      string // full name of the branch whose rules count: Ref, or of a tag the branch that the change request was merged into

	Changes    []forge.Change // merged change requests that have the commit
	ChangesErr error
	Merged     map[int64]Merged // by number of the change request, for those whose result is the commit
	Rules      *forge.Rules     // of Branch
	RulesErr   error
	TagRules   *forge.Rules // of Ref, if it is a tag
	TagErr     error
}

// Merged is whether the content of a commit is what was proposed; see source.CheckMerged.
type Merged struct {
	How string
	Err error
}

// Status is whether a requirement is met.
type Status string

const (
	Met      Status = "met"
	NotMet   Status = "not met"
	NotKnown Status = "not known" // counts as not met, and another look could show that it is
)

// Requirement is one requirement of the Source track.
type Requirement struct {
	Name     string `json:"name"`
	Level    int    `json:"level"` // the lowest Source level that demands it, 1 to 4
	Status   Status `json:"status"`
	Evidence string `json:"evidence"` // what shows it, or what is missing; for people
}

// Result is what a commit reaches.
type Result struct {
	Level        int           `json:"level"`     // the Source level that is shown, 0 to 4
	Possible     int           `json:"possible"`  // the level if everything that is not known were met
	Reviewers    int           `json:"reviewers"` // accounts other than the author's that approved this content and may approve
	Unsure       int           `json:"unsure"`    // further accounts that approved, of which something is not known; -1: it is not known who approved
	Requirements []Requirement `json:"requirements"`
}

// Meets fails unless the commit has at least a level and a number of reviewers. The error is
// ErrNotKnown if what is not known could meet both.
func (r Result) Meets(level, reviewers int) error {
	switch {
	case r.Level >= level && r.Reviewers >= reviewers:
		return nil
	case r.Possible >= level && (r.Unsure < 0 || r.Reviewers+r.Unsure >= reviewers):
		return fmt.Errorf("%w: %s", ErrNotKnown, r.lacking(level, reviewers, NotKnown))
	}
	return errors.New(r.lacking(level, reviewers, NotMet))
}

// ErrNotKnown means that a commit may have what is demanded.
var ErrNotKnown = errors.New("not known")

func (r Result) lacking(level, reviewers int, because Status) string {
	var out []string
	if r.Level < level {
		text := fmt.Sprintf("Source level: got %d, want %d", r.Level, level)
		for _, q := range r.Requirements {
			if q.Level <= level && q.Status == because {
				text += fmt.Sprintf("; %s: %s", q.Name, q.Evidence)
			}
		}
		out = append(out, text)
	}
	if r.Reviewers < reviewers {
		out = append(out, fmt.Sprintf("reviewers other than the author: got %d, want %d", r.Reviewers, reviewers))
	}
	return strings.Join(out, "; ")
}

type judged struct {
	status   Status
	evidence string
}

func met(format string, args ...any) judged    { return judged{Met, fmt.Sprintf(format, args...)} }
func notMet(format string, args ...any) judged { return judged{NotMet, fmt.Sprintf(format, args...)} }
func unknown(format string, args ...any) judged {
	return judged{NotKnown, fmt.Sprintf(format, args...)}
}

// and returns the worse of two, with both texts if they are equally good.
func (j judged) and(other judged) judged {
	rank := map[Status]int{Met: 0, NotKnown: 1, NotMet: 2}
	switch d := rank[other.status] - rank[j.status]; {
	case d > 0:
		return other
	case d < 0:
		return j
	}
	if j.evidence == other.evidence {
		return j
	}
	return judged{j.status, j.evidence + "; " + other.evidence}
}

// Evaluate decides. Two requirements of SLSA are not in its answer, since no forge can show
// them: that the organization documents how it expunges content, and that a summary is issued,
// which is done by signing this answer.
func Evaluate(f Facts) Result {
	c, direct := f.change()
	review, reviewers, unsure := f.review(c)
	r := Result{Reviewers: reviewers, Unsure: unsure}
	for _, q := range []struct {
		name  string
		level int
		judged
	}{
		{"Repository is uniquely identifiable", 1, f.repository()},
		{"Revision is immutable and uniquely identifiable", 1, f.revision()},
		{"Human readable changes", 1, met("git shows the difference of any two commits")},
		{"History", 2, f.history()},
		{"Continuity", 2, f.continuity(c, direct, controls{"moves forward only": forward, "cannot be deleted": kept})},
		{"Identity management", 2, f.identity(c, direct)},
		{"Source provenance", 2, f.provenance(c, direct)},
		{"Protected named references", 3, f.enforced(c, direct)},
		{"Continuous technical controls", 3, f.continuity(c, direct, controls{"changes by change requests only": requests})},
		{"Two-party review", 4, review.and(f.demandsReview(c, direct))},
	} {
		r.Requirements = append(r.Requirements, Requirement{q.name, q.level, q.status, q.evidence})
	}
	r.Level, r.Possible = 4, 4
	for _, q := range r.Requirements {
		if q.Status != Met {
			r.Level = min(r.Level, q.Level-1)
		}
		if q.Status == NotMet {
			r.Possible = min(r.Possible, q.Level-1)
		}
	}
	return r
}

func (f *Facts) repository() judged {
	if scheme, _, _ := strings.Cut(f.URI, "://"); scheme != "https" && scheme != "ssh" && scheme != "http" {
		return notMet("%s is a place of one machine", f.URI)
	}
	return met("%s", f.URI)
}

func (f *Facts) revision() judged {
	switch {
	case f.StandingErr != nil:
		return unknown("the repository did not answer: %v", f.StandingErr)
	case !f.Standing.Holds():
		return notMet("%s", f.Standing)
	}
	return met("commit %s; %s", f.Commit, f.Standing)
}

// change returns the change request that brought the commit: the one whose result it is. nil
// with a text means that none did, or that it is not known.
func (f *Facts) change() (*forge.Change, judged) {
	switch {
	case f.ChangesErr != nil:
		return nil, unknown("the forge was not asked, or did not answer: %v", f.ChangesErr)
	case len(f.Changes) == 0:
		return nil, notMet("no merged change request has the commit: it was pushed")
	}
	var within []string
	for i, c := range f.Changes {
		if c.Result == f.Commit && c.Target == f.Branch {
			return &f.Changes[i], judged{}
		}
		within = append(within, fmt.Sprintf("%d into %s", c.Number, c.Target))
	}
	return nil, notMet("the commit is only a part of change request %s, and not what %s pointed to after it", strings.Join(within, ", "), cmp.Or(f.Branch, "a branch"))
}

// controls names controls for people.
type controls map[string]func(*forge.Rules) forge.Control

func forward(r *forge.Rules) forge.Control  { return r.Forward }
func kept(r *forge.Rules) forge.Control     { return r.Kept }
func requests(r *forge.Rules) forge.Control { return r.Requests }

// on says whether a control is on, and nobody may bypass it.
func on(what, ref string, c forge.Control) judged {
	switch {
	case c.On == forge.No:
		return notMet("%s: no rule says that it %s", ref, what)
	case c.On == forge.NotSaid:
		return unknown("%s: the forge does not show whether it %s", ref, what)
	case c.Exempt == forge.Yes:
		return notMet("%s %s by %s, but may be bypassed by %s", ref, what, c.By, strings.Join(c.Bypass, ", "))
	case c.Exempt == forge.NotSaid:
		return unknown("%s %s by %s, and the forge does not show who may bypass that", ref, what, c.By)
	}
	return met("%s %s by %s", ref, what, c.By)
}

// history asks whether the branch, and the tag, cannot be rewritten.
func (f *Facts) history() judged {
	return f.eachRules(func(r *forge.Rules) judged {
		return on("moves forward only", r.Ref, r.Forward).and(on("cannot be deleted", r.Ref, r.Kept))
	})
}

// eachRules judges the rules of the branch and, if a tag was asked for, of the tag.
func (f *Facts) eachRules(judge func(*forge.Rules) judged) judged {
	one := func(r *forge.Rules, err error) judged {
		switch {
		case err != nil:
			return unknown("the rules were not asked, or the forge did not answer: %v", err)
		case r == nil:
			return unknown("it is not known which branch has the commit")
		}
		return judge(r)
	}
	j := one(f.Rules, f.RulesErr)
	if strings.HasPrefix(f.Ref, "refs/tags/") {
		j = j.and(one(f.TagRules, f.TagErr))
	}
	return j
}

// continuity asks whether the controls are as they are now since before the commit came. Of
// a tag, it was made after the commit, so that its own rules only need to be there.
func (f *Facts) continuity(c *forge.Change, direct judged, of controls) judged {
	switch {
	case f.RulesErr != nil || f.Rules == nil:
		return unknown("the rules are not known")
	case c == nil:
		return direct
	}
	names := make([]string, 0, len(of))
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	j := judged{Met, ""}
	for i, name := range names {
		one := f.since(c, name, of[name](f.Rules))
		if i == 0 {
			j = one
			continue
		}
		j = j.and(one)
	}
	return j
}

// held says whether a control was on when the change request was merged, and nobody could
// bypass it: only then did it bind whoever merged.
func (f *Facts) held(c *forge.Change, what string, control forge.Control) judged {
	return on(what, f.Branch, control).and(f.since(c, what, control))
}

// since says whether a control is as it is now since before the merge.
func (f *Facts) since(c *forge.Change, what string, control forge.Control) judged {
	const day = "2006-01-02 15:04Z"
	switch {
	case control.On == forge.No:
		return notMet("%s: no rule says that it %s", f.Branch, what)
	case control.On == forge.NotSaid:
		return unknown("%s: the forge does not show whether it %s", f.Branch, what)
	case c.Merged.IsZero():
		return unknown("the forge does not say when change request %d was merged", c.Number)
	case control.Since.IsZero():
		return unknown("%s %s now, and the forge does not say since when", f.Branch, what)
	case control.Since.After(c.Merged):
		return notMet("the rule that %s %s is from %s, and the commit from %s", f.Branch, what, control.Since.UTC().Format(day), c.Merged.UTC().Format(day))
	}
	return met("%s %s since %s", f.Branch, what, control.Since.UTC().Format(day))
}

func (f *Facts) identity(c *forge.Change, direct judged) judged {
	if s := f.Standing.Signature; s.Status == source.Verified {
		return met("%s signed by %s", s.Object, s.Signer)
	}
	switch {
	case c == nil:
		return direct
	case c.Author.ID == 0 || c.Merger.ID == 0:
		return unknown("change request %d was proposed by %s and merged by %s", c.Number, c.Author, c.Merger)
	}
	return met("change request %d was proposed by %s and merged by %s", c.Number, c.Author, c.Merger)
}

// provenance asks whether the forge has a record of how the commit came. No forge signs one.
func (f *Facts) provenance(c *forge.Change, direct judged) judged {
	switch {
	case c == nil:
		return direct
	case c.Merged.IsZero():
		return unknown("the forge does not say when change request %d was merged", c.Number)
	}
	return met("the forge's record of change request %d into %s, merged %s", c.Number, c.Target, c.Merged.UTC().Format("2006-01-02 15:04Z"))
}

// enforced asks whether commits come by change requests only, and this one did.
func (f *Facts) enforced(c *forge.Change, direct judged) judged {
	if c == nil {
		return direct
	}
	came := met("change request %d brought the commit", c.Number)
	if f.RulesErr != nil || f.Rules == nil {
		return came.and(unknown("the rules of %s are not known", f.Branch))
	}
	return came.and(on("changes by change requests only", f.Branch, f.Rules.Requests))
}
