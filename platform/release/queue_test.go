package release

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/verify"
)

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// Close in the middle of publishing leaves all that the next process needs; what
// that finds is measured again before anything is signed or pushed.
func TestCutWhilePublishing(t *testing.T) {
	hang := make(chan struct{})
	publishing := make(chan struct{}, 100)
	s := newStage(t, &builds{seeds: []int64{1}}, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			publishing <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}
		http.NotFound(w, r)
	})
	defer close(hang)
	s.Token = func(ctx context.Context, _ Identity) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	ctx, gone := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Run(ctx, s.req, func(api.Event) {})
		ended <- err
	}()
	<-publishing
	gone() // the requester: that changes nothing any more
	select {
	case err := <-ended:
		t.Fatalf("the release ended with its requester: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s.Close()
	if err := <-ended; err == nil {
		t.Fatal("released")
	}
	queue, work := names(t, filepath.Join(s.Dir, "queue")), names(t, filepath.Join(s.Dir, "work"))
	if len(queue) != 1 || len(work) != 1 {
		t.Fatalf("left in the queue %v, of the work %v; want one each", queue, work)
	}
	blobs, err := filepath.Glob(filepath.Join(s.Dir, "work", work[0], "layout", "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatalf("layout: %v, %v", blobs, err)
	}
	for _, b := range blobs {
		if err := os.WriteFile(b, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pushed := s.pushed.Load()
	next, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	next.patience = 0
	next.Resume()()
	if s.pushed.Load() != pushed {
		t.Error("what had changed on disk was pushed")
	}
	if q, p := names(t, filepath.Join(s.Dir, "queue")), names(t, filepath.Join(s.Dir, "parked")); len(q) > 0 || !slices.Equal(p, queue) {
		t.Errorf("left in the queue %v, parked %v", q, p)
	}
}

// TestServiceIsAway: a release that an earlier process began to publish is tried again while a service that it
// needs is away, and is not lost if that lasts longer than the platform's patience.
func TestServiceIsAway(t *testing.T) {
	var entry string
	var seen []int
	s := newStage(t, nil, http.NotFound)
	id := strings.Repeat("1", 32)
	entry = s.entry(id)
	s.Token = func(context.Context, Identity) (string, error) {
		p, err := readPending(entry)
		if err != nil {
			return "", err
		}
		seen = append(seen, p.Tries)
		return "", &api.Error{Message: "away"}
	}
	leave(t, s, id)
	next, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	next.pause, next.patience = time.Millisecond, time.Second
	next.Resume()()
	if len(seen) < 6 || slices.Max(seen) != 2 {
		t.Errorf("tries on disk at each attempt: got %v, want more than five attempts of one try", seen)
	}
	if run, err := next.Find(id); err != nil || run.State != api.Parked || !strings.Contains(run.Error.Message, "for 1s: ") {
		t.Errorf("got %+v, %v, want that it is parked and why", run, err)
	}
	if err := os.Rename(s.parkedFile(id), entry); err != nil { // as docs/configuration.md says
		t.Fatal(err)
	}
	if next, err = New(s.Config); err != nil || len(next.unfinished) != 1 || !slices.Equal(names(t, filepath.Join(s.Dir, "work")), []string{"release-1"}) {
		t.Errorf("at the next start: got %+v, %v, want the release and its work", next.unfinished, err)
	}
}

// TestParkingFails: a release that can neither be finished nor parked stays for the next start.
func TestParkingFails(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	id := strings.Repeat("1", 32)
	leave(t, s, id)
	next, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Dir, "parked")); err != nil {
		t.Fatal(err)
	}
	next.patience = 0
	next.Resume()()
	if next, err = New(s.Config); err != nil || len(next.unfinished) != 1 || !slices.Equal(names(t, filepath.Join(s.Dir, "work")), []string{"release-1"}) {
		t.Errorf("at the next start: got %+v, %v, want the release and its work", next.unfinished, err)
	}
	if run, err := next.Find(id); err != nil || run.State != api.Publishing {
		t.Errorf("got %+v, %v", run, err)
	}
}

// TestServiceIsAwayForAMoment: a role that starts again while a release publishes does not make the release fail, so
// that it is not lost either if the whole platform is about to stop.
func TestServiceIsAwayForAMoment(t *testing.T) {
	var again atomic.Bool
	s := newStage(t, files{"hello": "world"}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !again.Load() {
			panic(http.ErrAbortHandler) // as a registry that is killed
		}
		http.NotFound(w, r)
	})
	s.pause = time.Millisecond
	s.Token = func(ctx context.Context, _ Identity) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	_, err := s.Run(t.Context(), s.req, func(e api.Event) {
		if strings.Contains(e.Line, "trying again") {
			again.Store(true)
		}
	})
	if err == nil || !again.Load() || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v, and tried again: %v", err, again.Load())
	}
}

// takenTags are the tags of a registry where each one is taken.
type takenTags struct{ oci.Target }

func (takenTags) Tag(context.Context, string, v1.Descriptor) error { return oci.ErrTagExists }

// TestFinal: a tag of other bytes stays, so trying again changes nothing; its requester gets the reason.
func TestFinal(t *testing.T) {
	j := &run{target: takenTags{}, emit: func(api.Event) {}}
	err := j.tag(t.Context(), v1.Descriptor{}, []string{"v1"})
	if _, stays := errors.AsType[final](err); !stays {
		t.Errorf("got %v", err)
	}
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Hint == "" {
		t.Errorf("got %v", err)
	}
}

// A release that was found done answers with the invocation in its provenance, under which
// the first record stays.
func TestInvocationIsTheProvenances(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	first := strings.Repeat("ab", 16)
	finish := func(invocation string, resumed bool) (*api.Release, error) {
		j := &run{Releaser: s.Releaser, req: s.req, id: newID(), resumed: resumed,
			verified: &verify.Verdict{Facts: &verify.Facts{Build: &provenance.Facts{Invocation: invocation}}}}
		return j.finished()
	}
	for _, resumed := range []bool{false, true} {
		if rel, err := finish(s.URL+api.PathReleases+"/"+first, resumed); err != nil || rel.Invocation != s.URL+api.PathReleases+"/"+first || rel.Resumed != resumed {
			t.Errorf("got %+v, %v", rel, err)
		}
	}
	if got := names(t, filepath.Join(s.Dir, "records")); len(got) != 1 || got[0] != first+".json" {
		t.Fatalf("records: got %v, want that of the provenance alone", got)
	}
	if raw, err := os.ReadFile(filepath.Join(s.Dir, "records", first+".json")); err != nil || !strings.Contains(string(raw), `"resumed": false`) {
		t.Errorf("got %v, %s, want the record of the first run", err, raw)
	}
	for _, bad := range []string{"", first, s.URL + api.PathReleases + "/../queue/x", "https://elsewhere.example" + api.PathReleases + "/" + first} {
		if rel, err := finish(bad, true); err == nil {
			t.Errorf("%q: got %+v", bad, rel)
		}
	}
}

// Another image than was measured does not take its place.
func TestResumeAnotherLayout(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	id := strings.Repeat("1", 32)
	dir := filepath.Join(s.Dir, "work", "release-1")
	layout := filepath.Join(dir, "layout")
	if err := os.MkdirAll(layout, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := (&builds{seeds: []int64{1}}).Build(t.Context(), builder.Request{Layout: layout}); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(pending{ID: id, Request: s.req, Begun: &begun{
		Commit: source.Commit{URI: s.req.Source, ID: strings.Repeat("a", 40)}, Tags: []string{"v1"}, Recipe: attest.Recipe{Builder: "golang"}, Dir: "release-1", Digest: "sha256:" + hex64("a"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "queue", id+".json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	p := r.unfinished
	if len(p) != 1 {
		t.Fatalf("unfinished: %+v", p)
	}
	if _, err := r.resume(p[0], &sync.Mutex{}); err == nil || !strings.Contains(err.Error(), hex64("a")) {
		t.Errorf("got %v, want both digests", err)
	}
	if s.pushed.Load() > 0 {
		t.Error("it was pushed")
	}
}

// What an earlier process left that cannot be gone on with is dropped, and
// nothing outside of the work is touched.
func TestSweepOfTheQueue(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	outside := filepath.Join(s.Dir, "outside")
	for _, d := range []string{outside, filepath.Join(s.Dir, "work", "release-kept"), filepath.Join(s.Dir, "work", "release-old"), filepath.Join(s.Dir, "work", "other")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	id := func(c string) string { return strings.Repeat(c, 32) }
	for name, text := range map[string]string{
		id("1"): `{"id":"` + id("1") + `","request":{"source":"a","ref":"b","image":"c","recipe":{"builder":""}},"started":"2026-01-02T03:04:05Z"}`,
		id("2"): `{"id":"` + id("2") + `","request":{"source":"a","ref":"b","image":"c","recipe":{"builder":""}},"started":"2026-01-02T03:04:05Z","begun":{"dir":"release-kept"}}`,
		id("3"): `{"id":"` + id("3") + `","request":{},"begun":{"dir":"../outside"}}`,
		id("4"): `{"id":"` + id("2") + `","request":{},"begun":{"dir":"release-old"}}`,
		id("5"): `{"id":`,
		id("6"): `{"id":"` + id("6") + `","evil":1}`,
	} {
		if err := os.WriteFile(filepath.Join(s.Dir, "queue", name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.unfinished) != 1 || r.unfinished[0].ID != id("2") {
		t.Errorf("unfinished: got %+v, want %s alone", r.unfinished, id("2"))
	}
	if got := names(t, filepath.Join(s.Dir, "work")); !slices.Equal(got, []string{"release-kept"}) {
		t.Errorf("work: got %v", got)
	}
	if got := names(t, filepath.Join(s.Dir, "queue")); !slices.Equal(got, []string{id("2") + ".json"}) {
		t.Errorf("queue: got %v", got)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// An entry that the disk cannot read may be whole, so it is not dropped.
func TestUnreadableEntryIsKept(t *testing.T) {
	for dir, want := range map[string]string{"queue": "release queue", "parked": "parked releases"} {
		r := &Releaser{Config: Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}}
		entry, work := filepath.Join(r.Dir, dir, strings.Repeat("1", 32)+".json"), filepath.Join(r.Dir, "work", "release-1")
		for _, d := range []string{entry, work} { // reading a directory fails
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.sweep(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error", dir, err)
		}
		for _, d := range []string{entry, work} {
			if _, err := os.Stat(d); err != nil {
				t.Error(err)
			}
		}
	}
}
