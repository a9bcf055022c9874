package builder

import (
	"cmp"
	"fmt"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/source"
)

// LockedGit is a git repository that a Dockerfile adds, with the commit that it adds.
type LockedGit struct {
	URI    string `json:"uri"`    // source.Canonical(address)
	Ref    string `json:"ref"`    // as the Dockerfile names it; HEAD if it names none
	Commit string `json:"commit"` // full id
}

// Commit returns the commit that the lock lists for a repository's ref; "" if it lists none.
func (l *Lock) Commit(uri, ref string) string {
	for _, g := range l.Git {
		if g.URI == uri && g.Ref == ref {
			return g.Commit
		}
	}
	return ""
}

// checkGit returns an error if the list is not valid by spec/lock/v1.
func checkGit(list []LockedGit) error {
	for i, g := range list {
		switch canonical, err := source.Canonical(g.URI); {
		case err != nil:
			return fmt.Errorf("git %d: uri: %w", i+1, err)
		case canonical != g.URI:
			return fmt.Errorf("git %d: uri: got %q, want %q", i+1, g.URI, canonical)
		case g.Ref == "" || len(g.Ref) > limits.TreePath || !printable.IsField(g.Ref):
			return fmt.Errorf("git %d: ref: got %.100q, want the ref in the Dockerfile", i+1, g.Ref)
		case !source.IsCommitID(g.Commit):
			return fmt.Errorf("git %d: commit: got %.100q, want a full id", i+1, g.Commit)
		case i > 0 && compareGit(list[i-1], g) >= 0:
			return fmt.Errorf("git %d, %s %s, is out of order or repeated", i+1, g.URI, g.Ref)
		}
	}
	return nil
}

func compareGit(a, b LockedGit) int {
	return cmp.Or(cmp.Compare(a.URI, b.URI), cmp.Compare(a.Ref, b.Ref))
}
