package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/forgehost"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/verify"
)

// hosted is a repository with one merged change request, on a server that speaks Gitea's API.
type hosted struct {
	t                    *testing.T
	url                  string
	base, proposed, main string
	answers              map[string]any
}

func newHosted(t *testing.T, token string) *hosted {
	t.Helper()
	h := &hosted{t: t}
	dir := t.TempDir()
	repo := filepath.Join(dir, "team", "app")
	git := func(args ...string) string {
		t.Helper()
		return gittest.Git(t, repo, args...)
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "base")
	h.base = git("rev-parse", "HEAD")
	git("checkout", "-q", "-b", "cache")
	if err := os.WriteFile(filepath.Join(repo, "cache.txt"), []byte("cache\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("add", ".")
	git("commit", "-q", "-m", "add a cache")
	h.proposed = git("rev-parse", "HEAD")
	git("update-ref", "refs/pull/7/head", h.proposed)
	git("checkout", "-q", "main")
	git("merge", "-q", "--no-ff", "-m", "merge 7", "cache")
	h.main = git("rev-parse", "HEAD")
	git("tag", "v1.2.0")
	git("branch", "-q", "-D", "cache")
	text, err := os.ReadFile("../../source/forge/testdata/gitea.json")
	if err == nil {
		h.answers, err = forgehost.Parse(string(text), "BASE", h.base, "HEAD", h.proposed, "RESULT", h.main)
	}
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", githttp.Handler(t, dir))
	mux.Handle("/api/v1/", forgehost.Handler(h.answers, token))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	h.url = s.URL + "/team/app"
	return h
}

// level runs the command and returns what it printed.
func (h *hosted) level(code int, args []string, says ...string) string {
	h.t.Helper()
	var out bytes.Buffer
	root := newRootCommand()
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(append([]string{"level", h.url}, args...))
	if got := execute(context.Background(), root); got != code {
		h.t.Errorf("%q: got exit code %d, want %d\n%s", args, got, code, out.String())
	}
	for _, s := range says {
		if !strings.Contains(out.String(), s) {
			h.t.Errorf("%q: want %q in\n%s", args, s, out.String())
		}
	}
	return out.String()
}

// TestLevel asks a real repository and a server that speaks Gitea's API.
func TestLevel(t *testing.T) {
	h := newHosted(t, "")
	gitea := func(args ...string) []string { return append([]string{"--forge", "gitea"}, args...) }
	h.level(exitOK, gitea(), "commit "+h.main+", refs/heads/main", "✓ L4  Two-party review", "approved by bob (account 3)", "SLSA Source L4, reviewers other than the author: 1")
	h.level(exitOK, gitea("--ref", "v1.2.0", "--min-source-level", "4", "--reviewers", "1"), "refs/tags/v1.2.0", "accepted")
	h.level(exitRejected, gitea("--min-source-level", "4", "--reviewers", "2"), "rejected", "reviewers other than the author: got 1, want 2")
	h.level(exitOK, gitea("--commit", h.main), "SLSA Source L4")
	h.level(exitFailure, gitea("--ref", "v9"), "v9")
	h.level(exitUsage, gitea("--commit", "abc"), "expected a full id")
	h.level(exitUsage, gitea("--min-source-level", "5"), "want 1 to 4")
	h.level(exitUsage, []string{"--forge", "bitbucket"}, "want one of")
	// Without a forge, nothing but the commit is known.
	h.level(exitOK, nil, "SLSA Source L1", "? L4  Two-party review", "up to L4", "hint: say which forge hosts it")
	h.level(exitUndecided, []string{"--min-source-level", "2"}, "undecided")

	var a struct {
		Outcome string `json:"outcome"`
		Source  struct {
			Level        int              `json:"level"`
			Requirements []map[string]any `json:"requirements"`
		} `json:"source"`
	}
	if err := json.Unmarshal([]byte(h.level(exitOK, gitea("--json"))), &a); err != nil || a.Source.Level != 4 || a.Outcome != "accepted" || len(a.Source.Requirements) != 12 {
		t.Errorf("got %+v, %v", a, err)
	}
	if got := h.level(exitOK, gitea("-q")); got != "4\n" {
		t.Errorf("-q: got %q", got)
	}

	// Who approves, and which rules there are, is what the forge says.
	reviews := h.answers["/api/v1/repos/team/app/pulls/7/reviews"].([]any)
	approval := reviews[1].(map[string]any)
	approval["commit_id"] = h.base
	h.level(exitRejected, gitea("--min-source-level", "4"), "✗ L4  Two-party review", "approved commit "+h.base[:12])
	approval["commit_id"] = h.proposed
	delete(h.answers, "/api/v1/repos/team/app/branch_protections/main")
	h.level(exitUndecided, gitea("--min-source-level", "2"), "the forge does not show")
	delete(h.answers, "/api/v1/repos/team/app/commits/"+h.main+"/pull")
	h.level(exitRejected, gitea("--min-source-level", "2"), "no merged change request has the commit: it was pushed")
}

// TestLevelToken: the token comes from a file, goes to the API, and is in no text.
func TestLevelToken(t *testing.T) {
	h := newHosted(t, "hunter2-hunter2")
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hunter2-hunter2\n")
	args := []string{"--forge", "gitea", "--forge-token-file", file, "--min-source-level", "4"}
	h.level(exitOK, args, "accepted")
	if out := h.level(exitUndecided, append(args[:2:2], "--min-source-level", "4"), "the forge does not show it"); strings.Contains(out, "hunter2") {
		t.Errorf("the token is printed: %s", out)
	}
	write("-----BEGIN hunter2\nKEY")
	if out := h.level(exitUsage, args, "holds no token"); strings.Contains(out, "hunter2") {
		t.Errorf("what is no token is printed: %s", out)
	}
}

// TestVerifyAsksForge: verify asks the forge only for a policy that demands something of the
// source, and only that of the repository that the policy names.
func TestVerifyAsksForge(t *testing.T) {
	h := newHosted(t, "")
	at, err := policy.ParseSource(h.url)
	if err != nil {
		t.Fatal(err)
	}
	o := sourceOptions{forge: forgeOptions{kind: "gitea"}}
	configured := func(o sourceOptions, want policy.SourceTrack) verify.TrackCheck {
		t.Helper()
		opts := verify.Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: at, SourceTrack: want}}}}
		if err := o.configure(&opts, time.Now()); err != nil {
			t.Fatal(err)
		}
		return opts.TrackCheck
	}
	demand := policy.SourceTrack{MinLevel: 3}
	if configured(o, policy.SourceTrack{}) != nil || configured(sourceOptions{offline: true}, demand) != nil || configured(sourceOptions{skip: true}, demand) != nil {
		t.Error("the forge is asked without a demand, or against the flags")
	}
	ask := configured(o, demand)
	if r, err := ask(t.Context(), h.url, "refs/tags/v1.2.0", h.main); err != nil || r.Level != 4 || r.Reviewers != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := ask(t.Context(), h.url+"2", "", h.main); err == nil {
		t.Error("another repository was asked")
	}
	if r, err := configured(sourceOptions{}, demand)(t.Context(), h.url, "refs/tags/v1.2.0", h.main); err != nil || r.Meets(3, 0) == nil || r.Possible != 4 {
		t.Errorf("a forge of unknown kind: got %+v, %v", r, err)
	}
	opts := verify.Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: at, SourceTrack: demand}}}}
	if err := (sourceOptions{forge: forgeOptions{kind: "svn"}}).configure(&opts, time.Now()); err == nil {
		t.Error("a kind that there is not passes")
	}
}

// TestTrackOfManyImages: the bounds on the requests about one commit are of that commit, and not
// shared by all images of a run.
func TestTrackOfManyImages(t *testing.T) {
	h := newHosted(t, "")
	at, err := policy.ParseSource(h.url)
	if err != nil {
		t.Fatal(err)
	}
	opts := verify.Options{Policy: policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: at, SourceTrack: policy.SourceTrack{MinLevel: 3}}}}}
	if err := (sourceOptions{forge: forgeOptions{kind: "gitea"}}).configure(&opts, time.Now()); err != nil {
		t.Fatal(err)
	}
	var images errgroup.Group
	images.SetLimit(3)
	for range 9 { // a look sends 13 requests, and may send 100
		images.Go(func() error {
			if r, err := opts.TrackCheck(t.Context(), h.url, "refs/tags/v1.2.0", h.main); err != nil || r.Level != 4 {
				return fmt.Errorf("got %+v, %v", r, err)
			}
			return nil
		})
	}
	if err := images.Wait(); err != nil {
		t.Error(err)
	}
}
