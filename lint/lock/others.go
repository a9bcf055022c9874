package lock

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/colophon-build/colophon/lint/finding"
)

// cargoNames returns the dependencies in Cargo.toml, if it is one of a program or a workspace: of a
// library, whoever uses it has the lock file.
func cargoNames(f *finding.File) (names []string, ok bool, err error) {
	var c struct {
		Dependencies map[string]any
		Bin          []any
		Workspace    map[string]any
		Package      map[string]any
	}
	if err := readTOML(f, &c); err != nil {
		return nil, false, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Dependencies)) {
		d, _ := c.Dependencies[name].(map[string]any)
		if other, _ := d["package"].(string); other != "" {
			name = other
		}
		if d["optional"] != true {
			names = append(names, name)
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

var gemLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*gem[ (]+["']([^"']+)["'](.*)$`)
})

func gemNames(f *finding.File) (names []string, ok bool, err error) {
	for _, m := range gemLine().FindAllStringSubmatch(string(f.Data), -1) {
		if !strings.Contains(m[2], "path:") && !strings.Contains(m[2], " if ") && !strings.Contains(m[2], " unless ") {
			names = append(names, m[1])
		}
	}
	return names, !strings.Contains(string(f.Data), "\ngemspec") && len(names) > 0, nil
}

func gemLocked(lock *finding.File) (func(string) bool, error) {
	text := string(lock.Data)
	return func(name string) bool {
		return strings.Contains(text, "\n    "+name+" (") || strings.Contains(text, "\n  "+name+"\n") || strings.Contains(text, "\n  "+name+" (") || strings.Contains(text, "\n  "+name+"!")
	}, nil
}

func gemHashes(f *finding.File) (found []finding.Finding) {
	text := string(f.Data)
	for n := 1; n <= f.Lines(); n++ {
		if address, ok := strings.CutPrefix(strings.TrimSpace(f.Line(n)), "remote: "); ok {
			found = append(found, plain(f.Position(f.LineStart(n), f.LineStart(n)+len(f.Line(n))), address)...)
		}
	}
	_, sums, has := strings.Cut(text, "\nCHECKSUMS\n")
	if !has {
		if strings.Contains(text, "GEM\n") {
			found = append(found, finding.Finding{Rule: ruleUnverified, Position: finding.Position{File: f.Path}, Message: "it has no CHECKSUMS", Mend: "run bundle lock --add-checksums (Bundler 2.6)"})
		}
		return found
	}
	for line := range strings.SplitSeq(sums, "\n") {
		if !strings.HasPrefix(line, "  ") {
			break
		}
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); !strings.Contains(line, "sha256=") && strings.Contains(line, "(") && !strings.Contains(text, "\n    "+name+"!") {
			at := len(text) - len(sums) + strings.Index(sums, line)
			found = append(found, without(f, f.Position(at, at+len(line)), strings.TrimSpace(line), "run bundle lock --add-checksums"))
		}
	}
	return found
}

func composerNames(f *finding.File) (names []string, ok bool, err error) {
	var c struct{ Require map[string]any }
	if err := readJSON(f, &c); err != nil {
		return nil, false, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Require)) {
		if strings.Contains(name, "/") { // others are PHP and its extensions
			names = append(names, name)
		}
	}
	return names, len(names) > 0, nil
}

func composerLocked(lock *finding.File) (func(string) bool, error) {
	text := strings.ToLower(strings.ReplaceAll(string(lock.Data), `\/`, "/"))
	return func(name string) bool { return strings.Contains(text, `"`+strings.ToLower(name)+`"`) }, nil
}

// composerHashes checks composer.lock. Packages of GitHub have a commit, and no hash of the archive.
func composerHashes(f *finding.File) (found []finding.Finding) {
	var l struct {
		Packages []struct {
			Name string
			Dist struct{ URL, Reference, Shasum string }
		}
	}
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, p := range l.Packages {
		at := placeOf(f, `"`+p.Name+`"`)
		found = append(found, plain(at, p.Dist.URL)...)
		if p.Dist.URL != "" && p.Dist.Shasum == "" && len(p.Dist.Reference) < 40 {
			found = append(found, without(f, at, p.Name, "run composer update "+p.Name+", from a repository that tells hashes or commits"))
		}
	}
	return found
}

// dotnetNames reports whether a project has packages.
func dotnetNames(f *finding.File) (names []string, ok bool, err error) {
	return nil, strings.Contains(string(f.Data), "<PackageReference"), nil
}

func nugetHashes(f *finding.File) (found []finding.Finding) {
	var l struct {
		Dependencies map[string]map[string]struct{ Type, Resolved, ContentHash string }
	}
	if err := readJSON(f, &l); err != nil {
		return []finding.Finding{syntax(f, lineOf(err), err)}
	}
	for _, target := range slices.Sorted(maps.Keys(l.Dependencies)) {
		for _, name := range slices.Sorted(maps.Keys(l.Dependencies[target])) {
			if p := l.Dependencies[target][name]; !strings.EqualFold(p.Type, "project") && p.ContentHash == "" {
				found = append(found, without(f, placeOf(f, `"`+name+`"`), name+" "+p.Resolved, "run dotnet restore --force-evaluate"))
			}
		}
	}
	return found
}

// gradleHashes checks gradle/verification-metadata.xml.
func gradleHashes(f *finding.File) (found []finding.Finding) {
	dec := xml.NewDecoder(strings.NewReader(string(f.Data)))
	var artifact, component string
	var start int64
	has := false
	for {
		at := dec.InputOffset()
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			line, _ := dec.InputPos()
			return append(found, syntax(f, line, err))
		}
		switch e := token.(type) {
		case xml.StartElement:
			switch e.Name.Local {
			case "component":
				component = attribute(e, "group") + ":" + attribute(e, "name") + ":" + attribute(e, "version")
			case "artifact":
				artifact, start, has = component+" "+attribute(e, "name"), at, false
			case "sha256", "sha512", "pgp":
				has = true
			}
		case xml.EndElement:
			if e.Name.Local == "artifact" && !has {
				found = append(found, without(f, f.Position(int(start), int(start)+len("<artifact")), artifact, "run gradle --write-verification-metadata sha256"))
			}
		case xml.CharData:
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
