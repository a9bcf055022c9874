package gateway

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"net/url"
	"path"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/pypi"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sums"
)

// demands are what the files of a commit pin: digests by URL, end of a path, or package URL.
type demands map[string]digests

// digests are those of which a download must have one.
type digests map[string]bool

func newDemands(list []builder.Demand) demands {
	d := demands{}
	for _, e := range list {
		if d[e.URL] == nil {
			d[e.URL] = digests{}
		}
		d[e.URL][e.Digest] = true
	}
	return d
}

// one returns the digest of a URL, or of the end of a path; nil if the commit pins none, or contradicts
// itself.
func (d demands) one(key string) digests {
	if found := d[key]; len(found) == 1 {
		return found
	}
	return nil
}

// inPath matches paths that are made of a digest: pulls by digest (OCI distribution 1.1),
// and indexes of Debian archives by hash (Acquire-By-Hash).
var inPath = lazyregexp.New(`^/v2/[a-z0-9][a-z0-9._/-]{0,254}/(?:manifests|blobs)/sha256:([0-9a-f]{64})$|/by-hash/SHA256/([0-9a-f]{64})$`)

// of returns the digests of which the answer to GET u must have one; nil if nobody says it.
func (d demands) of(u *url.URL) digests {
	if m := inPath.FindStringSubmatch(u.Path); m != nil {
		return digests{"sha256:" + m[1] + m[2]: true}
	}
	if found := d.one(u.String()); found != nil {
		return found
	}
	if u.RawQuery != "" {
		return nil
	}
	for before, rest := "", u.Path; strings.HasPrefix(rest, "/"); {
		// What follows a scope of npm belongs to its name.
		if found := d.one(rest); found != nil && !strings.HasPrefix(before, "/@") {
			return found
		}
		i := strings.IndexByte(rest[1:], '/') + 1
		if i == 0 {
			break
		}
		before, rest = rest[:i], rest[i:]
	}
	return d[pypi.Archive(path.Base(u.Path))]
}

// comparison decides whether a body of the store, whose sha256 is known, has the digest that
// a build demands.
type comparison struct {
	// met is false if the body cannot have the digest.
	met bool
	// also, if not nil, must be fed with the body, and then have the sum want.
	also hash.Hash
	want string
}

// compare compares as far as that is possible without the body. path tells what an h1 is of:
// a go.mod or the files in a module's zip, whose sums the gateway is told.
func (g *Gateway) compare(want digests, path string, d *download) (c comparison) {
	if want["sha256:"+d.SHA256] {
		return comparison{met: true}
	}
	if len(want) != 1 {
		return comparison{}
	}
	for digest := range want {
		switch sri, isSRI := strings.CutPrefix(digest, "sha512-"); {
		case isSRI:
			c = comparison{met: true, also: sha512.New(), want: sri}
		case strings.HasPrefix(digest, "h1:") && strings.HasSuffix(path, ".mod"):
			c = comparison{met: digest == h1OfMod(d.SHA256)}
		case strings.HasPrefix(digest, "h1:") && sums.IsModule(path):
			c = comparison{met: digest == g.sums[d.SHA256]}
		}
	}
	return c
}

// h1OfMod returns the digest in go.sum of a go.mod whose sha256 is known
// (golang.org/x/mod/sumdb/dirhash, Hash1).
func h1OfMod(sha256Hex string) string {
	sum := sha256.Sum256([]byte(sha256Hex + "  go.mod\n"))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}
