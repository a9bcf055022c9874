package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/loopback"
)

// RegistryOptions say how to reach a registry. The zero value is right for reading.
type RegistryOptions struct {
	// Token is a push or pull token of a Colophon registry. It is sent as the
	// password of user "colophon" with every request.
	Token string
	// Keychain has the credentials, for when the registry asks and there is no Token. If it is
	// nil, that is docker's or podman's configuration.
	Keychain authn.Keychain
	// TLS uses HTTPS on loopback, too. Other hosts always get HTTPS.
	TLS bool
	// Transport sends the requests; nil is a transport that the process shares. It
	// gets no plain HTTP request to a host other than loopback.
	Transport http.RoundTripper
}

// Registry is one repository of an OCI distribution 1.1 registry. It implements
// Source and Target, and keeps up to 16 MiB of manifests by digest.
type Registry struct {
	name string
	base url.URL // scheme, host, /v2/NAME
	http *http.Client

	spoken *spoken // credentials that requests had

	inParts atomic.Bool // the registry takes no blob in one request

	mu     sync.Mutex
	cache  map[v1.Hash]cached // by digest, so never stale
	cached int                // bytes in cache
	noAPI  string             // how the registry answered in place of the referrers API

	attaching sync.Mutex // held to write a fallback tag
}

type cached struct {
	raw       []byte
	mediaType string
}

const maxCached = 16 << 20

var manifestTypes = http.Header{"Accept": {strings.Join([]string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ", ")}}

// OpenRegistry opens the repository HOST/NAME, without sending anything.
func OpenRegistry(repo string, opts RegistryOptions) (*Registry, error) {
	n, err := parseRepository(repo)
	if err != nil {
		return nil, err
	}
	inner := opts.Transport
	if inner == nil {
		inner = defaultTransport()
	}
	r := &Registry{name: repo, cache: map[v1.Hash]cached{}, spoken: &spoken{}}
	r.base = url.URL{Scheme: "https", Host: n.RegistryStr(), Path: "/v2/" + n.RepositoryStr()}
	if loopback.Is(r.base.Hostname()) && !opts.TLS {
		r.base.Scheme = "http"
	}
	r.http = &http.Client{
		Transport:     &authTransport{inner: plainGuard{inner, r.base.Scheme == "https", r.spoken}, repo: n, token: opts.Token, keychain: opts.Keychain, spoken: r.spoken, asking: make(chan struct{}, 1)},
		CheckRedirect: r.spoken.checkRedirect,
	}
	return r, nil
}

// Name returns the repository that was given to OpenRegistry.
func (r *Registry) Name() string { return r.name }

func (r *Registry) url(parts ...string) *url.URL {
	u := r.base
	u.Path += "/" + strings.Join(parts, "/")
	return &u
}

// Resolve implements Source. It fetches the manifest, so that size and media type
// are those of the bytes and not of a header.
func (r *Registry) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if h, err := v1.NewHash(reference); err == nil {
		raw, mediaType, err := r.Manifest(ctx, h)
		return v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: h, Size: int64(len(raw))}, err
	}
	if !tagGrammar.MatchString(reference) {
		return v1.Descriptor{}, fmt.Errorf("reference: got %q, want a tag or digest", reference)
	}
	raw, mediaType, err := r.fetchManifest(ctx, reference)
	if err != nil {
		return v1.Descriptor{}, err
	}
	d := v1.Descriptor{MediaType: types.MediaType(mediaType), Digest: digestOf(raw), Size: int64(len(raw))}
	r.remember(d.Digest, raw, mediaType)
	return d, nil
}

// Manifest implements Source.
func (r *Registry) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	r.mu.Lock()
	c, ok := r.cache[digest]
	r.mu.Unlock()
	if ok {
		return c.raw, c.mediaType, nil
	}
	raw, mediaType, err := r.fetchManifest(ctx, digest.String())
	if err != nil {
		return nil, "", err
	}
	if err := checkDigest(raw, digest); err != nil {
		return nil, "", fmt.Errorf("%s: manifest %w", r.name, err)
	}
	r.remember(digest, raw, mediaType)
	return raw, mediaType, nil
}

func (r *Registry) fetchManifest(ctx context.Context, reference string) ([]byte, string, error) {
	a, err := r.small(ctx, http.MethodGet, r.url("manifests", reference), manifestTypes, nil, limits.Manifest, http.StatusOK)
	if err != nil {
		return nil, "", err
	}
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	if _, err := parseContent(a.body, types.MediaType(mediaType)); err != nil {
		return nil, "", fmt.Errorf("%s, manifest %s: %w", r.name, reference, a.spoken.quote(err))
	}
	if claim := a.header.Get("Docker-Content-Digest"); strings.HasPrefix(claim, "sha256:") && claim != digestOf(a.body).String() {
		return nil, "", fmt.Errorf("%s, manifest %s: the registry says %s, the bytes are %s: %w", r.name, reference, a.spoken.said(claim), digestOf(a.body), ErrMismatch)
	}
	return a.body, mediaType, nil
}

func (r *Registry) remember(digest v1.Hash, raw []byte, mediaType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.cache[digest]; ok || r.cached+len(raw) > maxCached {
		return
	}
	r.cached += len(raw)
	r.cache[digest] = cached{raw, mediaType}
}

// Blob implements Source. It retries until the first byte arrives. If the connection
// breaks later, Read fails.
func (r *Registry) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	var body io.ReadCloser
	err := again.Do(ctx, func() (err error) {
		body, err = r.openBlob(ctx, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return verifying(body, d)
}

func (r *Registry) openBlob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("blobs", d.Digest.String()).String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		cancel(nil)
		return nil, r.unreached(err)
	}
	body := guardReceiving(resp.Body, cancel)
	if resp.StatusCode != http.StatusOK {
		defer body.Close()
		return nil, r.statusError(resp)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
		body.Close()
		return nil, fmt.Errorf("%s, blob %s: got %d bytes, want %d: %w", r.name, d.Digest, resp.ContentLength, d.Size, ErrMismatch)
	}
	return body, nil
}

// Forward asks for a manifest, a blob or a list of referrers (kind "manifests", "blobs", "referrers") with
// GET or HEAD, and returns the answer as it is, whatever its status: nothing in it is verified. It is for
// proxies that change nothing. The caller closes the body; a transfer that does not move for a minute fails.
func (r *Registry) Forward(ctx context.Context, method, kind, reference string, accept []string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, method, r.url(kind, reference).String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header["Accept"] = accept
	resp, err := r.http.Do(req)
	if err != nil {
		cancel(nil)
		return nil, r.unreached(err)
	}
	resp.Body = guardReceiving(resp.Body, cancel)
	return resp, nil
}
