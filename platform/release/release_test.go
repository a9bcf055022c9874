package release

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/source/recipes"
	"github.com/colophon-build/colophon/test/await"
)

func TestTags(t *testing.T) {
	const id = "381e42a000000000000000000000000000000000"
	for _, test := range []struct{ ref, chosen, want string }{
		{"refs/tags/v1.2.0", "", "v1.2.0 v1.2.0-381e42a"},
		{"refs/tags/app/v1.2.0+meta", "", "app-v1.2.0_meta app-v1.2.0_meta-381e42a"},
		{"refs/tags/@acme/web@1.2.3", "", "acme-web-1.2.3 acme-web-1.2.3-381e42a"},
		{"refs/tags/web@1.2.3", "", "web-1.2.3 web-1.2.3-381e42a"},
		{"refs/heads/main", "", "main-381e42a"},
		{"refs/heads/feature/x", "", "feature-x-381e42a"},
		{"", "", id},
		{"refs/tags/-x", "", "error"},
		{"refs/tags/@/x", "", "error"},
		{"refs/tags/ü", "", "error"},
		{"refs/tags/a,b", "", "error"},
		{"refs/tags/" + strings.Repeat("a", 128), "", "error"}, // its second tag would be too long
		{"refs/tags/sha256-" + strings.Repeat("a", 64), "", "error"},
		{"refs/tags/sha256-" + strings.Repeat("a", 64) + ".sig", "", "error"},
		{"refs/tags/ü", "1.2.3", "1.2.3 1.2.3-381e42a"},
		{"refs/tags/@acme/web@1.2.3", "1.2.3", "1.2.3 1.2.3-381e42a"},
		{"refs/heads/main", "v1.2.0", "v1.2.0-381e42a"}, // never v1.2.0 alone
		{"", "v1.2.0", "v1.2.0-381e42a"},
		{"refs/tags/v1", "a/b", "error"},
		{"refs/tags/v1", strings.Repeat("a", 128), "error"},
		{"refs/tags/v1", "sha256-" + strings.Repeat("a", 64), "error"},
		{"refs/tags/v1", "sha512-" + strings.Repeat("a", 64), "error"},
	} {
		tags, err := tagsOf(source.Commit{Ref: test.ref, ID: id}, test.chosen)
		got := strings.Join(tags, " ")
		if err != nil {
			got = "error"
			if known, ok := errors.AsType[*api.Error](err); !ok || known.Kind != api.Usage || !strings.Contains(known.Hint, "--tag") {
				t.Errorf("%s: got %#v, want a usage error that names --tag", test.ref, err)
			}
		}
		if got != test.want {
			t.Errorf("%s, %q: got %q, want %q", test.ref, test.chosen, got, test.want)
		}
	}
}

// write writes empty files, and the directories that they are in.
func write(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(f), 0o700), os.WriteFile(f, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompleteRecipe(t *testing.T) {
	docker, golang, none := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(docker, "Dockerfile"), filepath.Join(docker, "go.mod"), filepath.Join(golang, "go.mod"))
	for _, tree := range []string{docker, golang, none} {
		write(t, filepath.Join(tree, "web/Dockerfile"), filepath.Join(tree, "web/go.mod"), filepath.Join(tree, "tool/go.mod"), filepath.Join(tree, "doc/README"))
	}
	for _, test := range []struct {
		tree   string
		recipe attest.Recipe
		want   string
	}{
		{docker, attest.Recipe{}, "buildkit"},
		{docker, attest.Recipe{Builder: "golang"}, "golang"},
		{golang, attest.Recipe{}, "golang"},
		{golang, attest.Recipe{Dockerfile: "deploy/Dockerfile"}, "buildkit"},
		{none, attest.Recipe{}, "error"},
		{docker, attest.Recipe{Package: "./cmd/x"}, "error"},
		{golang, attest.Recipe{Builder: "golang", Target: "x"}, "error"},
		{docker, attest.Recipe{Context: "web"}, "buildkit"},
		{golang, attest.Recipe{Context: "web/"}, "buildkit"},
		{none, attest.Recipe{Context: "web"}, "buildkit"},
		{docker, attest.Recipe{Context: "tool"}, "golang"},
		{docker, attest.Recipe{Context: "doc"}, "error"},
		{docker, attest.Recipe{Context: "missing"}, "error"},
		{docker, attest.Recipe{Context: "doc", Dockerfile: "Dockerfile"}, "buildkit"},
		{golang, attest.Recipe{Context: "tool", Package: "web"}, "error"},
	} {
		own, err := recipes.Default(test.tree, "r.io/app")
		if err != nil {
			t.Fatal(err)
		}
		tree, err := os.OpenRoot(test.tree)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		r, err := completeRecipe(test.recipe, own, tree)
		got := r.Builder
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("%+v: got %q, want %q", test.recipe, got, test.want)
		}
		if err == nil && len(r.Platforms) == 0 {
			t.Errorf("%+v: the platform is left implied", test.recipe)
		}
	}
}

// TestRecipeOnTop: what the commit declares counts in each field that the requester does
// not choose, and what the requester chose is known.
func TestRecipeOnTop(t *testing.T) {
	own := &attest.DefaultRecipe{
		Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "deploy/Dockerfile", Target: "final", BuildArgs: map[string]string{"A": "1", "B": "2"}},
		File:   recipes.File, Digest: "sha256:" + strings.Repeat("ab", 32), Image: "app",
	}
	for name, test := range map[string]struct {
		asked  attest.Recipe
		lock   string
		chosen string
	}{
		"nothing":          {attest.Recipe{}, "", ""},
		"platforms":        {attest.Recipe{Platforms: []string{"linux/arm64"}}, "", ""},
		"what is declared": {attest.Recipe{Target: "final"}, "", ""},
		"a target":         {attest.Recipe{Target: "debug"}, "", "target debug"},
		"an argument":      {attest.Recipe{BuildArgs: map[string]string{"B": "evil", "C": ""}}, "", "build argument B=evil, build argument C="},
		"a context":        {attest.Recipe{Context: "web"}, "", "context web"},
		"what it is":       {attest.Recipe{Context: "."}, "", ""},
		"another builder":  {attest.Recipe{Builder: attest.Golang, Package: "cmd/x"}, "", "builder golang, package ./cmd/x"},
		"a lock":           {attest.Recipe{}, "{}", "lock sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
	} {
		recipe, err := completeRecipe(test.asked, own, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		j := &run{Releaser: &Releaser{}, recipe: recipe, own: own}
		j.req.Lock, j.req.Image = test.lock, "r.io/team/app"
		if got := strings.Join(j.chosen(), ", "); got != test.chosen {
			t.Errorf("%s: got %q, want %q", name, got, test.chosen)
		}
		// The platform's own verification demands what was chosen, and others do not accept it.
		demand := policy.Document{AnySource: true, Recipe: j.demand()}
		p, err := demand.Policy()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Provenance().MatchRecipe(j.built()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := (policy.Provenance{}).MatchRecipe(j.built()); (err == nil) != (test.chosen == "") {
			t.Errorf("%s: got %v from those who demand nothing", name, err)
		}
		if len(own.Recipe.BuildArgs) != 2 {
			t.Fatalf("%s: the commit's recipe was changed: %+v", name, own)
		}
		// A platform may allow the commit's own recipe only, or name others.
		for _, rules := range []struct {
			is    []RecipeRule
			allow bool
		}{
			{nil, true},
			{[]RecipeRule{{Images: "r.io/team/*"}}, test.chosen == ""},
			{[]RecipeRule{{Images: "r.io/*"}}, true}, // does not match a slash
			{[]RecipeRule{{Images: "r.io/team/app", Recipe: policy.DocumentRecipe{Target: &policy.DocumentValue{Pattern: "final|debug"}}}, {Images: "*/*/*"}}, test.chosen == "" || name == "a target"},
		} {
			j.Recipes = rules.is
			if err := j.allowed(); (err == nil) != rules.allow {
				t.Errorf("%s, %+v: got %v, want it allowed: %v", name, rules.is, err, rules.allow)
			}
		}
	}
}

// TestSecretsInBuildArguments: provenance publishes build arguments.
func TestSecretsInBuildArguments(t *testing.T) {
	for _, test := range []struct {
		name, value string
		refused     bool
	}{
		{"NPM_TOKEN", "hunter2", true}, {"DB_PASSWORD", "hunter2", true}, {"X", "ghp_hunter2", true}, {"URL", "https://u:hunter2@h.example/x", true},
		{"URL", "https://h.example/x?access_token=hunter2", true}, {"NPM_TOKEN", "", false}, {"VERSION", "1.2", false}, {"URL", "https://h.example/x?v=1", false},
	} {
		err := checkSecrets(attest.Recipe{BuildArgs: map[string]string{test.name: test.value}})
		if (err != nil) != test.refused || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s=%s: got %v, want it refused: %v", test.name, test.value, err, test.refused)
		}
	}
	j := &run{Releaser: &Releaser{}}
	j.req.Recipe = attest.Recipe{BuildArgs: map[string]string{"NPM_TOKEN": "x"}}
	if err := j.checkRecipe(); err == nil || !strings.Contains(err.Error(), "NPM_TOKEN looks like a secret") {
		t.Errorf("got %v before anything is fetched", err)
	}
}

func TestOneReleaseOfAnImageAtATime(t *testing.T) {
	r := &Releaser{locks: map[string]chan struct{}{}}
	never := func() { t.Error("a release that need not wait says that it waits") }
	unlock, err := r.lock(t.Context(), "a", never)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := r.lock(t.Context(), "b", never); err != nil {
		t.Fatal("another image had to wait")
	} else {
		other()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	said := 0
	if _, err := r.lock(ctx, "a", func() { said++ }); err == nil || said != 1 {
		t.Fatalf("two releases of one image at once: got %v, and said %d times that it waits, want once", err, said)
	}
	got := make(chan error, 1)
	go func() {
		next, err := r.lock(context.Background(), "a", func() {})
		if err == nil {
			next()
		}
		got <- err
	}()
	unlock()
	if err := await.Value(t, "the next release", got); err != nil {
		t.Fatal(err)
	}
}

// An abbreviated commit is no ref: the hint says what to give.
func TestShortCommit(t *testing.T) {
	s := newStage(t, &talks{}, http.NotFound)
	for ref, hint := range map[string]string{"196e8e4": "git rev-parse 196e8e4", "v9": "push it first"} {
		s.req.Ref = ref
		_, err := s.Run(t.Context(), s.req, func(api.Event) {})
		if failed, ok := errors.AsType[*api.Error](err); !ok || !strings.Contains(failed.Hint, hint) {
			t.Errorf("%s: got %#v, want the hint %q", ref, err, hint)
		}
	}
}
