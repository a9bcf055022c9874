package attestor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/release"
)

// list answers the releases that the query chooses, the newest first.
func (s *Service) list(w http.ResponseWriter, r *http.Request) {
	f, err := filterOf(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer(w, api.Runs{Releases: s.releaser.Runs(f)})
}

// defaultList is how many releases a list has unless the query says how many.
const defaultList = 20

func filterOf(query string) (f release.Filter, err error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return f, fmt.Errorf("query: %w", err)
	}
	f.Limit = defaultList
	for name, values := range q {
		value := values[0]
		switch {
		case len(values) > 1:
			return f, fmt.Errorf("%s: got %d values, want one", name, len(values))
		case name == "image":
			f.Image = value
		case name == "state":
			if f.State = api.State(value); !slices.Contains(api.States, f.State) {
				return f, fmt.Errorf("state: got %q, want one of %v", value, api.States)
			}
		case name == "source":
			f.Source = value
		case name == "ref":
			f.Ref = value
		case name == "commit":
			f.Commit = value
		case name == "digest":
			f.Digest = value
		case name == "limit":
			if f.Limit, err = strconv.Atoi(value); err != nil || f.Limit < 1 {
				return f, fmt.Errorf("limit: got %q, want a number from 1", value)
			}
		default:
			return f, fmt.Errorf("query: got %q, want image, state, source, ref, commit, digest or limit", name)
		}
	}
	return f, nil
}

// show answers one release.
func (s *Service) show(w http.ResponseWriter, r *http.Request) {
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	run, err := s.releaser.Find(id)
	if err != nil {
		s.explain(w, r, err)
		return
	}
	answer(w, run)
}

// events streams the events of a release: those so far or, with ?follow=true, all until it
// has ended. The last one says how it ended, if it has.
func (s *Service) events(w http.ResponseWriter, r *http.Request) {
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	follow := r.URL.Query().Get("follow")
	if follow != "" && follow != "true" && follow != "false" {
		http.Error(w, fmt.Sprintf("follow: got %q, want true or false", follow), http.StatusBadRequest)
		return
	}
	out := &eventWriter{w: w, rc: http.NewResponseController(w), patience: patience}
	w.Header().Set("Content-Type", contentEvents)
	if follow == "true" {
		stop := out.heartbeat(r.Context())
		defer stop()
	}
	wrote := false
	err := s.releaser.Events(r.Context(), id, follow == "true", func(e api.Event) { wrote = true; out.write(e) })
	if err != nil && !wrote && follow != "true" {
		s.explain(w, r, err)
		return
	} else if err != nil {
		s.log.ErrorContext(r.Context(), "cannot send the log of a release", "id", id, "error", err)
		out.write(api.Event{Time: time.Now().UTC(), Phase: "failed", Error: &api.Error{Message: err.Error()}})
		return
	}
	run, err := s.releaser.Find(id)
	switch {
	case err != nil || !run.State.Ended():
	case run.Result != nil:
		out.write(api.Event{Time: run.Ended, Phase: "done", Result: run.Result})
	default:
		out.write(api.Event{Time: run.Ended, Phase: "failed", Error: run.Error})
	}
}

// cancel cancels a release and answers what became of it.
func (s *Service) cancel(w http.ResponseWriter, r *http.Request) {
	id, ok := s.id(w, r)
	if !ok {
		return
	}
	actor := "unknown"
	if of, ok := logs.Of(r.Context()); ok {
		actor = of.Actor
	}
	run, err := s.releaser.Cancel(r.Context(), id, actor)
	if err != nil {
		s.explain(w, r, err)
		return
	}
	s.log.InfoContext(r.Context(), "a release was cancelled", "id", id, "image", run.Image, "ref", run.Ref)
	answer(w, run)
}

var prefixGrammar = lazyregexp.New(fmt.Sprintf(`^[0-9a-f]{%d,32}$`, api.MinID))

// id returns the full id of the release that a request names by the first digits of it.
func (s *Service) id(w http.ResponseWriter, r *http.Request) (id string, ok bool) {
	prefix := r.PathValue("id")
	if !prefixGrammar.MatchString(prefix) {
		http.Error(w, fmt.Sprintf("release id %q: want 32 hex digits, or the first %d or more of them", prefix, api.MinID), http.StatusBadRequest)
		return "", false
	}
	id, err := s.releaser.ID(prefix)
	if err != nil {
		s.explain(w, r, err)
	}
	return id, err == nil
}

// explain answers a request that failed with err.
func (s *Service) explain(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	known, ok := errors.AsType[*api.Error](err)
	switch {
	case ok:
		status = http.StatusConflict
	case errors.Is(err, release.ErrNoRun), errors.Is(err, release.ErrNoLog):
		status, known = http.StatusNotFound, &api.Error{Message: err.Error(), Hint: "colophon releases lists them"}
	case r.Context().Err() != nil:
		return
	default:
		s.log.ErrorContext(r.Context(), "cannot answer a request about a release", "error", err)
		known = &api.Error{Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(known) // fails if the client is gone
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = json.NewEncoder(w).Encode(v) // fails if the client is gone
}
