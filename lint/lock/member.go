package lock

import (
	"path"
	"strings"

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
		roots, err := yamlfile.Parse(l)
		return err != nil || len(roots) > 0 && yamlfile.Get(roots[len(roots)-1], "importers", in) != nil
	case "yarn.lock":
		if strings.Contains(string(l.Data), "\n__metadata:") {
			return strings.Contains(string(l.Data), "@workspace:"+in+`"`)
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
		return strings.Contains(string(l.Data), `= "`+in+`" }`)
	case "poetry.lock", "pdm.lock", "pylock.toml":
		return false // they are for one project
	}
	return true
}
