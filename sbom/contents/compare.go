package contents

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/sbom"
)

// Difference is how an SBOM and an image differ.
type Difference struct {
	Compared int       // number of packages in the SBOM whose type is one of Types
	Unlisted []Package // in the image, but not in the SBOM
	Missing  []Package // in the SBOM, but not in the image
}

// None reports whether SBOM and image have the same packages.
func (d Difference) None() bool { return len(d.Unlisted)+len(d.Missing) == 0 }

// String returns the difference in one line for people, with at most 5 packages of
// each kind.
func (d Difference) String() string {
	var parts []string
	for _, side := range []struct {
		what string
		list []Package
	}{{"in the image and not in the SBOM", d.Unlisted}, {"in the SBOM and not in the image", d.Missing}} {
		if len(side.list) == 0 {
			continue
		}
		var names []string
		for _, p := range side.list[:min(len(side.list), 5)] {
			names = append(names, p.String())
		}
		if more := len(side.list) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("%d more", more))
		}
		parts = append(parts, side.what+": "+strings.Join(names, ", "))
	}
	return strings.Join(parts, "; ")
}

// String returns type, name and version, for people.
func (p Package) String() string {
	if p.Version == "" {
		return p.Type + " " + p.Name
	}
	return p.Type + " " + p.Name + " " + p.Version
}

// Compare compares the packages listed in an SBOM with those that Read found in the
// image. It ignores listed packages whose package URL has none of Types, because
// Read does not look for them. An empty version matches every version.
func Compare(listed []sbom.Package, installed map[Package]bool) Difference {
	said := map[Package]bool{}
	for _, l := range listed {
		if p, ok := parsePURL(l.PURL); ok {
			said[p] = true
		}
	}
	unlisted := slices.DeleteFunc(without(installed, said), func(p Package) bool { return p.Type == "npm" && p.Version == "" })
	return Difference{Compared: len(said), Unlisted: unlisted, Missing: without(said, installed)}
}

// without returns what is in a and has no match in b, sorted.
func without(a, b map[Package]bool) []Package {
	versions := map[Package][]string{} // by type and name
	for p := range b {
		key := Package{Type: p.Type, Name: p.Name}
		versions[key] = append(versions[key], p.Version)
	}
	var out []Package
	for p := range a {
		in := versions[Package{Type: p.Type, Name: p.Name}]
		if !slices.ContainsFunc(in, func(v string) bool { return v == p.Version || v == "" || p.Version == "" }) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// parsePURL parses the parts of a package URL (github.com/package-url/purl-spec) that
// are compared. ok is false if its type is none of Types:
//
//	purl = "pkg:" type "/" [ namespace "/" ] name [ "@" version ] [ "?" qualifiers ] [ "#" subpath ]
func parsePURL(purl string) (p Package, ok bool) {
	rest, ok := strings.CutPrefix(purl, "pkg:")
	if !ok {
		return Package{}, false
	}
	rest, subpath, _ := strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	kind, rest, ok := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	if kind = strings.ToLower(kind); !ok || !slices.Contains(Types, kind) {
		return Package{}, false
	}
	version := ""
	// The "@" of an npm scope may be unescaped.
	if i := strings.LastIndexByte(rest, '@'); i > 0 && rest[i-1] != '/' {
		rest, version = rest[:i], rest[i+1:]
	}
	name, err := url.PathUnescape(strings.Trim(rest, "/"))
	if err != nil || name == "" {
		return Package{}, false
	}
	if version, err = url.PathUnescape(version); err != nil {
		return Package{}, false
	}
	switch kind {
	case "golang":
		// Syft writes the end of a Go module's path as the subpath.
		if subpath, err = url.PathUnescape(subpath); err == nil && subpath != "" {
			name += "/" + strings.Trim(subpath, "/")
		}
		if name == "stdlib" {
			version = strings.TrimPrefix(version, "go")
		}
		if version == "(devel)" || version == "UNKNOWN" {
			version = ""
		}
	case "deb", "apk":
		name = name[strings.LastIndexByte(name, '/')+1:]
	case "pypi":
		name = normalPython(name)
	}
	return Package{kind, name, version}, true
}
