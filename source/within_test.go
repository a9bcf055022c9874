package source

import (
	"errors"
	"strings"
	"testing"
)

// TestCommitOfNoRef: that a host serves a commit is not enough. A branch or tag must have
// it in its history, when it is fetched and when it is asked for later.
func TestCommitOfNoRef(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	base := r.commit("a", "base")
	stray := r.commit("a", "of a fork")
	r.git("update-ref", "refs/pull/7/head", stray)
	r.git("reset", "-q", "--hard", base)
	tip := r.commit("a", "tip")
	r.git("checkout", "-q", "-b", "side", base)
	side := r.commit("b", "1")
	r.commit("b", "2")
	r.git("checkout", "-q", "-b", "tagged", base)
	old := r.commit("c", "1")
	r.commit("c", "2")
	r.git("tag", "-a", "-m", "v1", "v1")
	r.git("checkout", "-q", "main")
	r.git("branch", "-D", "tagged")
	r.git("tag", "tree", r.git("rev-parse", "HEAD^{tree}")) // a tag of something else
	for _, uri := range []string{r.uri(), r.serve()} {
		for commit, want := range map[string]string{
			tip: "refs/heads/main", base: "refs/heads/main", side: "refs/heads/side", old: "refs/tags/v1", stray: "",
		} {
			now, err := Lookup(t.Context(), Question{URI: uri, Commit: commit})
			if err != nil || !now.Commit || now.Within != want || now.Holds() != (want != "") {
				t.Errorf("%s: lookup of %s: got %+v, %v, want it within %q", uri, commit, now, err, want)
			}
			if said := now.String(); want == "" && !strings.Contains(said, "contained in no branch or tag") || !strings.Contains(said, want) {
				t.Errorf("got %q", said)
			}
			_, c, err := Fetch(t.Context(), t.TempDir(), Request{URI: uri, Ref: commit})
			if want != "" && (err != nil || c.Within != want || c.Ref != "") {
				t.Errorf("%s: fetch of %s: got %+v, %v, want it within %q", uri, commit, c, err, want)
			}
			if want == "" && (!errors.Is(err, ErrUnknownRef) || !strings.Contains(err.Error(), "contained in no branch or tag")) {
				t.Errorf("%s: fetch of %s: got %+v, %v, want it refused", uri, commit, c, err)
			}
		}
	}
}

// TestPullRequests: strangers can write refs that are neither branches nor tags.
func TestPullRequests(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.commit("a", "1")
	r.git("update-ref", "refs/pull/7/head", "HEAD")
	if _, c, err := Fetch(t.Context(), t.TempDir(), Request{URI: r.uri(), Ref: "refs/pull/7/head"}); !errors.Is(err, ErrUnknownRef) || !strings.Contains(err.Error(), "neither a branch nor a tag") {
		t.Errorf("got %+v, %v", c, err)
	}
}
