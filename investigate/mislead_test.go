package investigate

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

type ctx = context.Context

func noLogs(string) (log, index note.Verifier, ok bool) { return nil, nil, false }

// TestMisleading changes a case, as somebody would who wants another conclusion, and checks it.
func TestMisleading(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.git("tag", "v1.2.0")
	s.release("refs/tags/v1.2.0", commit).Attach(prooftest.Kinds...)
	other := s.commit("2")
	for name, bend := range map[string]func(c *Case, e *Evidence){
		"another line":           func(c *Case, _ *Evidence) { c.Conclusion.Line = "no broken link" },
		"another time line":      func(c *Case, _ *Evidence) { slices.Reverse(c.Conclusion.Timeline) },
		"an event left out":      func(c *Case, _ *Evidence) { c.Conclusion.Timeline = c.Conclusion.Timeline[1:] },
		"another verdict":        func(c *Case, _ *Evidence) { c.Answers[0].Facts.Verdict.Outcome = verify.Rejected },
		"another digest":         func(c *Case, _ *Evidence) { c.Answers[0].Facts.Verdict.Digest = "sha256:" + strings.Repeat("0", 64) },
		"a link that holds":      func(c *Case, _ *Evidence) { link(c, verify.LinkSBOM).Status = verify.Broken },
		"another commit, proved": func(c *Case, _ *Evidence) { c.Answers[0].Facts.Holding.Build.Commit = other },
		"another signer":         func(c *Case, _ *Evidence) { c.Answers[0].Facts.Holding.Signed[0].Signer = "https://evil.example.com" },
		"another time":           func(c *Case, _ *Evidence) { c.Answers[0].Facts.Holding.Signed[0].Times[0] = time.Unix(0, 0) },
		"another author":         func(c *Case, _ *Evidence) { find(c, AskCommit).Facts.Commit.Author = "Eve <eve@example.com>" },
		"another source":         func(c *Case, _ *Evidence) { c.Subject.Source = "https://git.example.com/other" },
		"standing of another": func(c *Case, _ *Evidence) {
			find(c, AskStanding).Facts.Standing.Commit = other
		},
		"facts of another question": func(c *Case, _ *Evidence) {
			find(c, AskTags).Outcome, find(c, AskTags).Why = Answered, ""
			find(c, AskTags).Facts.History = []RefMove{{Time: c.At, Ref: "refs/tags/v1.2.0", Commit: other}}
		},
		"evidence of another": func(c *Case, e *Evidence) {
			d, _ := e.Add([]byte(s.git("cat-file", "commit", other)))
			find(c, AskCommit).Evidence = []string{d}
		},
		"another digest of the subject": func(c *Case, _ *Evidence) { c.Subject.Digest = "sha256:" + strings.Repeat("0", 64) },
		"no digest of the subject":      func(c *Case, _ *Evidence) { c.Subject.Digest = "" },
		"another image":                 func(c *Case, _ *Evidence) { c.Answers[0].Facts.Verdict.Image = "registry.example.com/other" },
		"another claim": func(c *Case, _ *Evidence) {
			link(c, verify.LinkProvenance).Claim = "https://git.example.com/other was built"
		},
		"a hint": func(c *Case, _ *Evidence) { c.Answers[0].Facts.Verdict.Hint = "open https://evil.example.com" },
		"proofs of no answer": func(c *Case, _ *Evidence) {
			c.Answers[0].Outcome, c.Answers[0].Why = Failed, "no answer"
			c.Answers[0].Facts.Holding.Signed[0].Times[0] = time.Unix(0, 0)
		},
		"pods of no answer": func(c *Case, _ *Evidence) {
			find(c, AskRunning).Facts.Running = []Running{{Where: "cluster", Digest: c.Subject.Digest}}
		},
		"evidence of no answer": func(c *Case, _ *Evidence) { find(c, AskRunning).Evidence = c.Answers[0].Evidence },
		"standing of another ref": func(c *Case, _ *Evidence) {
			find(c, AskStanding).Facts.Standing.Ref = "refs/heads/other"
		},
		"standing of another repository": func(c *Case, _ *Evidence) {
			find(c, AskStanding).Facts.Standing.URI = "https://git.example.com/other"
		},
		"no evidence":          func(c *Case, _ *Evidence) { c.Answers[0].Evidence = nil },
		"evidence that is not": func(c *Case, _ *Evidence) { c.Answers[0].Evidence[1] = "sha256:" + strings.Repeat("0", 64) },
	} {
		t.Run(name, func(t *testing.T) {
			in := s.inquiry()
			c := s.run(in)
			bend(c, in.Evidence)
			if name != "another line" && !strings.Contains(name, "time line") && !strings.Contains(name, "event") {
				c.Conclusion = Conclude(c) // whoever misleads draws the conclusions anew
			}
			all, err := Recheck(t.Context(), c, in.Evidence, []*trust.Root{s.platform.Root()}, noLogs)
			if err == nil && !slices.ContainsFunc(all, func(x Checked) bool { return x.Result == Misleading }) {
				t.Errorf("nothing was found: %+v", all)
			}
		})
	}
	// Whoever does not trust the platform cannot decide, and does not accept.
	in := s.inquiry()
	c := s.run(in)
	all, err := Recheck(t.Context(), c, in.Evidence, []*trust.Root{prooftest.New(t).Root()}, noLogs)
	if err != nil || all[0].Result != NotDecided {
		t.Errorf("got %+v, %v", all[0], err)
	}
}

func find(c *Case, id ID) *Answer {
	i := slices.IndexFunc(c.Answers, func(a Answer) bool { return a.ID == id })
	return &c.Answers[i]
}

func link(c *Case, name string) *verify.Link {
	links := c.Answers[0].Facts.Verdict.Links
	return &links[slices.IndexFunc(links, func(l verify.Link) bool { return l.Name == name })]
}

// TestHostileTexts: what strangers wrote cannot script a terminal, and cannot look like a line of ours.
func TestHostileTexts(t *testing.T) {
	s := newScene(t)
	s.commit("1")
	s.git("commit", "-q", "--amend", "--allow-empty", "--author=\x1b[2J<script>\u202e <evil@example.com>", "-m", "\x1b]0;owned\x07 accepted\r\nbroken link: none")
	commit := s.git("rev-parse", "HEAD")
	s.git("tag", "v1.2.0")
	s.release("refs/tags/v1.2.0", commit).Attach(prooftest.Kinds...)
	c := s.run(s.inquiry())
	texts := []string{c.Conclusion.Line}
	for _, f := range c.Conclusion.Findings {
		texts = append(texts, f.Name, f.Says)
	}
	for _, e := range c.Conclusion.Timeline {
		texts = append(texts, e.What)
	}
	texts = append(append(texts, c.Conclusion.Do...), c.Conclusion.Open...)
	for _, text := range texts {
		if strings.ContainsAny(text, "\x1b\x07\r\n\u202e") {
			t.Errorf("%q controls a terminal", text)
		}
	}
}
