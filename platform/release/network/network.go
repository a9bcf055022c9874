// Package network checks a build's claims about its downloads against the gateway's
// record, and lists the downloads from the record alone. The trusted side made the
// record (builder.Record.Exchanges). The claims are BuildKit's list, which was made
// inside the room (BuildKit docs/proxy.md).
package network

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/platform/release/base"
)

// Record is a gateway's record, parsed for comparison.
type Record struct {
	exchanges []exchange
}

type exchange struct {
	builder.Exchange
	url  *url.URL
	pull *pull // the request to a registry; nil if it is another one
}

// pull is a request of the distribution spec (1.1, "Pulling").
type pull struct{ domain, name, kind, reference string }

var pullPath = lazyregexp.New(`^/v2/([a-z0-9][a-z0-9._/-]{0,254})/(manifests|blobs|referrers)/([A-Za-z0-9_][A-Za-z0-9._:-]{0,134})$`)

// Read parses the exchanges of one session.
func Read(exchanges []builder.Exchange) (*Record, error) {
	r := &Record{exchanges: make([]exchange, 0, len(exchanges))}
	for _, e := range exchanges {
		u, err := parse(e.URL)
		if err != nil {
			return nil, fmt.Errorf("reading the gateway's record: %w", err)
		}
		r.exchanges = append(r.exchanges, exchange{Exchange: e, url: u, pull: readPull(u)})
	}
	return r, nil
}

// parse parses a URL and normalizes it, so that URLs of BuildKit and of the gateway
// can be compared: without credentials (package credential), default port and fragment.
func parse(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	u.RawQuery = credential.Query(u.RawQuery)
	u.Host = strings.ToLower(u.Host)
	switch port := u.Port(); {
	case u.Scheme == "http" && port == "80", u.Scheme == "https" && port == "443":
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u, nil
}

// readPull parses the URL of a request to a registry; nil if it is another URL. The
// query parameter ns names the registry, but only in requests to the platform's mirror.
func readPull(u *url.URL) *pull {
	m := pullPath.FindStringSubmatch(u.Path)
	if m == nil {
		return nil
	}
	domain := u.Host
	if domain == gateway.MirrorHost {
		domain = u.Query().Get("ns")
	}
	if domain == "registry-1.docker.io" || domain == "index.docker.io" {
		domain = "docker.io"
	}
	return &pull{domain, m[1], m[2], m[3]}
}

// arrived reports whether the room received content that it asked for by this exchange.
func (e *exchange) arrived() bool {
	return e.Denied == "" && e.Status >= 200 && e.Status < 300 && e.Method != http.MethodHead
}

// text reports whether the room received the text of an error by this exchange. A server chooses
// it, so it may be a download. The platform's mirror writes its own.
func (e *exchange) text() bool {
	return e.Denied == "" && e.Status >= 300 && e.Size > 0 && e.url.Host != gateway.MirrorHost
}

// target returns where the answer sent the room; "" if nowhere.
func (e *exchange) target() string {
	if e.Denied != "" || e.Status < 300 || e.Status > 399 || e.Header["Location"] == "" {
		return ""
	}
	to, err := e.url.Parse(e.Header["Location"])
	if err == nil {
		to, err = parse(to.String())
	}
	if err != nil {
		return ""
	}
	return to.String()
}

// whole reports whether the answer was a whole document that the room received
// completely.
func (e *exchange) whole() bool {
	return e.Method == http.MethodGet && e.Status == http.StatusOK && e.Range == "" && e.SHA256 != ""
}

// Manifest returns the digest in the answers that the gateway saw for an image's tag or
// digest. It returns an error if there was no answer, or if the answers differ.
func (r *Record) Manifest(domain, name, reference string) (v1.Hash, error) {
	var found v1.Hash
	for _, e := range r.exchanges {
		p := e.pull
		if p == nil || e.Denied != "" || e.Status != http.StatusOK || *p != (pull{domain, name, "manifests", reference}) {
			continue
		}
		answered := e.Header["Docker-Content-Digest"]
		if e.whole() { // prefer the digest of the bytes to the registry's header
			answered = "sha256:" + e.SHA256
		}
		if answered == "" {
			continue
		}
		h, err := v1.NewHash(answered)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("%s %s: digest: %w", e.Method, e.URL, err)
		}
		if found != (v1.Hash{}) && found != h {
			return v1.Hash{}, &base.MismatchError{What: fmt.Sprintf("base image %s/%s, %s, in the gateway's record", domain, name, reference), One: found.String(), Other: h.String()}
		}
		found = h
	}
	if found == (v1.Hash{}) {
		return found, fmt.Errorf("base image %s/%s, %s: the build's gateway saw no answer", domain, name, reference)
	}
	return found, nil
}

// Denied lists the requests that the gateway denied, with its reasons, in the order of
// the requests.
func (r *Record) Denied() []string {
	var out []string
	for _, e := range r.exchanges {
		if e.Denied != "" {
			out = append(out, fmt.Sprintf("%s %s: %s", e.Method, e.url, e.Denied))
		}
	}
	return out
}

// Credentials lists the hosts that got a credential of the platform, sorted.
func (r *Record) Credentials() []string {
	hosts := map[string]bool{}
	for _, e := range r.exchanges {
		if e.Credential {
			hosts[e.url.Host] = true
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// Cut lists the answers that the room received only in part, in the order of the
// requests.
func (r *Record) Cut() []string {
	var out []string
	for _, e := range r.exchanges {
		if (e.arrived() || e.text()) && e.SHA256 == "" {
			out = append(out, fmt.Sprintf("%s %s: %d bytes", e.Method, e.url, e.Size))
		}
	}
	return out
}

// Fetched lists the room's downloads other than the images: each URL with the SHA-256
// of the body, sorted by URL. Annotations tell methods other than GET, ranges, the
// digest of the request's body, the content encoding, and the status of an error.
func (r *Record) Fetched(images []*base.Image) []attest.ResourceDescriptor {
	p := r.provision(images)
	type key struct{ uri, method, of, request, encoding, status, sum string }
	seen := map[key]bool{}
	for _, e := range r.exchanges {
		k := key{e.url.String(), e.Method, e.Range, e.Request, e.Header["Content-Encoding"], "", e.SHA256}
		switch {
		case e.SHA256 == "":
		case e.text():
			k.status = strconv.Itoa(e.Status)
			seen[k] = true
		case e.arrived() && !p.has(&e) && (e.Size > 0 || e.Method == http.MethodGet):
			seen[k] = true
		}
	}
	text := func(k key) string {
		return strings.Join([]string{k.uri, k.method, k.of, k.request, k.encoding, k.status, k.sum}, "\x00")
	}
	out := make([]attest.ResourceDescriptor, 0, len(seen))
	for _, k := range slices.SortedFunc(maps.Keys(seen), func(a, b key) int { return strings.Compare(text(a), text(b)) }) {
		d := attest.ResourceDescriptor{URI: k.uri, Digest: map[string]string{"sha256": k.sum}}
		note := func(name, value string) {
			if value != "" {
				if d.Annotations == nil {
					d.Annotations = map[string]any{}
				}
				d.Annotations[name] = value
			}
		}
		if k.method != http.MethodGet {
			note("method", k.method)
		}
		note("range", k.of)
		note("requestSHA256", k.request)
		note("contentEncoding", k.encoding)
		note("status", k.status)
		out = append(out, d)
	}
	return out
}

// provision distinguishes the requests that pull images from all others.
type provision struct {
	content map[string]bool // hex sha256 of all documents and blobs of the images
	urls    map[string]bool // URLs of these, and the targets of their redirects
	version map[string]bool // URLs of the API's version
	realms  map[string]bool // URLs without query of the services that give tokens
}

func (r *Record) provision(images []*base.Image) *provision {
	p := &provision{content: map[string]bool{}, urls: map[string]bool{}, version: map[string]bool{}, realms: map[string]bool{}}
	tags := map[pull]bool{}
	domains := map[string]bool{}
	for _, i := range images {
		domains[i.Domain] = true
		for h := range i.Content {
			p.content[h.Hex] = true
		}
		if i.Tag != "" {
			tags[pull{i.Domain, i.Name, "manifests", i.Tag}] = true
		}
	}
	for _, e := range r.exchanges {
		domain := readPull(&url.URL{Host: e.url.Host, RawQuery: e.url.RawQuery, Path: "/v2/x/blobs/x"}).domain
		_, sum, isDigest := strings.Cut(e.url.Path, "/sha256:")
		switch {
		case e.pull != nil && (tags[*e.pull] || isDigest && p.content[sum]):
			p.urls[e.url.String()] = true
		case domains[domain] && (e.url.Path == "/v2/" || e.url.Path == "/v2"):
			p.version[withoutQuery(e.url)] = true
		}
		if p.urls[e.url.String()] && e.Status >= 300 && e.Status < 400 {
			if to, err := e.url.Parse(e.Header["Location"]); err == nil {
				if to, err = parse(to.String()); err == nil {
					p.urls[to.String()] = true
				}
			}
		}
		if name := gateway.Realm(e.Header["Www-Authenticate"]); name != "" && e.Status == http.StatusUnauthorized && domains[domain] && strings.HasPrefix(e.url.Path, "/v2/") {
			if u, err := parse(name); err == nil {
				p.realms[withoutQuery(u)] = true
			}
		}
	}
	return p
}

func withoutQuery(u *url.URL) string {
	v := *u
	v.RawQuery, v.ForceQuery = "", false
	return v.String()
}

// has reports whether an exchange is part of pulling the images. For a whole document
// the digest decides: other content from an image's URL is not part of the image.
//
// A registry chooses what it answers. So an answer of the API's version counts only if it is "{}" or
// shorter, and an answer of a realm only if the gateway replaced it by a placeholder.
func (p *provision) has(e *exchange) bool {
	switch {
	case p.version[e.url.String()] && e.Size <= int64(len("{}\n")):
		return true
	case p.realms[withoutQuery(e.url)] && (e.Size == 0 || e.Method == http.MethodGet && e.Status == http.StatusOK):
		return true
	}
	if e.whole() {
		return p.content[e.SHA256]
	}
	return p.urls[e.url.String()]
}
