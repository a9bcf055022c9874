package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
)

// The grammars of distribution spec 1.1, "Pulling manifests", and image spec 1.1, "Digests".
// Strings that match them are safe as paths: no component of a name or digest is empty,
// begins with a dot or is "_", and every byte is in [A-Za-z0-9._/:-].
var (
	nameGrammar = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	tagGrammar  = regexp.MustCompile(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
	hexGrammar  = regexp.MustCompile(`\A[a-f0-9]+\z`)
)

// maxName is the limit of a repository's name, in bytes. Clients allow 255 for host and name
// together.
const maxName = 255

func validName(s string) bool { return len(s) <= maxName && nameGrammar.MatchString(s) }
func validTag(s string) bool  { return tagGrammar.MatchString(s) }

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
	alg, enc, _ := strings.Cut(s, ":")
	size := map[string]int{"sha256": 64, "sha512": 128}[alg]
	if size == 0 || len(enc) != size || !hexGrammar.MatchString(enc) {
		return digest{}, failed(http.StatusBadRequest, codeDigestInvalid, "got digest %q, want sha256 or sha512 in lower-case hex", s)
	}
	return digest{alg, enc}, nil
}
