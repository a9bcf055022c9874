// Package shop is what tests share about whatever decides about the images of a registry: the
// registry, one image that proves itself and one that does not, and the policy that tells them apart.
package shop

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// Rules accept the images of HOST/team that prove that they were built from prooftest.Source, and no
// others.
const Rules = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "HOST/team/**"}]
      accept:
        - built: {source: https://git.example.com/team/app}
`

// Unsigned is in the reason why the image without proofs is rejected.
const Unsigned = "the image carries no signature"

// Serve starts a registry on loopback behind a handler, for the time of the test, and returns its
// host. The handler decides whether the registry is asked.
func Serve(t testing.TB, front func(w http.ResponseWriter, r *http.Request, registry http.Handler)) (host string) {
	t.Helper()
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front(w, r, inner) }))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// Open opens a repository of a registry.
func Open(t testing.TB, repository string, opts oci.RegistryOptions) *oci.Registry {
	t.Helper()
	r, err := oci.OpenRegistry(repository, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Push stores two images: one with the tag v1.2.0 and all its proofs by p, and one with the tag bad
// and none.
func Push(t testing.TB, p *prooftest.Platform, dst oci.Target) (good *prooftest.Release, bad v1.Descriptor) {
	t.Helper()
	signed, plain := prooftest.NewStore(t), prooftest.NewStore(t)
	good = p.Release(signed)
	good.Attach(prooftest.Kinds...)
	signed.Push(context.Background(), dst)
	plain.Tar = []byte("another image")
	bad, _ = plain.Image("bad")
	plain.Push(context.Background(), dst)
	return good, bad
}

// Use makes policies, in which HOST is the registry, and trust roots count. id names them in answers.
func Use(t testing.TB, store *verdicts.Store, id, host, text string, roots ...*trust.Root) {
	t.Helper()
	sets, err := policy.ParseSets([]byte(strings.ReplaceAll(text, "HOST", host)))
	if err == nil {
		err = store.Use(id, sets, roots)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Log keeps the lines of a log. It is safe for concurrent use.
type Log struct {
	mu  sync.Mutex
	all strings.Builder
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

// Text returns all lines, in JSON.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// Logger returns a logger that writes to l.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }
