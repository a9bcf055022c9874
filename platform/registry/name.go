package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"log/slog"
	"net/http"
	"strings"

	"github.com/colophon-build/colophon/platform/distribution"
)

// A digest is "sha256:" and 64 lower-case hex digits, or "sha512:" and 128.
type digest struct{ alg, hex string }

func (d digest) String() string { return d.alg + ":" + d.hex }

// LogValue implements slog.LogValuer, for logs in JSON.
func (d digest) LogValue() slog.Value { return slog.StringValue(d.String()) }

func (d digest) newHash() hash.Hash {
	if d.alg == "sha512" {
		return sha512.New()
	}
	return sha256.New()
}

func parseDigest(s string) (digest, error) {
	if !distribution.ValidDigest(s) {
		return digest{}, distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "got digest %q, want sha256 or sha512 in lower-case hex", s)
	}
	alg, enc, _ := strings.Cut(s, ":")
	return digest{alg, enc}, nil
}
