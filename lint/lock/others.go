package lock

import (
	"maps"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/lint/finding"
)

// cargoNames returns the dependencies in Cargo.toml, if it is one of a program or a workspace: of a
// library, whoever uses it has the lock file.
func cargoNames(f *finding.File) (names []string, ok bool, err error) {
	var c struct {
		Dependencies      map[string]any
		DevDependencies   map[string]any `toml:"dev-dependencies"`
		BuildDependencies map[string]any `toml:"build-dependencies"`
		Bin               []any
		Workspace         map[string]any
		Package           map[string]any
	}
	if err := readTOML(f, &c); err != nil {
		return nil, false, err
	}
	for _, group := range []map[string]any{c.Dependencies, c.DevDependencies, c.BuildDependencies} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			d, _ := group[name].(map[string]any)
			if other, _ := d["package"].(string); other != "" {
				name = other
			}
			if d["optional"] != true && d["workspace"] != true { // the workspace may give it another name
				names = append(names, name)
			}
		}
	}
	return names, len(c.Bin) > 0 || c.Workspace != nil, nil
}

func cargoHashes(f *finding.File) []finding.Finding {
	return tomlHashes(f, func(l *tomlLock) (found []finding.Finding) {
		for _, p := range l.Package {
			source, _ := p.Source.(string)
			found = append(found, plain(packagePlace(f, p.Name), strings.TrimPrefix(strings.TrimPrefix(source, "registry+"), "sparse+"))...)
			old := l.Metadata["checksum "+p.Name+" "+p.Version+" ("+source+")"] // of version 1
			if (strings.HasPrefix(source, "registry+") || strings.HasPrefix(source, "sparse+")) && p.Checksum == "" && old == nil {
				found = append(found, without(f, packagePlace(f, p.Name), p.Name+" "+p.Version, "run cargo generate-lockfile"))
			}
		}
		return found
	})
}

var gemLine = lazyregexp.New(`(?m)^\s*gem[ (]+["']([^"']+)["'](.*)$`)

func gemNames(f *finding.File) (names []string, ok bool, err error) {
	for _, m := range gemLine.FindAllStringSubmatch(string(f.Data), -1) {
		if !strings.Contains(m[2], "path:") && !strings.Contains(m[2], " if ") && !strings.Contains(m[2], " unless ") {
			names = append(names, m[1])
		}
	}
	return names, !strings.Contains(string(f.Data), "\ngemspec") && len(names) > 0, nil
}

func gemLocked(lock *finding.File) (func(string) bool, error) {
	have := map[string]bool{} // "    NAME (VERSION)" of a gem, "  NAME", "  NAME (VERSION)" or "  NAME!" of a dependency
	for line := range strings.Lines(string(lock.Data)) {
		name := strings.TrimLeft(line, " ")
		if indent := len(line) - len(name); indent == 2 || indent == 4 {
			name, _, _ = strings.Cut(strings.TrimRight(name, "\r\n"), " (")
			have[strings.TrimSuffix(name, "!")] = true
		}
	}
	return func(name string) bool { return have[name] }, nil
}

func gemHashes(f *finding.File) (found []finding.Finding) {
	at := func(n int) finding.Position { return f.Position(f.LineStart(n), f.LineEnd(n)) }
	local := map[string]bool{} // of the repository itself: "name!" among the dependencies
	sums := 0
	for n := 1; n <= f.Lines(); n++ {
		line := f.Line(n)
		text := strings.TrimSpace(line)
		if address, ok := strings.CutPrefix(text, "remote: "); ok {
			found = append(found, plain(at(n), address)...)
		}
		if name, ok := strings.CutSuffix(text, "!"); ok {
			local[name] = true
		}
		if line == "CHECKSUMS" {
			sums = n
		}
	}
	if sums == 0 {
		if f.LineOf("GEM") > 0 {
			found = append(found, finding.Finding{Rule: ruleUnverified, Position: finding.Position{File: f.Path}, Message: "it has no CHECKSUMS", Mend: "run bundle lock --add-checksums (Bundler 2.6)"})
		}
		return found
	}
	for n := sums + 1; strings.HasPrefix(f.Line(n), "  "); n++ {
		text := strings.TrimSpace(f.Line(n))
		if name, _, _ := strings.Cut(text, " "); !strings.Contains(text, "sha256=") && strings.Contains(text, "(") && !local[name] {
			found = append(found, without(f, at(n), text, "run bundle lock --add-checksums"))
		}
	}
	return found
}

func composerNames(f *finding.File) (names []string, ok bool, err error) {
	var c struct {
		Require    map[string]any `json:"require"`
		RequireDev map[string]any `json:"require-dev"`
	}
	if err := readJSON(f, &c); err != nil {
		return nil, false, err
	}
	for _, group := range []map[string]any{c.Require, c.RequireDev} {
		for _, name := range slices.Sorted(maps.Keys(group)) {
			if strings.Contains(name, "/") { // others are PHP and its extensions
				names = append(names, name)
			}
		}
	}
	return names, len(names) > 0, nil
}

func composerLocked(lock *finding.File) (func(string) bool, error) {
	text := strings.ToLower(strings.ReplaceAll(string(lock.Data), `\/`, "/"))
	have := map[string]bool{}
	for between := range strings.SplitSeq(text, `"`) {
		have[between] = true
	}
	return func(name string) bool { return have[strings.ToLower(name)] }, nil
}

// composerHashes checks composer.lock. Packages of GitHub have a commit, and no hash of the archive.
func composerHashes(f *finding.File) (found []finding.Finding) {
	type entry struct {
		Name string `json:"name"`
		Dist struct {
			URL       string `json:"url"`
			Reference string `json:"reference"`
			Shasum    string `json:"shasum"`
		} `json:"dist"`
	}
	var l struct {
		Packages    []entry `json:"packages"`
		PackagesDev []entry `json:"packages-dev"`
	}
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, p := range slices.Concat(l.Packages, l.PackagesDev) {
		at := entryOf(f, p.Name)
		found = append(found, plain(at, p.Dist.URL)...)
		if p.Dist.URL != "" && p.Dist.Shasum == "" && len(p.Dist.Reference) < 40 {
			found = append(found, without(f, at, p.Name, "run composer update "+p.Name+", from a repository that tells hashes or commits"))
		}
	}
	return found
}
