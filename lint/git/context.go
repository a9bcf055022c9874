package git

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/colophon-build/colophon/lint/dockerfile"
	"github.com/colophon-build/colophon/lint/finding"
)

// maxPatterns caps the lines of an ignore file, and maxSecrets the files of a tree that look secret: each of
// these is compared with each of those, for each Dockerfile.
const (
	maxPatterns = 1000
	maxSecrets  = 1000
)

// contextOf finds secrets in the build context of a Dockerfile that copies all of it into the image. What
// only an earlier stage gets is not in the image. secrets returns what looks secret in the tree.
func contextOf(t *finding.Tree, f *finding.File, secrets func() []string) (found []finding.Finding) {
	all := dockerfile.WholeContext(f)
	if t == nil || len(all) == 0 {
		return nil
	}
	w := all[0] // one is enough
	dir, ignore := ignoreOf(t, f.Path)
	patterns := slices.Clone(w.Excluded)
	broken := func(why string) []finding.Finding {
		return []finding.Finding{{Rule: ruleBroken, Position: finding.Position{File: cmp.Or(ignore, f.Path)}, Message: "it cannot be read: " + why}}
	}
	if ignore != "" {
		file, err := t.Read(ignore)
		if err != nil {
			return nil // the run says so
		}
		more, err := ignorefile.ReadAll(bytes.NewReader(file.Data))
		if err != nil {
			return broken(err.Error())
		}
		patterns = append(more, patterns...)
	}
	if len(patterns) > maxPatterns {
		return broken(fmt.Sprintf("expected at most %d patterns, found %d", maxPatterns, len(patterns)))
	}
	let, err := patternmatcher.New(patterns)
	if err != nil {
		return broken(err.Error())
	}
	var in []string
	known := secrets()
	if len(known) > maxSecrets {
		known = known[:maxSecrets]
		found = append(found, finding.Finding{Rule: ruleIgnore, Position: w.Position, First: w.First, Undecided: true,
			Message: fmt.Sprintf("more than %d files look secret: it is not known whether %s puts those after %s into the image", maxSecrets, w.Text, known[maxSecrets-1])})
	}
	for _, name := range inContext(t, path.Dir(f.Path), known) {
		if dir == "." {
			name = path.Join(path.Dir(f.Path), name)
		}
		if out, err := let.MatchesOrParentMatches(name); err == nil && !out {
			in = append(in, strings.TrimSuffix(name, "/config"))
		}
	}
	if len(in) == 0 {
		return found
	}
	why := ignore + " does not exclude it"
	if ignore == "" {
		why = "there is no .dockerignore"
	}
	return append(found, finding.Finding{Rule: ruleIgnore, Position: w.Position, First: w.First, Message: fmt.Sprintf("%s puts %s into the image: %s", w.Text, few(in), why),
		Mend: "exclude it in .dockerignore, or copy only what the image needs"})
}

// ignoreOf returns the file that says what is not in the build context of a Dockerfile, or "", and the directory
// whose paths are in it. The context is that directory, or the one of the Dockerfile: nobody says which.
func ignoreOf(t *finding.Tree, name string) (dir, ignore string) {
	dir = path.Dir(name)
	for _, at := range []string{name + ".dockerignore", path.Join(dir, ".dockerignore"), ".dockerignore"} {
		if t.Has(at) {
			if at == ".dockerignore" {
				dir = "."
			}
			return dir, at
		}
	}
	return dir, ""
}

// secrets returns the files of a tree that look secret: one more than maxSecrets if there are more.
func secrets(t *finding.Tree) (out []string) {
	for _, name := range t.Files() {
		if len(out) <= maxSecrets && dockerfile.Secret(t, name) {
			out = append(out, name)
		}
	}
	return out
}

// inContext returns what should not be in an image and is in a build context, with paths from there: what
// the tree has, and what .gitignore says that people have beside it.
func inContext(t *finding.Tree, dir string, secrets []string) (out []string) {
	if _, err := t.Root().Lstat(path.Join(dir, ".git")); err == nil {
		out = append(out, ".git/config")
	}
	for _, at := range []string{path.Join(dir, ".gitignore"), ".gitignore"} {
		f, err := t.Read(at)
		if err != nil {
			continue
		}
		for n := 1; n <= f.Lines(); n++ {
			line := strings.TrimPrefix(strings.TrimSpace(f.Line(n)), "/")
			if line == ".env" || line == "*.env" || line == ".env*" {
				out = append(out, ".env")
			}
		}
	}
	for _, name := range secrets {
		in, ok := strings.CutPrefix(name, dir+"/")
		if dir == "." {
			in, ok = name, true
		}
		if ok {
			out = append(out, in)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// few names some of the items of a list.
func few(items []string) string {
	const most = 5
	text := strings.Join(items[:min(most, len(items))], ", ")
	if len(items) > most {
		text += fmt.Sprintf(" and %d more", len(items)-most)
	}
	return text
}
