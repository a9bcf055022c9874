package recorder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
)

// gated holds back the requests to a handler until it is opened.
type gated struct {
	http.Handler
	arrived chan struct{}
	open    chan struct{}
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.arrived <- struct{}{}
	<-g.open
	g.Handler.ServeHTTP(w, r)
}

func (r *Recorder) recordAll(t *testing.T, n int, what func(i int) audit.Record) (errs []error) {
	t.Helper()
	errs = make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = r.Record(context.Background(), what(i)) })
	}
	wait.Wait()
	return errs
}

func image(name string) audit.Record {
	r := verdict()
	r.About.Image = audit.Shown(name)
	return r
}

// A record that is alone is sent at once, alone; those that come while requests are under way share the next one.
func TestTogether(t *testing.T) {
	const more = 40
	for range 50 { // a loaded machine may be slow to bring the records together
		l := &ledger{got: map[string]*audit.Record{}}
		g := &gated{l, make(chan struct{}, 100), make(chan struct{})}
		server := httptest.NewServer(g)
		defer server.Close()
		r := start(t, server.URL, t.TempDir(), true)
		var wait sync.WaitGroup
		for range couriers {
			wait.Go(func() {
				if err := r.Record(context.Background(), verdict()); err != nil {
					t.Error(err)
				}
			})
			<-g.arrived // without the others
		}
		wait.Go(func() {
			if err := errors.Join(r.recordAll(t, more, func(int) audit.Record { return verdict() })...); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(50 * time.Millisecond)
		close(g.open)
		wait.Wait()
		if len(l.got) != couriers+more {
			t.Fatalf("the ledger has %d records", len(l.got))
		}
		if len(l.batch) > 0 && slices.Max(l.batch) >= more/2 {
			return
		}
	}
	t.Error("records that wait are not sent together")
}

// One record that the ledger refuses is one error; the others of its batch are recorded. An older ledger takes no batches.
func TestOneOfManyIsRefused(t *testing.T) {
	for _, old := range []bool{false, true} {
		l := &ledger{got: map[string]*audit.Record{}, poison: "example.com/poison:v1", old: old}
		server := httptest.NewServer(l)
		defer server.Close()
		dir := t.TempDir()
		r := start(t, server.URL, dir, true)
		const all, bad = 60, 17
		errs := r.recordAll(t, all, func(i int) audit.Record {
			if i == bad {
				return image(l.poison)
			}
			return image(fmt.Sprintf("example.com/app:v%d", i))
		})
		for i, err := range errs {
			if (err != nil) != (i == bad) || i == bad && !errors.Is(err, ErrNotRecorded) {
				t.Errorf("old %v: record %d: got %v", old, i, err)
			}
		}
		if n := len(l.records()); n < all-1 {
			t.Errorf("old %v: the ledger has %d records", old, n)
		}
		if len(l.batch) == 0 && !old {
			t.Error("nothing was sent together")
		}
	}
}

// While one request hangs, others bring the records that come; who waits no more is told at once.
func TestHangingRequest(t *testing.T) {
	for range 10 { // a loaded machine may be so slow that the request ends before
		if brought(t) {
			return
		}
	}
	t.Error("the records waited for a request that hung")
}

// brought reports whether records reached a ledger while another request hung.
func brought(t *testing.T) bool {
	l := &ledger{got: map[string]*audit.Record{}}
	hang, once := make(chan struct{}), make(chan struct{}, 1)
	once <- struct{}{}
	var ended atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-once:
			_, _ = io.Copy(io.Discard, r.Body) // then the server sees that the client goes
			select {
			case <-hang:
			case <-r.Context().Done():
				ended.Store(true)
			}
		default:
			l.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	defer close(hang)
	r := start(t, server.URL, t.TempDir(), true)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := r.Record(ctx, verdict()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that nobody waits", err)
	}
	if err := errors.Join(r.recordAll(t, 20, func(int) audit.Record { return verdict() })...); err != nil {
		t.Errorf("beside a request that hangs: %v", err)
	}
	return !ended.Load()
}

// The spool sends its records in the order in which they were kept, many together, and each once.
func TestSpoolSendsInOrder(t *testing.T) {
	l := &ledger{got: map[string]*audit.Record{}, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(l)
	defer server.Close()
	r := start(t, server.URL, t.TempDir(), false)
	const all = 300
	for i := range all {
		if err := r.Record(context.Background(), image(fmt.Sprintf("example.com/app:v%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	l.answer(0, "")
	l.await(t, all)
	l.mu.Lock()
	defer l.mu.Unlock()
	var numbers []int64
	for _, id := range l.order {
		numbers = append(numbers, l.got[id].By.Number)
	}
	if len(numbers) != all || !slices.IsSorted(numbers) {
		t.Errorf("got %d records, in the order %v", len(numbers), numbers)
	}
	if slices.Max(l.batch) < audit.MaxTogether {
		t.Errorf("the batches were %v", l.batch)
	}
}
