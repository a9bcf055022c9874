package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

const maxIgnoreFile = 1 << 20 // bytes

// checkUnresolved returns an error if the build can read something that the commit only
// refers to: a Git LFS pointer, or a submodule that was not fetched. BuildKit gets all
// files but those that an ignore file excludes. For the golang builder nothing is
// excluded: it gets these files without the right to read them, and fails if it needs one.
func (j *run) checkUnresolved() error {
	if j.recipe.Builder != attest.BuildKit || len(j.source.Unresolved) == 0 {
		return nil
	}
	ignored, err := readIgnored(j.tree, j.recipe.Context, j.recipe.Dockerfile)
	if err != nil {
		return &api.Error{Message: err.Error(), Kind: api.Usage}
	}
	for _, u := range j.source.Unresolved {
		if excluded, err := ignored.excludes(u.Path); err != nil || !excluded {
			return &api.Error{Message: fmt.Sprintf("source: the build can read %q, which is %s", u.Path, u.Reason),
				Hint: "if the build does not need it, list it in .dockerignore; otherwise commit the files themselves, or fetch them by digest in the build"}
		}
	}
	return nil
}

// unresolved returns what of the source the build cannot read, one line each.
func unresolved(t source.Tree) (lines []string) {
	for _, u := range t.Unresolved {
		lines = append(lines, fmt.Sprintf("%q is %s", u.Path, u.Reason))
	}
	return lines
}

// ignored tells which files of the tree BuildKit leaves out of a build's context.
type ignored struct {
	context  string   // clean; "." is the whole tree
	read     []string // paths that BuildKit reads before it knows what is left out
	patterns *patternmatcher.PatternMatcher
}

// readIgnored reads the ignore file of a build as BuildKit does: DOCKERFILE.dockerignore
// or else .dockerignore at the top of the context.
func readIgnored(tree, context, dockerfile string) (ignored, error) {
	i := ignored{context: path.Clean(context), read: []string{dockerfile, dockerfile + ".dockerignore", path.Join(context, ".dockerignore")}}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return i, err
	}
	defer root.Close()
	var lines []string
	for _, name := range i.read[1:] {
		info, err := root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() { // what BuildKit makes of a link is not for us to guess
			return i, fmt.Errorf("%s: expected a regular file, because the source has Git LFS pointers or submodules that were not fetched", name)
		}
		text, err := readInTree(tree, name, maxIgnoreFile)
		if err != nil {
			return i, err
		}
		if lines, err = ignorefile.ReadAll(bytes.NewReader(text)); err != nil {
			return i, fmt.Errorf("%s: %w", name, err)
		}
		break
	}
	if i.patterns, err = patternmatcher.New(lines); err != nil {
		return i, fmt.Errorf(".dockerignore: %w", err)
	}
	return i, nil
}

// excludes reports whether the file or directory name and everything below it are left
// out.
func (i ignored) excludes(name string) (bool, error) {
	if slices.ContainsFunc(i.read, func(read string) bool { return read == name || strings.HasPrefix(read, name+"/") }) {
		return false, nil
	}
	switch {
	case !attest.Within(i.context, name):
		return !attest.Within(name, i.context), nil // unless it holds the context
	case name == i.context:
		return false, nil
	case i.context != ".":
		name = strings.TrimPrefix(name, i.context+"/")
	}
	// As fsutil does when it walks the tree: from the top down, with what the parents matched.
	var out bool
	var info patternmatcher.MatchInfo
	parts := strings.Split(name, "/")
	for n := range parts {
		var err error
		if out, info, err = i.patterns.MatchesUsingParentResults(path.Join(parts[:n+1]...), info); err != nil {
			return false, err
		}
	}
	for _, p := range i.patterns.Patterns() { // "!name/file" brings back a part
		if p.Exclusion() && reachesBelow(p.String(), parts) {
			return false, nil
		}
	}
	return out, nil
}

// reachesBelow reports whether a pattern may match something below a directory.
func reachesBelow(pattern string, dir []string) bool {
	parts := strings.Split(strings.TrimPrefix(pattern, "!"), "/")
	if strings.Contains(pattern, "**") {
		return true
	}
	if len(parts) <= len(dir) {
		return false
	}
	for n, part := range dir {
		if ok, err := path.Match(parts[n], part); err == nil && !ok {
			return false
		}
	}
	return true
}
