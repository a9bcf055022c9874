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

// Source reads what a log has published. Nothing it returns is trusted. Where
// there is no such thing, the error matches fs.ErrNotExist.
type Source interface {
	// Checkpoint is the newest signed checkpoint.
	Checkpoint(context.Context) ([]byte, error)
	// Tile is the data of exactly this tile. A log may drop a partial tile
	// once the full one exists: ReadTile knows.
	Tile(context.Context, Tile) ([]byte, error)
}

// ReadTile reads a tile from src, out of the full one where the partial one is
// gone. The data has the tile's width; its content is not checked.
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

// Dir is a log in a directory, laid out by the paths of C2SP tlog-tiles.
type Dir string

func (d Dir) Checkpoint(context.Context) ([]byte, error) {
	return strict.ReadFile(filepath.Join(string(d), "checkpoint"), MaxCheckpoint)
}

func (d Dir) Tile(_ context.Context, t Tile) ([]byte, error) {
	return strict.ReadFile(filepath.Join(string(d), filepath.FromSlash(t.Path())), t.maxData())
}

// HTTP is a log served over HTTP.
type HTTP struct {
	URL    string       // the log's prefix; of a Rekor v2 log it ends in /api/v2
	Client *http.Client // nil is http.DefaultClient, which has no timeout
}

func (h HTTP) Checkpoint(ctx context.Context) ([]byte, error) {
	return h.get(ctx, "checkpoint", MaxCheckpoint)
}

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
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("GET %s: %s: %w", url, resp.Status, fs.ErrNotExist)
	default:
		return nil, fmt.Errorf("GET %s: got %s, want 200", url, resp.Status)
	}
	data, err := strict.Read(resp.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	return data, nil
}
