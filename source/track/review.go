package track

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/forge"
)

// review asks whether two trusted persons agreed to the content of the commit: its author and
// a reviewer, or two reviewers. It returns how many reviewers count, and of how many more
// that is not known.
func (f *Facts) review(c *forge.Change) (judged, int, int) {
	if c == nil {
		_, direct := f.change()
		if direct.status == NotKnown {
			return direct, 0, -1
		}
		return direct, 0, 0
	}
	var count, maybe []string
	var against []string
	for _, v := range verdicts(c) {
		switch status, why := f.counts(c, v); status {
		case Met:
			count = append(count, v.By.String())
		case NotKnown:
			maybe = append(maybe, why)
		default:
			against = append(against, why)
		}
	}
	content := f.content(c)
	reviewers, unsure := len(count), len(maybe)
	switch content.status {
	case NotMet:
		return content, 0, 0
	case NotKnown:
		reviewers, unsure = 0, reviewers+unsure
	}
	author := c.Trust
	if c.Author.Bot || c.Author.ID == 0 {
		author = forge.No
	}
	var j judged
	switch {
	case len(count) >= 2, len(count) == 1 && author == forge.Yes:
		j = met("approved by %s; change request %d is of %s", strings.Join(count, ", "), c.Number, c.Author)
	case len(count) == 1 && author == forge.NotSaid:
		j = unknown("approved by %s, and the forge does not show whether the author, %s, may approve changes", count[0], c.Author)
	case len(count)+len(maybe) >= 2, len(count)+len(maybe) == 1 && author != forge.No:
		j = unknown("%s", strings.Join(append(maybe, against...), "; "))
	case len(count)+len(maybe) == 1:
		j = notMet("one reviewer, %s, and the author, %s, is not known as somebody who may approve changes", strings.Join(append(count, maybe...), ""), c.Author)
	case len(against) > 0:
		j = notMet("no approval counts: %s", strings.Join(against, "; "))
	default:
		j = notMet("nobody but %s reviewed change request %d", c.Author, c.Number)
	}
	return j.and(content), reviewers, unsure
}

// verdicts returns the last verdict of each account. A comment takes nothing back, and a
// review of an unknown account is one of its own.
func verdicts(c *forge.Change) (out []forge.Review) {
	for _, r := range c.Reviews {
		if r.Verdict == forge.Commented {
			continue
		}
		i := slices.IndexFunc(out, func(o forge.Review) bool { return o.By.ID == r.By.ID && r.By.ID != 0 })
		switch {
		case i < 0:
			out = append(out, r)
		case !r.Time.Before(out[i].Time):
			out[i] = r
		}
	}
	return out
}

// counts says whether a verdict is the approval of a second person.
func (f *Facts) counts(c *forge.Change, r forge.Review) (Status, string) {
	has := func(all []forge.Account) bool {
		return slices.ContainsFunc(all, func(a forge.Account) bool { return a.ID == r.By.ID })
	}
	no := func(format string, args ...any) (Status, string) {
		return NotMet, r.By.String() + " " + fmt.Sprintf(format, args...)
	}
	maybe := func(format string, args ...any) (Status, string) {
		return NotKnown, r.By.String() + " " + fmt.Sprintf(format, args...)
	}
	switch {
	case r.Verdict == forge.Dismissed:
		return no("has an approval that was dismissed")
	case r.Verdict != forge.Approved:
		return no("asked for changes")
	case r.By.ID == 0:
		return no("approved")
	case r.By.Bot:
		return no("is a bot")
	case r.By.ID == c.Author.ID:
		return no("is the author")
	case has(c.Pushers):
		return no("pushed to the change request")
	case has(c.Writers):
		return no("wrote commits of it")
	case r.Commit != "" && r.Commit != c.Head:
		return no("approved commit %.12s, and %.12s was merged", r.Commit, c.Head)
	case r.Trust == forge.No:
		return no("may not approve changes of this repository")
	case !r.Time.IsZero() && !c.Merged.IsZero() && r.Time.After(c.Merged):
		return no("approved after the merge")
	case r.Commit == "":
		return maybe("approved, and the forge does not say which commit")
	case r.Trust == forge.NotSaid:
		return maybe("approved, and the forge does not show whether that account may approve changes")
	case c.Pushed != forge.Yes && !f.pushedByAnother(c):
		return maybe("approved, and the forge does not say whether that account also pushed to the change request")
	}
	return Met, ""
}

// pushedByAnother reports whether a rule kept out the approval of whoever pushed the commit that
// was proposed. Such rules are about the last push only: of several commits, an earlier one may
// be the reviewer's.
func (f *Facts) pushedByAnother(c *forge.Change) bool {
	return c.Steps == 1 && f.Rules != nil && f.held(c, "takes no approval of whoever pushed", f.Rules.LastPush).status == Met
}

// content asks whether the commit has what was reviewed, and nothing else.
func (f *Facts) content(c *forge.Change) judged {
	m, ok := f.Merged[c.Number]
	switch {
	case !ok:
		return unknown("the commit was not compared with the one that was proposed")
	case errors.Is(m.Err, source.ErrOtherContent):
		return notMet("the commit has content that change request %d did not propose", c.Number)
	case m.Err != nil:
		return unknown("the commit could not be compared with the one that was proposed: %v", m.Err)
	}
	return met("%s", m.How)
}

// demandsReview asks whether the branch takes no change without a review: otherwise this one
// was reviewed, and the next need not be.
func (f *Facts) demandsReview(c *forge.Change, direct judged) judged {
	switch {
	case c == nil:
		return direct
	case f.RulesErr != nil || f.Rules == nil:
		return unknown("the rules of %s are not known", f.Branch)
	}
	return f.held(c, "takes reviewed changes only", f.Rules.Review)
}
