package tlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/colophon-build/colophon/internal/strict"
)

// Source reads what a log published. Callers verify what it returns. If the log
// does not have the checkpoint or tile, the error matches fs.ErrNotExist. Handler
// calls the methods concurrently; all other code of this package calls them one after
// another.
type Source interface {
	// Checkpoint returns the newest signed checkpoint, at most MaxCheckpoint bytes.
	Checkpoint(context.Context) ([]byte, error)
	// Tile returns the data of exactly this tile. A log may delete a partial tile
	// as soon as the full one exists; ReadTile handles that.
	Tile(context.Context, Tile) ([]byte, error)
}

// ReadTile reads a tile from src. If the log deleted a partial tile, ReadTile takes
// its data from the full one. The data has the tile's width; its content is not
// verified.
func ReadTile(ctx context.Context, src Source, t Tile) ([]byte, error) {
	data, err := src.Tile(ctx, t)
	if errors.Is(err, fs.ErrNotExist) && t.Width < TileWidth {
		full := t
		full.Width = TileWidth
		data, err = src.Tile(ctx, full)
	}
	if err != nil {
		return nil, err
	}
	return t.Cut(data, t.Width)
}

// Dir is the Source of a log in a directory, whose files have the paths of C2SP
// tlog-tiles: "checkpoint", "tile/0/000".
type Dir string

// Checkpoint implements Source.
func (d Dir) Checkpoint(context.Context) ([]byte, error) {
	return strict.ReadFile(filepath.Join(string(d), "checkpoint"), MaxCheckpoint)
}

// Tile implements Source.
func (d Dir) Tile(_ context.Context, t Tile) ([]byte, error) {
	return strict.ReadFile(filepath.Join(string(d), filepath.FromSlash(t.Path())), t.maxData())
}

// HTTP is the Source of a log that is served over HTTP (C2SP tlog-tiles).
type HTTP struct {
	URL    string       // the log's prefix; for a Rekor v2 log it ends in /api/v2
	Client *http.Client // default: http.DefaultClient, which has no timeout
}

// Checkpoint implements Source.
func (h HTTP) Checkpoint(ctx context.Context) ([]byte, error) {
	return h.get(ctx, "checkpoint", MaxCheckpoint)
}

// Tile implements Source.
func (h HTTP) Tile(ctx context.Context, t Tile) ([]byte, error) {
	return h.get(ctx, t.Path(), t.maxData())
}

func (h HTTP) get(ctx context.Context, path string, limit int) ([]byte, error) {
	url := strings.TrimSuffix(h.URL, "/") + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := h.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &StatusError{url, resp.StatusCode, resp.Header.Get("Retry-After")}
	}
	data, err := strict.Read(resp.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return data, nil
}

// StatusError is an answer of a log with another status than 200. It matches
// fs.ErrNotExist if the log says that it does not have what was requested.
type StatusError struct {
	URL        string
	Status     int
	RetryAfter string // the header of this name
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("GET %s: got %d %s, want 200", e.URL, e.Status, http.StatusText(e.Status))
}

// Is reports whether the answer means fs.ErrNotExist.
func (e *StatusError) Is(target error) bool {
	return target == fs.ErrNotExist && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}
