package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
)

// A requester who names no Dockerfile, or a missing one, learns which ones there are and
// how to choose.
func TestDockerfilesAreListed(t *testing.T) {
	monorepo := t.TempDir()
	for _, name := range []string{"services/web/Dockerfile", "services/api/Dockerfile", "deploy/tool.Dockerfile", "deploy/tool.Dockerfile.dockerignore", "README"} {
		write(t, filepath.Join(monorepo, name))
	}
	many := t.TempDir()
	for i := range 12 {
		write(t, filepath.Join(many, fmt.Sprintf("s%02d/Dockerfile", i)))
	}
	other := t.TempDir()
	write(t, filepath.Join(other, "build/app.Dockerfile"))
	const all = "it has deploy/tool.Dockerfile, services/api/Dockerfile, services/web/Dockerfile; choose one: --dockerfile deploy/tool.Dockerfile, or declare"
	for name, test := range map[string]struct {
		tree   string
		recipe attest.Recipe
		want   string
	}{
		"nothing at the top":      {monorepo, attest.Recipe{}, "the top directory of the source has neither a Dockerfile nor a go.mod|" + all},
		"nothing in the context":  {monorepo, attest.Recipe{Context: "services"}, "the directory services has neither|" + all},
		"no such context":         {monorepo, attest.Recipe{Context: "service/web"}, `context "service/web": the source has no such directory|` + all},
		"a file":                  {monorepo, attest.Recipe{Context: "README", Builder: "buildkit"}, "README is no directory|" + all},
		"no such Dockerfile":      {monorepo, attest.Recipe{Dockerfile: "web/Dockerfile"}, "no file web/Dockerfile|" + all},
		"none in the context":     {monorepo, attest.Recipe{Context: "deploy", Builder: "buildkit"}, "no file deploy/Dockerfile|" + all},
		"more than fit":           {many, attest.Recipe{}, "neither|it has s00/Dockerfile, s01/Dockerfile, s02/Dockerfile, s03/Dockerfile, s04/Dockerfile, s05/Dockerfile, s06/Dockerfile, s07/Dockerfile, s08/Dockerfile, s09/Dockerfile and 2 more; choose one: --context s00, or"},
		"one with another name":   {other, attest.Recipe{}, "neither|it has build/app.Dockerfile; choose one: --dockerfile build/app.Dockerfile, or declare"},
		"none":                    {t.TempDir(), attest.Recipe{}, "neither|use --dockerfile or --package"},
		"what is there":           {monorepo, attest.Recipe{Context: "services/web"}, ""},
		"a Dockerfile outside it": {monorepo, attest.Recipe{Context: "services/web", Dockerfile: "deploy/tool.Dockerfile"}, ""},
	} {
		tree, err := os.OpenRoot(test.tree)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		r, err := completeRecipe(test.recipe, nil, tree)
		if err == nil {
			err = checkPlace(r, tree)
		}
		known, ok := errors.AsType[*api.Error](err)
		message, hint, _ := strings.Cut(test.want, "|")
		if (err != nil) != (test.want != "") || err != nil && (!ok || !strings.Contains(known.Message, message) || !strings.Contains(known.Hint, hint)) {
			t.Errorf("%s: got %#v, want %q", name, err, test.want)
		}
	}
}

// A repository without a Dockerfile and without a go.mod at its top, such as a workspace,
// learns which main packages it has. A large one costs only so much.
func TestMainPackagesAreListed(t *testing.T) {
	workspace := t.TempDir()
	for name, text := range map[string]string{
		"go.work":           "go 1.26\n",
		"svc/b/main.go":     "// Command b.\npackage main\n",
		"svc/b/other.go":    "package main\n",
		"svc/a/a.go":        "package main\n",
		"lib/lib.go":        "package lib\n",
		"lib/gen.go":        "//go:build ignore\n\npackage main\n",
		"lib/x_test.go":     "package main\n",
		"vendor/v/main.go":  "package main\n",
		"lib/testdata/m.go": "package main\n",
		".git2/m.go":        "package main\n",
		"odd/m.go":          "\x00package main\n",
		"long/m.go":         strings.Repeat("// x\n", maxProbe) + "package main\n",
	} {
		write(t, filepath.Join(workspace, name))
		if err := os.WriteFile(filepath.Join(workspace, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(workspace, "link.go")); err != nil {
		t.Fatal(err)
	}
	tree, err := os.OpenRoot(workspace)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got, want := howToChoose(tree), "it has the Go main packages ./svc/a, ./svc/b; choose one: --package ./svc/a, or declare the image in .colophon.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	write(t, filepath.Join(workspace, "svc/c/Dockerfile"))
	if got, want := howToChoose(tree), "it has svc/c/Dockerfile, and the Go main packages ./svc/a, ./svc/b; choose one: --context svc/c or --package ./svc/a, or declare the image in .colophon.yaml"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	large, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	for i := range maxProbed + 1 {
		if err := large.WriteFile(fmt.Sprintf("%06d.go", i), []byte("package x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := large.Mkdir("z", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := large.WriteFile("z/main.go", []byte("package main\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := mainPackages(large); got != nil {
		t.Errorf("found %q past the limit", got)
	}
}

// TestHiddenWorkspace: a context that leaves out the workspace of its module is said.
func TestHiddenWorkspace(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.work": "go 1.26\nuse (\n\t./lib\n\t./svc/a\n)\n", "lib/go.mod": "module x.example/lib\n", "svc/a/go.mod": "module x.example/a\n", "svc/a/main.go": "package main\n",
		"svc/b/go.mod": "module x.example/b\n", "own/go.work": "go 1.26\nuse ./c\n", "own/c/go.mod": "module x.example/c\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for want, recipes := range map[string][]attest.Recipe{
		"go.work": {{Builder: "golang", Context: "svc/a", Package: "./svc/a"}, {Builder: "golang", Context: "svc", Package: "./svc/a"}},
		"": {
			{Builder: "golang", Package: "./svc/a", Context: "."},
			{Builder: "golang", Context: "svc/b", Package: "./svc/b"}, // the workspace does not use it
			{Builder: "golang", Context: "own", Package: "./own/c"},
			{Builder: "buildkit", Context: "svc/a"},
		},
	} {
		for _, r := range recipes {
			if got := hiddenWorkspace(tree, r); got != want {
				t.Errorf("%+v: got %q, want %q", r, got, want)
			}
		}
	}
}
