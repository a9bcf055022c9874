package search

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// ArchiveConfig is the configuration of an Archive.
type ArchiveConfig struct {
	// Config is about the log of the archive and its index log. Extend is not used.
	Config

	// Records returns what the archive keeps after the record with this number, in order,
	// as entries of its log; none: there are no others. Add adds entries to the log, the
	// first of which gets the index from, and returns when Log serves them.
	Records func(ctx context.Context, after int64) ([][]byte, error)
	Add     func(ctx context.Context, from int64, entries [][]byte) error

	// Content returns the content of a record.
	Content func(ctx context.Context, r search.Record) ([]byte, error)

	// MayRead reports whether the bearer of a token may read what the archive keeps; the
	// token is empty if a request has none.
	MayRead func(token string) bool
}

// Archive copies what an archive keeps to the archive's log, keeps the map of the content, and
// answers (spec/archive/v1). Safe for concurrent use, but for Run.
type Archive struct {
	*Service
	cfg    ArchiveConfig
	copied []byte // the last entry of the log, as far as it was copied
	size   int64  // entries of the log; 0: they were not looked at yet
}

// NewArchive returns an Archive that answers nothing before Run has opened the map.
func NewArchive(cfg ArchiveConfig) *Archive {
	m := &search.ArchiveMap{Content: cfg.Content, Dir: cfg.Dir}
	cfg.Config.Extend = m.Extend
	return &Archive{Service: New(cfg.Config), cfg: cfg}
}

// Run copies records and keeps the map until ctx is done, or the map contradicts the logs.
func (a *Archive) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.copyAll(ctx)
	}()
	err := a.Service.Run(ctx)
	cancel()
	<-done
	return err
}

// copyAll copies records to the log until ctx is done. If the archive does not have the records
// that its log has, it says so and copies nothing.
func (a *Archive) copyAll(ctx context.Context) {
	logged := ""
	for ctx.Err() == nil {
		more, err := a.copy(ctx)
		switch {
		case err == nil:
			logged = ""
		case ctx.Err() == nil && err.Error() != logged:
			logged = err.Error()
			a.Service.cfg.Logger.Warn("what the archive keeps cannot be copied to its log now", "error", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// copy copies the next records to the log. more: there may be others.
func (a *Archive) copy(ctx context.Context) (more bool, err error) {
	if a.size == 0 {
		cp, _, err := a.newest(ctx)
		if err != nil {
			return false, err
		}
		if a.copied = nil; cp.Size > 0 {
			if a.copied, _, err = tlog.Entry(ctx, a.log, cp, cp.Size-1); err != nil {
				return false, err
			}
		}
		a.size = cp.Size
	}
	// The last record that the log has comes along: an archive that was restored from an old
	// backup can have another one, or none.
	records, err := a.cfg.Records(ctx, max(0, a.size-1))
	if err != nil {
		return false, err
	}
	if a.size > 0 {
		if len(records) == 0 || !bytes.Equal(records[0], a.copied) {
			return false, fmt.Errorf("the archive does not have record %d as its log has it: it was rolled back or changed; restore it from a newer backup", a.size)
		}
		records = records[1:]
	}
	if len(records) == 0 {
		return false, nil
	}
	if err := a.cfg.Add(ctx, a.size, records); err != nil {
		a.size = 0 // they may be in the log, or others
		return false, err
	}
	a.copied = records[len(records)-1]
	a.size += int64(len(records))
	return true, nil
}

// maxArchiveQuery is the limit of the query of a question, in bytes: of a value and a place that
// are percent-encoded.
const maxArchiveQuery = 16 << 10

// Register adds the archive's paths to mux: the search, and the tiles of the log and its index log.
func (a *Archive) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+api.PathArchiveSearch, a.allowed(http.HandlerFunc(a.searchArchive)))
	mux.HandleFunc("GET "+api.PathArchiveLog, a.allowed(http.StripPrefix(api.PathArchiveLog, tlog.Handler{Source: a.log})))
	mux.HandleFunc("GET "+api.PathArchiveIndex, a.allowed(http.StripPrefix(api.PathArchiveIndex, tlog.Handler{Source: a.index})))
}

// allowed serves a request if its token may read the archive.
func (a *Archive) allowed(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !a.cfg.MayRead(token) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="colophon"`)
			http.Error(w, "the request has no token that may do this; run colophon login", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(private{w}, r)
	}
}

// private is an answer that no shared cache keeps: it may depend on the token.
type private struct{ http.ResponseWriter }

func (p private) WriteHeader(status int) {
	p.Header().Set("Cache-Control", "no-store")
	p.ResponseWriter.WriteHeader(status)
}

func (p private) Write(data []byte) (int, error) {
	p.Header().Set("Cache-Control", "no-store")
	return p.ResponseWriter.Write(data)
}

func (a *Archive) searchArchive(w http.ResponseWriter, r *http.Request) {
	a.serve(w, func() (answering, error) {
		q, limit, err := archiveQuestion(r)
		return func(state *search.State) (any, error) { return a.answerArchive(r.Context(), state, q, limit) }, err
	})
}

// archiveQuestion reads a question from a request.
func archiveQuestion(r *http.Request) (q search.ArchiveQuestion, limit int, err error) {
	if len(r.URL.RawQuery) > maxArchiveQuery {
		return q, 0, fmt.Errorf("the question has more than %d bytes", maxArchiveQuery)
	}
	query := r.URL.Query()
	for name, values := range query {
		if !slices.Contains([]string{"kind", "value", "prefix", "from", "limit"}, name) {
			return q, 0, fmt.Errorf("unknown parameter %q: expected kind, value, prefix, from and limit", name)
		}
		if len(values) != 1 {
			return q, 0, fmt.Errorf("%s: expected one, found %d", name, len(values))
		}
	}
	q.Kind, q.Value = search.Kind(query.Get("kind")), query.Get("value")
	if !slices.Contains(search.ArchiveKinds(), q.Kind) {
		return q, 0, fmt.Errorf("kind: expected one of %v, found %q", search.ArchiveKinds(), q.Kind)
	}
	if query.Has("prefix") {
		if q.Prefix = true; query.Get("prefix") != "true" {
			return q, 0, fmt.Errorf("prefix: expected true or nothing, found %q", query.Get("prefix"))
		}
	}
	if (q.Value == "") != (q.Kind == search.Unparsed) {
		return q, 0, fmt.Errorf("value: expected one, except for the kind %s", search.Unparsed)
	}
	if q.From, err = base64.URLEncoding.DecodeString(query.Get("from")); err != nil {
		return q, 0, errors.New("from: expected what the page before said, in base64url")
	}
	limit, err = limitOf(query)
	return q, limit, err
}

// answerArchive answers a question, and verifies the answer as a client does.
func (a *Archive) answerArchive(ctx context.Context, state *search.State, q search.ArchiveQuestion, limit int) (*search.ArchiveAnswer, error) {
	newest, signed, err := a.newest(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := state.AnswerArchive(ctx, q, limit, a.log, a.index, newest, signed)
	if err != nil {
		return nil, a.noteDamage(err)
	}
	// As JSON it is what the client reads.
	if _, err = answer.Verify(q, a.Service.cfg.LogKey, a.Service.cfg.IndexKey); err != nil {
		a.log.forget()
		a.index.forget()
	}
	return answer, err
}
