package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/prooftest"
)

const roomOfL3 = `{"zones":"separate users","namespaces":"user mount pid ipc uts cgroup network","reach":"public","cacheMounts":"empty"}`

// levels are what a JSON answer of level, or a verdict, says.
type levels struct {
	Outcome string
	Level   int // of verify
	Build   struct{ Level, Possible int }
	Source  struct{ Level int }
	Next    []struct{ ID string }
}

// answers runs level and verify about the same image with the same flags, and fails the test if
// level says more than verify: the outcome is verify's, and the level at most.
func (s *stage) answers(code int, image string, flags ...string) (l levels) {
	s.t.Helper()
	asked := append([]string{"level", image, "--json"}, flags...)
	out, _ := s.say(code, asked...)
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		s.t.Fatal(err)
	}
	if len(flags) == 0 {
		flags = []string{"--any-source"}
	}
	var v levels
	cmd := append([]string{"verify", image, "--json", "--skip-source"}, flags...)
	out, _ = s.say(code, cmd...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatal(err)
	}
	if l.Outcome != v.Outcome || l.Build.Level > v.Level || v.Outcome == "accepted" && l.Build.Level != v.Level {
		s.t.Errorf("%q: level says %s, Build L%d; verify says %s, L%d", asked, l.Outcome, l.Build.Level, v.Outcome, v.Level)
	}
	return l
}

// TestLevelOfImage: images of a platform at L3, and of one that says of itself what a laptop says.
func TestLevelOfImage(t *testing.T) {
	for name, tt := range map[string]struct {
		trusted int
		room    string
		want    int
	}{
		"sealed room":                            {3, roomOfL3, 3},
		"a laptop":                               {1, strings.Replace(roomOfL3, "separate users", attest.OneUser, 1), 1},
		"a laptop that says it is a sealed room": {1, roomOfL3, 1},
		"trusted, and says nothing":              {3, "{}", 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := stageWith(t, func(p *prooftest.Platform, _ *prooftest.Store, r *prooftest.Release) {
				p.Level = tt.trusted
				r.Provenance.BuildDefinition.InternalParameters = json.RawMessage(tt.room)
			})
			s.run(exitUndecided, []string{"level", s.image}, "SLSA Build L0", "undecided", "trust root")
			s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
			if l := s.answers(exitOK, s.image); l.Build.Level != tt.want {
				t.Errorf("got Build L%d, want L%d", l.Build.Level, tt.want)
			}
			if got := s.run(exitOK, []string{"level", s.image, "-q"}); got != string(rune('0'+tt.want))+"\n" {
				t.Errorf("-q: got %q", got)
			}
			s.run(exitOK, []string{"level", s.image, "--min-build-level", string(rune('0' + tt.want))}, "accepted", "the repository was not asked: name it with --source")
			if tt.want < 3 {
				s.run(exitRejected, []string{"level", s.image, "--min-build-level", "3"}, "expected 3, found")
			}
			s.run(exitUndecided, []string{"level", s.image, "--min-source-level", "1"}, "undecided")
		})
	}
}

// TestLevelAttacks: what an image says of itself, and what it does not prove, gives it no level.
func TestLevelAttacks(t *testing.T) {
	const evil = `</title><script>alert(1)</script>`
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		p.Level = 3
		// Somebody whom nobody trusts signs the same provenance of a sealed room.
		stranger := prooftest.New(t)
		stranger.Level = 3
		r := stranger.ReleaseOf(neighbour(t, store, "v6.6.6"))
		r.Provenance.BuildDefinition.InternalParameters = json.RawMessage(roomOfL3)
		for _, kind := range prooftest.Kinds {
			store.Attach(r.Image, stranger.Sign(r.Signer(), r.Statement(kind)), kind)
		}
		// The platform builds what calls its source so.
		named := p.ReleaseOf(neighbour(t, store, "v7.7.7"))
		named.Provenance.BuildDefinition.InternalParameters = json.RawMessage(`{"zones":"` + evil + `"}`)
		for _, kind := range prooftest.Kinds {
			store.Attach(named.Image, p.Sign(named.Signer(), named.Statement(kind)), kind)
		}
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	by := func(tag string) string { return s.host + "/team/app:" + tag }
	for image, code := range map[string]int{by("v6.6.6"): exitRejected, s.unproven("team/bare", "v1"): exitRejected, by("v9"): exitUndecided} {
		out := filepath.Join(t.TempDir(), "level.svg")
		if l := s.answers(code, image); l.Build.Level != 0 || len(l.Next) != 3 {
			t.Errorf("%s: got %+v", image, l)
		}
		s.run(code, []string{"level", image, "--report", "badge=" + out})
		if badge := string(read(t, out)); strings.Contains(badge, "Build L") {
			t.Errorf("%s: the badge is %s", image, badge)
		}
	}
	// The right builder, and another source or policy than the one that was demanded.
	for flags, code := range map[string]int{"git.example.com/team/app": exitOK, "git.example.com/team/other": exitRejected} {
		s.answers(code, s.image, "--source", flags)
	}
	p := s.file("policy.json", []byte(`{"source":"git.example.com/team/other"}`))
	if l := s.answers(exitRejected, s.image, "--policy", p); l.Build.Level != 0 {
		t.Errorf("the policy rejects: got Build L%d", l.Build.Level)
	}
	// Text of strangers becomes no markup.
	dir := t.TempDir()
	args := []string{"level", by("v7.7.7")}
	for _, format := range []string{"html", "markdown", "badge"} {
		args = append(args, "--report", format+"="+filepath.Join(dir, format))
	}
	s.run(exitOK, args, "SLSA Build L2")
	for format, want := range map[string]string{"html": "&lt;script&gt;", "markdown": "&lt;script>", "badge": "Build L2"} {
		if text := string(read(t, filepath.Join(dir, format))); strings.Contains(text, "<script") || !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", format, want, text)
		}
	}
}

// TestLevelOfPublicImages: images that GitHub built, in layouts that cosign saved.
func TestLevelOfPublicImages(t *testing.T) {
	const data = "../../../shared/data/github-container/"
	if _, err := os.Stat(data); err != nil {
		t.Skipf("NOT ASKED FOR: the layouts are not beside this checkout: %v", err)
	}
	s := trustSigstore(t)
	layout := data + "v2.0.0/container_workflow_dispatch"
	if l := s.answers(exitOK, layout, "--source", "github.com/slsa-framework/example-package", "--offline"); l.Build.Level != 3 || l.Source.Level != 0 {
		t.Errorf("got %+v", l)
	}
	s.run(exitOK, []string{"level", layout, "--offline"}, "SLSA Build L3", "the repository was not asked: --offline")
	s.answers(exitRejected, layout, "--source", "github.com/slsa-framework/example-packages", "--offline")
}

// TestLevelArguments: which argument is what, and which flags go with it.
func TestLevelArguments(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "layout"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "layout", "oci-layout"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]levelKind{
		"https://git.example.com/team/app": ofRepository, "git.example.com/team/app": ofRepository, "git.example.com:3000/team/app": ofRepository, "git@git.example.com:team/app": ofRepository,
		"r.example.com/app:v1": ofImage, "r.example.com:5000/app:v1": ofImage, "r.example.com/app@sha256:" + strings.Repeat("ab", 32): ofImage,
		"oci:" + dir: ofImage, filepath.Join(dir, "layout"): ofImage, dir: ofDirectory, ".": ofDirectory,
	} {
		if got, err := levelKindOf(what); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
		}
	}
	s := &stage{t: t}
	s.run(exitUsage, []string{"level", filepath.Join(dir, "gone")}, "no directory here")
	s.run(exitUsage, []string{"level", "r.example.com/app:v1", "--vsa", "x", "--verifier", "https://v.example.com"}, "does not go with an image")
	s.run(exitUsage, []string{"level", dir, "--policy", "p.json"}, "add --image IMAGE")
	s.run(exitUsage, []string{"level", "git.example.com/team/app", "--offline"}, "cannot be asked offline")
	s.run(exitUsage, []string{"level", dir, "--min-build-level", "4"}, "expected 1 to 3")
	s.run(exitUsage, []string{"level", dir, "--report", "pdf=x"}, "expected badge=FILE or html=FILE or markdown=FILE")
}

// TestLevelOfImageAndSource: the commit of an image is asked about where somebody named the
// repository, and nowhere else.
func TestLevelOfImageAndSource(t *testing.T) {
	h := newHosted(t, "")
	tree := gittest.Git(t, h.clone(nil), "rev-parse", "HEAD^{tree}")
	var asked atomic.Int64
	curious := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer curious.Close()
	s := stageWith(t, func(p *prooftest.Platform, store *prooftest.Store, _ *prooftest.Release) {
		for tag, source := range map[string]string{"hosted": h.url, "curious": curious.URL + "/team/app"} {
			r := p.ReleaseOf(neighbour(t, store, tag))
			r.Parameters.Source.URI, r.Identity.SourceURI = source, source
			r.Parameters.Source.Commit, r.Identity.Commit = h.main, h.main
			from := &r.Provenance.BuildDefinition.ResolvedDependencies[0]
			from.URI, from.Digest = attest.GitURI(source, prooftest.Ref), map[string]string{"gitCommit": h.main, "gitTree": tree}
			from.Annotations = nil
			for _, kind := range prooftest.Kinds {
				store.Attach(r.Image, p.Sign(r.Signer(), r.Statement(kind)), kind)
			}
		}
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	hosted, lure := s.host+"/team/app:hosted", s.host+"/team/app:curious"
	level := func(code int, image string, flags []string, words ...string) string {
		t.Helper()
		return s.run(code, append([]string{"level", image}, flags...), words...)
	}
	level(exitOK, hosted, []string{"--source", h.url, "--forge", "gitea", "--min-source-level", "4", "--reviewers", "1", "--min-build-level", "2"}, "SLSA Build L2", "SLSA Source L4", "approved by bob", "accepted")
	level(exitOK, hosted, []string{"--policy", s.file("p.json", []byte(`{"source":"`+h.url+`"}`)), "--forge", "gitea"}, "SLSA Source L4")
	level(exitRejected, hosted, []string{"--source", h.url, "--forge", "gitea", "--reviewers", "2"}, "got 1, want 2")
	level(exitUndecided, hosted, []string{"--reviewers", "1"}, "name it with --source")
	level(exitUsage, hosted, []string{"--signers", s.file("signers", []byte("x"))}, "--signers needs a repository to ask")
	rules := `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: app}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "` + s.host + `/team/app*"}]
      accept: [{built: {source: ` + h.url + `, minLevel: 2}}]
`
	level(exitOK, hosted, []string{"--policy", s.file("policy.yaml", []byte(rules))}, "SLSA Build L2", "accepted", "the policy is a set of rules")
	level(exitRejected, hosted, []string{"--policy", s.file("policy.yaml", []byte(strings.Replace(rules, "minLevel: 2", "minLevel: 3", 1)))}, "SLSA Build L0", "rejected")

	if out := level(exitOK, lure, []string{"--forge", "gitea"}, "SLSA Build L2", "name it with --source"); strings.Contains(out, "Source L1") || asked.Load() > 0 {
		t.Errorf("the host that an image names was asked %d times:\n%s", asked.Load(), out)
	}
	level(exitRejected, lure, []string{"--source", h.url, "--forge", "gitea"}, "SLSA Build L0")
	if asked.Load() > 0 {
		t.Errorf("the host that an image names was asked %d times", asked.Load())
	}
}
