package level_test

import (
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/level"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source/track"
	"github.com/colophon-build/colophon/verify"
)

// TestTable: the table has each requirement that packages provenance and source/track judge, with
// their levels, and two of the Source track that no look can show.
func TestTable(t *testing.T) {
	r := level.Of(level.Evidence{Lint: &lint.Report{}})
	want := map[string]int{"Safe expunging process": 0, "Source verification summary": 0}
	for _, q := range provenance.WithoutProvenance(provenance.NotKnown, "") {
		want[q.Name] = q.Level
	}
	for _, q := range track.Evaluate(track.Facts{}).Requirements {
		want[q.Name] = q.Level
	}
	ids := map[string]bool{}
	for _, q := range append(r.Build.Requirements, r.Source.Requirements...) {
		if at, ok := want[q.Name]; !ok || q.Level != at || q.Text == "" || q.Mend == "" || q.Spec == "" || ids[q.ID] || !strings.HasPrefix(q.ID, string(q.Track)+"/") {
			t.Errorf("got %+v, want level %d", q, at)
		}
		delete(want, q.Name)
		ids[q.ID] = true
	}
	if len(want) > 0 || len(ids) != 20 {
		t.Errorf("the table lacks %v, and has %d", want, len(ids))
	}
}

// TestRulesExist: each rule that the table and the roadmap name is one of lint's.
func TestRulesExist(t *testing.T) {
	known := lint.Rules(lint.Checkers(nil))
	named := level.RulesNamed()
	for _, pattern := range named {
		if !slices.ContainsFunc(known, func(r finding.Rule) bool { ok, err := path.Match(pattern, r.ID); return ok && err == nil }) {
			t.Errorf("lint has no rule %s", pattern)
		}
	}
	if len(named) < 15 {
		t.Errorf("got %d rules, want those of the roadmap", len(named))
	}
}

// met returns a verdict in which all requirements are met.
func met(outcome verify.Outcome) *verify.Verdict {
	v := &verify.Verdict{Outcome: outcome, Level: 3, Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Holds, Claim: "these bytes"}, {Name: verify.LinkSBOM, Status: verify.Holds, Claim: "an SBOM"}}}
	for _, q := range provenance.WithoutProvenance(provenance.IsMet, "") {
		q.Status, q.Evidence = provenance.IsMet, "shown"
		v.Requirements = append(v.Requirements, q)
	}
	return v
}

// TestNeverMoreThanVerify: an image has the level of its verdict, and none without acceptance:
// then no requirement is met and no box of the roadmap is ticked either.
func TestNeverMoreThanVerify(t *testing.T) {
	r := level.Of(level.Evidence{Verdict: met(verify.Accepted), Named: true})
	if r.Build.Level != 3 || r.Build.Possible != 3 || r.Source.Level != 0 {
		t.Errorf("accepted: got %+v", r.Build)
	}
	if s := step(t, r, "step/policy"); s.Status != level.Met {
		t.Errorf("the policy accepts: got %+v", s)
	}
	for _, outcome := range []verify.Outcome{verify.Rejected, verify.Undecided} {
		v := met(outcome)
		v.Links[0].Status, v.Links[0].Reason = verify.Broken, "other bytes"
		r := level.Of(level.Evidence{Verdict: v, Named: true})
		if r.Build.Level != 0 || outcome == verify.Rejected && r.Build.Possible != 0 {
			t.Errorf("%s: got Build L%d, up to L%d", outcome, r.Build.Level, r.Build.Possible)
		}
		for _, q := range r.Build.Requirements {
			if q.Status == level.Met || !strings.Contains(q.Evidence, outcome.String()) {
				t.Errorf("%s: got %+v", outcome, q)
			}
		}
		for _, p := range r.Roadmap {
			for _, s := range p.Steps {
				if s.Status == level.Met {
					t.Errorf("%s: got step %+v", outcome, s)
				}
			}
		}
	}
	demanded := met(verify.Accepted)
	demanded.Links = append(demanded.Links, verify.Link{Name: verify.LinkTrack, Status: verify.Holds, Claim: "Source L3 by a verifier"})
	r = level.Of(level.Evidence{Verdict: demanded, Named: true})
	if q := r.Source.Requirements[0]; r.Source.Level != 0 || q.Status != level.NotKnown || !strings.Contains(q.Evidence, "Source L3 by a verifier") {
		t.Errorf("the policy demands a Source level: got %+v", q)
	}
	low := met(verify.Accepted)
	low.Level = 1
	low.Requirements[4].Status = provenance.NotMet
	if r := level.Of(level.Evidence{Verdict: low}); r.Build.Level != 1 || r.Build.Possible != 1 {
		t.Errorf("L1: got %+v", r.Build)
	}
	if s := step(t, level.Of(level.Evidence{Verdict: met(verify.Accepted)}), "step/policy"); s.Status != level.NotKnown {
		t.Errorf("nobody named a policy: got %+v", s)
	}
}

func step(t testing.TB, r *level.Report, id string) level.Step {
	t.Helper()
	for _, p := range r.Roadmap {
		for _, s := range p.Steps {
			if s.ID == id {
				return s
			}
		}
	}
	t.Fatalf("the roadmap has no step %s", id)
	return level.Step{}
}

// TestSBOMOfSigner: an SBOM that the policy demands as an attestation counts if the image is accepted;
// another attestation, or the absence of an SBOM, does not, whatever the text of the link says.
func TestSBOMOfSigner(t *testing.T) {
	for _, c := range []struct {
		carries string
		status  verify.Status
		outcome verify.Outcome
		want    level.Status
	}{
		{attest.PredicateSPDX, verify.Holds, verify.Accepted, level.Met},
		{attest.PredicateCDX, verify.Holds, verify.Accepted, level.Met},
		{attest.PredicateSPDX, verify.Holds, verify.Rejected, level.NotKnown},
		{attest.PredicateSPDX, verify.Absent, verify.Accepted, level.NotKnown},
		{"https://example.com/review", verify.Holds, verify.Accepted, level.NotKnown},
		{"", verify.Holds, verify.Accepted, level.NotKnown}, // an attestation that the policy forbids
	} {
		v := met(c.outcome)
		v.Links[1] = verify.Link{Name: verify.LinkSBOM, Status: verify.NotAsked, Reason: "a policy that names a signer demands no SBOM"}
		v.Links = append(v.Links, verify.Link{Name: verify.LinkAttestation, Status: c.status, Claim: "https://spdx.dev/Document, by Ada", Carries: c.carries})
		if s := step(t, level.Of(level.Evidence{Verdict: v, Named: true}), "step/sbom"); s.Status != c.want {
			t.Errorf("%+v: got %+v", c, s)
		}
	}
}

// TestFilesShowNoLevel: whatever a repository contains, no requirement of the Build track is met;
// a finding shows that one is missed, also if a comment ignores it.
func TestFilesShowNoLevel(t *testing.T) {
	clean := &lint.Report{Checked: 3}
	r := level.Of(level.Evidence{Lint: clean, Files: []string{".github/workflows/release.yml", "Dockerfile"}})
	if r.Build.Level != 0 || r.Build.Possible != 3 {
		t.Errorf("got %+v", r.Build)
	}
	for _, q := range r.Build.Requirements {
		if q.Status != level.NotKnown {
			t.Errorf("got %+v, want it not known", q)
		}
	}
	for id, want := range map[string]level.Status{"step/declared": level.Met, "step/actions-pinned": level.Met, "step/jobs-apart": level.Met, "step/sbom": level.NotKnown, "step/policy": level.NotKnown} {
		if s := step(t, r, id); s.Status != want {
			t.Errorf("got %+v, want %s", s, want)
		}
	}
	broken := finding.Finding{Rule: "workflow/build-with-token", Position: finding.Position{File: ".github/workflows/release.yml", Line: 7}, Message: "it can sign"}
	for name, l := range map[string]*lint.Report{
		"found":   {Findings: []finding.Finding{broken}},
		"ignored": {Ignored: []lint.Ignored{{Finding: broken, Reason: "we know"}}},
	} {
		r := level.Of(level.Evidence{Lint: l})
		if r.Build.Possible != 2 || r.Build.Level != 0 {
			t.Errorf("%s: got %+v", name, r.Build)
		}
		if s := step(t, r, "step/jobs-apart"); s.Status != level.NotMet || !strings.Contains(s.Evidence, ".github/workflows/release.yml:7") {
			t.Errorf("%s: got %+v", name, s)
		}
		if s := step(t, r, "build/unforgeable"); s.Status != level.NotMet {
			t.Errorf("%s: got %+v", name, s)
		}
		// What an image shows counts more than what a repository contains.
		if r := level.Of(level.Evidence{Lint: l, Verdict: met(verify.Accepted)}); r.Build.Level != 3 {
			t.Errorf("%s: got %+v", name, r.Build)
		}
	}
	for name, l := range map[string]*lint.Report{
		"not read":  {Findings: []finding.Finding{{Rule: "lint/unread"}}},
		"undecided": {Undecided: []finding.Finding{{Rule: "workflow/action-unpinned"}}},
	} {
		if s := step(t, level.Of(level.Evidence{Lint: l}), "step/actions-pinned"); s.Status != level.NotKnown {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if s := step(t, level.Of(level.Evidence{Lint: clean}), "step/declared"); s.Status != level.NotMet {
		t.Errorf("no files: got %+v", s)
	}
}

// TestNext: the next steps are the first ones that are not done, those that are known not to be
// done before the others.
func TestNext(t *testing.T) {
	r := level.Of(level.Evidence{})
	if len(r.Next) != 3 || r.Next[0].ID != "step/declared" {
		t.Errorf("nothing known: got %+v", r.Next)
	}
	r = level.Of(level.Evidence{Lint: &lint.Report{Findings: []finding.Finding{{Rule: "workflow/action-unpinned"}, {Rule: "workflow/self-hosted-runner"}}}, Files: []string{"Dockerfile"}})
	var ids []string
	for _, s := range r.Next {
		ids = append(ids, s.ID)
	}
	if !slices.Equal(ids, []string{"build/hosted", "step/actions-pinned", "build/exists"}) {
		t.Errorf("got %q", ids)
	}
	if got := level.Of(level.Evidence{Verdict: met(verify.Accepted)}); got.Roadmap[0].Done || got.Roadmap[0].Steps[1].Status != level.Met {
		t.Errorf("a phase with a step that is not known is done: %+v", got.Roadmap[0])
	}
}

// TestLongEvidence: text of strangers is one line, and cut.
func TestLongEvidence(t *testing.T) {
	v := &verify.Verdict{Outcome: verify.Accepted, Requirements: provenance.WithoutProvenance(provenance.NotMet, strings.Repeat("x", 1<<20)+"\n")}
	r := level.Of(level.Evidence{Verdict: v, NoTrack: "a\nb\x1b[2J"})
	for _, q := range append(r.Build.Requirements, r.Source.Requirements...) {
		if len(q.Evidence) > 2010 || strings.ContainsAny(q.Evidence, "\n\x1b") {
			t.Errorf("got %d bytes: %.40q", len(q.Evidence), q.Evidence)
		}
	}
}

// TestRoadmapOfGuides: docs/level.md says where the boxes of a common roadmap are; each is a step,
// and each line is in the document.
func TestRoadmapOfGuides(t *testing.T) {
	page, err := os.ReadFile("../docs/level.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(page), "\n| they say | here |\n")
	if !ok {
		t.Fatal("docs/level.md has no such table")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var said []string
	for _, row := range strings.Split(table, "\n")[1:] {
		cells := strings.Split(row, "|")
		id := strings.Split(cells[2], "`")[1]
		step(t, level.Of(level.Evidence{}), id)
		said = append(said, strings.TrimSpace(cells[1]))
	}
	guide, err := os.ReadFile("../../shared/seeds/004_161cdf5c4477fc21.txt")
	if err != nil {
		t.Skipf("NOT ASKED FOR: the document is not beside this checkout: %v", err)
	}
	var boxes []string
	for line := range strings.Lines(string(guide)) {
		if box, ok := strings.CutPrefix(line, "- [ ] "); ok {
			boxes = append(boxes, strings.TrimSpace(box))
		}
	}
	if !slices.Equal(said, boxes) {
		t.Errorf("docs/level.md has\n%q\nthe document\n%q", said, boxes)
	}
}
