package gate_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
)

// scene is a registry with a signed image v1.2.0 and one without proofs, bad, and a gate before it.
type scene struct {
	t         testing.TB
	p         *prooftest.Platform
	host      string // of the upstream
	url       string // of the gate
	good, bad v1.Descriptor
	store     *verdicts.Store
	config    gate.Config
	log       *shop.Log
	guard     atomic.Pointer[func(http.ResponseWriter, *http.Request, http.Handler)] // answers in place of the upstream
	now       atomic.Int64                                                           // seconds after the start
	start     time.Time
}

const rules = shop.Rules

func newScene(t testing.TB, change func(*gate.Config)) *scene {
	c := &scene{t: t, p: prooftest.New(t), log: &shop.Log{}, start: time.Now()}
	c.host = shop.Serve(t, func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if g := c.guard.Load(); g != nil {
			(*g)(w, r, registry)
			return
		}
		registry.ServeHTTP(w, r)
	})
	release, bad := shop.Push(t, c.p, c.target())
	c.good, c.bad = release.Image, bad
	clock := func() time.Time { return c.start.Add(time.Duration(c.now.Load()) * time.Second) }
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: clock})
	c.config = gate.Config{Upstream: c.host, Verdicts: c.store, Transport: verdicts.Transport(true), Log: c.log.Logger(), Registerer: prometheus.NewRegistry(), Now: clock}
	if change != nil {
		change(&c.config)
	}
	srv := httptest.NewServer(gate.New(c.config))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	c.use(rules)
	return c
}

func (c *scene) later(d time.Duration) { c.now.Add(int64(d / time.Second)) }

func (c *scene) upstream(do func(http.ResponseWriter, *http.Request, http.Handler)) {
	c.guard.Store(&do)
}

func (c *scene) target() *oci.Registry {
	c.t.Helper()
	return shop.Open(c.t, c.host+"/team/app", oci.RegistryOptions{})
}

func (c *scene) push(s *prooftest.Store) { s.Push(context.Background(), c.target()) }

func (c *scene) use(text string) {
	c.t.Helper()
	shop.Use(c.t, c.store, fmt.Sprintf("%x", sha256.Sum256([]byte(text))), c.host, text, c.p.Root())
}

// reply is an answer of the gate.
type reply struct {
	*http.Response
	body []byte
	err  error // of the body
}

func (c *scene) do(method, path string, header ...string) reply {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp, body, err}
}

// want makes a request that must end in a status, with a text in the answer.
func (c *scene) want(status int, text, path string, header ...string) reply {
	c.t.Helper()
	r := c.do(http.MethodGet, path, header...)
	if r.StatusCode != status || !strings.Contains(string(r.body), text) {
		c.t.Errorf("%s: got %d %q, want %d with %q", path, r.StatusCode, r.body, status, text)
	}
	return r
}

func manifests(ref string) string { return "/v2/team/app/manifests/" + ref }

func blobs(d v1.Descriptor) string { return "/v2/team/app/blobs/" + d.Digest.String() }

type parts struct {
	Config    v1.Descriptor
	Layers    []v1.Descriptor
	Manifests []v1.Descriptor
}

func (c *scene) parts(raw []byte) (p parts) {
	c.t.Helper()
	if err := json.Unmarshal(raw, &p); err != nil {
		c.t.Fatalf("%v in %s", err, raw)
	}
	return p
}

// upstreamParts reads a manifest past the gate.
func (c *scene) upstreamParts(d v1.Hash) parts {
	c.t.Helper()
	raw, _, err := c.target().Manifest(c.t.Context(), d)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.parts(raw)
}

func openCache(t testing.TB, most int64) *gate.Cache {
	t.Helper()
	cache, err := gate.OpenCache(t.TempDir(), most, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	return cache
}

func opener(raw []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
}

func manifestOf(t testing.TB, config v1.Descriptor, layers ...v1.Descriptor) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// jsonTar returns bytes that are a JSON text and a tar archive of one file.
func jsonTar(t *testing.T) []byte {
	t.Helper()
	block := []byte(`"name` + strings.Repeat("x", 95) + strings.Repeat(" ", 512-100))
	copy(block[100:], "0000644 0000000 0000000 00000000002 00000000000 ")
	block[156] = '0'
	sum := int64(0)
	for _, b := range block { // of a header whose checksum is spaces
		sum += int64(b)
	}
	copy(block[148:], fmt.Sprintf("%06o ", sum))
	raw := append(block, []byte(`x"`+strings.Repeat(" ", 510))...)
	if h, err := tar.NewReader(bytes.NewReader(raw)).Next(); err != nil || !json.Valid(raw) {
		t.Fatalf("no archive or no JSON: %v %v", h, err)
	}
	return raw
}
