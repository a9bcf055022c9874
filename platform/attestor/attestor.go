// Package attestor serves releases (docs/api.md) to the role api. It reads requests,
// runs them with package release, streams their events, and says what became of them.
package attestor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/every"
	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/source"
)

// Service serves the release API. Safe for concurrent use.
type Service struct {
	releaser *release.Releaser
	dir      string
	log      *slog.Logger
	metrics  *metrics
	running  sync.WaitGroup
}

// New returns a service that runs releases with r. dir is r's Config.Dir. GET /metrics serves reg.
func New(r *release.Releaser, dir string, reg *prometheus.Registry, log *slog.Logger) *Service {
	return &Service{releaser: r, dir: dir, log: log, metrics: newMetrics(r, reg)}
}

// Handler serves the paths of package api that are about releases, and GET /metrics.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathReleases, s.release)
	mux.HandleFunc("POST "+api.PathDeclared, s.declared)
	mux.HandleFunc("GET "+api.PathReleases, s.list)
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", s.show)
	mux.HandleFunc("GET "+api.PathReleases+"/{id}/log", s.events)
	mux.HandleFunc("POST "+api.PathReleases+"/{id}/cancel", s.cancel)
	mux.HandleFunc("GET "+api.PathLogs+"/{digest}", s.buildLog)
	mux.Handle("GET /metrics", s.metrics.handler)
	return mux
}

// Wait returns when no release is running. Call it after the server has stopped and the
// contexts of its requests are cancelled.
func (s *Service) Wait() { s.running.Wait() }

// release runs one release and streams its events. If the requester disconnects, the
// release is cancelled; the same request again finishes it.
func (s *Service) release(w http.ResponseWriter, r *http.Request) {
	s.stream(w, r, func(req api.ReleaseRequest, emit func(api.Event), log *slog.Logger) (last api.Event, err error) {
		started := time.Now()
		s.metrics.running.Inc()
		last.Result, err = s.releaser.Run(r.Context(), req, emit)
		s.metrics.running.Dec()
		s.metrics.ended(err, time.Since(started))
		if err != nil {
			log.ErrorContext(r.Context(), "release failed", "error", err, "took", time.Since(started))
		} else {
			log.InfoContext(r.Context(), "released", "digest", last.Result.Digest, "tags", last.Result.Tags, "resumed", last.Result.Resumed, "took", time.Since(started))
		}
		return last, err
	})
}

// declared answers which images a commit declares.
func (s *Service) declared(w http.ResponseWriter, r *http.Request) {
	s.stream(w, r, func(req api.ReleaseRequest, emit func(api.Event), log *slog.Logger) (last api.Event, err error) {
		if req.Image != "" {
			return last, &api.Error{Message: "image: want none in a request for the declared images", Kind: api.Usage}
		}
		if last.Declared, err = s.releaser.Declared(r.Context(), req, emit); err != nil {
			log.ErrorContext(r.Context(), "cannot read the declared images", "error", err)
		}
		return last, err
	})
}

// stream reads a request and streams the events of do, whose result is the last one.
func (s *Service) stream(w http.ResponseWriter, r *http.Request, do func(api.ReleaseRequest, func(api.Event), *slog.Logger) (api.Event, error)) {
	s.running.Add(1)
	defer s.running.Done()
	req, _, err := api.ReadReleaseRequest(r.Body)
	if err != nil {
		http.Error(w, "release request: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", contentEvents)
	out := &eventWriter{w: w, rc: http.NewResponseController(w), patience: patience}
	stop := out.heartbeat(r.Context())
	defer stop()
	uri, err := source.Canonical(req.Source)
	if err != nil {
		uri = "unreadable" // it may hold a secret, so do not log it
	}
	last, err := do(*req, out.write, s.log.With("image", req.Image, "source", uri, "ref", req.Ref))
	last.Time, last.Phase = time.Now().UTC(), "done"
	if err != nil {
		known, ok := errors.AsType[*api.Error](err)
		if !ok {
			known = &api.Error{Message: err.Error()}
		}
		last = api.Event{Time: last.Time, Phase: "failed", Error: known}
	}
	out.write(last)
}

const contentEvents = "application/x-ndjson"

// patience is how long one event may take to reach the requester. Otherwise a requester
// that does not read would hold a build's room, and block other releases of the image,
// for ever.
const patience = time.Minute

// eventWriter writes events as JSON lines. Safe for concurrent use.
type eventWriter struct {
	w        io.Writer
	rc       *http.ResponseController
	patience time.Duration
	mu       sync.Mutex
}

func (w *eventWriter) write(e api.Event) {
	line, err := json.Marshal(e.Bounded())
	if err != nil {
		return // these types marshal
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// If a write fails, the requester is gone or does not read, and the server cancels
	// the request's context. So errors need no handling here.
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.patience))
	_, _ = w.w.Write(append(line, '\n'))
	_ = w.rc.Flush()
}

// heartbeat writes an event every 15 s, so that proxies do not close a quiet stream.
func (w *eventWriter) heartbeat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for now := range every.Period(ctx, 15*time.Second) {
			w.write(api.Event{Time: now.UTC(), Phase: "alive"})
		}
	}()
	return func() { cancel(); <-done }
}

var digestGrammar = lazyregexp.New(`^sha256:[0-9a-f]{64}$`)

func (s *Service) buildLog(w http.ResponseWriter, r *http.Request) {
	digest := r.PathValue("digest")
	if !digestGrammar.MatchString(digest) {
		http.Error(w, fmt.Sprintf("log %q: want sha256: and 64 hex digits", digest), http.StatusBadRequest)
		return
	}
	sum := digest[len("sha256:"):]
	f, ok, err := intact.Open(filepath.Join(s.dir, "logs", sum), sum)
	if err == nil && !ok {
		s.log.ErrorContext(r.Context(), "a build log or lock file is damaged on the disk", "digest", digest)
		http.Error(w, digest+" is damaged on the platform's disk", http.StatusInternalServerError)
		return
	}
	serve(w, r, f, err, "text/plain; charset=utf-8")
}

// serve answers with f, or with 404 if opening it ended in err. It closes f.
func serve(w http.ResponseWriter, r *http.Request, f *os.File, err error, contentType string) {
	if err != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, f)
}
