package release

import (
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/source"
)

// TestFilter chooses releases by what an investigation asks for.
func TestFilter(t *testing.T) {
	run := &api.Run{
		Image: "r.example.com/team/app", Source: "https://git.example.com/team/app", Ref: "v1.2.0", Commit: "c1", State: api.Released,
		Result: &api.Release{Digest: "sha256:1", Source: source.Commit{Ref: "refs/tags/v1.2.0"}},
	}
	failed := &api.Run{Image: "r.example.com/team/app", Source: run.Source, Ref: "main", Commit: "c2", State: api.Failed}
	for _, tc := range []struct {
		f           Filter
		first, last bool
	}{
		{Filter{}, true, true},
		{Filter{Image: "team/app"}, true, true},
		{Filter{Image: "app2"}, false, false},
		{Filter{Source: run.Source}, true, true},
		{Filter{Source: "https://git.example.com/team/other"}, false, false},
		{Filter{Commit: "c1"}, true, false},
		{Filter{Commit: "c2", State: api.Failed}, false, true},
		{Filter{Ref: "refs/tags/v1.2.0"}, true, false},
		{Filter{Ref: "v1.2.0"}, true, false},
		{Filter{Ref: "refs/heads/main"}, false, true},
		{Filter{Digest: "sha256:1"}, true, false},
		{Filter{Digest: "sha256:2"}, false, false},
	} {
		if got, last := tc.f.takes(run), tc.f.takes(failed); got != tc.first || last != tc.last {
			t.Errorf("%+v: got %t, %t", tc.f, got, last)
		}
	}
}
