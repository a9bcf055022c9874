package tlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// Handler serves a log over HTTP (C2SP tlog-tiles), for clients such as HTTP. It
// expects URL paths below the log's prefix, such as "checkpoint" and "tile/0/000": see
// http.StripPrefix. It answers 404 for any other path.
type Handler struct {
	Source Source // the log; Handler calls its methods concurrently
	// Data is the name of the level Entries in paths; empty means "entries". A
	// Certificate Transparency log uses "data" (C2SP static-ct-api).
	Data string
	// Fail writes the response to a failed request. status is 404 if the log does not
	// have what was requested, and 500 if Source failed. If Fail is nil, the response
	// is the text of the status, without err.
	Fail func(w http.ResponseWriter, status int, err error)
}

// ServeHTTP implements http.Handler.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var data []byte
	var err error
	kind, cache := "text/plain; charset=utf-8", "no-cache"
	if r.URL.Path == "checkpoint" {
		data, err = h.Source.Checkpoint(r.Context())
	} else {
		// A tile never changes.
		kind, cache = "application/octet-stream", "public, max-age=31536000, immutable"
		var t Tile
		if t, err = h.parsePath(r.URL.Path); err == nil {
			data, err = h.Source.Tile(r.Context(), t)
		}
	}
	if err != nil {
		h.fail(w, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", cache)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// parsePath reads the path of a tile. Its error matches fs.ErrNotExist.
func (h Handler) parsePath(path string) (Tile, error) {
	standard := path
	if h.Data != "" {
		const entries = "tile/entries/"
		if strings.HasPrefix(path, entries) {
			standard = ""
		} else if rest, ok := strings.CutPrefix(path, "tile/"+h.Data+"/"); ok {
			standard = entries + rest
		}
	}
	t, err := ParsePath(standard)
	if err != nil {
		return Tile{}, fmt.Errorf("%q is not the path of a tile: %w", path, fs.ErrNotExist)
	}
	return t, nil
}

func (h Handler) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, fs.ErrNotExist) {
		status = http.StatusNotFound
	}
	// Caches may not keep the response: a later checkpoint may have the tile.
	w.Header().Set("Cache-Control", "no-store")
	if h.Fail != nil {
		h.Fail(w, status, err)
		return
	}
	http.Error(w, http.StatusText(status), status)
}
