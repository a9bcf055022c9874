package ctlog

import (
	"errors"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
)

// What may be read, and nothing else of the directory:
//
//	checkpoint
//	issuer/<SHA-256 of the certificate, hex>
//	tile/<level 0-5 or data>/<x-prefixed groups of three digits>[.p/<width 1-255>]
var readable = regexp.MustCompile(`^(checkpoint|issuer/[0-9a-f]{64}|tile/([0-5]|data)/(x[0-9]{3}/){0,5}[0-9]{3}(\.p/[1-9][0-9]{0,2})?)$`)

// Register serves the log read-only under /ct/.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /ct/{path...}", s.serveFile)
}

func (s *Service) serveFile(w http.ResponseWriter, r *http.Request) {
	path := r.PathValue("path")
	if !readable.MatchString(path) {
		http.NotFound(w, r)
		return
	}
	f, err := s.root.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			http.NotFound(w, r)
			return
		}
		http.Error(w, "the log cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	kind, cache := "application/octet-stream", "public, max-age=604800, immutable"
	switch {
	case path == "checkpoint":
		kind, cache = "text/plain; charset=utf-8", "no-cache"
	case strings.HasPrefix(path, "issuer/"):
		kind = "application/pkix-cert"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", cache)
	http.ServeContent(w, r, "", st.ModTime(), f)
}
