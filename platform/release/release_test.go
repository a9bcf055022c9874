package release

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
)

func TestTags(t *testing.T) {
	const id = "381e42a000000000000000000000000000000000"
	for _, test := range []struct{ ref, want string }{
		{"refs/tags/v1.2.0", "v1.2.0 v1.2.0-381e42a"},
		{"refs/tags/app/v1.2.0+meta", "app-v1.2.0_meta app-v1.2.0_meta-381e42a"},
		{"refs/heads/main", "main-381e42a"},
		{"refs/heads/feature/x", "feature-x-381e42a"},
		{"", id},
		{"refs/tags/-x", "error"},
		{"refs/tags/ü", "error"},
		{"refs/tags/" + strings.Repeat("a", 128), "error"}, // its second tag would be too long
	} {
		tags, err := tagsOf(source.Commit{Ref: test.ref, ID: id})
		got := strings.Join(tags, " ")
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.ref, got, test.want)
		}
	}
}

func TestCompleteRecipe(t *testing.T) {
	docker, golang, none := t.TempDir(), t.TempDir(), t.TempDir()
	for _, f := range []string{filepath.Join(docker, "Dockerfile"), filepath.Join(docker, "go.mod"), filepath.Join(golang, "go.mod")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
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
	} {
		r, err := completeRecipe(test.recipe, test.tree)
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

func TestOneReleaseOfAnImageAtATime(t *testing.T) {
	r := &Releaser{locks: map[string]chan struct{}{}}
	unlock, err := r.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := r.lock(t.Context(), "b"); err != nil {
		t.Fatal("another image had to wait")
	} else {
		other()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.lock(ctx, "a"); err == nil {
		t.Fatal("two releases of one image at once")
	}
	got := make(chan error, 1)
	go func() {
		next, err := r.lock(context.Background(), "a")
		if err == nil {
			next()
		}
		got <- err
	}()
	unlock()
	select {
	case err := <-got:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the next release never ran")
	}
}
