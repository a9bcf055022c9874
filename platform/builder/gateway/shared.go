package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/colophon-build/colophon/internal/credential"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// The store is shared by the builds of all tenants. The gateway takes a download from it
// only if
//
//   - the digest of the download is known before the request, or a few of which it must
//     have one: it is in the path of the request, or a file of the commit pins it
//     (builder.Session.Demands), and
//   - the stored bytes have such a digest. Their sha256 is computed each time, and other
//     digests from the same reading; which h1 the zip of a module has, the gateway is
//     told (package sums), and
//   - the same URL gave these bytes to an earlier build, so that the record does not say
//     of a server what it never served, and
//   - nothing in the request, or in the earlier one, may be a credential.
//
// A memory of URLs alone, and an ETag that the server confirms, are not enough: the bytes
// would then be those that an earlier gateway, perhaps one that was taken over, had noted.

// pinned is a download whose digest is known before the request.
type pinned struct {
	url     string // of the first request, from which redirects lead to the download
	digests digests
}

// download is what the store remembers of a URL, in a file beside the bodies.
type download struct {
	URL        string            `json:"url"`
	SHA256     string            `json:"sha256"`
	Size       int64             `json:"size"`
	Header     map[string]string `json:"header,omitempty"`
	Redirected bool              `json:"redirected,omitempty"` // the URL led to another one, which gave the bytes
}

const (
	maxDownload = 64 << 10 // bytes of the file of a download
	maxLed      = 4096     // redirects that one session remembers
)

// harmless are the request headers that carry no credential. Others, such as
// Private-Token, may carry one.
var harmless = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "If-Modified-Since", "If-None-Match", "Npm-Auth-Type", "Npm-Command", "Npm-Scope",
	"Pacote-Integrity", "Pacote-Pkg-Id", "Pacote-Req-Type", "Pacote-Version", "Pragma", "Referer", "Traceparent", "User-Agent",
}

// open reports whether anybody may have the answer to a request: it carries no credential,
// or only what a registry or a redirect gave to a request without one.
func (g *Gateway) open(e *exchange, r *http.Request) bool {
	for name, values := range r.Header {
		switch {
		case name == "Authorization" && len(values) == 1 && g.tokens.open(values[0]):
		case !slices.Contains(harmless, name):
			return false
		}
	}
	address := e.url.String()
	return credential.URL(address) == address || g.led.get(address) != nil
}

// pinned returns the pinned download that a request is for; nil if it is for none, or not
// for the whole of one.
func (g *Gateway) pinned(e *exchange) *pinned {
	if !e.open || e.Method != http.MethodGet || e.Range != "" || e.Request != "" {
		return nil
	}
	if p := g.led.get(e.url.String()); p != nil && p.digests != nil {
		return p
	}
	if found := g.demands.of(e.url); found != nil {
		return &pinned{e.URL, found}
	}
	return nil
}

// stored answers a request for a pinned download from the store; nil if the store lacks it.
// A session that records does not skip redirects: its lock lists them.
func (g *Gateway) stored(e *exchange) *http.Response {
	p := e.pinned
	if p == nil || g.store == nil || p.url != e.URL {
		return nil
	}
	d, err := g.store.recall(p.url)
	if err != nil || d.Redirected && g.set.Session.Record {
		return nil
	}
	c := g.compare(p.digests, e.url.Path, d)
	if !c.met {
		return nil
	}
	body, err := g.store.open(d.SHA256, d.Size, c.also)
	if err != nil {
		return nil
	}
	if c.also != nil && base64.StdEncoding.EncodeToString(c.also.Sum(nil)) != c.want {
		body.Close()
		return nil
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, ContentLength: d.Size}
	for k, v := range d.Header {
		resp.Header.Set(k, v)
	}
	e.Stored = true
	return resp
}

// remember notes in the store which URL gave the body of an exchange. Errors have no
// consequence: a later build downloads the body again.
func (g *Gateway) remember(e *exchange) {
	g.store.remember(&download{e.pinned.url, e.SHA256, e.Size, e.Header, e.pinned.url != e.URL})
}

// redirects are the targets of redirects that answered open requests of this session, with
// the pinned downloads that they stand for; without digests if they stand for none.
type redirects struct {
	mu sync.Mutex
	to map[string]*pinned
}

func (l *redirects) get(target string) *pinned {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to[target]
}

func (l *redirects) put(target string, p *pinned) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.to) < maxLed && len(target) <= limits.FetchURL {
		l.to[target] = p
	}
}

// follow notes where an answer leads.
func (g *Gateway) follow(e *exchange, resp *http.Response) {
	to := resp.Header.Get("Location")
	if !e.open || e.Method != http.MethodGet || to == "" || resp.StatusCode < 300 || resp.StatusCode > 399 {
		return
	}
	target, err := e.url.Parse(to)
	if err != nil {
		return
	}
	p := e.pinned
	if p == nil {
		p = &pinned{url: e.URL}
	}
	g.led.put(target.String(), p)
}

func (s *store) note(url string) string {
	sum := sha256.Sum256([]byte(url))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.dir, name[:2], name+noteSuffix)
}

func (s *store) recall(url string) (*download, error) {
	name := s.note(url)
	raw, err := strict.ReadFile(name, maxDownload)
	if err != nil {
		return nil, err
	}
	var d download
	if err := strict.UnmarshalKnown(raw, maxDownload, &d); err != nil || d.URL != url || !storedName.MatchString(d.SHA256) || d.Size < 0 {
		return nil, errors.Join(fs.ErrNotExist, os.Remove(name))
	}
	return &d, touch(name)
}

func (s *store) remember(d *download) error {
	raw, err := json.Marshal(d)
	if err != nil || len(raw) > maxDownload {
		return err
	}
	f, err := os.CreateTemp(s.dir, "tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, which is fine
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	name := s.note(d.URL)
	_, err = os.Stat(name)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.Rename(f.Name(), name)); err != nil || !fresh {
		return err
	}
	return s.account(noteCost)
}
