package ctlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"

	"github.com/colophon-build/colophon/tlog"
)

// Register serves checkpoint, tiles and issuers of the log under /ct/ (C2SP static-ct-api),
// and no other file of its directory.
func (s *Service) Register(mux *http.ServeMux) {
	mux.Handle("GET /ct/", http.StripPrefix("/ct/", tlog.Handler{Source: files{s}, Data: "data"}))
	mux.HandleFunc("GET /ct/issuer/{sum}", s.serveIssuer)
}

// files is the log's directory as a tlog.Source.
type files struct{ *Service }

func (f files) Checkpoint(context.Context) ([]byte, error) { return f.read("checkpoint") }

func (f files) Tile(_ context.Context, t tlog.Tile) ([]byte, error) {
	return f.read(strings.Replace(t.Path(), "tile/entries/", "tile/data/", 1))
}

func (f files) read(path string) ([]byte, error) {
	st, err := f.root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file: %w", path, fs.ErrNotExist)
	}
	return f.root.ReadFile(path)
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// serveIssuer serves an issuing certificate by its SHA-256.
func (s *Service) serveIssuer(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sum")
	if !sha256Hex.MatchString(sum) {
		http.NotFound(w, r)
		return
	}
	der, err := files{s}.read("issuer/" + sum)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "the log cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/pkix-cert")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(der)
}
