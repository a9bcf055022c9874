package recipes

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
)

// tree returns a directory with these files.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	name    = "registry.example.com/team/app"
	several = `version: 1
images:
  - name: app
    dockerfile: build/app.Dockerfile
    target: final
    buildArgs: {FLAVOR: plain, VERSION: "1.10"}
  - name: tool
    package: ./cmd/tool
  - name: other/app
    target: other
`
)

// in returns a file with one image, which has these members.
func in(members string) string { return "version: 1\nimages: [{" + members + "}]\n" }

func TestDefault(t *testing.T) {
	dockerfile := attest.Recipe{Builder: "buildkit", Dockerfile: "Dockerfile"}
	golang := attest.Recipe{Builder: "golang", Package: "."}
	app := attest.Recipe{Builder: "buildkit", Dockerfile: "build/app.Dockerfile", Target: "final", BuildArgs: map[string]string{"FLAVOR": "plain", "VERSION": "1.10"}}
	for what, tt := range map[string]struct {
		files map[string]string
		name  string
		want  *attest.Recipe
		image string // DefaultRecipe.Image
	}{
		"nothing":                      {map[string]string{"README": ""}, name, nil, ""},
		"a Dockerfile":                 {map[string]string{"Dockerfile": ""}, name, &dockerfile, ""},
		"a Dockerfile and go.mod":      {map[string]string{"Dockerfile": "", "go.mod": ""}, name, &dockerfile, ""},
		"go.mod":                       {map[string]string{"go.mod": ""}, name, &golang, ""},
		"declared":                     {map[string]string{"Dockerfile": "", File: several}, name, &app, "app"},
		"declared, a package":          {map[string]string{"Dockerfile": "", File: several}, "r.io/tool", &attest.Recipe{Builder: "golang", Package: "./cmd/tool"}, "tool"},
		"declared, by the longer name": {map[string]string{"Dockerfile": "", File: several}, "r.io/other/app", &attest.Recipe{Builder: "buildkit", Dockerfile: "Dockerfile", Target: "other"}, "other/app"},
		"not declared":                 {map[string]string{"Dockerfile": "", File: several}, "r.io/unknown", &dockerfile, ""},
		"a name that ends so":          {map[string]string{"Dockerfile": "", File: several}, "r.io/myapp", &dockerfile, ""},
		"the only one needs no name":   {map[string]string{"Dockerfile": "", File: "version: 1\nimages:\n- target: x\n"}, name, &attest.Recipe{Builder: "buildkit", Dockerfile: "Dockerfile", Target: "x"}, ""},
		"a context":                    {map[string]string{"Dockerfile": "", "web/Dockerfile": "", File: in("context: web, platforms: [linux/arm64]")}, name, &attest.Recipe{Builder: "buildkit", Context: "web", Platforms: []string{"linux/arm64"}, Dockerfile: "web/Dockerfile"}, ""},
		"a context of a module":        {map[string]string{"Dockerfile": "", "web/go.mod": "", File: in("context: ./web/")}, name, &attest.Recipe{Builder: "golang", Context: "web", Package: "./web"}, ""},
		"a context and a Dockerfile":   {map[string]string{"Dockerfile": "", File: in("context: web, dockerfile: deploy/web")}, name, &attest.Recipe{Builder: "buildkit", Context: "web", Dockerfile: "deploy/web"}, ""},
		"platforms alone":              {map[string]string{"Dockerfile": "", File: in("platforms: [linux/arm64]")}, name, &attest.Recipe{Builder: "buildkit", Platforms: []string{"linux/arm64"}, Dockerfile: "Dockerfile"}, ""},
		"a name alone":                 {map[string]string{"go.mod": "", File: "version: 1\nimages: [{name: app}]\n"}, name, &golang, "app"},
	} {
		dir := tree(t, tt.files)
		got, err := Default(dir, tt.name)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if tt.want == nil {
			if got != nil {
				t.Errorf("%s: got %+v, want none", what, got)
			}
			continue
		}
		if got == nil || !reflect.DeepEqual(got.Recipe, *tt.want) || got.Image != tt.image || got.Check() != nil {
			t.Errorf("%s: got %+v, want %+v for %q", what, got, *tt.want, tt.image)
			continue
		}
		declared := strings.HasPrefix(what, "declared") || tt.image != "" || strings.HasPrefix(what, "the only") || strings.Contains(tt.files[File], "images: [{")
		if sum := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(tt.files[File]))); declared && (got.File != File || got.Digest != sum) || !declared && got.File != "" {
			t.Errorf("%s: got file %q, digest %q", what, got.File, got.Digest)
		}
	}
}

func TestFileIsRefused(t *testing.T) {
	for what, tt := range map[string]struct{ text, want string }{
		"empty":                     {"", "the file is empty"},
		"another version":           {"version: 2\nimages: [{target: x}]\n", "version: got 2"},
		"no version":                {"images: [{target: x}]\n", "version: got 0"},
		"no images":                 {"version: 1\n", "images: got 0"},
		"unknown member":            {"version: 1\nimages: [{target: x, entitlements: all}]\n", `:2:22: there is no member "entitlements"`},
		"unknown member at the top": {"version: 1\nimages: [{target: x}]\nallow: all\n", `:3:1: there is no member "allow"`},
		"twice the same member":     {"version: 1\nimages: [{target: x, target: y}]\n", `:2:22: duplicate member "target"`},
		"a member misspelled":       {"version: 1\nimages:\n- dokerfile: x\n", `:3:3: there is no member "dokerfile"; did you mean "dockerfile"?`},
		"two documents":             {"version: 1\nimages: [{target: x}]\n---\nversion: 1\n", "more than one"},
		"two builders":              {"version: 1\nimages: [{target: x, package: ./a}]\n", "no builder has both"},
		"two without names":         {"version: 1\nimages: [{target: x}, {name: b}]\n", "want a name for each"},
		"the same name twice":       {"version: 1\nimages: [{name: b, target: x}, {name: b}]\n", "twice"},
		"a name with a registry":    {"version: 1\nimages: [{name: \"r.io:80/x\"}]\n", "want that of a repository"},
		"a pattern as a name":       {"version: 1\nimages: [{name: \"*\"}]\n", "want that of a repository"},
		"out of the tree":           {"version: 1\nimages: [{dockerfile: ../x}]\n", "inside the tree"},
		"context out of the tree":   {in("context: ../x"), "context: got"},
		"context of the host":       {in("context: /etc"), "context: got"},
		"a package elsewhere":       {in("context: a, package: ./b"), "in the context a"},
		"nothing in the context":    {in("context: a"), "the context a has neither"},
		"a platform":                {in("platforms: [windows/amd64]"), "platform: got"},
		"one platform as a string":  {in("platforms: linux/amd64"), "platforms: want a list"},
		"package out of the tree":   {"version: 1\nimages: [{package: ../x}]\n", "below the root"},
		"an argument of BuildKit":   {"version: 1\nimages: [{buildArgs: {BUILDKIT_SYNTAX: evil}}]\n", "may not set it"},
		"a number":                  {"version: 1\nimages: [{buildArgs: {A: 1.10}}]\n", "put it in quotes"},
		"a whole number":            {"version: 1\nimages: [{buildArgs: {A: 010}}]\n", "put it in quotes"},
		"a truth":                   {"version: 1\nimages: [{target: true}]\n", "put it in quotes"},
		"null":                      {"version: 1\nimages: [{target: ~}]\n", "put it in quotes"},
		"an alias":                  {"version: 1\nimages: [{name: a, target: &t x}, {name: b, target: *t}]\n", "anchor or alias"},
		"a merge":                   {"version: 1\nimages: [&a {name: a}, {<<: *a, target: x}]\n", "anchor or alias"},
		"a tag":                     {"version: 1\nimages: [{target: !!str 1}]\n", "want none"},
		"not UTF-8":                 {"version: 1\nimages: [{target: \"\xff\"}]\n", "UTF-8"},
		"too large":                 {"version: 1\nimages: [{target: x}]\n#" + strings.Repeat("x", maxFile), "more than"},
		"too many":                  {"version: 1\nimages:\n" + strings.Repeat("- {name: a}\n", maxImages+1), "images: got 257"},
		"a text":                    {"version 1", ":1:1: the file: want a mapping"},
	} {
		if d, err := Default(tree(t, map[string]string{"Dockerfile": "", File: tt.text}), name); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), File) {
			t.Errorf("%s: got %+v, %v, want %q", what, d, err, tt.want)
		}
	}
	outside := tree(t, map[string]string{"x": "version: 1\nimages: [{target: x}]\n"})
	for what, target := range map[string]string{"a link inside": "x", "a link outside": filepath.Join(outside, "x")} {
		dir := tree(t, map[string]string{"Dockerfile": "", "x": "version: 1\nimages: [{target: x}]\n"})
		if err := os.Symlink(target, filepath.Join(dir, File)); err != nil {
			t.Fatal(err)
		}
		if d, err := Default(dir, name); err == nil || !strings.Contains(err.Error(), "regular file") {
			t.Errorf("%s: got %+v, %v", what, d, err)
		}
	}
	if d, err := Default(tree(t, map[string]string{File: "version: 1\nimages: [{name: app}]\n"}), name); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("nothing to build: got %+v, %v", d, err)
	}
}

// FuzzDefault: whatever the file holds, the recipe that it gives passes the checks of
// those who read it in the provenance.
func FuzzDefault(f *testing.F) {
	f.Add([]byte(several))
	f.Add([]byte("version: 1\nimages: [{package: ./a}]\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		images, err := parse(raw)
		if err != nil {
			return
		}
		for _, i := range images {
			d := attest.DefaultRecipe{Recipe: i.recipe(), File: File, Digest: "sha256:" + strings.Repeat("00", 32), Image: i.Name}
			if i.builder() != "" && d.Check() != nil {
				t.Errorf("%+v: %v", d, d.Check())
			}
		}
	})
}
