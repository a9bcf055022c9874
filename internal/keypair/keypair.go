// Package keypair reads the certificate of a server, and its key, from files that somebody else
// writes.
package keypair

import (
	"crypto/tls"

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
