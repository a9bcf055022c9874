package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestWhy: real images that are not accepted, and the first cause that is named for each.
func TestWhy(t *testing.T) {
	s := newStage(t)
	bare := s.unproven("team/bare", "v1")
	source := []string{"--skip-source", "--source", "git.example.com/team/app"}
	s.why(exitUndecided, s.image, source, verify.CauseNoRoot, "nobody is trusted on this machine", "colophon trust add URL")

	other := prooftest.New(t)
	other.URL = "https://other.example.com"
	s.run(exitOK, []string{"trust", "add", s.file("other.json", other.Document()), "--yes"})
	s.why(exitRejected, s.image, source, verify.CauseUntrusted, "does not trust the platform", "colophon trust add "+prooftest.URL)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})

	out, _ := s.say(exitOK, append([]string{"why", s.image}, source...)...)
	if !strings.Contains(out, "every link that you demand holds") {
		t.Errorf("accepted: got %q", out)
	}
	s.why(exitRejected, s.image, []string{"--skip-source", "--source", "git.example.com/team/ap'p"}, verify.CauseSource, "another repository, https://git.example.com/team/app", "colophon verify "+s.image+" --source https://git.example.com/team/app")
	s.why(exitRejected, s.image, append(source, "--ref", "v9"), verify.CauseRef, "is not that of the git ref", "--ref refs/tags/v1.2.0")
	s.why(exitRejected, s.image, append(source, "--commit", strings.Repeat("a", 40)), verify.CauseCommit, "another build", "git log --oneline aaa")
	s.why(exitRejected, s.image, append(source, "--min-level", "3"), verify.CauseLevel, "does not reach", "--explain")
	s.why(exitRejected, s.image, append(source, "--builder", "https://b.example.com/builders/x"), verify.CauseSigner, "another builder", "colophon inspect")
	s.why(exitRejected, s.image, append(source, "--target", "slim"), verify.CauseRecipe, "chose how it is built", "colophon verify --help")
	s.why(exitRejected, s.image, append(source, "--workflow-input", "dry=false"), verify.CauseInput, "started with another input", "--provenance")
	s.why(exitRejected, bare, source, verify.CauseMissing, "not released with a proof", "colophon inspect "+bare)
	s.why(exitUndecided, s.host+"/team/app:v9", source, verify.CauseNotFound, "name or the tag is wrong", "")

	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(denied.Close)
	at := strings.TrimPrefix(denied.URL, "http://")
	s.why(exitUndecided, at+"/team/app:v1", source, verify.CauseDenied, "not logged in", "docker login "+at)
	for what, answer := range map[string]http.HandlerFunc{
		"busy":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"turns": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v2/again", http.StatusFound) },
		"breaks": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte("{"))
		},
	} {
		t.Log(what)
		denied.Config.Handler = answer
		s.why(exitUndecided, at+"/team/app:v1", source, verify.CauseFailing, "the registry does not work now", "")
	}
	denied.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s.why(exitUndecided, at+"/team/app:v1", append(source, "--timeout", "100ms"), verify.CauseTimeout, "is slow", "")
	denied.Close()
	s.why(exitUndecided, at+"/team/app:v1", source, verify.CauseUnreachable, at+" is down", "curl -v https://"+at)

	changed := stageOf(t, func(r *prooftest.Release) { r.Provenance.BuildDefinition.BuildType = "https://example.com/x" })
	changed.run(exitOK, []string{"trust", "add", changed.file("root.json", changed.p.Document()), "--yes"})
	changed.why(exitRejected, changed.image, source, "", "contradicts the certificate", "--provenance")
}

// why fails unless the command gives this cause first, and the verdict has the kind.
func (s *stage) why(code int, image string, args []string, kind verify.CauseKind, words, run string) {
	s.t.Helper()
	out, _ := s.say(code, append([]string{"verify", image, "--json"}, args...)...)
	var v verify.Verdict
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatal(err)
	}
	if l, _ := v.Fault(); l.Cause.Kind != kind {
		s.t.Errorf("%s %v: got the cause %+v of %q, want %q", image, args, l.Cause, l.Reason, kind)
	}
	out, _ = s.say(code, append([]string{"why", image, "--json"}, args...)...)
	var e explained
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		s.t.Fatal(err)
	}
	if n := len(e.Likely); n < 2 || n > 3 || !strings.Contains(e.Likely[0].Cause, words) || !strings.Contains(e.Likely[0].Run, run) {
		s.t.Errorf("%s %v: got %+v, want two or three, first %q with %q", image, args, e.Likely, words, run)
	}
	text, said := s.say(code, append([]string{"why", image}, args...)...)
	if !strings.Contains(text, "1. "+e.Likely[0].Cause) || !strings.HasPrefix(text, e.Outcome.String()+": "+image+"\n") || said != "" {
		s.t.Errorf("%s %v: got %q and %q", image, args, text, said)
	}
}

// TestEveryCauseIsExplained: each kind of reason, and each link, has two or three likely
// causes, and each of them says what to check or run.
func TestEveryCauseIsExplained(t *testing.T) {
	all := map[string][]likely{}
	for _, kind := range verify.CauseKinds() {
		all[string(kind)] = likelyCauses[kind]
	}
	for _, name := range verify.LinkNames() {
		all["link "+name] = causesByLink[name]
	}
	if len(likelyCauses) != len(verify.CauseKinds()) {
		t.Errorf("got %d kinds in the table, want %d", len(likelyCauses), len(verify.CauseKinds()))
	}
	for name, list := range all {
		if len(list) < 2 || len(list) > 3 {
			t.Errorf("%s: got %d likely causes, want 2 or 3", name, len(list))
		}
		for i, c := range list {
			if c.Cause == "" || i == 0 && c.Check+c.Run == "" {
				t.Errorf("%s: got %+v, want a cause, and what to do about the first", name, c)
			}
		}
	}
}

// TestCommandsAreQuoted: a value that a stranger wrote is one word of the command.
func TestCommandsAreQuoted(t *testing.T) {
	l := verify.Link{Name: verify.LinkProvenance, Cause: verify.Cause{Kind: verify.CauseSource, Got: "https://git.example.com/x; rm -rf '$HOME' IMAGE"}}
	got := causesOf(&verify.Verdict{Image: "reg.example.com/a$(id)"}, l)[0].Run
	if want := `colophon verify 'reg.example.com/a$(id)' --source 'https://git.example.com/x; rm -rf '\''$HOME'\'' IMAGE'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
