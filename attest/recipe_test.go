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
		{Recipe{Package: "example.com/x@latest"}, "package"},
		{Recipe{Package: "./..."}, "package"},
	} {
		if err := tt.recipe.Check(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q in it", tt.recipe, err, tt.want)
		}
	}
}
