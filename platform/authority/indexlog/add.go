package indexlog

import (
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"

	"github.com/colophon-build/colophon/tlog"
)

// Paths that only the role search may ask for.
const (
	PathAdd = "/index/entries" // POST of an entry: the answer is an Added
	PathOf  = "/index/of"      // GET: the answer is an Of
)

// Added is the answer to an entry.
type Added struct {
	Index int64 `json:"index"` // of the entry, from 0
}

// Of says of which log the index log is.
type Of struct {
	Origin    string `json:"origin"`
	PublicKey []byte `json:"publicKey"` // Ed25519, 32 bytes
}

// Add handles PathAdd. It answers 409 to an entry that comes too late.
func (s *Server) Add() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entry, err := io.ReadAll(http.MaxBytesReader(w, r.Body, tlog.MaxEntry))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		index, err := s.Append(r.Context(), entry)
		if err != nil {
			s.Refuse(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Added{index}) // the client is gone
	})
}

// About handles PathOf.
func About(origin string, key ed25519.PublicKey) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Of{origin, key}) // the client is gone
	})
}
