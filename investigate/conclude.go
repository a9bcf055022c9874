package investigate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

// State says what an investigation found of an image, as a whole.
type State string

// States.
const (
	Broken    State = "broken"    // a link of the proof is broken or missing
	Undecided State = "undecided" // no link is broken, as far as it could be read
	Whole     State = "whole"     // nothing that was asked contradicts the proof
	Listed    State = "listed"    // the subject is no image: the case lists what it concerns
)

// Conclusion is what follows from the answers of a case.
type Conclusion struct {
	State    State     `json:"state"`
	Line     string    `json:"line"`           // the broken link, or that there is none; one line for people
	Link     string    `json:"link,omitempty"` // name of the first broken link or question
	Findings []Finding `json:"findings"`       // in the order in which evidence flows from the commit to the image
	Timeline []Event   `json:"timeline"`       // ordered by time
	Do       []string  `json:"do"`             // what to do, one line each
	Open     []string  `json:"open"`           // questions without an answer, with the reason
}

// Finding is what an answer, or a link of a verdict, means for the proof.
type Finding struct {
	Name   string        `json:"name"`
	Status verify.Status `json:"status"`
	Says   string        `json:"says"`
}

// Event is something that happened at a time.
type Event struct {
	Time  time.Time `json:"time"` // UTC
	What  string    `json:"what"`
	Basis Basis     `json:"basis"`
}

// Basis says what the time of an event rests on.
type Basis string

// What times rest on.
const (
	Proved  Basis = "proved"  // a log or timestamp authority of a trust root
	Claimed Basis = "claimed" // whoever wrote it could choose it
	Said    Basis = "said"    // somebody who was asked
)

// OtherBuilds is the name of the finding that proofs name other commits too.
const OtherBuilds = "other builds"

const maxLine = 400 // bytes of one text from outside in a conclusion

// line makes text from outside safe for one line.
func line(s string) string { return printable.Cut(printable.Line(s), maxLine) }

// Conclude computes the conclusions of a case from its answers, and nothing else.
func Conclude(c *Case) Conclusion {
	out := Conclusion{Findings: []Finding{}, Timeline: []Event{}, Do: []string{}, Open: []string{}}
	for _, a := range c.Answers {
		if a.Outcome != Answered {
			out.Open = append(out.Open, line(fmt.Sprintf("%s %s: %s", a.Question, a.Outcome, a.Why)))
		} else if lacks := a.lacks(); lacks != "" {
			out.Open = append(out.Open, line(fmt.Sprintf("%s not searched whole: %s", a.Question, lacks)))
		}
		out.Findings = append(out.Findings, findings(c, a)...)
	}
	out.Timeline = timeline(c)
	if c.Subject.Kind == Image {
		out.judge(c)
	} else {
		out.State, out.Line = Listed, listed(c)
	}
	out.Do = advice(c, out)
	return out
}

// judge sets state and line of an image.
func (out *Conclusion) judge(c *Case) {
	name := line(cmp.Or(c.Subject.Digest, c.Subject.Name))
	broken := func(f Finding) bool { return f.Status == verify.Broken || f.Status == verify.Absent }
	unknown := func(f Finding) bool { return f.Status == verify.Unknown }
	if i := slices.IndexFunc(out.Findings, broken); i >= 0 {
		f := out.Findings[i]
		out.State, out.Link = Broken, f.Name
		out.Line = fmt.Sprintf("broken link: %s: %s", f.Name, f.Says)
		return
	}
	if i := slices.IndexFunc(out.Findings, unknown); i >= 0 {
		f := out.Findings[i]
		out.State, out.Link = Undecided, f.Name
		out.Line = fmt.Sprintf("no broken link found, but %s could not be decided: %s", f.Name, f.Says)
		return
	}
	verdict := c.Answer(AskChain).Facts.Verdict
	if verdict == nil || verdict.Outcome != verify.Accepted {
		out.State, out.Line = Undecided, "undecided: nothing is known about "+name
		return
	}
	out.State, out.Line = Whole, fmt.Sprintf("no broken link: %s was built from %s", name, line(buildOf(c).Source+"@"+buildOf(c).Commit))
	if n := len(c.Answer(AskChain).Facts.Others); n > 0 {
		out.Line += fmt.Sprintf("; proofs name %d other commits too", n)
	}
	if c.Answer(AskStanding).Outcome != Answered {
		out.Line += "; the repository was not asked"
	}
}

// buildOf returns what holds of the build of an image, the zero Facts if nothing does.
func buildOf(c *Case) provenance.Facts {
	if f := c.Answer(AskChain).Facts.Holding; f != nil && f.Build != nil {
		return *f.Build
	}
	return provenance.Facts{}
}

// signedOf returns the proofs that hold.
func signedOf(c *Case) []verify.Signed {
	if f := c.Answer(AskChain).Facts.Holding; f != nil {
		return f.Signed
	}
	return nil
}

// listed returns the line of a subject that is no image.
func listed(c *Case) string {
	entries, least, about := 0, false, map[string]bool{}
	for _, a := range c.Answers {
		if f := a.Facts.Found; f != nil {
			n, more := c.count(f)
			entries, least = entries+int(n), least || more
			for _, e := range f.Entries {
				for _, d := range e.About {
					about[d] = true
				}
			}
		}
		for _, r := range a.Facts.Releases {
			if r.Digest != "" {
				about[r.Digest] = true
			}
		}
	}
	count := fmt.Sprint(entries)
	if least {
		count = "at least " + count
	}
	text := fmt.Sprintf("%s %s: %s log entries, %d images known", c.Subject.Kind, line(c.Subject.Name), count, len(about))
	if s := c.Answer(AskStanding).Facts.Standing; s != nil {
		_, says := s.finding()
		text += "; " + says
	}
	return text
}

// count returns how many entries there are in the time that the subject asks for; least: some were not read, so that
// there may be more. An entry without a certificate counts at any time.
func (c *Case) count(f *Found) (n int64, least bool) {
	if s := c.Subject; s.Since == nil && s.Until == nil {
		return f.Total, false
	}
	return int64(len(f.Entries)), f.From > 0 || f.Until != nil
}

// Count returns how many entries of an answer there are in the time that the subject asks for, for people.
func (c *Case) Count(f *Found) string {
	n, least := c.count(f)
	if least {
		return fmt.Sprintf("at least %d", n)
	}
	return fmt.Sprint(n)
}

// lacks says why an answer may lack something; empty: nothing is known to be lacking.
func (a Answer) lacks() string {
	switch f := a.Facts; {
	case f.Found != nil && f.Found.Filling:
		return "the platform still archives what its registry had before it had an archive"
	case f.Found != nil && f.Found.Until != nil && len(f.Found.Pages) == 0: // of a log, the newest entries were read, as the time line says
		return fmt.Sprintf("the archive has %d statements, and those from record %d on were not read", f.Found.Total, *f.Found.Until)
	case f.Decided != nil && f.Decided.More:
		return "the ledger has older decisions, which were not read"
	case f.Distrust != nil:
		return f.Distrust.Problem
	}
	return ""
}

// findings returns what one answer means.
func findings(c *Case, a Answer) []Finding {
	one := func(status verify.Status, format string, args ...any) []Finding {
		return []Finding{{string(a.ID), status, line(fmt.Sprintf(format, args...))}}
	}
	if a.Outcome != Answered {
		if a.ID == AskChain || a.ID == AskStanding && a.Outcome == Failed {
			return one(verify.Unknown, "%s", a.Why)
		}
		return nil
	}
	f := a.Facts
	switch a.ID {
	case AskChain:
		return append(chainFindings(f.Verdict), otherFindings(c, f.Others)...)
	case AskStanding:
		if f.Standing == nil {
			return one(verify.Unknown, "the answer is empty")
		}
		status, says := f.Standing.finding()
		return one(status, "%s", says)
	case AskCommit:
		return commitFindings(c, a)
	case AskReview:
		if f.Review != nil {
			return one(verify.Holds, "Source level %d, %d reviewers", f.Review.Level, f.Review.Reviewers)
		}
	case AskHistory:
		return historyFindings(c, a)
	case AskSources:
		return sourceFindings(a)
	case AskBases:
		return baseFindings(a)
	case AskFetched:
		return fetchFindings(a)
	case AskDecided:
		if f.Decided != nil {
			return one(verify.Holds, "%s", f.Decided.finding())
		}
	case AskRebuilder:
		if f.Decided != nil {
			return one(verify.NotAsked, "%s", f.Decided.rebuilt())
		}
	case AskDistrust:
		if f.Distrust != nil {
			status, says := f.Distrust.finding()
			return one(status, "%s", says)
		}
	}
	return nil
}

// chainFindings returns the links of a verdict.
func chainFindings(v *verify.Verdict) (out []Finding) {
	if v == nil {
		return []Finding{{string(AskChain), verify.Unknown, "the answer is empty"}}
	}
	for _, l := range v.Links {
		if l.Name == verify.LinkSource && l.Status == verify.NotAsked {
			continue // a question of its own
		}
		out = append(out, Finding{line(l.Name), l.Status, line(cmp.Or(l.Reason, l.Claim))})
	}
	if v.Outcome == verify.Undecided && !slices.ContainsFunc(out, func(f Finding) bool { return f.Status != verify.Holds && f.Status != verify.NotAsked }) {
		out = append(out, Finding{string(AskChain), verify.Unknown, line(cmp.Or(v.Why(), v.Hint, "verification gave no answer"))})
	}
	return out
}

// otherFindings says that an image has proofs of other commits too: the same bytes were built from each.
// Without a source that is expected, nothing decides between repositories: whoever takes the image as a
// base and adds nothing can have a proof of their own.
func otherFindings(c *Case, all []Build) []Finding {
	if len(all) == 0 {
		return nil
	}
	f := Finding{Name: OtherBuilds, Status: verify.Holds}
	var named []string
	for _, b := range all {
		named = append(named, b.Source+"@"+b.Commit)
		if c.Subject.Source == "" && b.Source != buildOf(c).Source {
			f.Status = verify.Unknown
		}
	}
	f.Says = line(fmt.Sprintf("%d proofs that hold name other commits: %s", len(all), names(named)))
	if f.Status == verify.Unknown {
		f.Says += "; --source says which repository is expected"
	}
	return []Finding{f}
}

// finding says what became of a commit and its ref, and tells the ways to lose one apart.
func (s Standing) finding() (verify.Status, string) {
	branch := strings.HasPrefix(s.Ref, "refs/heads/")
	ref, gone := line(s.Ref), "the commit is gone from the repository"
	if s.There {
		gone = "the repository still has the commit, and no branch or tag that was asked for leads to it"
	}
	switch s.Status {
	case source.RefThere:
		return verify.Holds, "the commit is there, and " + ref + " leads to it"
	case source.RefForward:
		return verify.Holds, "the commit is there, and " + ref + " has moved on from it"
	case source.RefMerged:
		return verify.Holds, "the branch " + ref + " was deleted after it was merged; the default branch has the commit"
	case source.RefMoved:
		return verify.Broken, fmt.Sprintf("the tag was moved: %s leads to %s now; %s", ref, line(s.Now), gone)
	case source.RefGone:
		if branch {
			return verify.Broken, fmt.Sprintf("the branch was deleted: %s does not exist, and the default branch does not have the commit; %s", ref, gone)
		}
		return verify.Broken, fmt.Sprintf("the tag was deleted: %s does not exist; %s", ref, gone)
	case source.RefRewritten:
		switch {
		case s.Back:
			return verify.Broken, fmt.Sprintf("force-push: %s was set back to %s, an ancestor of the commit; %s", ref, line(s.Now), gone)
		case s.There:
			return verify.Broken, fmt.Sprintf("force-push: the history of %s was replaced, it leads to %s now; %s", ref, line(s.Now), gone)
		}
		return verify.Broken, fmt.Sprintf("rewritten history: %s leads to %s now, without the commit; %s", ref, line(s.Now), gone)
	case "":
		switch {
		case s.There && s.Within != "":
			return verify.Holds, "the commit is there, in " + line(s.Within)
		case s.There:
			return verify.Broken, "the repository serves the commit, but no branch or tag has it: it may be of a fork"
		}
		return verify.Broken, gone
	}
	return verify.Unknown, "the status of the ref is not known: " + line(string(s.Status))
}

// commitFindings compares what a commit says with what is proved.
func commitFindings(c *Case, a Answer) []Finding {
	o := a.Facts.Commit
	if o == nil {
		return nil
	}
	by := "written by " + o.Author
	if o.Committer != o.Author {
		by += ", committed by " + o.Committer
	}
	f := Finding{string(a.ID), verify.Holds, line(by + ", as the commit says: " + o.Title)}
	build := buildOf(c)
	if build.Commit == o.ID && build.Tree != "" && build.Tree != o.Tree {
		f.Status, f.Says = verify.Broken, line(fmt.Sprintf("the commit has the tree %s, expected %s of the provenance", o.Tree, build.Tree))
	}
	if first := firstSigned(c); !first.IsZero() && build.Commit == o.ID && o.Committed.After(first.Add(bundle.ClockSkew)) {
		f.Status, f.Says = verify.Broken, line(fmt.Sprintf("the commit says that it was made at %s, after its image was signed at %s", stamp(o.Committed), stamp(first)))
	}
	return []Finding{f}
}

// firstSigned returns the earliest proved time of a signature; zero without one.
func firstSigned(c *Case) (first time.Time) {
	for _, s := range signedOf(c) {
		for _, t := range s.Times {
			if first.IsZero() || t.Before(first) {
				first = t
			}
		}
	}
	return first
}

// historyFindings finds a tag that led elsewhere. A branch moves all the time.
func historyFindings(c *Case, a Answer) []Finding {
	build := buildOf(c)
	others := map[string]bool{}
	for _, m := range a.Facts.History {
		if m.Ref == build.Ref && m.Commit != build.Commit && m.Commit != "" {
			others[m.Commit] = true
		}
	}
	if strings.HasPrefix(build.Ref, "refs/tags/") && len(others) > 0 {
		return []Finding{{string(a.ID), verify.Broken, line(fmt.Sprintf("%s led to %d other commits too, also to %s", build.Ref, len(others), slices.Min(keys(others))))}}
	}
	return []Finding{{string(a.ID), verify.Holds, line(fmt.Sprintf("%d records say where %s led", len(a.Facts.History), cmp.Or(build.Ref, "the ref")))}}
}

func keys(m map[string]bool) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}

func sourceFindings(a Answer) []Finding {
	s := a.Facts.Sources
	if s == nil {
		return nil
	}
	first := Finding{string(a.ID), verify.Holds, fmt.Sprintf("%d SBOMs name the source, as the provenance does", len(s.Named))}
	if len(s.Named) == 0 {
		first.Status, first.Says = verify.NotAsked, "no SBOM names a source"
	}
	for _, named := range s.Named {
		if named != s.Want {
			first.Status, first.Says = verify.Broken, line(fmt.Sprintf("an SBOM names the source %s, expected %s", named, s.Want))
			break
		}
	}
	out := []Finding{first}
	if says := s.Manifests.finding(); says != "" {
		out = append(out, Finding{manifestsFinding, verify.NotAsked, line(says)})
	}
	return out
}

// manifestsFinding is the name of what the comparison with manifests found.
const manifestsFinding = "manifests"

func baseFindings(a Answer) []Finding {
	said, worst := 0, Finding{string(a.ID), verify.Holds, ""}
	for _, b := range a.Facts.Bases {
		if b.Asked {
			said++
		}
		if b.Asked && b.Outcome != verify.Accepted && worst.Says == "" {
			// Few base images prove themselves: that one does not is no broken link.
			worst = Finding{string(a.ID), verify.NotAsked, line(fmt.Sprintf("%s@%s does not prove where it comes from: %s", b.URI, b.Digest, b.Why))}
		}
	}
	if worst.Says == "" {
		worst.Says = fmt.Sprintf("%d base images, %d asked, each proves itself", len(a.Facts.Bases), said)
		if said == 0 {
			worst.Status, worst.Says = verify.NotAsked, fmt.Sprintf("%d base images, and none was asked", len(a.Facts.Bases))
		}
	}
	return []Finding{worst}
}

func fetchFindings(a Answer) []Finding {
	count := map[FetchStatus]int{}
	var other *Fetch
	for i, f := range a.Facts.Fetches {
		count[f.Status]++
		if f.Status == FetchOther && other == nil {
			other = &a.Facts.Fetches[i]
		}
	}
	if other != nil {
		return []Finding{{string(a.ID), verify.Broken, line(fmt.Sprintf("%s has other bytes now: expected %s, found %s", other.URI, other.Want, other.Got))}}
	}
	status := verify.Holds
	if count[FetchSame] == 0 { // nothing was compared
		status = verify.NotAsked
	}
	return []Finding{{string(a.ID), status, fmt.Sprintf("%d downloads: %d have the same bytes, %d are gone, of %d nothing is known", len(a.Facts.Fetches), count[FetchSame], count[FetchGone], count[FetchUnknown])}}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
