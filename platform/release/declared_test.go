package release

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/gittest"
)

// TestDeclaredImages: the attestor reads the names from the commit, with the checks of a
// release, and leaves nothing behind.
func TestDeclaredImages(t *testing.T) {
	s := newStage(t, &builds{}, http.NotFound)
	s.req.Image = ""
	dir := strings.TrimPrefix(s.req.Source, "file://")
	declare := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, ".colophon.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		gittest.Git(t, dir, "add", ".")
		gittest.Git(t, dir, "commit", "-q", "-m", "declare")
		gittest.Git(t, dir, "tag", "-f", "v1.0.0")
	}
	ask := func() (*api.Declared, error) {
		t.Helper()
		d, err := s.Declared(t.Context(), s.req, func(api.Event) {})
		for _, sub := range []string{"work", "queue"} {
			if left, _ := os.ReadDir(filepath.Join(s.Dir, sub)); len(left) > 0 {
				t.Errorf("left in %s: %v", sub, left)
			}
		}
		return d, err
	}
	if d, err := ask(); err != nil || d.Images == nil || len(d.Images) > 0 || len(d.Commit) != 40 {
		t.Errorf("without the file: got %+v, %v", d, err)
	}
	declare("version: 1\nimages: [{name: team/web, context: web}, {name: app}]\n")
	d, err := ask()
	if err != nil || !slices.Equal(d.Images, []string{"team/web", "app"}) {
		t.Errorf("got %+v, %v", d, err)
	}
	s.req.Commit = strings.Repeat("c", 40)
	if d, err := ask(); err == nil {
		t.Errorf("another commit than the requester saw: got %+v", d)
	}
	s.req.Commit = ""
	declare("version: 1\nimages: [{name: app, entitlements: all}]\n")
	d, err = ask()
	if known, ok := errors.AsType[*api.Error](err); !ok || !strings.Contains(known.Message, "entitlements") {
		t.Errorf("a wrong file: got %+v, %v", d, err)
	}
	s.req.Ref = "v9"
	if d, err := ask(); err == nil {
		t.Errorf("an unknown ref: got %+v", d)
	}
}
