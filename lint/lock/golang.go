package lock

import (
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/colophon-build/colophon/lint/finding"
)

// goModules returns "MODULE VERSION" of each module that go.mod requires, but for those that it
// replaces by a directory.
func goModules(f *finding.File) (names []string, ok bool, err error) {
	m, err := modfile.Parse(f.Path, f.Data, nil)
	if err != nil {
		return nil, false, goFault(err)
	}
	replaced := map[module.Version]module.Version{}
	for _, p := range m.Replace {
		replaced[p.Old] = p.New
	}
	for _, r := range m.Require {
		at, local := r.Mod, false
		for _, old := range []module.Version{at, {Path: at.Path}} { // that of one version counts first
			if to, ok := replaced[old]; ok {
				at, local = to, to.Version == ""
				break
			}
		}
		if !local && !r.Indirect {
			names = append(names, at.Path+" "+at.Version)
		}
	}
	return names, len(names) > 0, nil
}

func goFault(err error) error {
	if list, ok := err.(modfile.ErrorList); ok && len(list) > 0 {
		return &fault{list[0].Pos.Line, list[0].Err}
	}
	return err
}

func goSum(f *finding.File) (func(string) bool, error) {
	have := map[string]bool{}
	for line := range strings.SplitSeq(string(f.Data), "\n") {
		if words := strings.Fields(line); len(words) == 3 {
			// For a module of which only go.mod is read, go.sum has that hash alone.
			have[words[0]+" "+strings.TrimSuffix(words[1], "/go.mod")] = true
		}
	}
	return func(name string) bool { return have[name] }, nil
}

// goSumHashes checks that each line of go.sum is "MODULE VERSION h1:HASH".
func goSumHashes(f *finding.File) (found []finding.Finding) {
	for n := 1; n <= f.Lines(); n++ {
		line := f.Line(n)
		words := strings.Fields(line)
		if len(words) == 0 || len(words) == 3 && strings.HasPrefix(words[2], "h1:") && len(words[2]) == len("h1:")+44 {
			continue
		}
		at := f.Position(f.LineStart(n), f.LineStart(n)+len(line))
		found = append(found, without(f, at, "the line", "run go mod tidy"))
	}
	return found
}
