package source

import (
	"os"
	"path/filepath"
	"testing"
)

// TestReadCheckout: what is checked out, and no program of the repository's configuration runs.
func TestReadCheckout(t *testing.T) {
	r := newRepo(t)
	if c, err := ReadCheckout(t.Context(), r.dir); err == nil {
		t.Errorf("without a commit: got %+v", c)
	}
	commit := r.commit("a", "a\n")
	if c, err := ReadCheckout(t.Context(), r.dir); err != nil || *c != (Checkout{Ref: "refs/heads/main", Commit: commit}) {
		t.Errorf("got %+v, %v", c, err)
	}
	r.git("config", "remote.origin.url", "https://git.example.com/team/app")
	r.git("checkout", "-q", "--detach")
	ran := filepath.Join(t.TempDir(), "ran")
	for _, key := range []string{"core.fsmonitor", "core.sshCommand", "core.pager", "alias.config", "alias.rev-parse"} {
		r.git("config", key, "!touch "+ran)
	}
	if c, err := ReadCheckout(t.Context(), r.dir); err != nil || *c != (Checkout{Origin: "https://git.example.com/team/app", Commit: commit}) {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program of the repository's configuration ran")
	}
	// Another file that the configuration names is not read.
	other := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(other, []byte("[remote \"origin\"]\n\turl = https://evil.example.com/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.git("config", "include.path", other)
	if c, err := ReadCheckout(t.Context(), r.dir); err != nil || c.Origin != "https://git.example.com/team/app" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := ReadCheckout(t.Context(), t.TempDir()); err == nil {
		t.Error("a directory outside of git has a commit")
	}
}
