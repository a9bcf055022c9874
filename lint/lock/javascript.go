package lock

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// npmGroups are the dependencies of a package, with the versions that it asks for.
type npmGroups struct {
	Dependencies         map[string]string `json:"dependencies"`
	DevDependencies      map[string]string `json:"devDependencies"`
	OptionalDependencies map[string]string `json:"optionalDependencies"`
}

// npmNames returns the dependencies in package.json, but for those in the repository itself.
func npmNames(f *finding.File) (names []string, ok bool, err error) {
	var p npmGroups
	if err := readJSON(f, &p); err != nil {
		return nil, false, err
	}
	all := map[string]bool{}
	for _, group := range []map[string]string{p.Dependencies, p.DevDependencies, p.OptionalDependencies} {
		for name, version := range group {
			if !strings.HasPrefix(version, "workspace:") && !strings.HasPrefix(version, "file:") && !strings.HasPrefix(version, "link:") && !strings.HasPrefix(version, "portal:") {
				all[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), len(all) > 0, nil
}

// npmLocked looks for the name of a package in a lock file of any of JavaScript's package managers.
func npmLocked(lock *finding.File) (func(string) bool, error) {
	if strings.HasSuffix(lock.Path, ".lockb") {
		return nil, nil // binary
	}
	have := npmPackages(string(lock.Data))
	return func(name string) bool { return have[name] }, nil
}

// npmPackages returns what may be names of packages in the text of a lock file: a word between quotes or before
// a colon, what follows the last node_modules/ in quotes, what is before "@" in a word, and what is between "/" and
// "/" or "@", with its scope. It reads the text once: both it and the names that are looked for are a stranger's.
func npmPackages(text string) map[string]bool {
	have := map[string]bool{}
	const space = "\"', \t\r\n:()"
	for at := 0; at < len(text); at++ {
		size := strings.IndexAny(text[at:], space)
		if size < 0 {
			break // a word that nothing ends is no name in any form
		}
		if size == 0 {
			continue
		}
		word, before, after := text[at:at+size], byte('\n'), text[at+size]
		if at > 0 {
			before = text[at-1]
		}
		if (before == '"' || before == '\'') && after == before || before == ' ' && after == ':' {
			have[word] = true
		}
		if i := strings.LastIndex(word, "node_modules/"); i >= 0 && after == '"' {
			have[word[i+len("node_modules/"):]] = true
		}
		if i := strings.IndexByte(word[1:], '@') + 1; i > 0 && strings.IndexByte("\"'\n ", before) >= 0 {
			have[word[:i]] = true
		}
		scope := 0 // where the one in the part before begins
		for i := strings.IndexByte(word, '/') + 1; i > 0 && i < len(word); {
			end := strings.IndexAny(word[i+1:], "/@") + i + 1
			if end == i {
				break
			}
			have[word[i:end]] = true
			if scope > 0 {
				have[word[scope:end]] = true
			}
			scope = 0
			if word[i] == '@' {
				scope = i
			}
			next := strings.IndexByte(word[end:], '/')
			if next < 0 {
				break
			}
			i = end + next + 1
		}
		at += size
	}
	return have
}

type npmEntry struct {
	Version   string `json:"version"`
	Resolved  string `json:"resolved"`
	Integrity string `json:"integrity"`
	Link      bool   `json:"link"`
	InBundle  bool   `json:"inBundle"`
	Bundled   bool   `json:"bundled"`
}

// remote reports whether an entry is got from elsewhere. Without an address it is got from the registry, unless its
// version is an address; in later versions of the file, entries outside of node_modules are the repository's own.
func (e npmEntry) remote(name string, later bool) bool {
	if e.Resolved == "" {
		return e.Version != "" && e.Version[0] >= '0' && e.Version[0] <= '9' && (!later || strings.Contains(name, "node_modules/"))
	}
	return strings.HasPrefix(strings.ToLower(e.Resolved), "http")
}

// npmOld is an entry of version 1, which contains those that only it uses.
type npmOld struct {
	npmEntry
	Dependencies map[string]npmOld `json:"dependencies"`
}

// flatten adds the entries of version 1 to those of later ones.
func flatten(old map[string]npmOld, entries map[string]npmEntry) {
	for name, e := range old {
		if known, twice := entries[name]; !twice || known.Integrity != "" {
			entries[name] = e.npmEntry
		}
		flatten(e.Dependencies, entries)
	}
}

// npmHashes checks package-lock.json, versions 1 to 3.
func npmHashes(f *finding.File) (found []finding.Finding) {
	var l struct {
		Packages     map[string]npmEntry `json:"packages"`
		Dependencies map[string]npmOld   `json:"dependencies"`
	}
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	entries := l.Packages
	if len(entries) == 0 {
		entries = map[string]npmEntry{}
		flatten(l.Dependencies, entries)
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		if name == "" || e.Link || e.InBundle || e.Bundled {
			continue
		}
		at := entryOf(f, name)
		found = append(found, plain(at, e.Resolved)...)
		if e.remote(name, l.Packages != nil) && e.Integrity == "" {
			found = append(found, without(f, at, strings.TrimPrefix(name, "node_modules/"), "run npm install --package-lock-only, from a registry that tells hashes"))
		}
	}
	return found
}

// pnpmHashes checks pnpm-lock.yaml.
func pnpmHashes(f *finding.File) (found []finding.Finding) {
	roots, err := yamlfile.Parse(f)
	if err != nil {
		return []finding.Finding{syntax(f, 0, err)}
	}
	for _, root := range roots {
		yamlfile.Pairs(yamlfile.Get(root, "packages"), func(key, value *yaml.Node) bool {
			r := yamlfile.Get(value, "resolution")
			tarball := yamlfile.Value(yamlfile.Get(r, "tarball"))
			at := placeOfNode(f, key)
			found = append(found, plain(at, tarball)...)
			local := strings.HasPrefix(tarball, "file:") || yamlfile.Get(r, "directory") != nil || yamlfile.Get(r, "commit") != nil
			// Archives of git hosts are named by commit.
			if r != nil && yamlfile.Value(yamlfile.Get(r, "integrity")) == "" && !local && !strings.Contains(tarball, "codeload.github.com") {
				found = append(found, without(f, at, key.Value, "run pnpm install --lockfile-only"))
			}
			return true
		})
	}
	return found
}

func placeOfNode(f *finding.File, n *yaml.Node) finding.Position {
	at := f.Offset(n.Line, n.Column)
	return f.Position(at, min(at+len(n.Value), f.LineEnd(n.Line)))
}

// yarnHashes checks yarn.lock: of version 1, in its own form, and of later ones, in YAML.
func yarnHashes(f *finding.File) (found []finding.Finding) {
	modern := strings.Contains(string(f.Data), "\n__metadata:")
	entry, first, resolved, hash := "", 0, "", false
	conditional := false
	var others []string // for other platforms: Yarn writes no hash of what it did not get
	var otherAt finding.Position
	flush := func() {
		if entry == "" {
			return
		}
		at := f.Position(f.LineStart(first), f.LineEnd(first))
		found = append(found, plain(at, resolved)...)
		remote := strings.HasPrefix(resolved, "http")
		if modern {
			remote = strings.Contains(resolved, "@npm:") && !strings.Contains(entry, "__metadata")
		}
		switch {
		case !remote || hash:
		case conditional:
			if others = append(others, strings.Trim(entry, `":`)); len(others) == 1 {
				otherAt = at
			}
		default:
			found = append(found, without(f, at, strings.Trim(entry, `":`), "run yarn install, and commit yarn.lock"))
		}
	}
	for n := 1; n <= f.Lines(); n++ {
		line := f.Line(n)
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case !strings.HasPrefix(line, " ") && strings.HasSuffix(line, ":"):
			flush()
			entry, first, resolved, hash, conditional = line, n, "", false, false
		case strings.HasPrefix(trimmed, "conditions: "):
			conditional = true
		case strings.HasPrefix(trimmed, "resolved "), strings.HasPrefix(trimmed, "resolution: "):
			_, resolved, _ = strings.Cut(trimmed, " ")
			resolved = strings.Trim(resolved, `"`)
			// Version 1 of old: a SHA-1 after the address.
			if _, sum, ok := strings.Cut(resolved, "#"); ok && len(sum) >= 40 && !modern {
				hash = true
			}
		case strings.HasPrefix(trimmed, "integrity "), strings.HasPrefix(trimmed, "checksum: "):
			hash = true
		case strings.HasPrefix(line, "<<<<<<<"):
			return append(found, syntax(f, n, fmt.Errorf("it has a conflict of a merge")))
		}
	}
	flush()
	if n := len(others); n > 0 {
		found = append(found, finding.Finding{Rule: ruleHash, Position: otherAt, Message: fmt.Sprintf("%d packages for other platforms have no hash, the first is %s", n, others[0]),
			Mend: "name the platforms in supportedArchitectures of .yarnrc.yml, and run yarn install"})
	}
	return found
}

// bunHashes checks bun.lock. A package of a registry is [NAME@VERSION, REGISTRY, {…}, HASH].
func bunHashes(f *finding.File) (found []finding.Finding) {
	var l struct {
		Packages map[string][]any `json:"packages"`
	}
	plainly := finding.NewFile(f.Path, withoutCommas(f.Data))
	if err := readJSON(plainly, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Packages)) {
		if p := l.Packages[name]; len(p) == 4 && p[3] == "" {
			found = append(found, without(f, entryOf(f, name), name, "run bun install"))
		}
	}
	return found
}

// withoutCommas replaces the commas before a closing bracket by spaces, and comments too, as JSON has neither.
func withoutCommas(data []byte) []byte {
	out := slices.Clone(data)
	comma := -1
	for i := 0; i < len(out); i++ {
		switch c := out[i]; {
		case c == '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
			comma = -1
		case c == '/' && i+1 < len(out) && out[i+1] == '/':
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
		case c == ',':
			comma = i
		case c == ']' || c == '}':
			if comma >= 0 {
				out[comma] = ' '
			}
			comma = -1
		case c != ' ' && c != '\t' && c != '\n' && c != '\r':
			comma = -1
		}
	}
	return out
}
