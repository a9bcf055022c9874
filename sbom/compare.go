package sbom

import (
	"cmp"
	"slices"
	"strings"
)

// Difference is how the packages of two documents differ. Each list is ordered by name.
type Difference struct {
	Added   []Package
	Removed []Package
	Changed []Change
}

// Change is a package that both documents have, with other versions.
type Change struct {
	Name     string
	Old, New []string // versions, sorted; a package may be there with several
}

// Compare returns how the packages of next differ from those of old. A package is the same in
// both if it has the same package URL without version and qualifiers or, if it has no package
// URL, the same name. Formats may differ: Compare looks at nothing but packages.
func Compare(old, next *Document) Difference {
	before, after := group(old.List), group(next.List)
	var d Difference
	for key, was := range before {
		now, ok := after[key]
		switch {
		case !ok:
			d.Removed = append(d.Removed, was...)
		case !slices.Equal(versions(was), versions(now)):
			d.Changed = append(d.Changed, Change{Name: was[0].Name, Old: versions(was), New: versions(now)})
		}
	}
	for key, now := range after {
		if _, ok := before[key]; !ok {
			d.Added = append(d.Added, now...)
		}
	}
	byName := func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.PURL, b.PURL))
	}
	slices.SortFunc(d.Added, byName)
	slices.SortFunc(d.Removed, byName)
	slices.SortFunc(d.Changed, func(a, b Change) int { return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Old, b.Old)) })
	return d
}

// group returns the packages by what identifies them.
func group(list []Package) map[string][]Package {
	groups := map[string][]Package{}
	for _, p := range list {
		key, _, _ := strings.Cut(p.PURL, "?")
		key, _, _ = strings.Cut(key, "#")
		if at := strings.LastIndexByte(key, '@'); at > strings.LastIndexByte(key, '/') {
			key = key[:at]
		}
		if key == "" {
			key = p.Name
		}
		groups[key] = append(groups[key], p)
	}
	return groups
}

// versions returns the versions in a list, each once.
func versions(list []Package) []string {
	var all []string
	for _, p := range list {
		all = append(all, p.Version)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
