package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/authority/indexlog"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/platform/authority/witnesses"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/tlog"
)

// witnessed gives the index log of the rig a witness that answers only while up is true.
func (r *rig) witnessed(t *testing.T, up *atomic.Bool, wait time.Duration) tlog.WitnessKey {
	t.Helper()
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{r.indexKey()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if !up.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Handler().ServeHTTP(rw, req)
	}))
	p, err := tlog.ParseWitnessPolicy(fmt.Appendf(nil, "witness w %s %s\nquorum w\n", w.Keys()[0], s.URL))
	if err != nil {
		t.Fatal(err)
	}
	set, err := witnesses.New(witnesses.Config{Policy: p, Name: "index", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close(); s.Close(); _ = w.Close() })
	if err := r.index.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := indexlog.Config{
		LogConfig: tiles.LogConfig{Dir: filepath.Join(r.dir, "index"), Record: filepath.Join(r.dir, "index.vkey"), Witnesses: set, WitnessWait: wait},
		Of:        r.log.Source(), OfVerifier: r.log.Verifier(),
	}
	if cfg.Signer, cfg.PublicKey, err = r.log.Signer(search.IndexOrigin("log.example")); err != nil {
		t.Fatal(err)
	}
	if r.index, err = indexlog.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.mux = http.NewServeMux()
	r.log.Register(r.mux)
	r.index.Register(r.mux)
	return w.Keys()[0]
}

// TestWitnessedIndex: answers have the cosignatures of the index log's checkpoint. A witness that is
// gone stops no answer, and what it cosigns later stands in later answers.
func TestWitnessedIndex(t *testing.T) {
	r := newRig(t, t.TempDir())
	var up atomic.Bool
	up.Store(true)
	key := r.witnessed(t, &up, 300*time.Millisecond)
	s := New(r.config())
	cosigned := func() bool {
		t.Helper()
		if _, _, err := ask(s, search.KeyHash, keyName()); err != nil {
			t.Fatal(err)
		}
		_, err := tlog.Cosignatures(s.state.Load().IndexCheckpoint, []tlog.WitnessKey{key}, time.Now())
		return err == nil
	}
	r.add(t, "0")
	run(t, s, 1)
	if !cosigned() {
		t.Error("the first answer has no cosignature")
	}
	up.Store(false)
	r.add(t, "1")
	run(t, s, 2)
	if cosigned() {
		t.Error("a witness that is gone has cosigned")
	}
	up.Store(true)
	await.True(t, "the cosignature that came later is in an answer", func() bool {
		if err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		return cosigned()
	})
	if a, err := r.audit(t); err != nil || a.Indexed.Size != 2 {
		t.Errorf("audit: got %+v, %v", a, err)
	} else if _, err := tlog.Cosignatures(a.IndexCheckpoint, []tlog.WitnessKey{key}, time.Now()); err != nil {
		t.Errorf("audit: %v", err)
	}
}

// TestMetrics: a monitoring system sees how far the index is behind, and whether questions are
// answered.
func TestMetrics(t *testing.T) {
	r := newRig(t, t.TempDir())
	registry := prometheus.NewRegistry()
	cfg := r.config()
	cfg.Metrics = registry
	s := New(cfg)
	has := func(lines ...string) {
		t.Helper()
		w := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, line := range lines {
			if !strings.Contains(w.Body.String(), "\n"+line+"\n") {
				t.Errorf("no line %q in\n%s", line, w.Body)
			}
		}
	}
	_, _, _ = ask(s, search.KeyHash, keyName())
	r.add(t, "0")
	run(t, s, 1)
	if _, _, err := ask(s, search.KeyHash, keyName()); err != nil {
		t.Fatal(err)
	}
	_, _, _ = ask(s, "no kind", "x")
	has(`colophon_search_questions_total{result="unready"} 1`, `colophon_search_questions_total{result="answered"} 1`, `colophon_search_questions_total{result="malformed"} 1`,
		`colophon_search_seconds_count{result="answered"} 1`, "colophon_search_indexed_size 1", "colophon_search_keys 2", "colophon_search_behind_entries 0", "colophon_search_stopped 0")
	r.add(t, "1")
	s.cfg.Append = func(context.Context, []byte) error { return errors.New("the index log does not answer") }
	if err := s.step(t.Context()); err == nil {
		t.Error("got no error")
	}
	has("colophon_search_indexed_size 1", "colophon_search_behind_entries 1")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	has("colophon_search_failures_total 1")
	s.cfg.Index = flipped{s.cfg.Index}
	if err := s.Run(t.Context()); !errors.Is(err, errContradiction) {
		t.Errorf("got %v", err)
	}
	_, _, _ = ask(s, search.KeyHash, keyName())
	has("colophon_search_stopped 1", `colophon_search_questions_total{result="stopped"} 1`)
}

// flipped is a log with another checkpoint.
type flipped struct{ tlog.Source }

func (flipped) Checkpoint(context.Context) ([]byte, error) { return []byte("x"), nil }
