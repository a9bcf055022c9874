// Package archivelog is the log of an archive (spec/archive/v1): which content the archive keeps, in
// the order of arrival. The transparency log's key signs its checkpoints, under a name of
// their own. The role search copies the records from the archive; this package sees to it that
// they stay in order and that none is replaced. It has an index log (package indexlog).
package archivelog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// Paths for the role search. The log's tiles are below Path.
const (
	Path      = "/archive/log/"
	PathIndex = "/archive/index/"      // its index log's tiles; POST entries: see indexlog.PathAdd
	PathAdd   = "/archive/log/entries" // POST ?from=INDEX, the body is Records: the answer is an Added
)

// maxAdd is the limit of the Records of one request, in bytes.
const maxAdd = 4 << 20

// Records are entries of the log, in order.
type Records struct {
	Entries [][]byte `json:"entries"`
}

// Added is the answer to Records.
type Added struct {
	Size int64 `json:"size"` // entries of the log
}

// Server is a running log of an archive. Safe for concurrent use.
type Server struct {
	*tiles.Log
	log *slog.Logger
}

// New opens the log, and creates it at the first start.
func New(cfg tiles.LogConfig) (*Server, error) {
	cfg.Name = "log of the archive"
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	log, err := tiles.OpenLog(cfg)
	if err != nil {
		return nil, err
	}
	return &Server{log, cfg.Log}, nil
}

// Append adds entries, the first of which belongs at index from, and returns the log's size when
// a published checkpoint covers them, fsynced. The error matches tiles.ErrConflict if from is not the
// size of the log.
func (s *Server) Append(ctx context.Context, from int64, entries [][]byte) (size int64, err error) {
	for i, entry := range entries {
		r, err := search.ParseRecord(entry)
		if err == nil && r.Number != from+int64(i)+1 {
			err = fmt.Errorf("got record %d for entry %d", r.Number, from+int64(i))
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", tiles.ErrMalformed, err)
		}
	}
	first, err := s.Log.Append(ctx, func(_ []byte, cp tlog.Checkpoint) ([][]byte, error) {
		if from != cp.Size {
			return nil, fmt.Errorf("%w: it has %d entries, and the new ones begin at %d", tiles.ErrConflict, cp.Size, from)
		}
		return entries, nil
	})
	return first + int64(len(entries)), err
}

// Add handles PathAdd. It answers 409 if the log has other entries there.
func (s *Server) Add() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
		if err != nil || from < 0 {
			http.Error(w, "from: expected the index of an entry", http.StatusBadRequest)
			return
		}
		var list Records
		body, err := strict.Read(r.Body, maxAdd)
		if err == nil {
			err = strict.UnmarshalKnown(body, maxAdd, &list)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		size, err := s.Append(r.Context(), from, list.Entries)
		if err != nil {
			s.Refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Added{size}) // the client is gone
	})
}
