package lock

import (
	"path"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/yamlfile"
)

// covers reports whether a lock file is also for the manifest f, which is in a directory below it: whether it is
// one of the workspace's.
func covers(t *finding.Tree, lock string, f *finding.File) bool {
	l, err := t.Read(lock)
	if err != nil {
		return true // it was not read: the run says so
	}
	in := path.Dir(f.Path)
	if base := path.Dir(lock); base != "." {
		in = strings.TrimPrefix(in, base+"/")
	}
	switch path.Base(lock) {
	case "package-lock.json", "npm-shrinkwrap.json", "bun.lock":
		_, ok := l.Quoted(in)
		return ok
	case "pnpm-lock.yaml":
		root := pnpmRoot(l)
		return root == nil || finding.Derived(l, "importers", func(*finding.File) map[string]bool {
			dirs := map[string]bool{}
			yamlfile.Pairs(yamlfile.Get(root, "importers"), func(dir, _ *yaml.Node) bool { dirs[dir.Value] = true; return true })
			return dirs
		})[in]
	case "yarn.lock":
		if strings.Contains(string(l.Data), "\n__metadata:") {
			return finding.Derived(l, "workspaces", between(`@workspace:`, `"`))[in]
		}
		root, err := t.Read(path.Join(path.Dir(lock), "package.json"))
		return err == nil && strings.Contains(string(root.Data), `"workspaces"`)
	case "Cargo.lock":
		var c struct{ Package struct{ Name string } }
		if readTOML(f, &c) != nil || c.Package.Name == "" {
			return true // its own check says so; or it is a workspace in another
		}
		_, ok := l.Quoted(c.Package.Name)
		return ok
	case "uv.lock":
		return finding.Derived(l, "sources", between(`= "`, `" }`))[in]
	case "poetry.lock", "pdm.lock", "pylock.toml":
		return false // they are for one project
	}
	return true
}

// between returns a reader of the texts in a file that begin after one mark and end before another.
func between(begin, end string) func(*finding.File) map[string]bool {
	return func(f *finding.File) map[string]bool {
		found := map[string]bool{}
		parts := strings.Split(string(f.Data), begin)
		for _, part := range parts[1:] {
			if text, _, ok := strings.Cut(part, end); ok {
				found[text] = true
			}
		}
		return found
	}
}
