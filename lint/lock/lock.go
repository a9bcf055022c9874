// Package lock finds manifests of package managers without a lock file, and lock files that do
// not decide what a build gets: not committed, out of date, or with entries without hash.
package lock

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/loopback"
	"github.com/colophon-build/colophon/internal/pypi"
	"github.com/colophon-build/colophon/lint/finding"
)

// Checker checks manifests and lock files.
func Checker() finding.Checker {
	return finding.Checker{Rules: rules(), Wants: Wants, Check: check}
}

// manifest is how a package manager calls its files.
type manifest struct {
	name  string   // of the manifest; "*.csproj" for an ending
	locks []string // in its directory or one above it; any of them
	above bool     // a lock file of a directory above is one for this manifest too: workspaces
	rule  string   // of a missing one
	run   string   // what makes the lock file
	// wanted returns the direct dependencies of the manifest that a lock must have. ok is false if the
	// manifest needs no lock file.
	wanted func(f *finding.File) (names []string, ok bool, err error)
	// locked reports whether a lock file has a dependency. nil: it is not compared.
	locked func(lock *finding.File) (func(name string) bool, error)
}

func manifests() []manifest {
	return []manifest{
		{"go.mod", []string{"go.sum"}, false, ruleMissing, "go mod tidy", goModules, goSum},
		{"package.json", []string{"package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb"}, true, ruleMissing, "npm install --package-lock-only", npmNames, npmLocked},
		{"Cargo.toml", []string{"Cargo.lock"}, true, ruleMissing, "cargo generate-lockfile", cargoNames, tomlLocked},
		{"pyproject.toml", []string{"poetry.lock", "uv.lock", "pdm.lock", "pylock.toml"}, true, ruleMissing, "poetry lock, or uv lock", pythonNames, tomlLocked},
		{"Pipfile", []string{"Pipfile.lock"}, false, ruleMissing, "pipenv lock", pipfileNames, pipfileLocked},
		{"Gemfile", []string{"Gemfile.lock"}, false, ruleMissing, "bundle lock", gemNames, gemLocked},
		{"composer.json", []string{"composer.lock"}, false, ruleMissing, "composer update --lock", composerNames, composerLocked},
		{"build.gradle", []string{"gradle/verification-metadata.xml"}, true, ruleUnverified, "gradle --write-verification-metadata sha256", nil, nil},
		{"build.gradle.kts", []string{"gradle/verification-metadata.xml"}, true, ruleUnverified, "gradle --write-verification-metadata sha256", nil, nil},
		{"pom.xml", []string{".mvn/checksums/checksums.sha256", "lockfile.json"}, true, ruleUnverified, "mvn with -Daether.trustedChecksumsSource.summaryFile, which records .mvn/checksums/checksums.sha256", pomNames, mavenLocked},
		{"*.csproj", []string{"packages.lock.json"}, false, ruleUnverified, "dotnet restore --use-lock-file", dotnetNames, nugetLocked},
		{"*.fsproj", []string{"packages.lock.json"}, false, ruleUnverified, "dotnet restore --use-lock-file", dotnetNames, nugetLocked},
		{"*.vbproj", []string{"packages.lock.json"}, false, ruleUnverified, "dotnet restore --use-lock-file", dotnetNames, nugetLocked},
	}
}

// locks maps the names of lock files to the functions that read them.
func locks() map[string]func(*finding.File) []finding.Finding {
	return map[string]func(*finding.File) []finding.Finding{
		"go.sum": goSumHashes, "package-lock.json": npmHashes, "npm-shrinkwrap.json": npmHashes, "pnpm-lock.yaml": pnpmHashes, "yarn.lock": yarnHashes,
		"Cargo.lock": cargoHashes, "poetry.lock": poetryHashes, "uv.lock": uvHashes, "Pipfile.lock": pipfileHashes, "Gemfile.lock": gemHashes,
		"bun.lock": bunHashes, "pdm.lock": pdmHashes, "pylock.toml": pylockHashes, "lockfile.json": mavenHashes,
		"gradle-wrapper.properties": wrapperHash, "maven-wrapper.properties": wrapperHash, "composer.lock": composerHashes, "packages.lock.json": nugetHashes, "verification-metadata.xml": gradleHashes,
	}
}

func manifestOf(name string) *manifest {
	base := path.Base(name)
	for _, m := range manifests() {
		if ending, any := strings.CutPrefix(m.name, "*"); m.name == base || any && strings.HasSuffix(base, ending) {
			return &m
		}
	}
	return nil
}

// Wants reports whether a path is that of a manifest or a lock file.
func Wants(name string) bool {
	return manifestOf(name) != nil || locks()[path.Base(name)] != nil || pypi.Requirements(name) || isWished(name)
}

func check(_ context.Context, t *finding.Tree, f *finding.File) (found []finding.Finding) {
	if m := manifestOf(f.Path); m != nil {
		found = m.check(t, f)
	}
	if isWished(f.Path) {
		found = append(found, wished(f.Path).check(t, f)...)
	}
	read := locks()[path.Base(f.Path)]
	if read == nil && pypi.Requirements(f.Path) {
		read = requirementsHashes
	}
	if read == nil || path.Base(f.Path) == "lockfile.json" && !isMavenLock(f) {
		return found
	}
	if t.Git != nil && !t.Tracked(f.Path) {
		found = append(found, finding.Finding{Rule: ruleNotCommitted, Position: finding.Position{File: f.Path},
			Message: "git does not track it", Mend: "git add it, and commit it"})
	}
	return append(found, read(f)...)
}

// syntax is the finding that a file cannot be read.
func syntax(f *finding.File, line int, err error) finding.Finding {
	p := finding.Position{File: f.Path}
	if line > 0 && line <= f.Lines() {
		p = f.Position(f.LineStart(line), f.LineEnd(line))
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return finding.Finding{Rule: ruleSyntax, Position: p, Message: "it cannot be read: " + text}
}

func (m *manifest) check(t *finding.Tree, f *finding.File) []finding.Finding {
	var names []string
	if m.wanted != nil {
		var ok bool
		var err error
		if names, ok, err = m.wanted(f); err != nil {
			return []finding.Finding{syntax(f, lineOf(err), err)}
		} else if !ok {
			return nil
		}
	}
	lock, other := m.find(t, f)
	if lock == "" {
		severity, of := finding.Severity(""), ""
		if other != "" { // most are examples or templates
			severity, of = finding.Note, "; it is not of the workspace of "+other
		}
		return []finding.Finding{{Rule: m.rule, Severity: severity, Position: finding.Position{File: f.Path}, Message: "there is no " + strings.Join(m.locks, ", ") + of,
			Mend: "run " + m.run + ", and commit what it writes (see .gitignore too)"}}
	}
	if m.locked == nil {
		return nil
	}
	file, err := t.Read(lock)
	if err != nil {
		return nil // the run says so
	}
	has := finding.Derived(file, "locked", func(file *finding.File) func(string) bool {
		has, err := m.locked(file)
		if err != nil {
			return nil // its own check says so
		}
		return has
	})
	if has == nil {
		return nil
	}
	names = slices.DeleteFunc(names, has)
	if len(names) == 0 {
		if m.name == "package.json" {
			return otherSpecifiers(f, file)
		}
		return nil
	}
	const most = 5
	text := strings.Join(names[:min(most, len(names))], ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return []finding.Finding{{Rule: ruleOutOfDate, Position: placeOf(f, names[0][strings.LastIndexByte(names[0], ':')+1:]), Message: lock + " lacks " + text, Mend: "run " + m.run + ", and commit what it writes"}}
}

// find returns the lock file for a manifest, or "" and another one above it, which is not for it.
func (m *manifest) find(t *finding.Tree, f *finding.File) (lock, other string) {
	for dir := path.Dir(f.Path); ; dir = path.Dir(dir) {
		for _, name := range m.locks {
			at := path.Join(dir, name)
			switch {
			case !t.Has(at):
			case dir == path.Dir(f.Path) || covers(t, at, f):
				return at, ""
			default:
				other = at
			}
		}
		if !m.above || dir == "." {
			return "", other
		}
	}
}

// placeOf returns the first place of a name in a file: in quotes, by itself in a line, or else as no part
// of a longer name.
func placeOf(f *finding.File, name string) finding.Position {
	if name == "" {
		return finding.Position{File: f.Path}
	}
	if at, ok := f.Quoted(name); ok {
		return f.Position(at, at+len(name))
	}
	data := string(f.Data)
	for at := 0; ; at++ {
		next := strings.Index(data[at:], name)
		if next < 0 {
			return finding.Position{File: f.Path}
		}
		at += next
		if end := at + len(name); (at == 0 || !inName(data[at-1])) && (end == len(data) || !inName(data[end])) {
			return f.Position(at, end)
		}
	}
}

// entryOf returns the place of an entry of a lock file. The name is in quotes there.
func entryOf(f *finding.File, name string) finding.Position {
	at, ok := f.Quoted(name)
	if !ok {
		return finding.Position{File: f.Path}
	}
	return f.Position(at, at+len(name))
}

func inName(c byte) bool {
	return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// without is the finding about an entry without hash.
func without(f *finding.File, at finding.Position, entry, mend string) finding.Finding {
	return finding.Finding{Rule: ruleHash, Position: at, Message: entry + " has no hash", Mend: mend}
}

// plain returns a finding if an address is one of plain HTTP, or of git without encryption.
func plain(at finding.Position, address string) []finding.Finding {
	scheme, _, ok := strings.Cut(address, "://")
	if !ok || !slices.Contains([]string{"http", "git", "git+http", "ftp"}, strings.ToLower(scheme)) {
		return nil
	}
	if u, err := url.Parse(address); err == nil && loopback.Is(u.Hostname()) {
		return nil
	}
	return []finding.Finding{{Rule: rulePlain, Position: at, Message: "it comes from " + address, Mend: "use https, and make the lock file anew"}}
}
