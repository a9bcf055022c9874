package investigate

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// scene is an image, its repository, and who investigates.
type scene struct {
	t        testing.TB
	platform *prooftest.Platform
	store    *prooftest.Store
	dir      string // of the repository
	uri      string
}

func newScene(t testing.TB) *scene {
	s := &scene{t: t, platform: prooftest.New(t), store: prooftest.NewStore(t), dir: filepath.Join(t.TempDir(), "repo")}
	s.git("init", "-q", "-b", "main")
	s.uri = source.FileURI(s.dir)
	return s
}

func (s *scene) git(args ...string) string {
	s.t.Helper()
	env := []string{"GIT_AUTHOR_DATE=1700000000 +0100", "GIT_COMMITTER_NAME=Bob", "GIT_COMMITTER_EMAIL=bob@example.com", "GIT_COMMITTER_DATE=1700000060 +0100"}
	return gittest.With(s.t, env, s.dir, args...)
}

func (s *scene) commit(text string) string {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "a"), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.git("add", "a")
	s.git("commit", "-q", "-m", "change "+text)
	return s.git("rev-parse", "HEAD")
}

// release attaches the proofs that the image was built from a commit.
func (s *scene) release(ref, commit string) *prooftest.Release {
	r := s.platform.Release(s.store)
	r.Identity.SourceURI, r.Identity.Ref, r.Identity.Commit = s.uri, ref, commit
	r.Parameters.Source = attest.SourceParameters{URI: s.uri, Ref: ref, Commit: commit}
	dep := &r.Provenance.BuildDefinition.ResolvedDependencies[0]
	dep.URI, dep.Digest["gitCommit"], dep.Digest["gitTree"] = attest.GitURI(s.uri, ref), commit, s.git("rev-parse", commit+"^{tree}")
	return r
}

func (s *scene) inquiry() *Inquiry {
	in := &Inquiry{
		Subject: Subject{Kind: Image, Name: "registry.example.com/team/app:v1.2.0", Source: s.uri}, At: s.platform.Now, By: "test",
		Trust: []*trust.Root{s.platform.Root()}, Evidence: &Evidence{}, Askers: RepositoryAskers(source.Lookup),
	}
	in.Askers[AskChain] = ChainAsker(s.store, "v1.2.0", false)
	in.Askers[AskSources] = SourcesAsker(GitCheckout)
	return in
}

func (s *scene) run(in *Inquiry) *Case {
	s.t.Helper()
	c, err := Run(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// recheck fails the test unless the evidence gives the same answers again.
func (s *scene) recheck(c *Case, e *Evidence) {
	s.t.Helper()
	all, err := Recheck(s.t.Context(), c, e, []*trust.Root{s.platform.Root()}, noLogs)
	if err != nil {
		s.t.Error(err)
	}
	for _, x := range all {
		if x.Result == Misleading || x.Result == NotDecided {
			s.t.Errorf("%s: %s: %s", x.ID, x.Result, x.Why)
		}
	}
}

func TestWhole(t *testing.T) {
	s := newScene(t)
	commit := s.commit("1")
	s.git("tag", "v1.2.0")
	s.release("refs/tags/v1.2.0", commit).Attach(prooftest.Kinds...)
	in := s.inquiry()
	in.First = func(line string) { t.Errorf("a broken link was announced: %s", line) }
	c := s.run(in)
	if c.Conclusion.State != Whole || !strings.Contains(c.Conclusion.Line, s.uri+"@"+commit) {
		t.Errorf("got %+v", c.Conclusion)
	}
	if o := c.Answer(AskCommit).Facts.Commit; o == nil || o.Author != "Ada <ada@example.com>" || o.Committer != "Bob <bob@example.com>" || o.Title != "change 1" {
		t.Errorf("got %+v", o)
	}
	if n := len(c.Conclusion.Timeline); n < 4 || c.Conclusion.Timeline[0].Basis != Claimed || c.Conclusion.Timeline[n-1].What != "investigated" && !c.Conclusion.Timeline[n-1].Time.After(c.At) {
		t.Errorf("got %+v", c.Conclusion.Timeline)
	}
	if len(c.Conclusion.Open) == 0 || c.Answer(AskRunning).Outcome != NotAsked || c.Answer(AskRunning).Why == "" {
		t.Error("what could not be asked is not said")
	}
	s.recheck(c, in.Evidence)
}

// TestBrokenLinks rewrites the repository and the proofs, and looks for the broken link.
func TestBrokenLinks(t *testing.T) {
	for name, tc := range map[string]struct {
		ref  string
		bend func(s *scene, commit string)
		line string
	}{
		"a tag that moved":         {"refs/tags/v1.2.0", func(s *scene, _ string) { s.commit("2"); s.git("tag", "-f", "v1.2.0") }, "broken link: standing: the tag was moved"},
		"a tag that is gone":       {"refs/tags/v1.2.0", func(s *scene, _ string) { s.git("tag", "-d", "v1.2.0") }, "broken link: standing: the tag was deleted"},
		"a branch that was forced": {"refs/heads/main", func(s *scene, commit string) { s.git("reset", "-q", "--hard", commit+"^"); s.commit("evil") }, "broken link: standing: force-push: the history of refs/heads/main was replaced"},
		"a branch set back":        {"refs/heads/main", func(s *scene, commit string) { s.git("reset", "-q", "--hard", commit+"^") }, "broken link: standing: force-push: refs/heads/main was set back"},
		"a rewritten history": {"refs/heads/main", func(s *scene, commit string) {
			s.git("reset", "-q", "--hard", commit+"^")
			s.commit("evil")
			s.git("tag", "-d", "v1.2.0")
			s.git("reflog", "expire", "--expire=now", "--all")
			s.git("gc", "-q", "--prune=now")
		}, "broken link: standing: rewritten history: refs/heads/main leads to"},
		"a branch that is gone": {"refs/heads/topic", func(s *scene, commit string) {}, "broken link: standing: the branch was deleted"},
		"no signature":          {"", nil, "broken link: signature:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.git("config", "uploadpack.allowAnySHA1InWant", "true")
			s.commit("0")
			commit := s.commit("1")
			s.git("tag", "v1.2.0")
			if tc.ref == "refs/heads/topic" { // main never has it
				s.git("reset", "-q", "--hard", commit+"^")
			}
			r := s.platform.Release(s.store)
			if tc.bend != nil {
				r = s.release(tc.ref, commit)
				r.Attach(prooftest.Kinds...)
				tc.bend(s, commit)
			}
			_ = r
			in := s.inquiry()
			first := ""
			in.First = func(line string) { first = line }
			c := s.run(in)
			if c.Conclusion.State != Broken || !strings.HasPrefix(c.Conclusion.Line, tc.line) || first != c.Conclusion.Line {
				t.Errorf("got %s, %q, announced %q; want %q", c.Conclusion.State, c.Conclusion.Line, first, tc.line)
			}
			if len(c.Conclusion.Do) == 0 {
				t.Error("it is not said what to do")
			}
			s.recheck(c, in.Evidence)
		})
	}
}

// TestSeveralCommits: an image has proofs of two repositories. What is concluded is about the one that is
// expected, whichever comes first, and the other one is named.
func TestSeveralCommits(t *testing.T) {
	const evil = "https://git.example.com/evil"
	first := map[bool]bool{} // whether the proof of evil came first
	for range 40 {
		s := newScene(t)
		commit := s.commit("1")
		s.git("tag", "v1.2.0")
		s.release("refs/tags/v1.2.0", commit).Attach(prooftest.Kinds...)
		r := s.release("refs/tags/v1.2.0", commit)
		r.Identity.SourceURI, r.Parameters.Source.URI = evil, evil
		r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(evil, "refs/tags/v1.2.0")
		r.Attach(prooftest.Kinds...)
		in := s.inquiry()
		in.Subject.Source = ""
		c := s.run(in)
		if c.Conclusion.State != Undecided || !strings.Contains(c.Conclusion.Line, "--source says which") {
			t.Fatalf("without a source: got %+v", c.Conclusion)
		}
		came := buildOf(c).Source == evil
		if first[came] {
			continue
		}
		first[came] = true
		in = s.inquiry()
		c = s.run(in)
		if c.Conclusion.State != Whole || !strings.Contains(c.Conclusion.Line, s.uri+"@"+commit+"; proofs name 1 other commits too") {
			t.Errorf("got %+v", c.Conclusion)
		}
		if a := c.Answer(AskStanding); a.Outcome != Answered {
			t.Errorf("the repository was not asked: %s", a.Why)
		}
		i := slices.IndexFunc(c.Conclusion.Findings, func(f Finding) bool { return f.Name == OtherBuilds })
		if i < 0 || !strings.Contains(c.Conclusion.Findings[i].Says, evil+"@"+commit) {
			t.Errorf("got %+v", c.Conclusion.Findings)
		}
		s.recheck(c, in.Evidence)
		find(c, AskChain).Facts.Others = nil
		c.Conclusion = Conclude(c)
		if all, err := Recheck(t.Context(), c, in.Evidence, in.Trust, noLogs); err == nil && all[0].Result != Misleading {
			t.Error("a case that leaves out the other commit was not found")
		}
		if len(first) == 2 {
			return
		}
	}
	t.Error("the proofs came in the same order each time")
}

// TestPolicyOfAnotherSource: a policy that does not demand the expected source decides nothing.
func TestPolicyOfAnotherSource(t *testing.T) {
	s := newScene(t)
	s.release("refs/tags/v1.2.0", s.commit("1")).Attach(prooftest.Kinds...)
	in := s.inquiry()
	in.Subject.Source, in.Policy = "https://git.example.com/other", policy.Document{AnySource: true}
	if c := s.run(in); c.Conclusion.State != Undecided {
		t.Errorf("got %+v", c.Conclusion)
	}
}

// TestOnlyNamedRepositories: evidence may name any host, and none of them is asked.
func TestOnlyNamedRepositories(t *testing.T) {
	s := newScene(t)
	s.release("refs/tags/v1.2.0", s.commit("1")).Attach(prooftest.Kinds...)
	for named, why := range map[string]string{"": "--source names no repository", "https://git.example.com/other": "which --source does not"} {
		in := s.inquiry()
		in.Subject.Source = named
		maps.Copy(in.Askers, RepositoryAskers(func(_ ctx, q source.Question) (source.Standing, error) {
			t.Errorf("%s was asked", q.URI)
			return source.Standing{}, nil
		}))
		if a := s.run(in).Answer(AskStanding); a.Outcome != NotAsked || !strings.Contains(a.Why, why) {
			t.Errorf("%q: got %s: %s", named, a.Outcome, a.Why)
		}
	}
}

// TestUndecided: what could not be read breaks nothing, and proves nothing.
func TestUndecided(t *testing.T) {
	s := newScene(t)
	s.release("refs/tags/v1.2.0", s.commit("1")).Attach(prooftest.Kinds...)
	s.store.FailListing = os.ErrDeadlineExceeded
	in := s.inquiry()
	c := s.run(in)
	if c.Conclusion.State != Undecided || c.Answer(AskChain).Facts.Verdict.Outcome != verify.Undecided {
		t.Errorf("got %+v", c.Conclusion)
	}
	s.recheck(c, in.Evidence)
}

func (s *scene) blob(d v1.Descriptor) []byte {
	s.t.Helper()
	body, err := s.store.Blob(s.t.Context(), d)
	if err != nil {
		s.t.Fatal(err)
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// TestIncidentPage: docs/incident.md names the questions that answer the guide's steps, and the first
// line that it shows is one that an investigation gives.
func TestIncidentPage(t *testing.T) {
	raw, err := os.ReadFile("../docs/incident.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	table, _, ok := strings.Cut(page, "What the guide does not ask")
	_, table, named := strings.Cut(table, "line by line")
	if !ok || !named {
		t.Fatal("the page has no table of steps")
	}
	for _, id := range []ID{AskChain, AskStanding, AskCommit, AskReview, AskHistory, AskSources, AskSameDigest, AskSameCommit, AskSameSource, AskSameIdentity} {
		if !strings.Contains(table, "`"+string(id)+"`") {
			t.Errorf("the table does not name %q", id)
		}
	}
	_, says := Standing{Ref: "refs/heads/main", Status: source.RefRewritten, There: true, Now: "77c1…"}.finding()
	if !strings.Contains(page, "broken link: standing: "+says) {
		t.Errorf("the page does not show %q", says)
	}
	for _, q := range QuestionsAbout(Image) {
		if nobody[q.ID] == "" && q.ID != AskChain {
			t.Errorf("%s: it is not said why nobody was asked", q.ID)
		}
	}
}

// TestRunbook: each answer that the page about incidents names for a step of the guide is one of a case.
func TestRunbook(t *testing.T) {
	page, err := os.ReadFile("../docs/incident.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| the guide's step |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := strings.Split(table, "\n")[2:]
	if len(rows) != 11 {
		t.Errorf("got %d rows, want one for each step and each line of the checklist", len(rows))
	}
	member := reflect.TypeFor[Facts]()
	has := func(of reflect.Type, name string) (reflect.Type, bool) {
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		for field := range of.Fields() {
			if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag == name {
				return field.Type, true
			}
		}
		return nil, false
	}
	for _, row := range rows {
		cells := strings.Split(row, "|")
		for name := range strings.SplitSeq(cells[len(cells)-2], ",") {
			id, path, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(name), "`", ""), ": ")
			if id == "conclusion.line" || id == "holding.signed" {
				continue
			}
			if !slices.ContainsFunc(questions, func(q struct {
				Question
				about []Kind
			}) bool {
				return string(q.ID) == id
			}) {
				t.Errorf("there is no answer %q: %s", id, row)
			}
			of, ok := member, true
			for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
				if of, ok = has(of, part); !ok {
					t.Errorf("an answer has no %q: %s", path, row)
					break
				}
			}
		}
	}
}
