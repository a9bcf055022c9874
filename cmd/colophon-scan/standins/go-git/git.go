// Package git stands in for github.com/go-git/go-git/v5, with which Syft clones repositories to
// search them for licenses and vcpkg manifests. A scan clones nothing and opens no repository of
// the machine that its input names, so this package has the API that Syft uses, and refuses.
package git

import (
	"context"
	"errors"
	"io"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage"
)

var errNone = errors.New("this program reads no git repositories")

// CloneOptions would say what to clone.
type CloneOptions struct {
	URL           string
	ReferenceName plumbing.ReferenceName
	SingleBranch  bool
	Depth         int
	Progress      io.Writer
}

// CheckoutOptions would say what to check out.
type CheckoutOptions struct{ Hash plumbing.Hash }

// Repository would be a repository; none can be had.
type Repository struct{ Storer storage.Storer }

// Worktree would be the files of a Repository.
type Worktree struct{}

// Clone returns an error.
func Clone(storage.Storer, billy.Filesystem, *CloneOptions) (*Repository, error) {
	return nil, errNone
}

// CloneContext returns an error.
func CloneContext(context.Context, storage.Storer, billy.Filesystem, *CloneOptions) (*Repository, error) {
	return nil, errNone
}

// Open returns an error.
func Open(storage.Storer, billy.Filesystem) (*Repository, error) { return nil, errNone }

// PlainOpen returns an error.
func PlainOpen(string) (*Repository, error) { return nil, errNone }

// CommitObject returns an error.
func (*Repository) CommitObject(plumbing.Hash) (*object.Commit, error) { return nil, errNone }

// TreeObject returns an error.
func (*Repository) TreeObject(plumbing.Hash) (*object.Tree, error) { return nil, errNone }

// ResolveRevision returns an error.
func (*Repository) ResolveRevision(plumbing.Revision) (*plumbing.Hash, error) { return nil, errNone }

// Worktree returns an error.
func (*Repository) Worktree() (*Worktree, error) { return nil, errNone }

// Checkout returns an error.
func (*Worktree) Checkout(*CheckoutOptions) error { return errNone }
