package release

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/gittest"
)

// cachingStage is a stage of a branch whose release asks for kept cache mounts.
func cachingStage(t *testing.T, b *builds, r *rooms) *stage {
	t.Helper()
	s := dockerStage(t, b, r, "FROM scratch\nCOPY . /\n")
	gittest.Git(t, strings.TrimPrefix(s.req.Source, "file://"), "branch", "release")
	s.CacheMounts, s.req.CacheMounts, s.req.Ref = true, true, "release"
	return s
}

// The session has the scope that the attest zone found out, and only a build whose image
// may be signed leaves something to the next one.
func TestCacheMountsOfABranch(t *testing.T) {
	r := &rooms{}
	b := &builds{seeds: []int64{1}}
	s := cachingStage(t, b, r)
	var events []api.Event
	ctx := logs.With(t.Context(), logs.Request{ID: "1", Actor: "team"})
	if _, err := s.Run(ctx, s.req, func(e api.Event) { events = append(events, e) }); err == nil || !passed(err.Error()) {
		t.Fatalf("got %v", err)
	}
	want := &builder.CacheScope{
		Account: "team", Source: s.req.Source, Ref: "refs/heads/release", Image: s.req.Image,
		Recipe: attest.Recipe{Builder: "buildkit", Dockerfile: "Dockerfile", Platforms: []string{"linux/" + runtime.GOARCH}},
	}
	if len(r.sessions) != 1 || !reflect.DeepEqual(r.sessions[0].CacheMounts, want) || !b.reqs[0].KeepCaches {
		t.Errorf("sessions: got %+v, want the scope %+v", r.sessions, want)
	}
	if !reflect.DeepEqual(r.kept, map[string]bool{"session-1": true}) {
		t.Errorf("kept: %v", r.kept)
	}
	if !strings.Contains(fmt.Sprint(events), "cache mounts are kept between builds of refs/heads/release: SLSA Build level 2 at most") {
		t.Errorf("the price is not said: %v", events)
	}
}

func TestCacheMountsOfABadBuild(t *testing.T) {
	for name, b := range map[string]*builds{
		"fails":             {fails: &builder.Error{Err: errors.New("boom")}},
		"wrong digest":      {seeds: []int64{1}, lies: true},
		"more dependencies": {seeds: []int64{1}, says: builder.Result{Dependencies: []attest.ResourceDescriptor{fetched(zip, "5")}}},
	} {
		r := &rooms{}
		s := cachingStage(t, b, r)
		if err, _ := s.run(t); passed(err) {
			t.Errorf("%s: got %s, want a refusal", name, err)
		}
		if kept, known := r.kept["session-1"]; !known || kept {
			t.Errorf("%s: kept %v", name, r.kept)
		}
	}
}

func TestCacheMountsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stage)
		want   string
	}{
		"tag":          {func(s *stage) { s.req.Ref = "v1.0.0" }, "refs/tags/v1.0.0 is none"},
		"hermetic":     {func(s *stage) { s.req.Hermetic = true }, "a hermetic or locked build"},
		"locked":       {func(s *stage) { s.req.Lock = "{}" }, "a hermetic or locked build"},
		"not allowed":  {func(s *stage) { s.CacheMounts = false }, "this platform keeps no cache mounts"},
		"no container": {func(s *stage) { s.req.Recipe.Builder = "golang" }, "golang"},
	} {
		r := &rooms{}
		s := cachingStage(t, &builds{seeds: []int64{1}}, r)
		c.change(s)
		if err, _ := s.run(t); !strings.Contains(err, c.want) || len(r.sessions) > 0 {
			t.Errorf("%s: got %s, %d sessions; want %q", name, err, len(r.sessions), c.want)
		}
	}
	s := cachingStage(t, &builds{seeds: []int64{1}}, &rooms{})
	s.req.Ref = head(t, strings.TrimPrefix(s.req.Source, "file://"))
	if err, _ := s.run(t); !strings.Contains(err, "but commit "+s.req.Ref+" is none") {
		t.Errorf("commit: got %s", err)
	}
}

// Without the request nothing is kept, on a platform that allows it too.
func TestNoCacheMountsUnasked(t *testing.T) {
	r := &rooms{}
	b := &builds{seeds: []int64{1}}
	s := cachingStage(t, b, r)
	s.req.CacheMounts = false
	if err, _ := s.run(t); !passed(err) {
		t.Fatal(err)
	}
	if r.sessions[0].CacheMounts != nil || b.reqs[0].KeepCaches || len(r.kept) > 0 {
		t.Errorf("sessions: %+v, kept %v", r.sessions, r.kept)
	}
}
