package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/gate"
	"github.com/colophon-build/colophon/test/shop"
)

// pushBlob stores a signed image that has a layer of this content, and returns the layer. The policy
// must accept the image.
func (c *scene) pushBlob(content []byte, tag string) v1.Descriptor {
	c.t.Helper()
	d := v1.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Size: int64(len(content))}
	var err error
	if d.Digest, _, err = v1.SHA256(bytes.NewReader(content)); err != nil {
		c.t.Fatal(err)
	}
	config := []byte(`{"tag":"` + tag + `"}`)
	of := v1.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Size: int64(len(config))}
	if of.Digest, _, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		c.t.Fatal(err)
	}
	for _, b := range []struct {
		d   v1.Descriptor
		raw []byte
	}{{d, content}, {of, config}} {
		if err := c.target().PushBlob(c.t.Context(), b.d, opener(b.raw)); err != nil {
			c.t.Fatal(err)
		}
	}
	raw := manifestOf(c.t, of, d)
	m, err := c.target().PushManifest(context.Background(), raw, "application/vnd.oci.image.manifest.v1+json")
	if err == nil {
		err = c.target().Tag(c.t.Context(), tag, m)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

const open = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: open}
spec: {unmatched: allow, rules: []}
`

// TestCache: blobs are served again without the upstream, up to a size; one that was changed on the
// disk is not served; and the cache survives a restart.
func TestCache(t *testing.T) {
	dir := t.TempDir()
	cache, err := gate.OpenCache(dir, 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := newScene(t, func(g *gate.Config) { g.Cache = cache })
	c.use(open)
	var layers []v1.Descriptor
	for n := range 8 {
		tag := string(rune('a' + n))
		layers = append(layers, c.pushBlob(bytes.Repeat([]byte(tag), 200<<10), tag))
		c.want(200, "", manifests(tag))
		c.want(200, "", blobs(layers[n]))
	}
	big := c.pushBlob(bytes.Repeat([]byte("z"), 300<<10), "big") // more than a quarter
	c.want(200, "", manifests("big"))
	c.want(200, "", blobs(big))
	stored := func() (n int, size int64) {
		files, err := filepath.Glob(filepath.Join(dir, "[0-9a-f]*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			n, size = n+1, size+info.Size()
		}
		return n, size
	}
	if n, size := stored(); n != 5 || size > 1<<20 {
		t.Errorf("got %d files of %d bytes, want 5 in 1 MiB", n, size)
	}
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		inner.ServeHTTP(w, r)
	})
	last := layers[7]
	c.want(200, "", blobs(last))
	c.want(503, "", blobs(layers[0])) // it had to go
	// Another file of the same size.
	path := filepath.Join(dir, last.Digest.Hex)
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), int(last.Size)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := c.do(http.MethodGet, blobs(last)); r.StatusCode == 200 && r.err == nil {
		t.Error("a changed file was served whole")
	}
	c.want(503, "", blobs(last)) // removed
	if _, err := gate.OpenCache(dir, 1<<20, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("two processes use one cache")
	}
	if err := cache.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new-7"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := gate.OpenCache(dir, 500<<10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n, _ := stored(); n != 2 {
		t.Errorf("after a restart with less room: got %d files, want 2", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "new-7")); err == nil {
		t.Error("what a killed process wrote is still there")
	}
}

// TestCacheOfAnotherClient: what one client's credentials brought to the cache is no answer to another's, who
// names the blob in a manifest of his own.
func TestCacheOfAnotherClient(t *testing.T) {
	cache, err := gate.OpenCache(t.TempDir(), 8<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	c := newScene(t, func(g *gate.Config) { g.AskClients, g.Cache = true, cache })
	c.use(open)
	secret := c.pushBlob([]byte("the secret of team/app"), "private")

	// A layer of this type need not be in the repository of the manifest.
	bob := shop.Open(t, c.host+"/bob/app", oci.RegistryOptions{})
	config := []byte(`{"of":"bob"}`)
	of := v1.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Size: int64(len(config))}
	of.Digest, _, _ = v1.SHA256(bytes.NewReader(config))
	if err := bob.PushBlob(t.Context(), of, opener(config)); err != nil {
		t.Fatal(err)
	}
	layer := map[string]any{"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": secret.Digest, "size": secret.Size}
	raw, _ := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": of, "layers": []any{layer}})
	m, err := bob.PushManifest(t.Context(), raw, "application/vnd.oci.image.manifest.v1+json")
	if err == nil {
		err = bob.Tag(t.Context(), "v1", m)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.upstream(func(w http.ResponseWriter, r *http.Request, inner http.Handler) {
		user, _, _ := r.BasicAuth()
		owner := map[string]string{"alice": "/v2/team/app/", "bob": "/v2/bob/app/"}[user]
		switch {
		case owner == "" || r.URL.Path != "/v2/" && !strings.HasPrefix(r.URL.Path, owner):
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		case user == "bob" && strings.HasSuffix(r.URL.Path, secret.Digest.String()): // it is not in his repository
			w.WriteHeader(http.StatusNotFound)
		default:
			inner.ServeHTTP(w, r)
		}
	})
	as := func(user string) []string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, "x")
		return []string{"Authorization", r.Header.Get("Authorization")}
	}
	c.want(200, "", "/v2/bob/app/manifests/v1", as("bob")...)
	c.want(404, "", "/v2/bob/app/blobs/"+secret.Digest.String(), as("bob")...) // before
	c.want(200, "", manifests("private"), as("alice")...)
	for range 2 { // from the upstream, and from the cache
		c.want(200, "secret", blobs(secret), as("alice")...)
	}
	c.want(404, "", "/v2/bob/app/blobs/"+secret.Digest.String(), as("bob")...) // after: the same
}
