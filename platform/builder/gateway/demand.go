package gateway

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"hash"
	"net/url"
	"strings"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/sums"
)

// demands are the downloads that the files of a commit pin, by URL or end of a path.
type demands map[string]string

func newDemands(list []builder.Demand) demands {
	d := demands{}
	for _, e := range list {
		if was, twice := d[e.URL]; twice && was != e.Digest {
			e.Digest = "" // the commit contradicts itself
		}
		d[e.URL] = e.Digest
	}
	return d
}

// inPath matches paths that are made of a digest: pulls by digest (OCI distribution 1.1),
// and indexes of Debian archives by hash (Acquire-By-Hash).
var inPath = lazyregexp.New(`^/v2/[a-z0-9][a-z0-9._/-]{0,254}/(?:manifests|blobs)/sha256:([0-9a-f]{64})$|/by-hash/SHA256/([0-9a-f]{64})$`)

// of returns the digest that the answer to GET u must have; "" if nobody says it.
func (d demands) of(u *url.URL) string {
	if m := inPath.FindStringSubmatch(u.Path); m != nil {
		return "sha256:" + m[1] + m[2]
	}
	if digest := d[u.String()]; digest != "" {
		return digest
	}
	if u.RawQuery != "" || !strings.Contains(u.Path, "/@v/") {
		return ""
	}
	for path := u.Path; ; {
		if digest := d[path]; digest != "" {
			return digest
		}
		i := strings.IndexByte(path[1:], '/')
		if i < 0 {
			return ""
		}
		path = path[1+i:]
	}
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
func (g *Gateway) compare(digest, path string, d *download) (c comparison) {
	switch sri, isSRI := strings.CutPrefix(digest, "sha512-"); {
	case isSRI:
		return comparison{met: true, also: sha512.New(), want: sri}
	case strings.HasPrefix(digest, "h1:") && strings.HasSuffix(path, ".mod"):
		return comparison{met: digest == h1OfMod(d.SHA256)}
	case strings.HasPrefix(digest, "h1:") && sums.IsModule(path):
		return comparison{met: digest == g.sums[d.SHA256]}
	}
	return comparison{met: digest == "sha256:"+d.SHA256}
}

// h1OfMod returns the digest in go.sum of a go.mod whose sha256 is known
// (golang.org/x/mod/sumdb/dirhash, Hash1).
func h1OfMod(sha256Hex string) string {
	sum := sha256.Sum256([]byte(sha256Hex + "  go.mod\n"))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}
