package release

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/dockerfile"
	"github.com/colophon-build/colophon/source"
)

// added is a git repository that the Dockerfile adds, at the commit that was fetched.
type added struct {
	builder.Added
	ref    string // as the Dockerfile has it
	commit source.Commit
}

// fetchAdded fetches the git repositories that the Dockerfile adds, as it fetches the source:
// a room has no git, and the record of its requests would show packs instead of a commit.
func (j *run) fetchAdded(ctx context.Context) error {
	if j.recipe.Builder != attest.BuildKit {
		return nil
	}
	named, err := j.namedGit(ctx)
	if err != nil {
		return err
	}
	for i, g := range named {
		var a added
		same := slices.IndexFunc(j.added, func(a added) bool { return a.Remote == g.Remote && a.ref == g.Ref })
		if same >= 0 { // whoever serves it cannot answer twice
			a = j.added[same]
		} else {
			a, err = j.fetchOne(ctx, g, fmt.Sprintf("added-%d", i))
		}
		if err == nil {
			a.Name, a.Dir = g.Name, g.Dir
			err = a.check(g)
		}
		if failed, ok := errors.AsType[*api.Error](err); ok {
			failed.Message = "ADD " + credential.URL(g.Remote) + ": " + failed.Message
			return failed
		} else if err != nil {
			return err
		}
		if same < 0 {
			j.emit(api.Event{Phase: "source", Line: fmt.Sprintf("ADD %s %s is %s", a.commit.URI, a.ref, a.commit.ID)})
		}
		j.added = append(j.added, a)
	}
	return nil
}

// namedGit returns the git repositories that the Dockerfile adds. A process apart reads the
// Dockerfile, without a network: for a repository over ssh the converter asks the host.
func (j *run) namedGit(ctx context.Context) ([]dockerfile.Git, error) {
	text, err := readInTree(j.tree, j.recipe.Dockerfile, maxDockerfile)
	if err != nil || !bytes.Contains(bytes.ToUpper(text), []byte("ADD")) {
		return nil, nil // the builder says what is wrong with the file
	}
	at, err := j.apart(taskDockerfile, "dockerfile", imageLimits)
	if err != nil {
		return nil, err
	}
	process, err := at.Start()
	if err != nil {
		return nil, err
	}
	defer process.Close()
	var a dockerfileAnswer
	if err := process.Do(ctx, dockerfile.Dockerfile{Text: text, Recipe: j.recipe, Epoch: j.commit.Time}, &a); err != nil {
		return nil, fmt.Errorf("reading %s: %w", j.recipe.Dockerfile, err)
	}
	if a.Wrong != "" {
		return nil, &api.Error{Message: a.Wrong, Hint: "docs/release.md says which git repositories a Dockerfile can add", Kind: api.Usage}
	}
	return a.Git, nil
}

type dockerfileAnswer struct {
	Git   []dockerfile.Git `json:"git,omitempty"`
	Wrong string           `json:"wrong,omitempty"` // why the platform cannot fetch one of them
}

func doDockerfile(ctx context.Context, raw json.RawMessage) (any, error) {
	var d dockerfile.Dockerfile
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	var a dockerfileAnswer
	var err error
	if a.Git, err = d.Git(ctx, d.Recipe.Platforms); err != nil {
		a.Wrong = err.Error()
	}
	return a, nil
}

// fetchOne fetches a repository into the directory dir of the work. If the build must follow
// a lock, the lock says which commit.
func (j *run) fetchOne(ctx context.Context, g dockerfile.Git, dir string) (a added, err error) {
	request := source.Request{URI: g.Remote, From: j.commit.URI, Ref: g.Ref}
	uri, err := source.Canonical(g.Remote)
	if err != nil {
		return a, &api.Error{Message: err.Error()}
	}
	if j.lock != nil {
		if request.Ref = j.lock.Commit(uri, g.Ref); request.Ref == "" {
			return a, &api.Error{Message: "the lock does not list the ref " + g.Ref + " of this git repository", Hint: "write a new lock with: colophon release --hermetic --write-lock FILE"}
		}
	}
	if request.Credential, err = j.Credentials.ForAdded(ctx, j.commit.URI, g.Remote); err != nil {
		return a, noLogin(err)
	}
	o := sourceOrder{Request: request, Git: filepath.Join(j.dir, dir, "git"), Tree: filepath.Join(j.dir, dir, "tree"), Bare: true}
	read, err := j.readRepository(ctx, dir, o)
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case err != nil:
		return a, &api.Error{Message: err.Error()}
	case read.Unknown != "":
		return a, &api.Error{Message: read.Unknown}
	case read.Commit.Signature.Status == source.Bad:
		return a, &api.Error{Message: fmt.Sprintf("the signature of the %s at %s is not valid for its content", read.Commit.Signature.Object, g.Ref)}
	}
	return added{builder.Added{Remote: g.Remote, Tree: o.Tree, Source: read.Tree}, g.Ref, read.Commit}, nil
}

// check returns an error if the repository is not what the Dockerfile wants to add, or lacks
// some of it.
func (a added) check(g dockerfile.Git) error {
	if !strings.HasPrefix(a.commit.ID, g.Checksum) && !strings.HasPrefix(a.commit.Tag, g.Checksum) {
		return &api.Error{Message: fmt.Sprintf("--checksum: got the commit %s, want %s", a.commit.ID, g.Checksum)}
	}
	dir := cmp.Or(g.Dir, ".")
	for _, u := range a.Source.Unresolved {
		if attest.Within(dir, u.Path) || attest.Within(u.Path, dir) {
			return &api.Error{Message: fmt.Sprintf("%q is %s", u.Path, u.Reason)}
		}
	}
	repository, err := os.OpenRoot(a.Tree)
	if err != nil {
		return err
	}
	defer repository.Close()
	root, err := builder.OpenContext(repository, g.Dir)
	if err != nil {
		return &api.Error{Message: err.Error()}
	}
	return root.Close()
}

// addedTrees returns what a builder gets of the repositories.
func (j *run) addedTrees() (trees []builder.Added) {
	for _, a := range j.added {
		trees = append(trees, a.Added)
	}
	return trees
}

// repositories returns the git repositories by address and ref, each once, without name and directory.
func (j *run) repositories() []added {
	list := slices.Clone(j.added)
	slices.SortStableFunc(list, func(a, b added) int {
		return cmp.Or(cmp.Compare(a.commit.URI, b.commit.URI), cmp.Compare(a.ref, b.ref))
	})
	return slices.CompactFunc(list, func(a, b added) bool { return a.commit.URI == b.commit.URI && a.ref == b.ref })
}

// gitDependencies returns the entries of the repositories and of their submodules in the
// provenance's resolvedDependencies.
func (j *run) gitDependencies() (deps []attest.ResourceDescriptor) {
	for _, a := range j.repositories() {
		deps = append(deps, attest.ResourceDescriptor{
			URI: attest.GitURI(a.commit.URI, a.commit.Ref), Digest: map[string]string{"gitCommit": a.commit.ID, "gitTree": a.commit.Tree},
		})
		deps = append(deps, submoduleDependencies(a.commit)...)
	}
	return deps
}

func submoduleDependencies(c source.Commit) (deps []attest.ResourceDescriptor) {
	for _, s := range c.Submodules {
		deps = append(deps, attest.ResourceDescriptor{Name: s.Path, URI: attest.GitURI(s.URI, ""), Digest: map[string]string{"gitCommit": s.Commit}})
	}
	return deps
}

// lockedGit returns the repositories as a lock lists them.
func (j *run) lockedGit() (git []builder.LockedGit) {
	for _, a := range j.repositories() {
		git = append(git, builder.LockedGit{URI: a.commit.URI, Ref: a.ref, Commit: a.commit.ID})
	}
	return git
}
