package registry

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/internal/intact"
	"github.com/colophon-build/colophon/platform/distribution"
)

// damages are what a bad disk does to a file in place.
var damages = map[string]func(data []byte) []byte{
	"a flipped bit":    func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	"a truncated file": func(b []byte) []byte { return b[:len(b)-1] },
	"an empty file":    func(b []byte) []byte { return nil },
	"a byte too many":  func(b []byte) []byte { return append(b, 'x') },
}

// damage changes a file in place, so that all its links change.
func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A damaged blob is never served and never counts as there, and pushing the right bytes
// repairs it in every repository.
func TestDamagedBlob(t *testing.T) {
	for name, change := range damages {
		t.Run(name, func(t *testing.T) {
			metrics := prometheus.NewRegistry()
			c := start(t, Config{Registerer: metrics})
			raw := c.image("a", "sha256", "x", nil)
			layer := []byte("layer x")
			d := mustDigest(t, sum("sha256", layer))
			c.want(201, "POST", "/v2/b/blobs/uploads/?mount="+d.String()+"&from=a", nil)
			c.want(200, "GET", "/v2/a/blobs/"+d.String(), nil) // it was right once, and may be remembered
			damage(t, c.reg.store.pool(d), change)

			for _, repo := range []string{"a", "b"} {
				path := "/v2/" + repo + "/blobs/" + d.String()
				if r := c.want(500, "GET", path, nil); !strings.Contains(string(r.body), "damaged") {
					t.Errorf("got %s, want an answer that says damaged", r.body)
				}
				c.want(500, "GET", path, nil, "Range", "bytes=0-0")
				c.want(404, "HEAD", path, nil) // so that a client pushes it again
			}
			if n := count(t, metrics, "colophon_registry_damaged_total"); n < 6 {
				t.Errorf("got %v alarms, want one for each read", n)
			}
			c.want(202, "POST", "/v2/c/blobs/uploads/?mount="+d.String(), nil)
			c.want(202, "POST", "/v2/c/blobs/uploads/?mount="+d.String()+"&from=a", nil)
			if r := c.want(404, "PUT", "/v2/a/manifests/v1", raw, "Content-Type", typeManifest); r.code() != distribution.CodeManifestBlobUnknown {
				t.Errorf("a manifest that lists it: got %s", r.body)
			}

			c.blob("a", "sha256", layer)
			for _, repo := range []string{"a", "b"} {
				if got := c.want(200, "GET", "/v2/"+repo+"/blobs/"+d.String(), nil).body; !bytes.Equal(got, layer) {
					t.Errorf("after the push, in %s: got %q, want %q", repo, got, layer)
				}
			}
			c.want(201, "PUT", "/v2/a/manifests/v1", raw, "Content-Type", typeManifest)
			if e, _ := os.ReadDir(c.reg.store.path("tmp")); len(e) > 2 { // the two uploads
				t.Errorf("got %d left-over files, want none", len(e)-2)
			}
		})
	}
}

// TestPushedIsHashedOnce: the registry relies on the digest that it computed while it received
// a blob. It does not once anybody has written to the file, even in the same instant, and not
// for an upload that had another digest.
func TestPushedIsHashedOnce(t *testing.T) {
	c := start(t, Config{})
	began := time.Now()
	raw := c.image("a", "sha256", "x", nil)
	layer := []byte("layer x")
	d := mustDigest(t, sum("sha256", layer))
	checked := c.reg.store.checked
	empty := fill(checked.slots) // now nothing can be hashed
	if r := c.put("a", "v1", raw); r.StatusCode != 201 {
		t.Errorf("a manifest that lists blobs just pushed: got %d %s", r.StatusCode, r.body)
	}
	empty()
	path := c.reg.store.pool(d)
	if info, err := os.Stat(path); err != nil || !info.ModTime().Before(began) {
		t.Errorf("got time %v, %v, want one that no write can give the file", info.ModTime(), err)
	}
	damage(t, path, damages["a flipped bit"])
	c.want(500, "GET", "/v2/a/blobs/"+d.String(), nil)

	remembered := len(checked.done)
	other := sum("sha256", []byte("other"))
	c.want(400, "POST", "/v2/a/blobs/uploads/?digest="+other, layer)
	if len(checked.done) != remembered {
		t.Errorf("after an upload with another digest: got %d remembered, want %d", len(checked.done), remembered)
	}
}

// A repository whose copy of a blob is not the pool's is repaired too.
func TestDamagedCopy(t *testing.T) {
	c := start(t, Config{})
	content := []byte("copied")
	d := mustDigest(t, c.blob("a", "sha256", content))
	link := c.reg.store.blob("a", d)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(link, []byte("cOpied"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.blob("a", "sha256", content)
	if got, err := os.ReadFile(link); err != nil || !bytes.Equal(got, content) {
		t.Errorf("after a push: got %q, %v, want %q", got, err, content)
	}
}

func TestDamagedManifest(t *testing.T) {
	for name, change := range damages {
		t.Run(name, func(t *testing.T) {
			c := start(t, Config{})
			raw := c.image("a", "sha256", "x", nil)
			d := mustDigest(t, sum("sha256", raw))
			if r := c.put("a", "v1", raw); r.StatusCode != 201 {
				t.Fatalf("got %d %s", r.StatusCode, r.body)
			}
			index := marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{desc(typeManifest, "sha256", raw)}})
			damage(t, c.reg.store.manifest("a", d), change)
			for _, ref := range []string{"v1", d.String()} {
				c.want(500, "GET", "/v2/a/manifests/"+ref, nil)
				c.want(404, "HEAD", "/v2/a/manifests/"+ref, nil)
			}
			if r := c.put("a", "all", index); r.StatusCode != 404 {
				t.Errorf("an index that lists it: got %d %s, want 404", r.StatusCode, r.body)
			}
			if r := c.put("a", "v1", raw); r.StatusCode != 201 {
				t.Fatalf("pushing it again: got %d %s", r.StatusCode, r.body)
			}
			if got := c.want(200, "GET", "/v2/a/manifests/v1", nil).body; !bytes.Equal(got, raw) {
				t.Errorf("got %q, want %q", got, raw)
			}
			damage(t, c.reg.store.manifest("a", d), change)
			c.want(202, "DELETE", "/v2/a/manifests/"+d.String(), nil) // an admin can always delete
			c.want(404, "GET", "/v2/a/manifests/v1", nil)
		})
	}
}

// What is derived from a manifest is compared too, and made again from the manifest.
func TestDamagedDescriptor(t *testing.T) {
	c := start(t, Config{})
	subject := desc(typeManifest, "sha256", []byte("subject"))
	raw := c.image("a", "sha256", "x", map[string]any{"subject": subject, "artifactType": "application/x.good", "annotations": map[string]string{"k": "v"}})
	if r := c.put("a", sum("sha256", raw), raw); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	path := c.reg.store.manifest("a", mustDigest(t, sum("sha256", raw))) + ".json"
	damage(t, path, func(b []byte) []byte { return bytes.Replace(b, []byte("x.good"), []byte("x.evil"), 1) })
	l, _ := c.referrers("/v2/a/referrers/" + subject["digest"].(string) + "?artifactType=application/x.good")
	if len(l.Manifests) != 1 {
		t.Errorf("got %d referrers, want 1", len(l.Manifests))
	}
}

// A tag whose manifest is gone is damage. It is not the same as no tag.
func TestDamagedTag(t *testing.T) {
	c := start(t, Config{})
	raw := c.image("a", "sha256", "x", nil)
	if r := c.put("a", "v1", raw); r.StatusCode != 201 {
		t.Fatalf("got %d %s", r.StatusCode, r.body)
	}
	for name, content := range map[string]string{
		"another digest": sum("sha256", []byte("another")) + "\n",
		"half a digest":  sum("sha256", raw)[:20],
		"nothing":        "",
	} {
		if err := os.WriteFile(c.reg.store.tag("a", "v1"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "HEAD"} {
			if r := c.do(method, "/v2/a/manifests/v1", nil); r.StatusCode != 500 {
				t.Errorf("%s of a tag that holds %s: got %d, want 500", method, name, r.StatusCode)
			}
		}
	}
}

// A blob is compared again after a day, even if its file looks unchanged.
func TestBlobsAreComparedAgain(t *testing.T) {
	c := start(t, Config{})
	d := mustDigest(t, c.blob("a", "sha256", []byte("content")))
	path, old := c.reg.store.pool(d), time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	c.want(200, "GET", "/v2/a/blobs/"+d.String(), nil)
	damage(t, path, damages["a flipped bit"])
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	c.want(200, "HEAD", "/v2/a/blobs/"+d.String(), nil) // remembered
	c.reg.store.checked.now = func() time.Time { return time.Now().Add(recheck) }
	c.want(500, "GET", "/v2/a/blobs/"+d.String(), nil)
}

// count returns the value of a counter.
func count(t *testing.T, from prometheus.Gatherer, name string) (n float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func scrub(t *testing.T, dir string) (findings []string, r intact.Report) {
	t.Helper()
	r.Tell = func(f intact.Finding) { findings = append(findings, f.String()) }
	if err := Scrub(t.Context(), &r, dir); err != nil {
		t.Fatal(err)
	}
	return findings, r
}

// Scrub finds every damaged file of a registry, also while the registry runs, and repairs
// what another copy or a manifest allows to repair.
func TestScrub(t *testing.T) {
	c := start(t, Config{})
	s, dir := c.reg.store, c.reg.cfg.Dir
	subject := desc(typeManifest, "sha256", []byte("subject"))
	raw := c.image("a", "sha256", "x", map[string]any{"subject": subject})
	d := mustDigest(t, sum("sha256", raw))
	layer, config := mustDigest(t, sum("sha256", []byte("layer x"))), mustDigest(t, sum("sha256", []byte(`{"seed":"x"}`)))
	for _, repo := range []string{"a", "b"} {
		c.image(repo, "sha256", "x", nil)
		if r := c.put(repo, "v1", raw); r.StatusCode != 201 {
			t.Fatalf("got %d %s", r.StatusCode, r.body)
		}
	}
	if found, r := scrub(t, dir); len(found) != 0 || r.Files == 0 || r.Damaged != 0 {
		t.Fatalf("got %q, %+v of a registry that is whole", found, r)
	}

	// A copy of the layer in b is right, the pool's is not.
	if err := os.Remove(s.blob("b", layer)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.blob("b", layer), []byte("layer x"), 0o600); err != nil {
		t.Fatal(err)
	}
	damage(t, s.pool(layer), damages["a flipped bit"])
	damage(t, s.manifest("a", d), damages["a truncated file"])
	for _, path := range []string{s.manifest("b", d) + ".json", s.referrer("b", mustDigest(t, subject["digest"].(string)), d)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	found, r := scrub(t, dir)
	if r.Damaged != 0 || r.Repaired < 4 {
		t.Errorf("got %+v: %q, want all repaired", r, found)
	}
	for _, repo := range []string{"a", "b"} {
		c.want(200, "GET", "/v2/"+repo+"/manifests/v1", nil)
		c.want(200, "GET", "/v2/"+repo+"/blobs/"+layer.String(), nil)
		if l, _ := c.referrers("/v2/" + repo + "/referrers/" + subject["digest"].(string)); len(l.Manifests) != 1 {
			t.Errorf("%s: got %d referrers, want 1", repo, len(l.Manifests))
		}
	}

	// Nothing else has these bytes.
	damage(t, s.pool(config), damages["an empty file"])
	if err := os.WriteFile(s.tag("b", "v1"), []byte("sha256:"), 0o600); err != nil {
		t.Fatal(err)
	}
	found, r = scrub(t, dir)
	all := strings.Join(found, "\n")
	for _, want := range []string{config.String(), "repository a", "repository b", "v1"} {
		if !strings.Contains(all, want) {
			t.Errorf("got %s, want it to name %s", all, want)
		}
	}
	if r.Damaged < 3 {
		t.Errorf("got %+v, want blob (twice) and tag damaged", r)
	}
	if e, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(e) != 0 {
		t.Errorf("got %d left-over files, want none", len(e))
	}
}
