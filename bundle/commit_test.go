package bundle

import (
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
)

// TestCommitSubject: a statement about a commit is about that commit alone.
func TestCommitSubject(t *testing.T) {
	commit := strings.Repeat("c", 40)
	vsa := attest.SourceVSA("https://git.example.com/team/app", 3, 1, time.Now())
	vsa.Verifier.ID, vsa.Policy.URI = "https://example.com/source", "https://example.com/policy"
	raw, err := attest.NewSourceStatement(commit, []string{"refs/heads/main"}, vsa)
	if err != nil {
		t.Fatal(err)
	}
	st, err := attest.ParseStatement(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := attest.ParseVSA(st.Predicate); err != nil || got.SourceLevel() != 3 || got.Reviewers() != 1 || got.ResourceURI != "git+https://git.example.com/team/app" {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, c := range []struct {
		algorithm, id string
		good          bool
	}{
		{attest.GitCommit, commit, true},
		{attest.GitCommit, strings.Repeat("d", 40), false},
		{attest.GitCommit, commit[:12], false},
		{attest.GitCommit, commit + strings.Repeat("0", 24), false},
		{attest.GitCommit, "", false},
		{"sha256", commit + strings.Repeat("0", 24), false},
		{"sha1", commit, false},
		{"gitTree", commit, false},
	} {
		subject := Subject{Digest: v1.Hash{Algorithm: c.algorithm, Hex: c.id}}
		sums, err := subject.sums(nil)
		if err == nil {
			err = aboutSums(st, subject, sums)
		}
		if (err == nil) != c.good {
			t.Errorf("%s:%s: got %v, want good: %v", c.algorithm, c.id, err, c.good)
		}
	}
}
