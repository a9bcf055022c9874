package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Proposal is a commit that was proposed for a branch, as a change request names it, and the
// commit that the branch pointed to afterwards.
type Proposal struct {
	URI     string // address of the repository
	Result  string // full id of the commit in the branch
	Head    string // full id of the proposed commit
	HeadRef string // full name of a ref under which the repository serves Head, such as refs/pull/7/head
	Steps   int    // number of proposed commits, or 0: if Result was rebased, so many commits are new

	Credential *Credential // authenticates to the repository; may be nil
}

// ErrOtherContent means that a commit has content that was not proposed.
var ErrOtherContent = errors.New("its content is not that of the proposed commit, merged into the branch")

// CheckMerged fails unless Result has exactly the content that the merge of Head into the
// branch has: it is Head, or it has the tree that git makes of Head and what the branch pointed
// to before, without a conflict. Head's own tree is not enough: it can undo what came into the
// branch meanwhile. Whoever merges could add something, and hosts then still report the
// change request as merged. It returns how Head became Result, for people. The error is
// ErrOtherContent if the content differs, and ErrLogin as that of Lookup; any other error says nothing about it.
func CheckMerged(ctx context.Context, p Proposal) (how string, err error) {
	if !isID(p.Result) || !isID(p.Head) {
		return "", fmt.Errorf("commits: got %q and %q, want full ids in lower case", p.Result, p.Head)
	}
	if p.Result == p.Head {
		return "it is the proposed commit itself", nil
	}
	rem, err := parseRemote(p.URI)
	if err != nil {
		return "", err
	}
	if rem.secret {
		return "", errCreds
	}
	g, err := newGit("")
	if err != nil {
		return "", err
	}
	defer g.Close()
	if g.dir, err = os.MkdirTemp(g.home, "repo-"); err != nil {
		return "", err
	}
	g.root, g.credential = g.dir, p.Credential
	how, err = g.merged(ctx, rem, p)
	if err = askedForLogin(err); err != nil {
		return "", fmt.Errorf("%s: %w", rem.canonical(), err)
	}
	return how, nil
}

func (g *git) merged(ctx context.Context, rem remote, p Proposal) (string, error) {
	if err := g.init(ctx, p.Result); err != nil {
		return "", err
	}
	fetch := []string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head"}
	wants := []string{"--", rem.address(), p.Result}
	if p.HeadRef == "" {
		wants = append(wants, p.Head)
	} else {
		wants = append(wants, "+"+p.HeadRef+":refs/colophon/head")
	}
	if _, err := g.remote(ctx, rem, append(fetch, wants...)...); err != nil {
		return "", err
	}
	o, err := g.objects(ctx)
	if err != nil {
		return "", err
	}
	defer o.Close()
	result, err := o.object(p.Result, "commit")
	if err != nil {
		return "", err
	}
	if _, err := o.object(p.Head, "commit"); err != nil {
		return "", err
	}
	if len(result.parents) == 2 && result.parents[1] != p.Head {
		return g.squashed(ctx, o, result, p)
	}
	bases, how, err := bases(o, result, p)
	if err != nil {
		return "", err
	}
	for _, base := range bases {
		tree, err := g.mergeTree(ctx, base, p.Head)
		if err != nil {
			return "", err
		}
		if tree == result.headers["tree"] {
			return how, nil
		}
	}
	return "", ErrOtherContent
}

// squashed examines a merge of another commit than Head: GitLab merges one commit that has all
// of Head.
func (g *git) squashed(ctx context.Context, o *objects, result *object, p Proposal) (string, error) {
	squash, err := o.object(result.parents[1], "commit")
	switch {
	case err != nil:
		return "", err
	case len(squash.parents) != 1:
		return "", ErrOtherContent
	}
	// It must start at what the branch had: what else it starts at, nobody reviewed.
	switch had, err := g.ancestor(ctx, squash.parents[0], result.parents[0]); {
	case err != nil:
		return "", err
	case !had:
		return "", ErrOtherContent
	}
	for _, merge := range []struct {
		ours, theirs string
		result       *object
	}{{squash.parents[0], p.Head, squash}, {result.parents[0], squash.id, result}} {
		tree, err := g.mergeTree(ctx, merge.ours, merge.theirs)
		if err != nil {
			return "", err
		}
		if tree != merge.result.headers["tree"] {
			return "", ErrOtherContent
		}
	}
	return "it is the merge of the proposed commit, squashed", nil
}

// bases returns the commits that the branch can have pointed to before the merge.
func bases(o *objects, result *object, p Proposal) (bases []string, how string, err error) {
	switch {
	case len(result.parents) == 2 && result.parents[1] == p.Head:
		return result.parents[:1], "it is the merge of the proposed commit", nil
	case len(result.parents) != 1: // of more than one branch, or of another
		return nil, "", ErrOtherContent
	}
	at := result
	for n := 1; n <= max(1, min(p.Steps, maxRebased)); n++ {
		if len(at.parents) != 1 {
			break
		}
		if n == 1 || n == p.Steps { // squashed to one commit, or rebased
			bases = append(bases, at.parents[0])
		}
		if at, err = o.object(at.parents[0], "commit"); err != nil {
			return nil, "", err
		}
	}
	return bases, "it is the proposed commit, squashed or rebased", nil
}

const maxRebased = 250 // commits of one change request that was rebased

// mergeTree returns the tree of the merge of two commits, or "" if they conflict.
func (g *git) mergeTree(ctx context.Context, ours, theirs string) (string, error) {
	out, err := g.local(ctx, "merge-tree", "--write-tree", "--no-messages", ours, theirs)
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
			return "", nil
		}
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
}
