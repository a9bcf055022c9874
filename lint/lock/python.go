package lock

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/lint/finding"
)

var projectName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^\s*([A-Za-z0-9][A-Za-z0-9._-]*)`) })

// pythonNames returns the dependencies in pyproject.toml, if it is one of an application: libraries
// have no lock file.
func pythonNames(f *finding.File) (names []string, ok bool, err error) {
	var p struct {
		Project struct{ Dependencies []string }
		Tool    map[string]map[string]any
	}
	if err := readTOML(f, &p); err != nil {
		return nil, false, err
	}
	for _, d := range p.Project.Dependencies {
		if m := projectName().FindStringSubmatch(d); m != nil {
			names = append(names, m[1])
		}
	}
	if poetry, _ := p.Tool["poetry"]["dependencies"].(map[string]any); poetry != nil {
		for _, name := range slices.Sorted(maps.Keys(poetry)) {
			if d, _ := poetry[name].(map[string]any); name != "python" && d["path"] == nil {
				names = append(names, name)
			}
		}
	}
	_, uv := p.Tool["uv"]
	_, pdm := p.Tool["pdm"]
	_, poetry := p.Tool["poetry"]
	return names, (uv || pdm || poetry) && len(names) > 0, nil
}

// tomlLock is the part that Cargo.lock, poetry.lock and uv.lock have in common.
type tomlLock struct {
	Package []struct {
		Name, Version, Checksum string
		Source                  any // string of Cargo, table of poetry and uv
		Files                   []struct{ File, Hash string }
		Wheels                  []struct{ URL, Hash string }
		Sdist                   *struct{ URL, Hash string }
	}
	Metadata map[string]any
}

func tomlLocked(lock *finding.File) (func(string) bool, error) {
	var l tomlLock
	if err := readTOML(lock, &l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, p := range l.Package {
		have[folded(p.Name)] = true
	}
	return func(name string) bool { return have[folded(name)] }, nil
}

// packagePlace returns where a TOML lock file has a package.
func packagePlace(f *finding.File, name string) finding.Position {
	return placeOf(f, `name = "`+name+`"`)
}

func tomlHashes(f *finding.File, check func(l *tomlLock) []finding.Finding) []finding.Finding {
	var l tomlLock
	if err := readTOML(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	return check(&l)
}

func poetryHashes(f *finding.File) []finding.Finding {
	return tomlHashes(f, func(l *tomlLock) (found []finding.Finding) {
		old, _ := l.Metadata["files"].(map[string]any) // before poetry 1.3
		for _, p := range l.Package {
			source, _ := p.Source.(map[string]any)
			kind, _ := source["type"].(string)
			if kind == "git" || kind == "directory" || kind == "file" || kind == "url" || old[p.Name] != nil {
				continue
			}
			missing := len(p.Files) == 0
			for _, file := range p.Files {
				missing = missing || file.Hash == ""
			}
			if missing {
				found = append(found, without(f, packagePlace(f, p.Name), p.Name+" "+p.Version, "run poetry lock"))
			}
		}
		return found
	})
}

func uvHashes(f *finding.File) []finding.Finding {
	return tomlHashes(f, func(l *tomlLock) (found []finding.Finding) {
		for _, p := range l.Package {
			source, _ := p.Source.(map[string]any)
			if source["registry"] == nil {
				continue // git, a directory, or this project
			}
			missing := p.Sdist == nil && len(p.Wheels) == 0 || p.Sdist != nil && p.Sdist.Hash == ""
			for _, w := range p.Wheels {
				missing = missing || w.Hash == ""
			}
			if missing {
				found = append(found, without(f, packagePlace(f, p.Name), p.Name+" "+p.Version, "run uv lock, with an index that tells hashes"))
			}
		}
		return found
	})
}

func pipfileHashes(f *finding.File) (found []finding.Finding) {
	var l map[string]map[string]struct {
		Hashes    []string
		Path, Git string
	}
	var whole map[string]any
	if err := readJSON(f, &whole); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	if readJSON(f, &l) != nil && l == nil {
		return nil
	}
	for _, group := range []string{"default", "develop"} {
		for _, name := range slices.Sorted(maps.Keys(l[group])) {
			if p := l[group][name]; len(p.Hashes) == 0 && p.Path == "" && p.Git == "" {
				found = append(found, without(f, placeOf(f, `"`+name+`"`), name, "run pipenv lock"))
			}
		}
	}
	return found
}

// isRequirements reports whether a path is that of pip's list of what to install.
func isRequirements(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".txt") && (strings.HasPrefix(base, "requirements") || path.Base(path.Dir(name)) == "requirements")
}

// requirementsHashes checks that each line of a requirements file has a hash. One finding is
// about all lines without one.
func requirementsHashes(f *finding.File) []finding.Finding {
	var first finding.Position
	missing, text := 0, ""
	for n := 1; n <= f.Lines(); n++ {
		start := n
		line := f.Line(n)
		for strings.HasSuffix(line, `\`) && n < f.Lines() {
			n++
			line = strings.TrimSuffix(line, `\`) + f.Line(n)
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '.' || line[0] == '-' || strings.Contains(line, "--hash=") || strings.HasPrefix(line, "file:") || strings.Contains(line, "git+") {
			continue
		}
		if missing++; missing == 1 {
			first, text = f.Position(f.LineStart(start), f.LineStart(start)+len(f.Line(start))), line
		}
	}
	if missing == 0 {
		return nil
	}
	if m := projectName().FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	if missing > 1 {
		text += fmt.Sprintf(" and %d more", missing-1)
	}
	return []finding.Finding{{Rule: ruleHash, Position: first, Message: "without hash: " + text,
		Mend: "make the file with pip-compile --generate-hashes, or uv pip compile --generate-hashes"}}
}
