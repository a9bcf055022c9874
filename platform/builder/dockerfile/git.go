package dockerfile

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"

	"github.com/colophon-build/colophon/internal/credential"
)

// Git is a git repository that a Dockerfile adds (ADD https://….git#v1:dir).
type Git struct {
	Name     string `json:"name"`               // BuildKit's: git://HOST/PATH#REF:DIR
	Remote   string `json:"remote"`             // the address
	Ref      string `json:"ref"`                // as source.Request has it
	Dir      string `json:"dir,omitempty"`      // the directory that is added; empty is all
	Checksum string `json:"checksum,omitempty"` // the beginning of the id that the commit or tag must have
}

// maxGit is the number of git repositories that a Dockerfile can add.
const maxGit = 16

// Git returns the git repositories that the Dockerfile adds for the platforms, each once. It
// returns an error for one that the attest zone cannot fetch for the build.
func (d Dockerfile) Git(ctx context.Context, platforms []string) (added []Git, err error) {
	for _, p := range platforms {
		for _, op := range d.Sources(ctx, p) {
			if !IsGit(op) {
				continue
			}
			g, err := newGit(op)
			if err != nil {
				return nil, fmt.Errorf("ADD %s: %w", credential.URL(op.Attrs[pb.AttrFullRemoteURL]), err)
			}
			if !slices.Contains(added, g) {
				added = append(added, g)
			}
		}
	}
	if len(added) > maxGit {
		return nil, fmt.Errorf("ADD: got %d git repositories, want at most %d", len(added), maxGit)
	}
	slices.SortFunc(added, func(a, b Git) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Remote, b.Remote), cmp.Compare(a.Checksum, b.Checksum))
	})
	return added, nil
}

// IsGit reports whether a source is a git repository.
func IsGit(op *pb.SourceOp) bool { return strings.HasPrefix(op.Identifier, "git://") }

func newGit(op *pb.SourceOp) (Git, error) {
	g := Git{Name: op.Identifier, Remote: op.Attrs[pb.AttrFullRemoteURL], Checksum: op.Attrs[pb.AttrGitChecksum]}
	_, fragment, _ := strings.Cut(op.Identifier, "#")
	ref, dir, _ := strings.Cut(fragment, ":")
	g.Ref, g.Dir = cmp.Or(ref, "HEAD"), strings.TrimPrefix(path.Join("/", dir), "/")
	switch scheme, _, _ := strings.Cut(g.Remote, "://"); {
	case scheme != "https" && scheme != "http":
		return g, fmt.Errorf("a git repository is added over https; make one that needs ssh a submodule")
	case op.Attrs[pb.AttrKeepGitDir] != "":
		return g, fmt.Errorf("--keep-git-dir is not supported, because the directory .git does not follow from the commit")
	case op.Attrs[pb.AttrGitSkipSubmodules] != "":
		return g, fmt.Errorf("submodules=false is not supported")
	case op.Attrs[pb.AttrGitFetchByCommit] != "":
		return g, fmt.Errorf("fetch-by-commit is not supported; name the commit as the ref")
	}
	return g, nil
}
