package attest

import (
	"strings"
	"testing"
)

func TestRecipeCheck(t *testing.T) {
	for name, r := range map[string]Recipe{
		"":                 {},
		"all that is good": {Builder: "buildkit", Platforms: []string{"linux/amd64", "linux/arm/v7"}, Dockerfile: "deploy/..Dockerfile", BuildArgs: map[string]string{"A": "b"}, Package: "./cmd/app"},
		"platform":         {Platforms: []string{"windows/amd64"}},
		"platform:":        {Platforms: []string{"linux"}},
		"dockerfile":       {Dockerfile: "../x"},
		"dockerfile:":      {Dockerfile: "/etc/x"},
		"dockerfile: ":     {Dockerfile: "a//b"},
		"build argument":   {BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "evil/frontend"}},
		"build argument ":  {BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "0"}},
		"package":          {Package: "../x"},
		"package:":         {Package: "example.com/x@latest"},
		"package: ":        {Package: "./..."},
	} {
		err := r.Check()
		if good := name == "" || strings.HasPrefix(name, "all"); good != (err == nil) || err != nil && !strings.Contains(err.Error(), strings.TrimRight(name, ": ")) {
			t.Errorf("%q: %+v: got %v", name, r, err)
		}
	}
}
