package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// errNowhere means that no branch or tag has the commit in its history. Hosts serve such
// commits too: those of forks and of pull requests, which strangers write.
var errNowhere = errors.New("contained in no branch or tag")

// isBranchOrTag reports whether ref, a full name, is one that only those can write who may
// write to the repository. On many hosts, strangers can write others, such as
// refs/pull/7/head.
func isBranchOrTag(ref string) bool {
	return strings.HasPrefix(ref, branchPrefix) || strings.HasPrefix(ref, tagPrefix)
}

// within returns the full name of a branch or tag whose history has the commit, or "" if
// there is none: a ref that points to the commit, or else the default branch, or else any.
// The commit must exist. History is fetched into a directory below scratch, which is
// removed.
func (g *git) within(ctx context.Context, rem remote, commit, scratch string) (string, error) {
	refs, err := g.advertised(ctx, rem, []string{"HEAD", "refs/heads/*", "refs/tags/*"})
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		if isBranchOrTag(name) && refs[name].commit == commit {
			return name, nil
		}
	}
	dir, err := os.MkdirTemp(scratch, "within-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	h := &git{path: g.path, home: g.home, dir: dir, root: dir, most: historyCap, uploadPack: g.uploadPack, credential: g.credential}
	if err := h.init(ctx, commit); err != nil {
		return "", err
	}
	// With the commit, its time says how much history is needed first.
	have := h.fetchCommits(ctx, rem, commit, "--depth=1") == nil
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if head := refs["HEAD"]; isBranchOrTag(head.ref) {
		if in, err := h.inHistory(ctx, rem, head.commit, commit, have); err != nil || in {
			return head.ref, err
		}
	}
	for _, kind := range []string{"heads", "tags"} {
		if name, err := h.withinAny(ctx, rem, kind, commit); err != nil || name != "" {
			return name, err
		}
	}
	return "", nil
}

// withinAny returns the full name of a ref of a kind, heads or tags, whose history has the
// commit, or "" if there is none.
func (g *git) withinAny(ctx context.Context, rem remote, kind, commit string) (string, error) {
	const ours = "refs/colophon/"
	fetch := []string{"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head", "--depth=2147483647"}
	what := []string{"--", rem.address(), "+refs/" + kind + "/*:" + ours + kind + "/*"}
	_, err := g.remote(ctx, rem, append(append(fetch, "--filter=tree:0"), what...)...)
	if gitSays(err, "did not send all necessary objects") { // a tag of a tree
		_, err = g.remote(ctx, rem, append(fetch, what...)...)
	}
	if err != nil {
		return "", err
	}
	out, err := g.local(ctx, "for-each-ref", "--count=1", "--format=%(refname)", "--contains="+commit, ours+kind+"/")
	switch {
	case gitSays(err, "no such commit") || gitSays(err, "malformed object name"):
		return "", nil // no history has it
	case err != nil:
		return "", err
	}
	name, found := strings.CutPrefix(strings.TrimSpace(string(out)), ours)
	if !found {
		return "", nil
	}
	if name = "refs/" + name; checkRef(name) != nil {
		return "", fmt.Errorf("git for-each-ref: got %q, want a branch or tag", name)
	}
	return name, nil
}
