package buildkit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// TestContext: a build sees its context and nothing else of the source. The Dockerfile may
// be elsewhere, and its own ignore file counts before that of the context.
func TestContext(t *testing.T) {
	b := realBuilder(t)
	outside := t.TempDir()
	dir := tree(t, "FROM scratch\nCOPY . /top\n")
	for name, text := range map[string]string{
		"secret": "outside the context\n", ".dockerignore": "web\n",
		"web/Dockerfile": "FROM scratch\nCOPY . /\n", "web/page": "x\n", "web/big": "x\n", "web/.dockerignore": "big\nDockerfile\n.dockerignore\n",
		"deploy/web.Dockerfile": "FROM scratch\nCOPY page /deployed\n", "deploy/web.Dockerfile.dockerignore": "*\n!page\n", "deploy/page": "wrong\n",
		"leaves/Dockerfile": "FROM scratch\nCOPY ../secret /\n", "follows/Dockerfile": "FROM scratch\nCOPY up /\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("../secret", filepath.Join(dir, "follows/up")), os.Symlink(outside, filepath.Join(dir, "out")),
		os.WriteFile(filepath.Join(outside, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		recipe attest.Recipe
		want   string // the files of the image, or the error
	}{
		"a directory":            {attest.Recipe{Context: "web"}, "page"},
		"a Dockerfile elsewhere": {attest.Recipe{Context: "web/", Dockerfile: "deploy/web.Dockerfile"}, "deployed"},
		"the file above it":      {attest.Recipe{Context: "leaves"}, "error: there is no file"},
		"a link out of it":       {attest.Recipe{Context: "follows"}, "error: there is no file"},
		"a link to the host":     {attest.Recipe{Context: "out", Dockerfile: "Dockerfile"}, "error: out is a link"},
		"the host":               {attest.Recipe{Context: outside, Dockerfile: "Dockerfile"}, "error: context: got"},
		"above the tree":         {attest.Recipe{Context: "../" + filepath.Base(outside), Dockerfile: "Dockerfile"}, "error: context: got"},
	} {
		layout := t.TempDir()
		_, log, err := run(t, b, builder.Request{Tree: dir, Recipe: tt.recipe, Layout: layout})
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			var files []string
			for _, h := range entries(t, layout) {
				files = append(files, h.Name)
			}
			slices.Sort(files)
			got = strings.Join(files, " ")
		}
		want, failing := strings.CutPrefix(tt.want, "error: ")
		if failing != (err != nil) || failing && !strings.Contains(got, want) || !failing && got != want {
			t.Errorf("%s: got %q, want %q\n%s", name, got, tt.want, log)
		}
	}
}
