package lock

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/pypi"
	"github.com/colophon-build/colophon/lint/finding"
)

var projectName = lazyregexp.New(`^\s*([A-Za-z0-9][A-Za-z0-9._-]*)`)

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
		if m := projectName.FindStringSubmatch(d); m != nil {
			names = append(names, m[1])
		}
	}
	groups, _ := p.Tool["poetry"]["group"].(map[string]any)
	tables := []any{p.Tool["poetry"]["dependencies"], p.Tool["poetry"]["dev-dependencies"]}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		group, _ := groups[name].(map[string]any)
		tables = append(tables, group["dependencies"])
	}
	for _, table := range tables {
		poetry, _ := table.(map[string]any)
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
		Files                   []struct{ File, URL, Hash string }
		Wheels                  []struct{ URL, Hash string }
		Sdist                   *struct{ URL, Hash string }
		Git, Path, URL          string // of pdm
	}
	Packages []struct{ Name string } // of pylock.toml
	Metadata map[string]any
}

func tomlLocked(lock *finding.File) (func(string) bool, error) {
	var l tomlLock
	if err := readLockTOML(lock, &l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, p := range l.Package {
		have[pypi.Name(p.Name)] = true
	}
	for _, p := range l.Packages {
		have[pypi.Name(p.Name)] = true
	}
	return func(name string) bool { return have[pypi.Name(name)] }, nil
}

func pdmHashes(f *finding.File) []finding.Finding {
	return tomlHashes(f, func(l *tomlLock) (found []finding.Finding) {
		old, _ := l.Metadata["files"].(map[string]any) // before pdm 2.8
		for _, p := range l.Package {
			found = append(found, plain(packagePlace(f, p.Name), p.URL)...)
			missing := len(p.Files) == 0 && old[p.Name+" "+p.Version] == nil
			for _, file := range p.Files {
				missing = missing || file.Hash == ""
			}
			if missing && p.Git == "" && p.Path == "" {
				found = append(found, without(f, packagePlace(f, p.Name), p.Name+" "+p.Version, "run pdm lock"))
			}
		}
		return found
	})
}

// pylockFile is an archive that pylock.toml names.
type pylockFile struct {
	URL    string
	Path   string
	Hashes map[string]any
}

// pylockHashes checks pylock.toml, the lock file of all of Python's package managers.
func pylockHashes(f *finding.File) (found []finding.Finding) {
	var l struct {
		Packages []struct {
			Name, Version  string
			Wheels         []pylockFile
			Sdist, Archive *pylockFile
		}
	}
	if err := readLockTOML(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, p := range l.Packages {
		files := p.Wheels
		for _, one := range []*pylockFile{p.Sdist, p.Archive} {
			if one != nil {
				files = append(files, *one)
			}
		}
		for _, file := range files {
			found = append(found, plain(packagePlace(f, p.Name), file.URL)...)
		}
		if slices.ContainsFunc(files, func(file pylockFile) bool { return file.Path == "" && len(file.Hashes) == 0 }) {
			found = append(found, without(f, packagePlace(f, p.Name), p.Name+" "+p.Version, "make pylock.toml anew, from an index that tells hashes"))
		}
	}
	return found
}

// pipfileNames returns the dependencies in a Pipfile.
func pipfileNames(f *finding.File) (names []string, ok bool, err error) {
	var p struct {
		Packages map[string]any
		Dev      map[string]any `toml:"dev-packages"`
	}
	if err := readTOML(f, &p); err != nil {
		return nil, false, err
	}
	for _, group := range []map[string]any{p.Packages, p.Dev} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if d, _ := group[name].(map[string]any); d["path"] == nil && d["file"] == nil {
				names = append(names, name)
			}
		}
	}
	return names, len(names) > 0, nil
}

func pipfileLocked(lock *finding.File) (func(string) bool, error) {
	var l map[string]map[string]any
	if err := readJSON(lock, &l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, group := range l {
		for name := range group {
			have[pypi.Name(name)] = true
		}
	}
	return func(name string) bool { return have[pypi.Name(name)] }, nil
}

// isWished reports whether a path is that of what pip-compile makes a list of requirements of.
func isWished(name string) bool {
	return strings.HasSuffix(name, ".in") && pypi.Requirements(strings.TrimSuffix(name, ".in")+".txt")
}

func wished(name string) *manifest {
	lock := strings.TrimSuffix(path.Base(name), ".in") + ".txt"
	return &manifest{path.Base(name), []string{lock}, false, ruleMissing, "pip-compile --generate-hashes " + path.Base(name), requirementNames, requirementLocked}
}

// requirementNames returns the projects that a list of requirements names, one a line.
func requirementNames(f *finding.File) (names []string, ok bool, err error) {
	for n := 1; n <= f.Lines(); n++ {
		line := strings.TrimSpace(f.Line(n))
		if line == "" || strings.ContainsAny(line[:1], "#.-") || strings.Contains(line, "://") || strings.Contains(line, ";") || strings.HasPrefix(line, "file:") {
			continue // with a marker, it may be for another Python
		}
		if m := projectName.FindStringSubmatch(line); m != nil {
			names = append(names, m[1])
		}
	}
	return names, len(names) > 0, nil
}

func requirementLocked(lock *finding.File) (func(string) bool, error) {
	have := map[string]bool{}
	for n := 1; n <= lock.Lines(); n++ {
		if m := projectName.FindStringSubmatch(lock.Line(n)); m != nil {
			have[pypi.Name(m[1])] = true
		}
	}
	return func(name string) bool { return have[pypi.Name(name)] }, nil
}

// packagePlace returns where a TOML lock file has a package.
func packagePlace(f *finding.File, name string) finding.Position {
	n := f.LineOf(`name = "` + name + `"`)
	if n == 0 {
		return finding.Position{File: f.Path}
	}
	return f.Position(f.LineStart(n), f.LineEnd(n))
}

func tomlHashes(f *finding.File, check func(l *tomlLock) []finding.Finding) []finding.Finding {
	var l tomlLock
	if err := readLockTOML(f, &l); err != nil {
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
			address, _ := source["url"].(string)
			found = append(found, plain(packagePlace(f, p.Name), address)...)
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
			registry, _ := source["registry"].(string)
			addresses := []string{registry}
			if p.Sdist != nil {
				addresses = append(addresses, p.Sdist.URL)
			}
			for _, w := range p.Wheels {
				addresses = append(addresses, w.URL)
			}
			for _, address := range addresses {
				if more := plain(packagePlace(f, p.Name), address); more != nil {
					found = append(found, more...)
					break // of one package, one is enough
				}
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
	type entry struct {
		Hashes []string `json:"hashes"`
		Path   string   `json:"path"`
		Git    string   `json:"git"`
	}
	var l struct {
		Meta struct {
			Sources []struct {
				URL string `json:"url"`
			} `json:"sources"`
		} `json:"_meta"`
		Default map[string]entry `json:"default"`
		Develop map[string]entry `json:"develop"`
	}
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, s := range l.Meta.Sources {
		found = append(found, plain(entryOf(f, s.URL), s.URL)...)
	}
	for _, group := range []map[string]entry{l.Default, l.Develop} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if p := group[name]; len(p.Hashes) == 0 && p.Path == "" && p.Git == "" {
				found = append(found, without(f, entryOf(f, name), name, "run pipenv lock"))
			}
		}
	}
	return found
}

// comment matches one of pip: "#" is none within a word, as in an address.
var comment = lazyregexp.New(`(?s)(^|\s)#.*`)

var (
	hashOption = lazyregexp.New(`\s--hash[=\s]`)
	gitAddress = lazyregexp.New(`(?:^|@\s*)git\+`)
)

// requirementsHashes checks that each line of a requirements file has a hash. One finding is
// about all lines without one.
func requirementsHashes(f *finding.File) (found []finding.Finding) {
	var first finding.Position
	missing, text := 0, ""
	for n := 1; n <= f.Lines(); n++ {
		start := n
		parts := []string{f.Line(n)}
		for last := parts[0]; strings.HasSuffix(last, `\`) && n < f.Lines() && !strings.HasPrefix(strings.TrimSpace(last), "#"); parts = append(parts, last) {
			parts[len(parts)-1] = strings.TrimSuffix(last, `\`)
			n++
			last = f.Line(n)
		}
		line := strings.TrimSpace(comment.ReplaceAllString(strings.Join(parts, ""), ""))
		if strings.HasPrefix(line, "-") { // -i, --index-url=…, --find-links …
			for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '=' }) {
				found = append(found, plain(f.Position(f.LineStart(start), f.LineEnd(start)), word)...)
			}
		}
		if line == "" || line[0] == '.' || line[0] == '-' || hashOption.MatchString(line) || strings.HasPrefix(line, "file:") || gitAddress.MatchString(line) {
			continue
		}
		if missing++; missing == 1 {
			first, text = f.Position(f.LineStart(start), f.LineEnd(start)), line
		}
	}
	if missing == 0 {
		return found
	}
	if m := projectName.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	if missing > 1 {
		text += fmt.Sprintf(" and %d more", missing-1)
	}
	return append(found, finding.Finding{Rule: ruleHash, Position: first, Message: "without hash: " + text,
		Mend: "make the file with pip-compile --generate-hashes, or uv pip compile --generate-hashes"})
}
