package bench

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// BenchmarkGate compares pulls of a known image by tag from our registry without a gate, from one
// that judges by itself, and through a gate before the first one. They take turns.
func BenchmarkGate(b *testing.B) {
	if os.Getenv("COLOPHON_BENCH") == "" {
		b.Skip("SKIPPED: make bench sets COLOPHON_BENCH")
	}
	p, s := prooftest.New(b), prooftest.NewStore(b)
	p.Release(s).Attach(prooftest.Kinds...)
	bare, _ := serveImages(b, s, nil)
	own, known := serveImages(b, s, &registry.Gate{})
	proxied := verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	srv := httptest.NewServer(gate.New(gate.Config{Upstream: strings.TrimPrefix(bare, "http://"), Verdicts: proxied, Transport: verdicts.Transport(true), Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry()}))
	b.Cleanup(srv.Close)
	sets, err := policy.ParseSets([]byte(`apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules: [{name: app, images: [{glob: "127.0.0.1:*/team/**"}], accept: [{built: {source: https://git.example.com/team/app}}]}]
`))
	for _, store := range []*verdicts.Store{known, proxied} {
		if err == nil {
			err = store.Use("1", sets, []*trust.Root{p.Root()})
		}
	}
	if err != nil {
		b.Fatal(err)
	}
	took := map[string][]time.Duration{}
	for i := range 3000 {
		for _, url := range []string{bare, own, srv.URL} {
			d := times(1, func() { pullTag(b, url) })
			if i >= 100 { // first the image becomes known, and connections are made
				took[url] = append(took[url], d)
			}
		}
	}
	base := median(took[bare])
	row("manifest by tag from our registry", base, "p50")
	row("  more with registry.gate, known image", median(took[own])-base, "p50, aim 1 ms")
	row("  more through colophond gate, known image", median(took[srv.URL])-base, "p50")
	ratio("registry.gate / without", median(took[own]), base, "")
}

// serveImages starts a registry with what the store has.
func serveImages(b *testing.B, s *prooftest.Store, g *registry.Gate) (url string, known *verdicts.Store) {
	b.Helper()
	srv := httptest.NewUnstartedServer(nil)
	url = "http://" + srv.Listener.Addr().String()
	r, err := registry.New(registry.Config{URL: url, Dir: b.TempDir(), AnonymousPull: true, Gate: g, Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
		Authorize: func(string) (string, registry.Role) { return "bench", registry.Push }})
	if err != nil {
		b.Fatal(err)
	}
	srv.Config.Handler = r
	srv.Start()
	b.Cleanup(func() { srv.Close(); r.Close() })
	if known = r.Verdicts(); known != nil {
		all, err := policy.ParseSets([]byte("apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: all}\nspec:\n  unmatched: allow\n  rules: [{name: none, images: [{glob: \"other.example.com/**\"}], accept: [{built: {source: any}}]}]\n"))
		if err == nil {
			err = known.Use("0", all, nil)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	dst, err := oci.OpenRegistry(strings.TrimPrefix(url, "http://")+"/team/app", oci.RegistryOptions{Token: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	s.Push(b.Context(), dst)
	return url, known
}

func pullTag(b *testing.B, url string) {
	resp, err := http.Get(url + "/v2/team/app/manifests/v1.2.0")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		b.Fatal(err, resp.Status)
	}
}
