// Package gate is a registry that serves what another registry has (OCI distribution spec 1.1,
// pulling), and of the images there only those that the policies accept (package verdicts). So
// any runtime behind it gets only images that prove themselves.
//
// A tag is resolved once: the manifest that is served is the bytes whose digest was judged. An
// accepted image opens its parts for whoever asked. Nothing else is served of images (package
// serving).
package gate

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/platform/verdicts/serving"
	"github.com/colophon-build/colophon/policy"
)

// Config says how a Gate decides.
type Config struct {
	Upstream   string                // HOST[:PORT] of the registry that has the images; required
	Names      policy.Names          // names that rules see, by the prefix of the repository's name at the upstream; "" is all of them
	Verdicts   *verdicts.Store       // required
	Transport  http.RoundTripper     // sends the requests for content; required: see verdicts.Transport
	Logins     []authn.AuthConfig    // the gate's own credentials for the upstream; none: anonymous
	Helpers    *verdicts.Helpers     // have the gate's credentials in place of Logins; nil: there are none
	AskClients bool                  // clients send their credentials for the upstream; Logins are not used
	Audit      bool                  // decisions are recorded, and nothing is refused
	Cache      *Cache                // of blobs; nil: none
	Log        *slog.Logger          // gets a line for each decision; required
	Registerer prometheus.Registerer // required
	Now        func() time.Time      // nil: time.Now

	Recorder verdicts.Recorder // brings decisions to an audit ledger; nil: nobody does
}

// Gate serves /v2/. It is safe for concurrent use.
type Gate struct {
	Config
	metrics   *metrics
	judge     *serving.Judge
	sources   sources
	manifests chan struct{} // slots for manifests in memory
	blobs     chan struct{} // slots for blobs that are streamed
}

// Limits on what is served at once. More manifests wait, more blobs are refused (429).
const (
	maxManifests = 64
	maxBlobs     = 512
)

// New returns a Gate.
func New(c Config) *Gate {
	if c.Now == nil {
		c.Now = time.Now
	}
	judge := serving.New(serving.Config{Verdicts: c.Verdicts, Names: namesAt(c.Upstream, c.Names), Audit: c.Audit, Blobs: true, Log: c.Log, Registerer: c.Registerer, Now: c.Now, Recorder: c.Recorder})
	return &Gate{Config: c, metrics: newMetrics(c.Registerer), judge: judge, manifests: make(chan struct{}, maxManifests), blobs: make(chan struct{}, maxBlobs)}
}

// request is a request whose path and credentials were read.
type request struct {
	*http.Request
	kind       string // ping, manifests, blobs, referrers or tags
	name       string // of the repository
	ref        string // tag or digest
	logins     []authn.AuthConfig
	reader     verdicts.ReaderID
	repository string // HOST/NAME at the upstream
	decided    bool   // the image was refused by a decision, which is recorded
}

// route reads the path of a request, which must be one to pull.
func route(r *http.Request) (*request, error) {
	p, err := distribution.Parse(r.URL)
	req := &request{Request: r, kind: p.Kind, name: p.Name, ref: p.Reference}
	digest, known := distribution.ValidDigest(p.Reference), false
	switch p.Kind {
	case "manifests":
		known = digest || distribution.ValidTag(p.Reference)
	case "blobs", "referrers":
		known = digest
	case "ping", "tags":
		known = true
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return req, distribution.Failed(http.StatusMethodNotAllowed, distribution.CodeUnsupported, "this gate only serves images; push to the registry behind it")
	case err != nil || known:
		return req, err
	case p.Kind == "manifests" || p.Kind == "blobs" || p.Kind == "referrers":
		return req, distribution.Failed(http.StatusBadRequest, distribution.CodeDigestInvalid, "expected a tag or a digest in the path")
	}
	return req, distribution.Failed(http.StatusNotFound, distribution.CodeUnsupported, "no such endpoint")
}

// ServeHTTP implements http.Handler for paths under /v2/.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := g.Now()
	h := w.Header()
	h.Set("Docker-Distribution-API-Version", "registry/2.0")
	h.Set("X-Content-Type-Options", "nosniff") // strangers' bytes
	h.Set("Content-Security-Policy", "sandbox")
	req, err := route(r)
	if err == nil {
		err = g.login(w, req)
	}
	if err == nil {
		if err = g.serve(w, req); err != nil {
			err = g.unjudged(w, req, err)
		}
	}
	g.metrics.served(req.kind, err, g.Now().Sub(start))
	if err != nil {
		g.fail(w, req, err)
	}
}

// login finds out with whose credentials the upstream is read.
func (g *Gate) login(w http.ResponseWriter, req *request) error {
	req.repository, req.logins = g.Upstream+"/"+req.name, g.Logins
	if g.AskClients {
		user, password, ok := req.BasicAuth()
		if !ok || len(user)+len(password) > 16<<10 {
			challenge(w)
			return distribution.Failed(http.StatusUnauthorized, distribution.CodeUnauthorized, "send the user name and the password that you have for %s", g.Upstream)
		}
		req.logins = []authn.AuthConfig{{Username: user, Password: password}}
	}
	req.reader = g.Verdicts.Reader(req.logins)
	return nil
}

func challenge(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="gate", charset="UTF-8"`)
}

func (g *Gate) serve(w http.ResponseWriter, req *request) error {
	switch req.kind {
	case "manifests":
		ctx, cancel := context.WithTimeout(req.Context(), serving.Patience)
		defer cancel()
		select {
		case g.manifests <- struct{}{}:
			defer func() { <-g.manifests }()
		case <-ctx.Done():
			return distribution.Unavailable("too many requests wait")
		}
		return g.manifest(ctx, w, req)
	case "blobs":
		return g.blob(w, req)
	case "referrers":
		return g.referrers(w, req)
	case "tags":
		return g.tags(w, req)
	}
	return answer(w, req, "application/json", []byte("{}"))
}

// namesAt returns names with prefixes that begin with the upstream.
func namesAt(upstream string, names policy.Names) policy.Names {
	out := policy.Names{}
	for prefix, is := range names {
		out[upstream+"/"+prefix] = is
	}
	return out
}

// source returns the repository as the client may read it.
func (g *Gate) source(req *request) (*oci.Registry, error) {
	login := verdicts.Login{}
	switch {
	case len(req.logins) > 0:
		login = verdicts.Login(req.logins[0])
	case g.Helpers.Covers(g.Upstream): // clients that send their own have logins
		got, err := g.Helpers.Login(req.Context(), g.Upstream, "")
		if err != nil {
			return nil, distribution.Unavailable(err.Error())
		}
		login = verdicts.Login(got)
	}
	return g.sources.open(sourceOf{req.repository, req.reader}, g.Now(), func() (*oci.Registry, error) {
		return oci.OpenRegistry(req.repository, oci.RegistryOptions{Keychain: login, Transport: g.Transport})
	})
}
