package lock

import (
	"maps"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// npmSpecifiers returns the versions that package.json asks for, by name.
func npmSpecifiers(f *finding.File) map[string]string {
	var p struct {
		npmGroups
		Resolutions map[string]any `json:"resolutions"` // of yarn: they replace what is asked for
	}
	if readJSON(f, &p) != nil || len(p.Resolutions) > 0 {
		return nil
	}
	out := map[string]string{}
	for _, group := range []map[string]string{p.DevDependencies, p.Dependencies, p.OptionalDependencies} { // the last counts
		maps.Copy(out, group)
	}
	return out
}

// npmAsked returns the version that was asked for when a lock file was written, for the package.json in a
// directory; "" if the lock file does not say.
func npmAsked(lock *finding.File, dir string) func(name string) string {
	in := "."
	if base := path.Dir(lock.Path); base == "." {
		in = dir
	} else if rest, ok := strings.CutPrefix(dir, base+"/"); ok {
		in = rest
	}
	switch path.Base(lock.Path) {
	case "package-lock.json", "npm-shrinkwrap.json":
		return npmLockAsked(lock, in)
	case "pnpm-lock.yaml":
		return pnpmAsked(lock, in)
	}
	return nil
}

func npmLockAsked(lock *finding.File, in string) func(string) string {
	packages := finding.Derived(lock, "asked", func(lock *finding.File) map[string]npmGroups {
		var l struct {
			Packages map[string]npmGroups `json:"packages"`
		}
		if readJSON(lock, &l) != nil {
			return nil // its own check says so
		}
		return l.Packages
	})
	if in == "." {
		in = ""
	}
	p := packages[in]
	return func(name string) string {
		for _, group := range []map[string]string{p.OptionalDependencies, p.Dependencies, p.DevDependencies} {
			if asked := group[name]; asked != "" {
				return asked
			}
		}
		return ""
	}
}

// pnpmRoot returns what is in pnpm-lock.yaml, or nil if it cannot be read.
func pnpmRoot(lock *finding.File) *yaml.Node {
	return finding.Derived(lock, "pnpm", func(lock *finding.File) *yaml.Node {
		roots, err := yamlfile.Parse(lock)
		if err != nil || len(roots) == 0 {
			return nil
		}
		return roots[len(roots)-1]
	})
}

func pnpmAsked(lock *finding.File, in string) func(string) string {
	root := pnpmRoot(lock)
	if root == nil || yamlfile.Get(root, "overrides") != nil {
		return nil // they replace what is asked for
	}
	at := yamlfile.Get(root, "importers", in)
	if at == nil {
		at = root
	}
	return func(name string) string {
		for _, group := range []string{"optionalDependencies", "dependencies", "devDependencies"} {
			if s := yamlfile.Value(yamlfile.Get(at, group, name, "specifier")); s != "" {
				return s
			}
		}
		return yamlfile.Value(yamlfile.Get(at, "specifiers", name)) // before version 6
	}
}

// otherSpecifiers finds the first dependency of package.json that asks for another version than when the lock
// file was written.
func otherSpecifiers(f, lock *finding.File) []finding.Finding {
	asked := npmAsked(lock, path.Dir(f.Path))
	if asked == nil {
		return nil
	}
	names, _, _ := npmNames(f)
	want := npmSpecifiers(f)
	for _, name := range names {
		if old := asked(name); old != "" && want[name] != "" && old != want[name] && !strings.HasPrefix(want[name], "catalog:") {
			return []finding.Finding{{Rule: ruleOutOfDate, Position: placeOf(f, name), Message: lock.Path + " was made for " + name + " " + old + ", and not for " + want[name],
				Mend: "make the lock file anew, and commit it"}}
		}
	}
	return nil
}
