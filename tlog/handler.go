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

// Handler serves Source over HTTP as C2SP tlog-tiles wants it, for clients such
// as HTTP. It takes URL paths below the log's prefix ("checkpoint", "tile/0/000"):
// see http.StripPrefix. Every other path is a 404.
type Handler struct {
	Source Source
	// Data is what paths call the level Entries, where that is not "entries": it
	// is "data" in a Certificate Transparency log (C2SP static-ct-api).
	Data string
	// Fail writes the answer where there is none: status is 404 for what the log
	// does not have, and 500 where Source failed. Where it is nil, the answer has
	// the status' text and nothing of err.
	Fail func(w http.ResponseWriter, status int, err error)
}

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

// parsePath fails with fs.ErrNotExist: no log has what is not a tile's path.
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
	// Not to be remembered: it may be there with the next checkpoint.
	w.Header().Set("Cache-Control", "no-store")
	if h.Fail != nil {
		h.Fail(w, status, err)
		return
	}
	http.Error(w, http.StatusText(status), status)
}
