package golang

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// TestWorkspace: a package of a workspace is built from the modules that its go.work uses,
// and from the sums of all of them.
func TestWorkspace(t *testing.T) {
	b := newBuilder(t, Config{Proxy: moduleProxy(t, nil), StdCache: sharedStd})
	version, sums := ownSums(t, dep)
	files := map[string]string{
		"go.work":         "go 1.26.0\n\nuse (\n\t./svc\n\t./lib\n)\n",
		"svc/go.mod":      "module example.com/svc\n\ngo 1.26.0\n",
		"svc/cmd/main.go": "package main\n\nimport \"example.com/lib\"\n\nfunc main() { println(lib.Major()) }\n",
		"lib/go.mod":      "module example.com/lib\n\ngo 1.26.0\n\nrequire " + dep + " " + version + "\n",
		"lib/go.sum":      sums,
		"lib/lib.go":      "package lib\n\nimport \"golang.org/x/mod/semver\"\n\nfunc Major() string { return semver.Major(\"v3.2.1\") }\n",
	}
	recipe := attest.Recipe{Package: "./svc/cmd"}
	res, _, log, err := do(t, b, writeTree(t, files), recipe, builder.Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	var names []string
	for _, d := range res.Dependencies {
		names = append(names, d.Name)
	}
	if want := []string{dep + "@" + version}; !slices.Equal(names, want) {
		t.Errorf("got dependencies %q, want %q: the workspace's modules are of the commit", names, want)
	}
	// A tampered sum of any of the modules stops the build.
	files["lib/go.sum"] = strings.ReplaceAll(sums, "h1:", "h1:A")
	if _, _, log, err := do(t, b, writeTree(t, files), recipe, builder.Limits{}); err == nil {
		t.Errorf("a module with another sum than the go.sum of the workspace has was built\n%s", log)
	}
	files["lib/go.sum"] = sums
	// The same package by itself lacks the other module.
	if _, _, _, err := do(t, b, writeTree(t, files), attest.Recipe{Package: "./svc/cmd", Context: "svc"}, builder.Limits{}); err == nil {
		t.Error("the build sees a workspace above its context")
	}
	// A link out of the tree cannot be a module of the workspace.
	outside := writeTree(t, map[string]string{"go.mod": files["lib/go.mod"], "go.sum": sums, "lib.go": files["lib/lib.go"]})
	delete(files, "lib/go.mod")
	delete(files, "lib/go.sum")
	delete(files, "lib/lib.go")
	tree := writeTree(t, files)
	if err := os.Symlink(outside, filepath.Join(tree, "lib")); err != nil {
		t.Fatal(err)
	}
	if _, _, log, err := do(t, b, tree, recipe, builder.Limits{}); err == nil {
		t.Errorf("a module of the host was built\n%s", log)
	}
}
