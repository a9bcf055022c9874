// Package indexlog is the index log of spec/search/v1, on Tessera's POSIX storage. Each entry
// commits to the map of all entries under a checkpoint of the transparency log. The log's key
// signs its checkpoints, under a name of their own. The role search computes the maps; this
// package cannot know whether they are right, and neither must it: everybody can compute them
// again. It refuses what would make an audit impossible: an entry that is not about a later
// checkpoint of the log than the one before.
package indexlog

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/platform/authority/tiles"
	"github.com/colophon-build/colophon/search"
	"github.com/colophon-build/colophon/tlog"
)

// Config of a Server.
type Config struct {
	tiles.LogConfig // but for Name

	// Of is the log that is indexed, and OfVerifier verifies its checkpoints.
	Of         tlog.Source
	OfVerifier note.Verifier
}

// Server is a running index log. Safe for concurrent use.
type Server struct {
	*tiles.Log
	cfg Config
}

// New opens the log, and creates it at the first start.
func New(cfg Config) (*Server, error) {
	cfg.Name = "index log"
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	log, err := tiles.OpenLog(cfg.LogConfig)
	if err != nil {
		return nil, err
	}
	return &Server{log, cfg}, nil
}

// Append adds an entry and returns its index when a published checkpoint covers it, fsynced.
// The last entry again returns its index. The error matches tiles.ErrConflict if the entry is not
// about a later checkpoint than the last one.
func (s *Server) Append(ctx context.Context, entry []byte) (index int64, err error) {
	_, about, err := search.ParseLeaf(entry, s.cfg.OfVerifier)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", tiles.ErrMalformed, err)
	}
	again := 0
	index, err = s.Log.Append(ctx, func(last []byte, cp tlog.Checkpoint) ([][]byte, error) {
		if cp.Size > 0 {
			if bytes.Equal(last, entry) {
				again = 1
				return nil, nil
			}
			_, older, err := search.ParseLeaf(last, s.cfg.OfVerifier)
			if err != nil {
				return nil, err
			}
			// Two entries about the same checkpoint make an audit impossible.
			if about.Size <= older.Size {
				return nil, fmt.Errorf("%w: it is about %d entries, and the last entry about %d", tiles.ErrConflict, about.Size, older.Size)
			}
			if err := tlog.Extends(ctx, s.cfg.Of, older, about); err != nil {
				return nil, err
			}
		}
		return [][]byte{entry}, nil
	})
	if err != nil {
		return 0, err
	}
	if again > 0 {
		return index - 1, nil
	}
	return index, nil
}

// Register adds the paths that everybody can read to mux, under /index/.
func (s *Server) Register(mux *http.ServeMux) {
	read := s.Handler("/index/", s.Source())
	mux.Handle("GET /index/checkpoint", read)
	mux.Handle("GET /index/tile/", read)
}
