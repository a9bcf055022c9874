package contents

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/sbom"
)

// Difference is what an SBOM and an image do not agree on.
type Difference struct {
	Compared int       // packages of the SBOM that are of Types
	Unlisted []Package // in the image, and not in the SBOM
	Missing  []Package // in the SBOM, and not in the image
}

// None says that they agree.
func (d Difference) None() bool { return len(d.Unlisted)+len(d.Missing) == 0 }

// String is one line for people, with the first few of each.
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

// String is as people write it.
func (p Package) String() string {
	if p.Version == "" {
		return p.Type + " " + p.Name
	}
	return p.Type + " " + p.Name + " " + p.Version
}

// Compare holds a document's packages to what Read found. Only those whose
// package URL is of one of Types are compared; of the others nobody looked.
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

// without lists what is in a and has no match in b, in order.
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

// parsePURL reads a package URL (github.com/package-url/purl-spec) as far as it
// is compared:
//
//	purl = "pkg:" type "/" [ namespace "/" ] name [ "@" version ] [ "?" qualifiers ] [ "#" subpath ]
func parsePURL(purl string) (Package, bool) {
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
	// An npm scope may stand with its "@" as it is.
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
		// A Go module's path goes on in the subpath, as Syft writes it.
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
