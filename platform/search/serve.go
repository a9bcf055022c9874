package search

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// Path is the URL path of the search (spec/search/v1).
const Path = "/search/v1"

const (
	maxAsking = 16       // questions that are answered at the same time
	maxCached = 64 << 20 // bytes of tiles that are kept
)

// Register adds the search's path to mux.
func (s *Service) Register(mux *http.ServeMux) { mux.HandleFunc("GET "+Path, s.search) }

func (s *Service) search(w http.ResponseWriter, r *http.Request) {
	s.serve(w, func() (answering, error) {
		q, limit, err := question(r)
		return func(state *search.State) (any, error) { return s.answer(r.Context(), state, q, limit) }, err
	})
}

// answering answers a question from a state.
type answering func(*search.State) (any, error)

// serve serves a request for an answer, in JSON. read reads the question.
func (s *Service) serve(w http.ResponseWriter, read func() (answering, error)) {
	began := time.Now()
	w.Header().Set("Cache-Control", "no-store")
	s.metrics.question(s.tryServe(w, read), time.Since(began))
}

// tryServe returns the result for metrics.
func (s *Service) tryServe(w http.ResponseWriter, read func() (answering, error)) (result string) {
	if err := s.Ready(); err != nil {
		http.Error(w, "the search has stopped, because the index contradicts the log; run colophon log audit", http.StatusServiceUnavailable)
		return halted
	}
	answer, err := read()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return malformed
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		busy(w, "the search is busy; try again")
		return overload
	}
	state := s.state.Load()
	if state == nil {
		busy(w, "the index of the log is being made; try again later")
		return unready
	}
	a, err := answer(state)
	if err != nil {
		s.cfg.Logger.Error("answering a search", "error", err)
		http.Error(w, "the search failed; its log says why", http.StatusInternalServerError)
		return broken
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // the client is gone
	return answered
}

func busy(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, text, http.StatusServiceUnavailable)
}

// question reads a question from a request.
func question(r *http.Request) (q search.Question, limit int, err error) {
	query := r.URL.Query()
	for name, values := range query {
		if !slices.Contains([]string{"kind", "value", "from", "limit"}, name) {
			return q, 0, fmt.Errorf("unknown parameter %q: expected kind, value, from and limit", name)
		}
		if len(values) != 1 {
			return q, 0, fmt.Errorf("%s: expected one, found %d", name, len(values))
		}
	}
	q.Kind, q.Value = search.Kind(query.Get("kind")), query.Get("value")
	if !slices.Contains(search.Kinds(), q.Kind) {
		return q, 0, fmt.Errorf("kind: expected one of %v, found %q", search.Kinds(), q.Kind)
	}
	if (q.Value == "") != (q.Kind == search.Unparsed) {
		return q, 0, fmt.Errorf("value: expected one, except for the kind %s", search.Unparsed)
	}
	if query.Has("from") {
		if q.From, err = strconv.ParseInt(query.Get("from"), 10, 64); err != nil || q.From < 0 {
			return q, 0, fmt.Errorf("from: expected the index of an entry, found %q", query.Get("from"))
		}
	}
	limit, err = limitOf(query)
	return q, limit, err
}

// limitOf returns how many matches an answer may have: what the query says, or as many as a page has.
func limitOf(query url.Values) (limit int, err error) {
	if !query.Has("limit") {
		return search.MaxPage, nil
	}
	if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > search.MaxPage {
		return 0, fmt.Errorf("limit: expected 1 to %d, found %q", search.MaxPage, query.Get("limit"))
	}
	return limit, nil
}

// answer answers a question, and verifies the answer as a client does: damage never leads to a
// wrong one.
func (s *Service) answer(ctx context.Context, state *search.State, q search.Question, limit int) (*search.Answer, error) {
	newest, signed, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	a, err := state.Answer(ctx, q, limit, s.log, s.index, newest, signed)
	if err != nil {
		return nil, s.noteDamage(err)
	}
	if _, err = a.Verify(q, s.cfg.LogKey, s.cfg.IndexKey); err != nil {
		s.log.forget()
		s.index.forget()
	}
	return a, err
}

// cache is a log whose tiles are kept: those with all hashes or entries, which never change, and
// others with their width.
type cache struct {
	tlog.Source
	mu    sync.Mutex
	tiles map[tlog.Tile][]byte
	size  int
}

func newCache(src tlog.Source) *cache { return &cache{Source: src, tiles: map[tlog.Tile][]byte{}} }

// Tile implements tlog.Source.
func (c *cache) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	c.mu.Lock()
	data, ok := c.tiles[t]
	c.mu.Unlock()
	if ok {
		return data, nil
	}
	data, err := c.Source.Tile(ctx, t)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.tiles[t]; ok {
		return data, nil
	}
	for old, kept := range c.tiles { // any: the next questions are others
		if c.size+len(data) <= maxCached {
			break
		}
		delete(c.tiles, old)
		c.size -= len(kept)
	}
	c.tiles[t] = data
	c.size += len(data)
	return data, nil
}

// forget forgets all tiles: one of them may be wrong.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tiles)
	c.size = 0
}
