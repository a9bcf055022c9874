package source

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
)

// WorkTree says what git knows about the files below a directory of a working directory. Paths
// are relative to that directory, with slashes, in the order of git's index.
type WorkTree struct {
	Tracked   []string // regular files in the index; some may have been deleted since
	Links     []string // symbolic links in the index
	Modules   []string // submodules in the index
	Untracked []string // files that are neither in the index nor ignored
}

// workGit runs git in a working directory.
type workGit struct {
	*git
	at string // absolute path of the working directory
}

func newWorkGit(dir string) (*workGit, error) {
	at, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	g, err := newGit("")
	if err != nil {
		return nil, err
	}
	return &workGit{g, at}, nil
}

// ask returns the output of a git command, byte for byte: the name of a file may begin with a space.
func (g *workGit) ask(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	cmd := g.command(ctx, "", args...)
	cmd.Dir = g.at
	out, err := run(ctx, cmd)
	if err != nil {
		return "", fmt.Errorf("%s: %w", g.at, err)
	}
	return string(out), nil
}

// ListWorkTree lists the files below dir, which must be in a git working directory. The owner's
// global ignore file is not read, and no program runs that the repository configures.
func ListWorkTree(ctx context.Context, dir string) (*WorkTree, error) {
	g, err := newWorkGit(dir)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	staged, err := g.ask(ctx, "ls-files", "-z", "--stage")
	if err != nil {
		return nil, err
	}
	w := &WorkTree{}
	last := ""
	for line := range strings.SplitSeq(staged, "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		if !ok || !local(name) || name == last { // of a conflict, each side has a line
			continue
		}
		last = name
		switch mode, _, _ := strings.Cut(meta, " "); mode {
		case "160000":
			w.Modules = append(w.Modules, name)
		case "120000":
			w.Links = append(w.Links, name)
		default:
			w.Tracked = append(w.Tracked, name)
		}
	}
	others, err := g.ask(ctx, "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(others, "\x00") {
		if local(name) && !strings.HasSuffix(name, "/") { // another repository within this one
			w.Untracked = append(w.Untracked, name)
		}
	}
	return w, nil
}

// local reports whether name is a clean path within its directory.
func local(name string) bool {
	return name != "" && filepath.IsLocal(filepath.FromSlash(name)) && (path.Clean(name) == name || strings.HasSuffix(name, "/"))
}

// Checkout is what a git working directory was cloned from, and what is checked out in it.
type Checkout struct {
	Origin string // address of the remote "origin", as the repository's configuration has it; empty: there is none
	Ref    string // full name of the branch; empty: none is checked out
	Commit string // full id
}

// ReadCheckout asks git about dir, which must be in a git working directory that has a commit. No
// program runs that the repository configures. Origin is what somebody wrote into the
// configuration: it may carry credentials, and may name any host (see Canonical).
func ReadCheckout(ctx context.Context, dir string) (*Checkout, error) {
	g, err := newWorkGit(dir)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	ask := func(args ...string) (string, error) {
		out, err := g.ask(ctx, args...)
		return strings.TrimSpace(out), err
	}
	commit, err := ask("rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}")
	switch {
	case err != nil:
		return nil, err
	case !IsCommitID(commit):
		return nil, fmt.Errorf("%s: HEAD: expected the id of a commit, found %q", g.at, commit)
	}
	c := &Checkout{Commit: commit}
	// Both fail if there is none.
	c.Ref, _ = ask("symbolic-ref", "--quiet", "HEAD")
	c.Origin, _ = ask("config", "--local", "--no-includes", "--get", "remote.origin.url")
	return c, nil
}
