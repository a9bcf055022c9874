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
