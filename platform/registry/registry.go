// Package registry implements an OCI registry on disk: the OCI distribution spec 1.1
// (github.com/opencontainers/distribution-spec, spec.md) with the referrers API. Tags never
// move, and content is durable before it is acknowledged. The files under Config.Dir are the
// whole state; there is no database. A file is compared with its digest before it is served or
// relied on, and again after a day; Scrub compares all files.
//
// # Tags
//
// Once a tag is pushed, it keeps its digest. A push of another digest to the tag gets 409, a
// push of the same digest 201. Only an admin can delete tags and manifests. There are two
// exceptions. In repositories that match Config.Mutable all tags may move. The tags in which
// clients without the referrers API keep lists of attachments may also move: sha256-HEX (an
// index) and sha256-HEX.sig, .att, .sbom (an image manifest). Such a client adds to a list by
// replacing it. These tags name a digest, never a version, and verifiers check every
// attachment. So whoever moves such a tag can hide an attachment but cannot forge one.
//
// # Who may do what
//
// A client sends its token as HTTP Basic (any user name, the token as password) or as
// Authorization: Bearer. A role applies to all repositories. Clients that log in do so at
// /v2/token (token.go): they get an access token, which is valid for minutes, for the
// repositories and actions that they named. They are told so by the version check, which
// answers 401 to everybody without credentials, even with AnonymousPull: Docker and skopeo take
// the challenge from there. Without credentials, an open registry gives access tokens to pull;
// all else that is read needs none.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/distribution"
)

// tokenPath is where clients get access tokens.
const tokenPath = "/v2/token"

// Role is what the bearer of a token may do. Each role includes the roles before it.
type Role int

const (
	Nobody Role = iota // the token is unknown
	Pull
	Push
	Admin // may also delete tags, manifests and blobs
)

// Config of a Registry.
type Config struct {
	// Dir is the directory of all content. New creates it if it is missing. One process
	// at a time uses it.
	Dir string

	// URL is where clients reach the registry: scheme and host, without a path. Required.
	URL string

	// Authorize returns the name of a token's account and its role. The limits below hold
	// for each account, so that none can use up what another needs. It must compare in
	// constant time and be safe for concurrent use. Required.
	Authorize func(token string) (account string, role Role)

	// AnonymousPull lets clients without a token read. A wrong token is still refused.
	AnonymousPull bool

	// Mutable lists patterns of the repositories whose tags may move (path.Match:
	// "scratch/*" matches one level below scratch).
	Mutable []string

	// Gate makes the registry judge images; nil: it serves and tags all of them.
	Gate *Gate

	// MaxBlob is the limit of one blob, in bytes; 0 means limits.LayerPacked.
	MaxBlob int64

	// MaxUploads is the limit of unfinished blob uploads of one account; 0 means 256. A
	// further upload takes the place of the one that got no request for the longest time,
	// if that is ten seconds or more; otherwise it gets 429.
	MaxUploads int

	// MaxUnfinished is the limit of the bytes of an account's unfinished uploads; 0 means
	// four times MaxBlob. What exceeds it gets 429.
	MaxUnfinished int64

	// UploadIdle is how long the registry keeps an upload that gets no request; 0 means
	// an hour. One without bytes is kept for a minute at most. A request that sends no
	// byte for a minute is cut off. Uploads end with the process.
	UploadIdle time.Duration

	// Archive keeps the evidence that a manifest attaches, durably; open opens a blob by
	// the digest in the manifest, and returns nil if ArchiveAll finds that it was deleted. A
	// manifest for which Archive fails is not stored. nil: there is no archive.
	Archive func(ctx context.Context, manifest []byte, open func(digest string) (io.ReadCloser, error)) error

	// Log gets a line for each change and each internal failure; nil: no log.
	Log *slog.Logger

	// Registerer registers the metrics; nil: no metrics.
	Registerer prometheus.Registerer
}

// Registry serves /v2/. Safe for concurrent use.
type Registry struct {
	cfg    Config
	store  *store
	access *accessTokens
	gate   *gate // nil without Config.Gate

	mu       sync.Mutex
	uploads  map[string]*upload
	accounts map[string]*account
	mayEvict time.Duration // evictIdle

	// listing bounds how many long lists are in memory.
	listing chan struct{}

	requests *prometheus.CounterVec
	open     prometheus.Gauge
	damaged  prometheus.Counter
}

// New opens the registry in cfg.Dir, and creates it if it does not exist. It removes
// unfinished uploads of an earlier process.
func New(cfg Config) (*Registry, error) {
	if cfg.Authorize == nil {
		return nil, errors.New("registry: Authorize is not set")
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || cfg.URL != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("registry: URL: got %q, want SCHEME://HOST", cfg.URL)
	}
	if err := CheckMutable(cfg.Mutable); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if cfg.MaxBlob == 0 {
		cfg.MaxBlob = limits.LayerPacked
	}
	if cfg.MaxUploads == 0 {
		cfg.MaxUploads = 256
	}
	if cfg.MaxUnfinished == 0 {
		cfg.MaxUnfinished = 4 * cfg.MaxBlob
	}
	if cfg.UploadIdle == 0 {
		cfg.UploadIdle = time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		cfg:      cfg,
		access:   newAccessTokens(u.Host),
		uploads:  map[string]*upload{},
		accounts: map[string]*account{},
		mayEvict: evictIdle,
		listing:  make(chan struct{}, 16),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "colophon_registry_requests_total",
			Help: "Requests answered, by kind, method and status.",
		}, []string{"kind", "method", "status"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "colophon_registry_uploads",
			Help: "Blob uploads in progress.",
		}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "colophon_registry_damaged_total",
			Help: "Times that a file was found whose content is not that of its digest.",
		}),
	}
	if cfg.Registerer != nil {
		for _, c := range []prometheus.Collector{r.requests, r.open, r.damaged} {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("registry: %w", err)
			}
		}
	}
	if r.store, err = openStore(cfg.Dir); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if cfg.Gate != nil {
		r.gate = newGate(cfg, u.Host, r.store)
	}
	return r, nil
}

// CheckMutable returns an error if one of the patterns of Config.Mutable is malformed.
func CheckMutable(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("mutable pattern %q: %w", p, err)
		}
	}
	return nil
}

// Close drops unfinished uploads and releases Dir for another process. Call it after all
// requests have ended.
func (r *Registry) Close() error {
	r.mu.Lock()
	ids := make([]string, 0, len(r.uploads))
	for id := range r.uploads {
		ids = append(ids, id)
	}
	r.mu.Unlock()
	for _, id := range ids {
		r.drop(id)
	}
	return r.store.close()
}

// mutable reports whether tag of repository name may move to a manifest of this media type.
func (r *Registry) mutable(name, tag, mediaType string) bool {
	for _, p := range r.cfg.Mutable {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	switch _, kind, ok := oci.ParseAttachmentTag(tag); {
	case !ok:
		return false
	case kind == "":
		return mediaType == typeIndex
	default:
		return mediaType == typeManifest || mediaType == typeDockerManifest
	}
}

// A request is an HTTP request with its path parsed.
type request struct {
	*http.Request
	kind string // ping, token, catalog, tags, manifests, blobs, uploads, referrers or other
	name string // the repository; matches the grammar
	ref  string // the rest of the path: tag, digest or upload id; not checked yet

	account *account // whose token the request has; nil: it has none and only reads
	grant   grant    // what its credentials allow
}

// An account is who shares one token, and what they use together.
type account struct {
	name    string
	uploads int           // unfinished; guarded by Registry.mu
	bytes   atomic.Int64  // in these uploads
	pushing chan struct{} // one element for each manifest that is being pushed and in memory
}

func (r *Registry) account(name string) *account {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.accounts[name]
	if a == nil {
		a = &account{name: name, pushing: make(chan struct{}, 16)}
		r.accounts[name] = a
	}
	return a
}

// ServeHTTP implements http.Handler for paths under /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	rec := &logs.Answer{ResponseWriter: w}
	h := rec.Header()
	h.Set("Docker-Distribution-API-Version", "registry/2.0")
	// The registry serves bytes from strangers on the same origin as the platform's pages.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox")

	req, err := route(hr)
	if err == nil {
		err = r.authorize(rec, req)
	}
	if err == nil {
		err = r.serve(rec, req)
	}
	if err != nil {
		r.fail(rec, req, err)
	}
	r.requests.WithLabelValues(req.kind, methodLabel(hr.Method), strconv.Itoa(rec.Status())).Inc()
}

// route reads the path of a request.
func route(hr *http.Request) (*request, error) {
	p, err := distribution.Parse(hr.URL)
	return &request{Request: hr, kind: p.Kind, name: p.Name, ref: p.Reference}, err
}

func (r *Registry) serve(w http.ResponseWriter, req *request) error {
	switch m := req.Method; {
	case req.kind == "ping" && reads(m):
		w.Header().Set("Content-Type", "application/json")
		_, err := io.WriteString(w, "{}")
		return err
	case req.kind == "token" && (reads(m) || m == http.MethodPost):
		return r.serveToken(w, req)
	case req.kind == "catalog" && reads(m):
		return r.listRepositories(w, req)
	case req.kind == "tags" && reads(m):
		return r.listTags(w, req)
	case req.kind == "referrers" && reads(m):
		return r.listReferrers(w, req)
	case req.kind == "manifests" && reads(m):
		return r.getManifest(w, req)
	case req.kind == "manifests" && m == http.MethodPut:
		return r.putManifest(w, req)
	case req.kind == "manifests" && m == http.MethodDelete:
		return r.deleteManifest(w, req)
	case req.kind == "blobs" && reads(m):
		return r.getBlob(w, req)
	case req.kind == "blobs" && m == http.MethodDelete:
		return r.deleteBlob(w, req)
	case req.kind == "uploads" && m == http.MethodPost && req.ref == "":
		return r.startUpload(w, req)
	case req.kind == "uploads" && req.ref != "":
		return r.continueUpload(w, req)
	}
	return errMethod(req)
}

func reads(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// authorize checks that the request's credentials allow what it asks for.
func (r *Registry) authorize(w http.ResponseWriter, req *request) error {
	need, action := Push, actionPush
	switch {
	case req.kind == "token":
		return nil // serveToken reads the credentials
	case req.kind == "uploads":
	case reads(req.Method):
		need, action = Pull, actionPull
	case req.Method == http.MethodDelete:
		need, action = Admin, actionDelete
	}
	sent := req.Header.Get("Authorization") != ""
	if !sent && need == Pull && r.cfg.AnonymousPull && req.kind != "ping" {
		return nil
	}
	if token := bearer(req.Request); token != "" {
		req.grant.account, req.grant.role = r.cfg.Authorize(token)
		if req.grant.role == Nobody {
			req.grant, _ = r.access.open(token, time.Now())
		}
		if name := req.grant.account; name != "" {
			req.account = r.account(name)
			of, _ := logs.Of(req.Context())
			req.Request = req.WithContext(logs.With(req.Context(), logs.Request{ID: of.ID, Actor: name}))
		}
	}
	switch g := &req.grant; {
	case g.role == Nobody:
		reason := ""
		if sent {
			reason = "invalid_token"
		}
		r.challenge(w, req, action, reason)
		return &distribution.Failure{Status: http.StatusUnauthorized, Code: distribution.CodeUnauthorized, Message: "authentication required: send a token as password or bearer"}
	case g.role < need && g.account != "":
		return &distribution.Failure{Status: http.StatusForbidden, Code: distribution.CodeDenied, Message: "this token does not allow " + req.Method + " of " + req.kind}
	case g.role < need || req.name != "" && !g.allows(req.name, action):
		r.challenge(w, req, action, "insufficient_scope")
		return &distribution.Failure{Status: http.StatusUnauthorized, Code: distribution.CodeUnauthorized, Message: "the access token does not allow to " + action + " in " + req.name}
	}
	return nil
}

func bearer(req *http.Request) string {
	if _, token, ok := req.BasicAuth(); ok {
		return token
	}
	scheme, token, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}

// acquire waits for one of a limited number of slots.
func acquire(ctx context.Context, places chan struct{}) (release func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// methodLabel keeps the number of metric series finite.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return m
	}
	return "other"
}
