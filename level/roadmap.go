package level

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/verify"
)

// Phase is one phase of the roadmap, such as "Build L2: a hosted platform signs".
type Phase struct {
	Title string `json:"title"`
	Done  bool   `json:"done"` // all steps are
	Steps []Step `json:"steps"`
}

// Step is something to do. Its status is Met if the evidence shows that it is done.
type Step struct {
	ID       string `json:"id"`
	Text     string `json:"text"`
	Status   Status `json:"status"`
	Evidence string `json:"evidence"` // one line for people
	Mend     string `json:"mend"`     // how to do it
}

// step says how a step is found to be done: by a requirement, by the absence of findings, or by
// a function.
type step struct {
	id, text, mend string
	requirement    string   // ID; its text and mend are those of the step
	rules          []string // of package lint
	judge          func(*Evidence) (Status, string)
}

// way is what teams do, from no provenance to reviewed source on a hardened platform.
var way = []struct {
	title string
	steps []step
}{
	{"Build L1: provenance exists", []step{
		{id: "step/declared", text: "The repository says how the image is built.", mend: "add a Dockerfile or .colophon.yaml, and a workflow that builds: colophon init", judge: (*Evidence).declared},
		{requirement: "build/exists"},
		{requirement: "build/consistent"},
		{id: "step/sbom", text: "A signed SBOM is attached to the image.", mend: "colophon release attaches one; elsewhere: colophon sbom IMAGE, then colophon attest IMAGE --type spdx", judge: (*Evidence).sbom},
	}},
	{"Build L2: a hosted platform signs", []step{
		{requirement: "build/authentic"},
		{requirement: "build/hosted"},
		{id: "step/actions-pinned", text: "What pipelines run or include from elsewhere is pinned: actions, reusable workflows, includes, pipes, tasks.", mend: "colophon lint --fix",
			rules: []string{"workflow/action-unpinned", "workflow/action-comment-wrong", "workflow/action-commit-unknown", "gitlab/include-unpinned", "bitbucket/pipe-unpinned", "tekton/task-unpinned"}},
		{id: "step/images-pinned", text: "Images are pinned by digest: base images, and those that jobs run in.", mend: "colophon lint --fix",
			rules: []string{"dockerfile/base-by-tag", "dockerfile/base-latest", "dockerfile/unpinned-frontend", "*/image-by-tag"}},
		{id: "step/dependencies-locked", text: "Dependencies are locked, with hashes.", mend: "commit the lock files of the package managers, and let builds enforce them",
			rules: []string{"lock/missing", "lock/not-committed", "lock/out-of-date", "lock/without-hash", "lock/plain-http", "dockerfile/lock-not-enforced", "dockerfile/unpinned-dependencies"}},
	}},
	{"Build L3: a hardened platform", []step{
		{requirement: "build/isolated"},
		{requirement: "build/unforgeable"},
		{id: "step/jobs-apart", text: "No job that builds has tokens, secrets or a shared cache, and none runs text of strangers.", mend: "build, sign and release in separate jobs: colophon init",
			rules: []string{"*/build-with-token", "workflow/build-args-secret", "workflow/cache-in-release", "gitlab/cache-unprotected", "workflow/untrusted-checkout", "*/script-injection", "workflow/permissions-broad", "workflow/permissions-missing"}},
		{id: "step/policy", text: "A policy says which images may run, and the image meets it.", mend: "colophon policy init IMAGE; then colophon level IMAGE --policy FILE", judge: (*Evidence).policy},
	}},
	{"Source L2: history and provenance", nil},
	{"Source L3: continuous technical controls", nil},
	{"Source L4: two-party review", nil},
}

// roadmap judges each step of the way.
func (e *Evidence) roadmap(r *Report) []Phase {
	var out []Phase
	for i, part := range way {
		p := Phase{Title: part.title, Done: true}
		steps := part.steps
		if steps == nil {
			steps = sourceSteps(r, i-1) // the phase of Source L2 is the fourth
		}
		for _, s := range steps {
			j := e.judge(r, s)
			p.Steps = append(p.Steps, j)
			p.Done = p.Done && j.Status == Met
		}
		out = append(out, p)
	}
	return out
}

// sourceSteps are the requirements of a level of the Source track, and of those below it that no
// phase has.
func sourceSteps(r *Report, level int) (out []step) {
	for _, q := range r.Source.Requirements {
		if q.Level == level || level == 2 && q.Level == 1 {
			out = append(out, step{requirement: q.ID})
		}
	}
	return out
}

func (e *Evidence) judge(r *Report, s step) Step {
	switch {
	case s.requirement != "":
		for _, t := range []*Reached{r.Build, r.Source} {
			if t == nil {
				continue
			}
			for _, j := range t.Requirements {
				if j.ID == s.requirement {
					return Step{j.ID, j.Text, j.Status, j.Evidence, j.Mend}
				}
			}
		}
		i := slices.IndexFunc(table, func(q Requirement) bool { return q.ID == s.requirement })
		return Step{s.requirement, table[i].Text, NotKnown, "no image was verified", table[i].Mend}
	case s.judge != nil:
		status, evidence := s.judge(e)
		return Step{s.id, s.text, status, evidence, s.mend}
	}
	status, evidence := e.clean(s.rules)
	return Step{s.id, s.text, status, evidence, s.mend}
}

// unread are the rules of lint about files that were not read, or only in part.
var unread = []string{"lint/failed", "lint/unread", "*/syntax", "script/unread"}

// clean asks whether there is no finding of some rules.
func (e *Evidence) clean(rules []string) (Status, string) {
	if e.Lint == nil {
		return NotKnown, "no files of a repository were read: colophon level DIR"
	}
	if found := e.findings(rules); len(found) > 0 {
		return NotMet, listed(found)
	}
	if found := e.findings(unread); len(found) > 0 {
		return NotKnown, "not everything was read: " + listed(found)
	}
	for _, f := range e.Lint.Undecided {
		if isOf(f.Rule, rules) || isOf(f.Rule, unread) {
			return NotKnown, fmt.Sprintf("%s: %s [%s]", f.Position, f.Message, f.Rule)
		}
	}
	return Met, fmt.Sprintf("colophon lint checked %d files and found nothing against it", e.Lint.Checked)
}

// declared asks whether files say how something is built.
func (e *Evidence) declared() (Status, string) {
	if e.Lint == nil {
		return NotKnown, "no files of a repository were read: colophon level DIR"
	}
	var found []string
	for _, f := range e.Files {
		base := path.Base(f)
		switch {
		case slices.Contains([]string{".colophon.yaml", ".gitlab-ci.yml", "bitbucket-pipelines.yml", "Jenkinsfile"}, f), base == "Dockerfile", base == "Containerfile",
			slices.Contains([]string{".github/workflows", ".tekton"}, path.Dir(f)) && (path.Ext(f) == ".yml" || path.Ext(f) == ".yaml"):
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		return NotMet, "no Dockerfile, .colophon.yaml or workflow in the repository"
	}
	text := strings.Join(found[:min(3, len(found))], ", ")
	if n := len(found) - 3; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return Met, text
}

// link returns the status of a link of the verdict.
func (e *Evidence) link(name string) (Status, string) {
	if e.Verdict == nil {
		return NotKnown, "no image was verified: colophon level IMAGE"
	}
	for _, l := range e.Verdict.Links {
		switch {
		case l.Name != name:
		case l.Status == verify.Holds && e.Verdict.Outcome == verify.Accepted:
			return Met, l.Claim
		case l.Status == verify.Holds:
			return NotKnown, "the image is " + e.Verdict.Outcome.String() + ": " + e.Verdict.Why()
		case l.Status == verify.Broken, l.Status == verify.Absent:
			return NotMet, l.Reason
		default:
			return NotKnown, l.Reason
		}
	}
	return NotKnown, "not checked"
}

// sbom asks for the SBOM that verify demands or, where it demands none of a builder, for one that the
// policy demands as an attestation. The policy chose the signer, and not what is in the document.
func (e *Evidence) sbom() (Status, string) {
	status, evidence := e.link(verify.LinkSBOM)
	if status != NotKnown || e.Verdict == nil || e.Verdict.Outcome != verify.Accepted {
		return status, evidence
	}
	for _, l := range e.Verdict.Links {
		if l.Status == verify.Holds && (l.Carries == attest.PredicateSPDX || l.Carries == attest.PredicateCDX) {
			return Met, "the policy demands it, and what is in it was not read: " + l.Claim
		}
	}
	return status, evidence
}

// policy asks whether the image meets what somebody demands of it.
func (e *Evidence) policy() (Status, string) {
	switch {
	case e.Verdict == nil:
		return NotKnown, "no image was verified: colophon level IMAGE --policy FILE"
	case !e.Named:
		return NotKnown, "no policy was named; whether one is enforced where images run, this does not show"
	case e.Verdict.Outcome == verify.Accepted:
		return Met, "the policy accepts the image; whether it is enforced where images run, colophon kube status shows"
	case e.Verdict.Outcome == verify.Rejected:
		return NotMet, "the policy rejects the image: " + e.Verdict.Why()
	}
	return NotKnown, "the image is undecided: " + e.Verdict.Why()
}

// next returns the first 3 steps that are to be done: those that are known not to be done, then
// those of which it is not known. A step that the same findings show as one before it is left out.
func next(phases []Phase) []Step {
	out := []Step{}
	for _, want := range []Status{NotMet, NotKnown} {
		for _, p := range phases {
			for _, s := range p.Steps {
				again := s.Status == NotMet && slices.ContainsFunc(out, func(o Step) bool { return o.Evidence == s.Evidence })
				if s.Status == want && len(out) < 3 && !again {
					out = append(out, s)
				}
			}
		}
	}
	return out
}
