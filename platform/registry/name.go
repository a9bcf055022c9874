package registry

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"net/http"
	"regexp"
	"strings"
)

// The grammars of distribution spec 1.1, "Pulling manifests", and image spec
// 1.1, "Digests". Whatever passes them is safe as a path: it has no empty, dot
// or underscore-first component, and no byte outside [A-Za-z0-9._/:-].
var (
	nameGrammar = regexp.MustCompile(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	tagGrammar  = regexp.MustCompile(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
	hexGrammar  = regexp.MustCompile(`\A[a-f0-9]+\z`)
)

// maxName keeps host and repository under the 255 that clients allow.
const maxName = 255

func validName(s string) bool { return len(s) <= maxName && nameGrammar.MatchString(s) }
func validTag(s string) bool  { return tagGrammar.MatchString(s) }

// A digest is "sha256:" and 64, or "sha512:" and 128 lower-case hex digits.
type digest struct{ alg, hex string }

func (d digest) String() string { return d.alg + ":" + d.hex }

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
