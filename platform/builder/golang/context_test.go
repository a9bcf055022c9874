package golang

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// TestContext: a module below the top is built as if its directory were the whole source,
// and the build sees nothing else of it.
func TestContext(t *testing.T) {
	needs.Long(t)
	b := newBuilder(t, Config{Proxy: moduleProxy(t, nil), StdCache: sharedStd})
	files := helloTree(t)
	_, layout, log, err := do(t, b, writeTree(t, files), attest.Recipe{Package: "./cmd/hello"}, builder.Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	want, err := layoutDigest(layout)
	if err != nil {
		t.Fatal(err)
	}
	repo := map[string]string{
		"go.mod": "module example.com/other\n\ngo 1.26.0\n", "secret.txt": "outside\n",
		"embeds/go.mod": "module example.com/embeds\n\ngo 1.26.0\n", "embeds/main.go": "package main\n\nimport _ \"embed\"\n\n//go:embed up.txt\nvar up string\n\nfunc main() { println(up) }\n",
		"replaces/go.mod":  "module example.com/replaces\n\ngo 1.26.0\n\nreplace example.com/other => ../\n",
		"replaces/main.go": "package main\n\nfunc main() {}\n", "bare/main.go": "package main\n\nfunc main() {}\n",
	}
	for name, text := range files {
		repo["svc/"+name] = text
	}
	tree := writeTree(t, repo)
	if err := errors.Join(os.Symlink("../secret.txt", filepath.Join(tree, "embeds/up.txt")), os.Symlink("/usr/local/go/src/cmd/gofmt", filepath.Join(tree, "host"))); err != nil {
		t.Fatal(err)
	}
	_, layout, log, err = do(t, b, tree, attest.Recipe{Context: "svc", Package: "./svc/cmd/hello"}, builder.Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if got, err := layoutDigest(layout); err != nil || got != want {
		t.Errorf("got digest %s, %v, want %s of the module by itself", got, err, want)
	}
	for context, want := range map[string]string{
		"embeds": "up.txt", "replaces": "is outside the source", "bare": "no go.mod", "host": "host is a link", "../" + filepath.Base(tree): "context: got", tree: "context: got",
	} {
		if _, _, log, err := do(t, b, tree, attest.Recipe{Context: context}, builder.Limits{}); err == nil || !strings.Contains(err.Error()+log, want) {
			t.Errorf("%s: got %v, want %q\n%s", context, err, want, log)
		}
	}
}
