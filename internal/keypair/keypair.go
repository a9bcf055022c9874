// Package keypair reads the certificate of a server, and its key, from files that somebody else
// writes.
package keypair

import (
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Read reads a certificate chain and the key of its first certificate, both in PEM. It fails if they
// do not belong together, as while whoever writes them has written one of them.
func Read(chain, key string) (*tls.Certificate, error) {
	cert, err := strict.ReadFile(chain, limits.Request)
	if err != nil {
		return nil, err
	}
	private, err := strict.ReadFile(key, limits.Request)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// Watched is read again from its files, at most every 10 seconds. While they cannot be read, the
// last one stays.
type Watched struct {
	Chain, Key string // files
	Log        *slog.Logger

	mu   sync.Mutex
	read time.Time
	last *tls.Certificate
}

// Get implements tls.Config.GetCertificate. It fails if the files could never be read.
func (w *Watched) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != nil && time.Since(w.read) < 10*time.Second {
		return w.last, nil
	}
	w.read = time.Now()
	pair, err := Read(w.Chain, w.Key)
	switch {
	case err == nil:
		w.last = pair
	case w.last != nil:
		w.Log.Error("cannot read the certificate; the last one stays", "error", err)
		err = nil
	}
	return w.last, err
}
