package attest

import (
	"strings"
	"testing"
)

func TestRecipeCheck(t *testing.T) {
	for _, tt := range []struct {
		recipe Recipe
		want   string // in the error; empty: the recipe is good
	}{
		{Recipe{}, ""},
		{Recipe{Builder: "buildkit", Platforms: []string{"linux/amd64", "linux/arm/v7"}, Dockerfile: "deploy/..Dockerfile", BuildArgs: map[string]string{"A": "b"}}, ""},
		{Recipe{Builder: "golang", Package: "./cmd/app"}, ""},
		{Recipe{Platforms: []string{"windows/amd64"}}, "platform"},
		{Recipe{Platforms: []string{"linux"}}, "platform"},
		{Recipe{Dockerfile: "../x"}, "dockerfile"},
		{Recipe{Dockerfile: "/etc/x"}, "dockerfile"},
		{Recipe{Dockerfile: "a//b"}, "dockerfile"},
		{Recipe{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}}, "build argument"},
		{Recipe{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "0"}}, "build argument"},
		{Recipe{Package: "../x"}, "package"},
		{Recipe{Context: "./services/web/", Package: "services/web/cmd"}, ""},
		{Recipe{Context: "."}, ""},
		{Recipe{Context: "../x"}, "context"},
		{Recipe{Context: "a/../../x"}, "context"},
		{Recipe{Context: "/etc"}, "context"},
		{Recipe{Context: `a\b`}, "context"},
		{Recipe{Context: "a", Package: "ab"}, "in the context a"},
		{Recipe{Package: "example.com/x@latest"}, "package"},
		{Recipe{Package: "./..."}, "package"},
	} {
		if err := tt.recipe.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q in it", tt.recipe, err, tt.want)
		}
	}
}

// TestRecipeContext: a Dockerfile or package at its default place is in the context, and one
// with a name of its own is not moved.
func TestRecipeContext(t *testing.T) {
	web := Recipe{Builder: BuildKit, Context: "services/web"}.Filled()
	if web.Dockerfile != "services/web/Dockerfile" {
		t.Errorf("got Dockerfile %q", web.Dockerfile)
	}
	tool := Recipe{Builder: Golang, Context: "./tool/"}.Filled()
	if tool.Package != "./tool" || tool.Context != "tool" {
		t.Errorf("got %+v", tool)
	}
	named := Recipe{Builder: BuildKit, Dockerfile: "deploy/Dockerfile"}
	for _, tt := range []struct {
		is, from Recipe
		want     string
	}{
		{web, Recipe{Builder: BuildKit}, "context services/web"},
		{Recipe{Builder: BuildKit}, web, "context ."},
		{web, Recipe{Builder: BuildKit, Context: "services/web/."}, ""},
		{tool, Recipe{Builder: Golang}, "context tool"},
		{Recipe{Builder: Golang, Context: "tool", Package: "tool/cmd"}, Recipe{Builder: Golang}, "context tool, package ./tool/cmd"},
		{web, named, "context services/web, dockerfile services/web/Dockerfile"},
		{Recipe{Builder: BuildKit, Context: "x", Dockerfile: "deploy/Dockerfile"}, named, "context x"},
	} {
		if got := strings.Join(tt.is.Differences(tt.from), ", "); got != tt.want {
			t.Errorf("%+v from %+v: got %q, want %q", tt.is, tt.from, got, tt.want)
		}
	}
	own := DefaultRecipe{Recipe: web}
	if own.Check() == nil {
		t.Error("a context that no file declares passes as the commit's own")
	}
	own = DefaultRecipe{Recipe: Recipe{Builder: BuildKit, Platforms: []string{"linux/arm64"}}}
	if own.Check() == nil {
		t.Error("platforms that no file declares pass as the commit's own")
	}
	own.File, own.Digest = ".colophon.yaml", "sha256:"+strings.Repeat("ab", 32)
	if err := own.Check(); err != nil {
		t.Error(err)
	}
}

func TestHasRegistry(t *testing.T) {
	for image, want := range map[string]bool{
		"app": false, "team/app": false, "localhost": false, "localhost/app": true, "r.io/app": true, "127.0.0.1:8080/team/app": true, "[::1]:8080/app": true, "app:v1": false, "team/app.x:v1": false,
	} {
		if got := HasRegistry(image); got != want {
			t.Errorf("%s: got %v, want %v", image, got, want)
		}
	}
}
