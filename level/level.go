// Package level says which levels of SLSA v1.2 an image or a repository reaches
// (slsa.dev/spec/v1.2/build-requirements and source-requirements): each requirement of both
// tracks with what shows it, and the next steps. It decides nothing anew: about an image it says
// what package verify found, about a commit what package source/track found. What a repository
// contains can show that its pipelines miss a requirement of the Build track, never that an
// image meets it.
package level

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

// Status is whether a requirement is met.
type Status string

const (
	Met      Status = "met"
	NotMet   Status = "not met"
	NotKnown Status = "not known" // counts as not met
)

// Evidence is what is known.
type Evidence struct {
	Verdict *verify.Verdict // about the image; nil: none was verified
	Named   bool            // the verdict rests on a source or policy that somebody named
	Track   *track.Result   // about the commit; nil: nobody was asked
	NoTrack string          // why Track is nil, for people
	Lint    *lint.Report    // about the files of a repository; nil: none were read
	Files   []string        // paths of these files, with slashes
}

// Judged is a requirement and whether it is met.
type Judged struct {
	Requirement
	Level    int    `json:"level"` // the lowest level of the track that demands it; 0: no look can show it, and it counts for none here
	Status   Status `json:"status"`
	Evidence string `json:"evidence"` // what shows it, or what is missing; one line for people
}

// Reached is how far a track is reached.
type Reached struct {
	Level        int      `json:"level"`    // that is shown
	Possible     int      `json:"possible"` // if everything that is not known were met
	Requirements []Judged `json:"requirements"`
}

// Report is the answer.
type Report struct {
	Build  *Reached `json:"build,omitempty"` // nil: neither an image was verified nor files read
	Source *Reached `json:"source"`
	// Reviewers are accounts other than the author's that approved the commit and may approve.
	Reviewers int     `json:"reviewers"`
	Unsure    int     `json:"unsure"` // further accounts that approved, of which something is not known; -1: it is not known who approved
	Roadmap   []Phase `json:"roadmap"`
	Next      []Step  `json:"next"` // the first steps of the roadmap that are not done, at most 3
}

// Of returns the report about some evidence.
func Of(e Evidence) *Report {
	r := &Report{Source: e.source(), Unsure: -1}
	if e.Track != nil {
		r.Reviewers, r.Unsure = e.Track.Reviewers, e.Track.Unsure
	}
	switch {
	case e.Verdict != nil:
		r.Build = e.image()
	case e.Lint != nil:
		r.Build = e.pipelines()
	}
	r.Roadmap = e.roadmap(r)
	r.Next = next(r.Roadmap)
	return r
}

// image says what the verdict found. An image that was not accepted has shown nothing, whatever
// is attached to it.
func (e *Evidence) image() *Reached {
	v := e.Verdict
	out := &Reached{Possible: 3}
	switch v.Outcome {
	case verify.Accepted:
		out.Level = v.Level
	case verify.Rejected:
		out.Possible = 0
	}
	for _, q := range Requirements(Build) {
		j := Judged{Requirement: q, Level: buildLevelOf(q.Name), Status: NotKnown, Evidence: "no provenance was asked for"}
		for _, found := range v.Requirements {
			if found.Name == q.Name {
				j.Status, j.Evidence = Status(found.Status), found.Evidence
			}
		}
		if v.Outcome != verify.Accepted && j.Status == Met {
			j.Status, j.Evidence = NotKnown, "the image is "+v.Outcome.String()+": "+v.Why()
		}
		out.add(j)
	}
	return out
}

func (r *Reached) add(j Judged) {
	j.Evidence = printable.Cut(printable.Line(j.Evidence), maxEvidence)
	r.Requirements = append(r.Requirements, j)
	if j.Status == NotMet {
		r.Possible = min(r.Possible, max(j.Level, 1)-1)
	}
}

// maxEvidence is the maximum size in bytes of one text of evidence.
const maxEvidence = 2000

// buildLevelOf returns the level that demands a requirement.
func buildLevelOf(name string) int {
	for _, q := range provenance.WithoutProvenance(provenance.NotKnown, "") {
		if q.Name == name {
			return q.Level
		}
	}
	return 0
}

// pipelines says what the files of a repository show about the Build track: which requirements
// its pipelines miss. They show no more, since anybody may build an image elsewhere.
func (e *Evidence) pipelines() *Reached {
	out := &Reached{Possible: 3}
	for _, q := range Requirements(Build) {
		j := Judged{Requirement: q, Level: buildLevelOf(q.Name), Status: NotKnown, Evidence: "only an image and its provenance show it: colophon level IMAGE"}
		if found := e.findings(q.rules); len(found) > 0 {
			j.Status, j.Evidence = NotMet, listed(found)
		}
		out.add(j)
	}
	return out
}

// isOf reports whether a rule is one of some, which may be patterns: */NAME is that rule of each
// kind of pipeline.
func isOf(rule string, rules []string) bool {
	return slices.ContainsFunc(rules, func(r string) bool { ok, _ := path.Match(r, rule); return ok })
}

// findings returns those of some rules. Ignored ones count: a reason to live with a finding
// meets no requirement.
func (e *Evidence) findings(rules []string) (out []finding.Finding) {
	if e.Lint == nil {
		return nil
	}
	for _, f := range e.Lint.Findings {
		if isOf(f.Rule, rules) {
			out = append(out, f)
		}
	}
	for _, i := range e.Lint.Ignored {
		if isOf(i.Rule, rules) {
			i.Finding.Message += " (ignored: " + i.Reason + ")"
			out = append(out, i.Finding)
		}
	}
	return out
}

// listed names the first findings.
func listed(found []finding.Finding) string {
	const most = 3
	var out []string
	for _, f := range found[:min(most, len(found))] {
		out = append(out, printable.Cut(fmt.Sprintf("%s: %s [%s]", f.Position, f.Message, f.Rule), maxEvidence/(most+1)))
	}
	if n := len(found) - most; n > 0 {
		out = append(out, fmt.Sprintf("and %d more", n))
	}
	return strings.Join(out, "; ")
}

// source says what was found about the commit.
func (e *Evidence) source() *Reached {
	t, missing := e.Track, cmp.Or(e.NoTrack, "the repository was not asked")
	if t == nil {
		t = &track.Result{Possible: 4}
		if status, claim := e.link(verify.LinkTrack); status == Met {
			missing = "the image has the Source level that the policy demands (" + claim + "), which does not say how each requirement is met"
		}
	}
	out := &Reached{Possible: 4}
	for _, q := range Requirements(Source) {
		j := Judged{Requirement: q, Level: sourceLevelOf(q.Name), Status: NotKnown, Evidence: missing}
		if q.outside {
			j.Evidence = "no look at repository and forge shows it; it does not count here"
		}
		for _, found := range t.Requirements {
			if found.Name == q.Name {
				j.Status, j.Evidence = Status(found.Status), found.Evidence
			}
		}
		out.add(j)
	}
	out.Level, out.Possible = t.Level, t.Possible
	return out
}

// sourceLevelOf returns the level that demands a requirement.
func sourceLevelOf(name string) int {
	for _, q := range track.Evaluate(track.Facts{}).Requirements {
		if q.Name == name {
			return q.Level
		}
	}
	return 0
}
