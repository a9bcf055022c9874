// Package manifest compares SBOMs with the manifests and lock files of the source from which an image was built:
// go.mod and go.sum, package-lock.json, requirements.txt, Cargo.lock, poetry.lock and uv.lock. Neither side proves
// anything: a build may install what no manifest names, and a manifest names what only tests need.
package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/pypi"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/sbom"
)

const (
	// MaxFile is the limit of one manifest, in bytes.
	MaxFile     = 16 << 20
	maxPackages = 200_000 // of all manifests
)

// Type is a type of package URLs (github.com/package-url/purl-spec).
type Type string

// Types of packages.
const (
	Golang Type = "golang"
	NPM    Type = "npm"
	PyPI   Type = "pypi"
	Cargo  Type = "cargo"
)

// entry is a package that a manifest names. Without a version, all of its versions are meant.
type entry struct {
	kind          Type
	name, version string
}

func (e entry) String() string {
	if e.version == "" {
		return string(e.kind) + " " + e.name
	}
	return string(e.kind) + " " + e.name + "@" + e.version
}

// Set is what the manifests of a source name.
type Set struct {
	types map[Type]bool
	wants map[entry]bool // by version
	knows map[entry]bool // what is no surprise in an SBOM: wants, and what a manifest allows or is itself
}

// reader adds what a manifest names.
type reader func(s *Set, raw []byte) error

func readerOf(name string) reader {
	switch base := path.Base(name); {
	case base == "go.mod":
		return goMod
	case base == "go.sum":
		return goSum
	case base == "package-lock.json", base == "npm-shrinkwrap.json":
		return packageLock
	case base == "Cargo.lock":
		return tomlLock(Cargo)
	case base == "poetry.lock", base == "uv.lock":
		return tomlLock(PyPI)
	case pypi.Requirements(name):
		return requirements
	}
	return nil
}

// Wants reports whether Add reads a file with this path.
func Wants(name string) bool { return readerOf(name) != nil }

// Add reads a manifest of at most MaxFile bytes. It fails if the file cannot be read, and leaves the set as it may then be:
// part of the file may be in it.
func (s *Set) Add(name string, raw []byte) error {
	read := readerOf(name)
	if read == nil {
		return fmt.Errorf("%s: it is no manifest", name)
	}
	if len(raw) > MaxFile {
		return fmt.Errorf("%s: got %d bytes, want at most %d", name, len(raw), MaxFile)
	}
	if s.types == nil {
		s.types, s.wants, s.knows = map[Type]bool{}, map[entry]bool{}, map[entry]bool{}
	}
	err := read(s, raw)
	if err == nil && len(s.knows) > maxPackages {
		err = fmt.Errorf("got more than %d packages", maxPackages)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// add adds a package; wanted: a build installs it.
func (s *Set) add(kind Type, name, version string, wanted bool) {
	if name == "" || len(s.knows) > maxPackages {
		return
	}
	e := entry{kind, normal(kind, name), version}
	s.types[kind], s.knows[e] = true, true
	if wanted {
		s.wants[e] = true
	}
}

func normal(kind Type, name string) string {
	if kind == PyPI {
		return pypi.Name(name)
	}
	return name
}

// Difference is how SBOMs and manifests differ. It is about the types of packages that the manifests are about.
type Difference struct {
	Types    []Type
	Compared int      // packages of these types in the SBOMs
	Unnamed  []string // in the SBOMs, and named by no manifest: TYPE NAME@VERSION, sorted
	Unlisted []string // named by a manifest, and in no SBOM
}

// Compare compares the packages of all SBOMs of an image with the manifests.
func (s *Set) Compare(packages []sbom.Package) Difference {
	d := Difference{Types: slices.Sorted(maps.Keys(s.types))}
	listed := map[entry]bool{}
	for _, p := range packages {
		kind, ok := typeOf(p.PURL)
		if !ok || !s.types[kind] || kind == Golang && (p.Name == "stdlib" || p.Name == "std") {
			continue
		}
		e := entry{kind, normal(kind, p.Name), p.Version}
		if listed[e] {
			continue
		}
		listed[e] = true
		d.Compared++
		if !s.knows[e] && !s.knows[entry{kind, e.name, ""}] {
			d.Unnamed = append(d.Unnamed, e.String())
		}
	}
	names := map[entry]bool{} // without versions
	for e := range listed {
		names[entry{e.kind, e.name, ""}] = true
	}
	for e := range s.wants {
		if !listed[e] && (e.version != "" || !names[e]) {
			d.Unlisted = append(d.Unlisted, e.String())
		}
	}
	slices.Sort(d.Unnamed)
	slices.Sort(d.Unlisted)
	return d
}

func typeOf(purl string) (Type, bool) {
	rest, ok := strings.CutPrefix(purl, "pkg:")
	kind, _, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	return Type(strings.ToLower(kind)), ok
}

// goMod reads a go.mod (go.dev/ref/mod#go-mod-file): since Go 1.17, it requires each module that the packages of the
// module need. What a replacement on the disk has, no version says.
func goMod(s *Set, raw []byte) error {
	mod, err := modfile.ParseLax("go.mod", raw, nil)
	if err != nil {
		return err
	}
	if mod.Module != nil {
		s.add(Golang, mod.Module.Mod.Path, "", false)
	}
	// ParseLax skips replace directives, which count only in the main module; this may be it.
	if strictly, err := modfile.Parse("go.mod", raw, nil); err == nil {
		mod = strictly
	}
	replaced := map[string]bool{}
	for _, r := range mod.Replace {
		s.add(Golang, r.New.Path, r.New.Version, false)
		replaced[r.Old.Path] = true
	}
	for _, r := range mod.Require {
		if replaced[r.Mod.Path] { // the SBOM may have the one or the other
			s.add(Golang, r.Mod.Path, "", false)
			continue
		}
		s.add(Golang, r.Mod.Path, r.Mod.Version, true)
	}
	s.types[Golang] = true
	return nil
}

// goSum reads a go.sum (go.dev/ref/mod#go-sum-files): it pins more modules than a build uses.
func goSum(s *Set, raw []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return errors.New("expected lines of module, version and hash")
		}
		s.add(Golang, fields[0], strings.TrimSuffix(fields[1], "/go.mod"), false)
	}
	s.types[Golang] = true
	return lines.Err()
}

// packageLock reads a package-lock.json of version 2 or 3 (docs.npmjs.com, package-lock.json).
func packageLock(s *Set, raw []byte) error {
	var d struct {
		Version  int `json:"lockfileVersion"`
		Packages map[string]struct {
			Name     string `json:"name"`
			Version  string `json:"version"`
			Dev      bool   `json:"dev"`
			Optional bool   `json:"optional"`
			Link     bool   `json:"link"`
		} `json:"packages"`
	}
	if err := strict.Unmarshal(raw, MaxFile, &d); err != nil {
		return err
	}
	if d.Version < 2 {
		return fmt.Errorf("lockfileVersion: expected 2 or 3, found %d", d.Version)
	}
	const dir = "node_modules/"
	for at, p := range d.Packages {
		i := strings.LastIndex(at, dir)
		if i < 0 || p.Link { // a package of the source itself
			s.add(NPM, p.Name, "", false)
			continue
		}
		name := p.Name
		if name == "" {
			name = at[i+len(dir):]
		}
		s.add(NPM, name, p.Version, !p.Dev && !p.Optional)
	}
	s.types[NPM] = true
	return nil
}

// pinned is a line of requirements.txt that names one version.
var pinned = lazyregexp.New(`^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([^\s;,\\*]+))?`)

// requirements reads a requirements.txt (pip.pypa.io, Requirements File Format). A requirement that is no single version is
// about all versions.
func requirements(s *Set, raw []byte) error {
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "-") {
			continue
		}
		if m := pinned.FindStringSubmatch(line); m != nil {
			s.add(PyPI, m[1], m[2], true)
		}
	}
	s.types[PyPI] = true
	return lines.Err()
}

// locked is a line of a table [[package]] that tomlLock reads.
var locked = lazyregexp.New(`^(name|version|source) = (.*)$`)

// tomlLock returns the reader of the form in which cargo, poetry and uv write their lock files: tables [[package]], with name,
// version and source on lines of their own. A package of the source itself has no source with cargo, and is virtual or
// editable with uv.
func tomlLock(kind Type) reader {
	return func(s *Set, raw []byte) error {
		var now map[string]string // nil: outside of a package
		done := func() {
			switch source, has := now["source"]; {
			case now == nil:
			case kind == Cargo && !has, strings.HasPrefix(source, "{ virtual"), strings.HasPrefix(source, "{ editable"):
				s.add(kind, now["name"], "", false)
			default:
				s.add(kind, now["name"], now["version"], true)
			}
		}
		for line := range strings.Lines(string(raw)) {
			line = strings.TrimRight(line, "\r\n")
			switch {
			case line == "[[package]]":
				done()
				now = map[string]string{}
			case strings.HasPrefix(line, "["):
				done()
				now = nil
			case now != nil:
				m := locked.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				if now[m[1]] = m[2]; m[1] != "source" {
					value, err := strconv.Unquote(m[2])
					if err != nil {
						return fmt.Errorf("%s: expected a string, found %.40q", m[1], m[2])
					}
					now[m[1]] = value
				}
			}
		}
		done()
		s.types[kind] = true
		return nil
	}
}
