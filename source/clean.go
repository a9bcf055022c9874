package source

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
)

// DirtyError means that a working directory differs from its HEAD. A release of HEAD
// would then not contain what its owner sees: ask the user to commit the changes, or
// to name the commit to release.
type DirtyError struct {
	Paths []string // the first 10 changed paths, each after git's two letters of status
	Total int      // number of changed paths
}

// Error implements error.
func (e *DirtyError) Error() string {
	more := ""
	if n := e.Total - len(e.Paths); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the working directory has uncommitted changes (%s%s); commit them, or name the commit to release by its full id",
		strings.Join(e.Paths, ", "), more)
}

// CheckClean returns a *DirtyError if the working directory that contains dir has
// staged, unstaged or untracked changes, also in submodules. Files that the repository
// ignores do not count; the owner's global ignore file is not read. CheckClean runs no
// program that the repository configures: no hook, filter or file system monitor.
func CheckClean(ctx context.Context, dir string) error {
	g, err := newGit("")
	if err != nil {
		return err
	}
	defer g.Close()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	dirty := &DirtyError{}
	if err := g.status(ctx, dir, "", 0, dirty); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if dirty.Total > 0 {
		return dirty
	}
	return nil
}

// status adds the changes in the working directory dir, which is at prefix in the
// outermost one.
func (g *git) status(ctx context.Context, dir, prefix string, depth int, dirty *DirtyError) error {
	if depth > limits.ModuleDepth {
		return fmt.Errorf("submodules are nested deeper than %d", limits.ModuleDepth)
	}
	in := func(dir string, extra [][2]string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, localTimeout)
		defer cancel()
		cmd := g.command(ctx, "", args...)
		cmd.Dir = dir
		cmd.Env = addSettings(cmd.Env, extra)
		out, err := run(ctx, cmd)
		return string(out), err
	}
	top, err := in(dir, nil, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	dir = strings.TrimSuffix(top, "\n")
	filters, err := in(dir, nil, "config", "-z", "--name-only", "--list")
	if err != nil {
		return err
	}
	out, err := in(dir, disableFilters(filters), "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(out, "\x00") {
		if len(line) < 4 {
			continue
		}
		if dirty.Total++; len(dirty.Paths) < 10 {
			dirty.Paths = append(dirty.Paths, strconv.Quote(line[:3] + prefix + line[3:])[1:])
			last := &dirty.Paths[len(dirty.Paths)-1]
			*last = strings.TrimSpace((*last)[:len(*last)-1])
		}
	}
	// Run git in each submodule: from here, it would run the submodule's own filters.
	staged, err := in(dir, nil, "ls-files", "-s", "-z")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(staged, "\x00") {
		meta, path, _ := strings.Cut(line, "\t")
		sub := filepath.Join(dir, path)
		if !strings.HasPrefix(meta, "160000 ") || !filepath.IsLocal(path) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(sub, ".git")); err != nil {
			continue // not checked out
		}
		if err := g.status(ctx, sub, prefix+path+"/", depth+1, dirty); err != nil {
			return err
		}
	}
	return nil
}

// disableFilters returns settings that disable the filters among the names of settings.
// A file that a filter has changed then counts as changed.
func disableFilters(names string) [][2]string {
	var off [][2]string
	for name := range strings.SplitSeq(names, "\x00") {
		if !strings.HasPrefix(name, "filter.") {
			continue
		}
		switch {
		case strings.HasSuffix(name, ".clean"), strings.HasSuffix(name, ".smudge"), strings.HasSuffix(name, ".process"):
			off = append(off, [2]string{name, ""})
		case strings.HasSuffix(name, ".required"):
			off = append(off, [2]string{name, "false"})
		}
	}
	return off
}

// addSettings adds settings to those in the environment env of a git command.
func addSettings(env []string, extra [][2]string) []string {
	n := len(settings)
	for _, s := range extra {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", n, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", n, s[1]))
		n++
	}
	return append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(n))
}
