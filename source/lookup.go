package source

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// What became of a ref.
const (
	RefThere = "there" // leads to the commit
	RefMoved = "moved" // leads elsewhere
	RefGone  = "gone"  // is no more
)

// Standing is what a repository says today of a commit that it once gave.
type Standing struct {
	Commit bool   // the repository still serves it
	Ref    string // RefThere, RefMoved or RefGone; empty where no ref was asked about
	Now    string // commit that the ref leads to now; empty where it is gone
}

// Holds says that nothing changed.
func (s Standing) Holds() bool { return s.Commit && (s.Ref == "" || s.Ref == RefThere) }

// String is one line for people.
func (s Standing) String() string {
	line := "commit is there"
	if !s.Commit {
		line = "commit is no longer served"
	}
	switch s.Ref {
	case RefThere:
		line += ", its ref unchanged"
	case RefMoved:
		line += ", its ref leads to " + s.Now + " now"
	case RefGone:
		line += ", its ref is gone"
	}
	return line
}

// Lookup asks a repository, by the address and ref of a Commit, whether commit
// (hex) is still there and ref (full name, or empty) still leads to it. An error
// says that it could not be asked, which is neither yes nor no.
func Lookup(ctx context.Context, uri, ref, commit string) (Standing, error) {
	rem, err := parseRemote(uri)
	if err != nil {
		return Standing{}, err
	}
	if rem.secret {
		return Standing{}, errCreds
	}
	if !isID(commit) {
		return Standing{}, fmt.Errorf("got commit %q, want a full id in lower case", commit)
	}
	s, err := lookup(ctx, rem, ref, commit)
	if err != nil && ctx.Err() == nil && (rem.scheme == "https" || rem.scheme == "http") && rem.path == rem.bare() {
		// A canonical address has lost its .git, without which some servers
		// answer that there is no such repository.
		dotted := rem
		dotted.path += ".git"
		if t, err := lookup(ctx, dotted, ref, commit); err == nil {
			return t, nil
		}
	}
	if err != nil {
		return Standing{}, fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return s, nil
}

func lookup(ctx context.Context, rem remote, ref, commit string) (Standing, error) {
	g, err := newGit("")
	if err != nil {
		return Standing{}, err
	}
	defer g.Close()
	if err := g.refuseAlternates(ctx, rem); err != nil {
		return Standing{}, err
	}
	var s Standing
	if ref != "" {
		t, err := g.resolve(ctx, rem, ref)
		switch {
		case errors.Is(err, ErrUnknownRef):
			s.Ref = RefGone
		case err != nil:
			return Standing{}, err
		case t.commit != commit:
			s.Ref, s.Now = RefMoved, t.commit
		default:
			return Standing{Commit: true, Ref: RefThere, Now: commit}, nil
		}
	}
	dir, err := os.MkdirTemp(g.home, "repo-")
	if err != nil {
		return Standing{}, err
	}
	s.Commit, err = (&git{path: g.path, home: g.home, dir: dir, root: dir}).serves(ctx, rem, commit)
	return s, err
}

// serves asks for the bare commit, without trees where the server can leave
// them out.
func (g *git) serves(ctx context.Context, rem remote, commit string) (bool, error) {
	format := "sha1"
	if len(commit) == 64 {
		format = "sha256"
	}
	if _, err := (&git{path: g.path, home: g.home}).local(ctx, "init", "-q", "--bare", "--template=", "--object-format="+format, "--", g.dir); err != nil {
		return false, err
	}
	_, err := g.remote(ctx, rem, "fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance",
		"--no-write-fetch-head", "--depth=1", "--filter=tree:0", "--", rem.fetch(), commit)
	if says(err, "not our ref") {
		return false, nil
	}
	return err == nil, err
}
