package release

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/await"
)

// talks is a builder whose build prints something and then waits to be cancelled, or fails.
type talks struct {
	lines []string
	began chan struct{} // nil: it fails
}

func (b *talks) Build(ctx context.Context, req builder.Request) (*builder.Result, error) {
	for _, l := range b.lines {
		req.Log(builder.Event{Step: "RUN make", Line: l})
	}
	if b.began == nil {
		return nil, &builder.Error{Err: errors.New("wget https://me:s3cret@example.com/x: exit code 1")}
	}
	b.began <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func asked(t *testing.T, actor string) context.Context {
	return logs.With(t.Context(), logs.Request{ID: "R1", Actor: actor})
}

// What ran, who asked for it and what a failed build printed is kept, also by the next
// process, and without the secrets that can be recognized.
func TestFailedReleaseIsKept(t *testing.T) {
	s := newStage(t, &talks{lines: []string{"first", "https://me:s3cret@example.com/x", strings.Repeat("x", 100<<10)}}, http.NotFound)
	s.req.Recipe = attest.Recipe{Builder: "golang"}
	var id string
	if _, err := s.Run(asked(t, "admin"), s.req, func(e api.Event) { id = id + e.ID }); err == nil {
		t.Fatal("released")
	}
	next, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Releaser{"the same process": s.Releaser, "the next": next} {
		all := r.Runs(Filter{})
		if len(all) != 1 || all[0].Request != nil {
			t.Fatalf("%s: got %+v, want one release without its request", name, all)
		}
		full, err := r.ID(all[0].Short())
		if err != nil || full != id {
			t.Fatalf("%s: got %q, %v, want the id that the requester was told, %s", name, full, err, id)
		}
		run, err := r.Find(full)
		if err != nil {
			t.Fatal(err)
		}
		if run.Actor != "admin" || run.State != api.Failed || run.Image != s.req.Image || run.Ref != "v1.0.0" || len(run.Commit) != 40 || run.Ended.Before(run.Started) || run.Started.Before(run.Asked) {
			t.Errorf("%s: got %+v", name, run)
		}
		if run.Error == nil || !strings.Contains(run.Error.Message, "exit code 1") || run.Request == nil || run.Request.Recipe.Builder != "golang" {
			t.Errorf("%s: got error %+v of request %+v", name, run.Error, run.Request)
		}
		var log strings.Builder
		if err := r.Events(t.Context(), full, true, func(e api.Event) { fmt.Fprintln(&log, e.Phase, e.Step, e.Line) }); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); !strings.Contains(got, "build RUN make first\n") || strings.Contains(got, "s3cret") || len(got) > 40<<10 {
			t.Errorf("%s: log: got %d bytes: %.500s", name, len(got), got)
		}
	}
	if out, err := exec.Command("grep", "-rl", "s3cret", s.Dir).CombinedOutput(); err == nil {
		t.Errorf("the secret is in %s", out)
	}
	if _, err := next.Cancel(t.Context(), id, "admin"); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("cancel: got %v", err)
	}
}

func TestCancel(t *testing.T) {
	b := &talks{lines: []string{"hello"}, began: make(chan struct{})}
	s := newStage(t, b, http.NotFound)
	first, second := make(chan error, 1), make(chan error, 1)
	ids := make(chan string, 2)
	emit := func(e api.Event) {
		if e.ID != "" {
			ids <- e.ID
		}
	}
	go func() { _, err := s.Run(asked(t, "client"), s.req, emit); first <- err }()
	running := <-ids
	<-b.began
	go func() { _, err := s.Run(asked(t, "client"), s.req, emit); second <- err }() // of the same image
	waiting := <-ids
	var states []api.State
	for _, r := range s.Runs(Filter{}) {
		states = append(states, r.State)
	}
	if !slices.Equal(states, []api.State{api.Waiting, api.Running}) {
		t.Errorf("states: got %v", states)
	}
	followed := make(chan int, 1)
	go func() {
		n := 0
		if err := s.Events(t.Context(), running, true, func(api.Event) { n++ }); err != nil {
			t.Error(err)
		}
		followed <- n
	}()
	for _, c := range []struct {
		id    string
		ended chan error
	}{{waiting, second}, {running, first}} {
		run, err := s.Cancel(t.Context(), c.id, "admin")
		if err != nil || run.State != api.Cancelled || run.Error.Message != "cancelled by admin" {
			t.Errorf("got %+v, %v", run, err)
		}
		err = <-c.ended
		if known, ok := errors.AsType[*api.Error](err); !ok || known.Message != "cancelled by admin" || !errors.Is(err, context.Canceled) {
			t.Errorf("the requester got %v", err)
		}
	}
	if n := await.Value(t, "the end of a follower, whose release has ended", followed); n < 3 {
		t.Errorf("the follower got %d events", n)
	}
	if q, w := names(t, filepath.Join(s.Dir, "queue")), names(t, filepath.Join(s.Dir, "work")); len(q)+len(w) > 0 {
		t.Errorf("left in the queue %v, of the work %v", q, w)
	}
}

// A requester that goes away cancels its release, and the journal says so.
func TestRequesterIsGone(t *testing.T) {
	b := &talks{began: make(chan struct{})}
	s := newStage(t, b, http.NotFound)
	ctx, gone := context.WithCancel(asked(t, "client"))
	ended := make(chan error, 1)
	go func() { _, err := s.Run(ctx, s.req, func(api.Event) {}); ended <- err }()
	<-b.began
	gone()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if all := s.Runs(Filter{State: api.Cancelled}); len(all) != 1 || !strings.Contains(all[0].Error.Message, "requester is gone") {
		t.Errorf("got %+v", all)
	}
}

// A release that is being published is not cancelled, whoever asks.
func TestNoCancelWhilePublishing(t *testing.T) {
	j := openJournal(t.TempDir(), newStage(t, nil, http.NotFound).Log)
	r := &Releaser{journal: j}
	ctx, cancel := context.WithCancelCause(t.Context())
	id := strings.Repeat("a", 32)
	if err := j.begin(api.Run{ID: id, State: api.Running}, cancel); err != nil {
		t.Fatal(err)
	}
	if err := j.publishing(ctx, id); err != nil {
		t.Fatal(err)
	}
	soon, done := context.WithTimeout(t.Context(), await.Patience)
	defer done()
	if _, err := r.Cancel(soon, id, "admin"); err == nil || !strings.Contains(err.Error(), "being published") || ctx.Err() != nil {
		t.Errorf("got %v; the release: %v", err, ctx.Err())
	}
	cancel(nil)
	if err := j.publishing(ctx, id); err == nil {
		t.Error("a release that was cancelled before is published")
	}
}

// Without bounds, failed releases would fill the disk.
func TestJournalIsBounded(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(dir, newStage(t, nil, http.NotFound).Log)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	id := func(n int) string { return fmt.Sprintf("%032x", n) }
	add := func(n int, state api.State, size int64) {
		j.runs[id(n)] = &entry{run: api.Run{ID: id(n), State: state, Asked: at.Add(time.Duration(n) * time.Second)}, size: size}
		for _, suffix := range []string{".json", ".log"} {
			if err := os.WriteFile(j.path(id(n), suffix), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(0, api.Publishing, 0)
	for n := 1; n <= maxRuns+10; n++ {
		add(n, api.Failed, 1)
	}
	j.mu.Lock()
	j.prune()
	j.mu.Unlock()
	if got := len(names(t, dir)); got != 2*(maxRuns+1) { // the newest, and the one that has not ended
		t.Errorf("got %d files", got)
	}
	add(maxRuns+11, api.Failed, maxRunLogs-10)
	j.mu.Lock()
	j.prune()
	j.mu.Unlock()
	if _, ok := j.runs[id(maxRuns+11)]; !ok || len(j.runs) != 12 {
		t.Errorf("got %d releases, want the newest whose logs fit", len(j.runs))
	}

	big := strings.Repeat("f", 32)
	if err := j.begin(api.Run{ID: big, State: api.Running, Asked: at.Add(time.Hour)}, nil); err != nil {
		t.Fatal(err)
	}
	j.runs[big].size = maxBuildLog - 1000
	for range 100 {
		j.event(big, api.Event{Phase: "build", Line: strings.Repeat("x", 100)})
	}
	log, err := os.ReadFile(j.path(big, ".log"))
	if err != nil || len(log) > 1200 || !strings.HasSuffix(string(log), "bytes)\"}\n") {
		t.Errorf("got %d bytes, %v: %s", len(log), err, log)
	}
	if err := j.events(t.Context(), big, false, func(api.Event) {}); err != nil {
		t.Error(err)
	}
}

// What a process that died left is told from what goes on.
func TestJournalOfAnEarlierProcess(t *testing.T) {
	s := newStage(t, nil, http.NotFound)
	id := func(c string) string { return strings.Repeat(c, 32) }
	began := func(c string) api.Run {
		return api.Run{ID: id(c), State: api.Waiting, Actor: "ada", Asked: time.Now().UTC(), Image: "r.io/a", Request: &api.ReleaseRequest{Source: "a", Ref: "b"}}
	}
	for _, c := range []string{"1", "2", "3", "4"} {
		if err := s.journal.write(began(c)); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{
		"queue/" + id("2"):   `{"id":"` + id("2") + `","request":{"source":"a","ref":"b","image":"c","recipe":{"builder":""}},"started":"2026-01-02T03:04:05Z","begun":{"dir":"release-2"}}`,
		"parked/" + id("3"):  `{"id":"` + id("3") + `","request":{"source":"a","ref":"b","image":"c","recipe":{"builder":""}},"started":"2026-01-02T03:04:05Z","begun":{"dir":"release-3"},"parked":"it kills"}`,
		"records/" + id("4"): `{"image":"r.io/a","digest":"sha256:` + hex64("a") + `","tags":["v1"]}`,
		"records/" + id("5"): `{"image":"r.io/old","digest":"sha256:` + hex64("b") + `","tags":["v0"]}`,
		"runs/" + id("6"):    `{"id":"` + id("7") + `"}`,
		"runs/" + id("8"):    `{`,
	} {
		if err := os.WriteFile(filepath.Join(s.Dir, path+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	left := r.unfinished[0]
	if j, _ := r.resumed(left); j.actor != "ada" { // the audit ledger gets it
		t.Errorf("a release that goes on is by %q, want ada", j.actor)
	}
	for c, want := range map[string]string{"1": "failed the platform stopped before", "2": "publishing ", "3": "parked it kills", "4": "released ", "5": "released ", "6": "none", "7": "none", "8": "none"} {
		run, err := r.Find(id(c))
		got := "none"
		if err == nil {
			got = string(run.State) + " "
			if run.Error != nil {
				got += run.Error.Message
			}
		}
		if !strings.HasPrefix(got, want) || got == "none" && want == "none" && !errors.Is(err, ErrNoRun) {
			t.Errorf("%s: got %q, %v, want %q", c, got, err, want)
		}
		if c <= "4" && (run.Request == nil || run.Request.Ref != "b") {
			t.Errorf("%s: the request is gone: %+v", c, run)
		}
	}
	if _, err := r.Cancel(t.Context(), id("2"), "admin"); err == nil || !strings.Contains(err.Error(), "being published") {
		t.Errorf("cancel: got %v", err)
	}
	if got := len(r.Runs(Filter{Image: "a"})); got != 4 {
		t.Errorf("releases of an image by the end of its name: got %d, want 4", got)
	}
	if got := r.Runs(Filter{Image: "r.io/a", Limit: 2}); len(got) != 2 {
		t.Errorf("got %d, want 2", len(got))
	}
	if _, err := r.ID(""); err == nil {
		t.Error("an ambiguous id was found")
	}
}
