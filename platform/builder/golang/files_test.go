package golang

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// filesRecipe builds cmd/hello of helloTree for three systems.
var filesRecipe = attest.Recipe{Builder: attest.Golang, Package: "./cmd/hello", Platforms: []string{"darwin/arm64", "linux/amd64", "windows/amd64"}, Files: true}

// buildFiles builds release files from a tree, and returns what is measured.
func buildFiles(t *testing.T, b *Builder, tree map[string]string, recipe attest.Recipe) (*oci.Measured, string, error) {
	t.Helper()
	layout := t.TempDir()
	res, err := b.Build(t.Context(), builder.Request{Recipe: recipe, Tree: writeTree(t, tree), Epoch: epoch, Layout: layout, Log: func(e builder.Event) { t.Log(e.Step, e.Line) }})
	if err != nil {
		return nil, "", err
	}
	m, err := oci.MeasureFiles(layout)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Descriptor.Digest.String(); got != res.Digest {
		t.Errorf("digest: the builder says %s, its bytes are %s", res.Digest, got)
	}
	if !slices.ContainsFunc(res.Dependencies, func(d attest.ResourceDescriptor) bool { return strings.HasPrefix(d.Name, dep+"@") }) {
		t.Errorf("dependencies: got %v", res.Dependencies)
	}
	return m, layout, nil
}

// TestFiles: one binary for each platform, the same each time, and each is what its name says.
func TestFiles(t *testing.T) {
	needs.Long(t)
	b := newBuilder(t, Config{})
	m, layout, err := buildFiles(t, b, helloTree(t), filesRecipe)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"hello-darwin-arm64", "hello-linux-amd64", "hello-windows-amd64.exe"}
	for i, f := range m.Files {
		if f.Name != want[i] {
			t.Fatalf("files: got %+v, want %q", m.Files, want)
		}
		info, err := buildinfo.ReadFile(filepath.Join(layout, "blobs/sha256", f.Descriptor.Digest.Hex))
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, s := range info.Settings {
			if s.Key == "GOOS" || s.Key == "GOARCH" {
				said = s.Value + "/" + said
			}
		}
		if system, arch, _ := strings.Cut(filesRecipe.Platforms[i], "/"); said != system+"/"+arch+"/" {
			t.Errorf("%s: it says %s", f.Name, said)
		}
	}
	again, _, err := buildFiles(t, newBuilder(t, Config{}), helloTree(t), filesRecipe)
	if err != nil || again.Descriptor.Digest != m.Descriptor.Digest {
		t.Errorf("again: got %v, %v, want %v", again, err, m.Descriptor.Digest)
	}
}

// TestFilesRefused: what cannot be built says why, and is the recipe's fault.
func TestFilesRefused(t *testing.T) {
	b := newBuilder(t, Config{StdCache: sharedStd})
	tree := func(change func(map[string]string)) map[string]string {
		files := map[string]string{"go.mod": "module example.com/app\n", "main.go": "package main\n\nfunc main() {}\n"}
		if change != nil {
			change(files)
		}
		return files
	}
	recipe := func(platforms ...string) attest.Recipe {
		return attest.Recipe{Builder: attest.Golang, Package: ".", Platforms: platforms, Files: true}
	}
	for name, tt := range map[string]struct {
		tree   map[string]string
		recipe attest.Recipe
		want   string
	}{
		"no main package":            {tree(func(f map[string]string) { f["main.go"] = "package app\n" }), recipe("linux/amd64"), "want main"},
		"it does not compile":        {tree(func(f map[string]string) { f["main.go"] = "package main\n\nfunc main() { x }\n" }), recipe("linux/amd64"), "undefined: x"},
		"no such platform":           {tree(nil), recipe("darwin/s390x"), "darwin/s390x"},
		"another system":             {tree(nil), recipe("plan9/amd64"), "systems for which files are built"},
		"a program with an odd name": {tree(func(f map[string]string) { f["go.mod"] = "module example.com/a~b\n" }), recipe("linux/amd64"), "name of a file"},
	} {
		_, _, err := buildFiles(t, b, tt.tree, tt.recipe)
		failed, ok := err.(*builder.Error)
		if !ok || !strings.Contains(failed.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestFilesOfVersion: a program has the name that the go command gives it.
func TestFilesOfVersion(t *testing.T) {
	for _, tt := range []struct{ mod, pkg, want string }{
		{"example.com/app", ".", "app"}, {"example.com/app/v2", ".", "app"}, {"example.com/app", "./cmd/tool", "tool"},
		{"example.com/app", "./cmd/v2", "cmd"}, {"example.com/app.v3", ".", "app.v3"}, {"app", ".", "app"}, {"v2", ".", "v2"}, {"example.com/v1", ".", "v1"},
	} {
		tree, err := os.OpenRoot(writeTree(t, map[string]string{"go.mod": "module " + tt.mod + "\n", "cmd/tool/x": "", "cmd/v2/x": ""}))
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if got, err := builder.GoProgram(tree, ".", filepath.Clean(tt.pkg)); err != nil || got != tt.want {
			t.Errorf("%s %s: got %q, %v, want %q", tt.mod, tt.pkg, got, err, tt.want)
		}
	}
}
