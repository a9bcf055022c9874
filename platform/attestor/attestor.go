// Package attestor is the role that runs releases: it fetches the source,
// hands the tree to the build zone over a socket, measures the bytes that come
// back, signs with a workload token that only it can get, and publishes. It
// listens on a Unix socket, for processes of its own user alone.
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
	"regexp"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/source"
)

// Service answers the paths of package api that releases need.
type Service struct {
	releaser *release.Releaser
	dir      string
	log      *slog.Logger
	metrics  *metrics
	running  sync.WaitGroup
}

// New makes the service over a Releaser whose Config.Dir is dir.
func New(r *release.Releaser, dir string, log *slog.Logger) *Service {
	return &Service{releaser: r, dir: dir, log: log, metrics: newMetrics()}
}

// Handler serves POST and GET of api.PathReleases and GET of api.PathLogs, and
// GET /metrics for the platform.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PathReleases, s.release)
	mux.HandleFunc("GET "+api.PathReleases+"/{id}", s.record)
	mux.HandleFunc("GET "+api.PathLogs+"/{digest}", s.buildLog)
	mux.Handle("GET /metrics", s.metrics.handler)
	return mux
}

// Wait returns when no release is running. Requests must have been cancelled,
// and new ones be impossible.
func (s *Service) Wait() { s.running.Wait() }

// release streams the events of one release; when the requester goes away the
// release ends, and asking again finishes it.
func (s *Service) release(w http.ResponseWriter, r *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	req, _, err := api.ReadReleaseRequest(r.Body)
	if err != nil {
		http.Error(w, "release request: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &eventWriter{w: w, rc: http.NewResponseController(w), patience: patience}
	stop := out.heartbeat(r.Context())
	defer stop()
	uri, err := source.Canonical(req.Source)
	if err != nil {
		uri = "unreadable" // and it may hold a secret
	}
	log := s.log.With("image", req.Image, "source", uri, "ref", req.Ref)
	started := time.Now()
	s.metrics.running.Inc()
	rel, err := s.releaser.Run(r.Context(), *req, out.write)
	s.metrics.running.Dec()
	s.metrics.ended(err, time.Since(started))
	last := api.Event{Time: time.Now().UTC(), Phase: "done", Result: rel}
	if err != nil {
		log.Warn("release failed", "error", err, "took", time.Since(started))
		known, ok := errors.AsType[*api.Error](err)
		if !ok {
			known = &api.Error{Message: err.Error()}
		}
		last.Phase, last.Result, last.Error = "failed", nil, known
	} else {
		log.Info("released", "digest", rel.Digest, "tags", rel.Tags, "resumed", rel.Resumed, "took", time.Since(started))
	}
	out.write(last)
}

// patience is how long one event may take to reach the requester: who does not
// read would otherwise keep a build's room, and the image's turn, for ever.
const patience = time.Minute

// maxText bounds each text of an event, so that no line exceeds what clients
// take (api.MaxEvent) even if JSON needs six bytes for each of its characters.
const maxText = 32 << 10

// eventWriter writes events one a line, from several goroutines.
type eventWriter struct {
	w        io.Writer
	rc       *http.ResponseController
	patience time.Duration
	mu       sync.Mutex
}

func (w *eventWriter) write(e api.Event) {
	e.Step, e.Line = bounded(e.Step), bounded(e.Line)
	if e.Error != nil {
		e.Error = &api.Error{Message: bounded(e.Error.Message), Hint: bounded(e.Error.Hint), Kind: e.Error.Kind}
	}
	line, err := json.Marshal(e)
	if err != nil {
		return // these types marshal
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// Where it fails the requester is gone or does not read, and the server
	// cancels the request's context: nothing to do here.
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.patience))
	_, _ = w.w.Write(append(line, '\n'))
	_ = w.rc.Flush()
}

func bounded(s string) string { return printable.Cut(s, maxText) }

// heartbeat keeps proxies in between from closing a quiet stream.
func (w *eventWriter) heartbeat(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case t := <-tick.C:
				w.write(api.Event{Time: t.UTC(), Phase: "alive"})
			}
		}
	}()
	return func() { cancel(); <-done }
}

var (
	idGrammar     = regexp.MustCompile(`^[0-9a-f]{32}$`)
	digestGrammar = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

func (s *Service) record(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !idGrammar.MatchString(id) {
		http.Error(w, fmt.Sprintf("release id %q: want 32 hex digits", id), http.StatusBadRequest)
		return
	}
	s.serve(w, r, filepath.Join("records", id+".json"), "application/json")
}

func (s *Service) buildLog(w http.ResponseWriter, r *http.Request) {
	digest := r.PathValue("digest")
	if !digestGrammar.MatchString(digest) {
		http.Error(w, fmt.Sprintf("log %q: want sha256 and 64 hex digits", digest), http.StatusBadRequest)
		return
	}
	s.serve(w, r, filepath.Join("logs", digest[len("sha256:"):]), "text/plain; charset=utf-8")
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, name, contentType string) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, f)
}
