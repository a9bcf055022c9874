// Package distribution reads the paths of the OCI distribution spec 1.1
// (github.com/opencontainers/distribution-spec, spec.md) and answers with its errors, for whoever
// serves /v2/: the platform's registry, and the gate before another one.
package distribution

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
)

// The grammars of distribution spec 1.1, "Pulling manifests", and image spec 1.1, "Digests".
// Strings that match them are safe as paths: no component of a name or digest is empty,
// begins with a dot or is "_", and every byte is in [A-Za-z0-9._/:-].
var (
	nameGrammar   = lazyregexp.New(`\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*\z`)
	tagGrammar    = lazyregexp.New(`\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}\z`)
	digestGrammar = lazyregexp.New(`\A(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})\z`)
)

// maxName is the limit of a repository's name, in bytes. Clients allow 255 for host and name
// together.
const maxName = 255

// ValidName reports whether s is the name of a repository.
func ValidName(s string) bool { return len(s) <= maxName && nameGrammar.MatchString(s) }

// ValidTag reports whether s is a tag.
func ValidTag(s string) bool { return tagGrammar.MatchString(s) }

// ValidDigest reports whether s is "sha256:" and 64 lower-case hex digits, or "sha512:" and 128.
func ValidDigest(s string) bool { return digestGrammar.MatchString(s) }

// Path is a path, parsed.
type Path struct {
	Kind      string // ping, token, catalog, tags, manifests, blobs, uploads, referrers or other
	Name      string // the repository; ValidName
	Reference string // the rest: tag, digest or upload id; not checked yet
}

// Parse parses a path from its right end, because a repository's name may contain "blobs" or
// "tags":
//
//	/v2/
//	/v2/token
//	/v2/_catalog
//	/v2/NAME/tags/list
//	/v2/NAME/manifests/REFERENCE
//	/v2/NAME/blobs/DIGEST
//	/v2/NAME/blobs/uploads/[ID]
//	/v2/NAME/referrers/DIGEST
//
// The error is a *Failure.
func Parse(u *url.URL) (Path, error) {
	p := Path{Kind: "other"}
	// Two readers of a path with an encoded slash could see two different repositories.
	if strings.Contains(strings.ToLower(u.RawPath), "%2f") {
		return p, Failed(http.StatusBadRequest, CodeNameInvalid, "got an encoded slash in the path")
	}
	rest, ok := strings.CutPrefix(u.Path, "/v2")
	switch {
	case ok && (rest == "" || rest == "/"):
		p.Kind = "ping"
		return p, nil
	case ok && rest == "/token":
		p.Kind = "token"
		return p, nil
	case ok && rest == "/_catalog": // no name begins with "_"
		p.Kind = "catalog"
		return p, nil
	}
	seg := strings.Split(strings.TrimPrefix(rest, "/"), "/")
	n := len(seg)
	cut := 0
	switch {
	case !ok:
	case n > 2 && seg[n-2] == "tags" && seg[n-1] == "list":
		p.Kind, cut = "tags", 2
	case n > 3 && seg[n-3] == "blobs" && seg[n-2] == "uploads":
		p.Kind, p.Reference, cut = "uploads", seg[n-1], 3
	case n > 2 && seg[n-2] == "blobs" && seg[n-1] == "uploads":
		p.Kind, cut = "uploads", 2
	case n > 2 && (seg[n-2] == "manifests" || seg[n-2] == "blobs" || seg[n-2] == "referrers"):
		p.Kind, p.Reference, cut = seg[n-2], seg[n-1], 2
	}
	if cut == 0 {
		return p, Failed(http.StatusNotFound, CodeUnsupported, "no such endpoint")
	}
	p.Name = strings.Join(seg[:n-cut], "/")
	if !ValidName(p.Name) {
		return p, Failed(http.StatusBadRequest, CodeNameInvalid, "repository name %q does not match the grammar of the distribution spec", p.Name)
	}
	return p, nil
}
