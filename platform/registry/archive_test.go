package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestArchiveFirst: a manifest is acknowledged, and can be seen, only after the archive has
// what it attaches.
func TestArchiveFirst(t *testing.T) {
	var fail error
	var got []string
	var c *client
	c = start(t, Config{Dir: t.TempDir(), Archive: func(_ context.Context, manifest []byte, open func(string) (io.ReadCloser, error)) error {
		c.want(404, "GET", "/v2/a/manifests/"+sum("sha256", manifest), nil)
		f, err := open(sum("sha256", []byte("layer x")))
		if err != nil {
			return err
		}
		defer f.Close()
		layer, err := io.ReadAll(f)
		got = append(got, string(layer))
		return errors.Join(err, fail)
	}})
	raw := c.image("a", "sha256", "x", nil)
	fail = &fullError{}
	c.want(507, "PUT", "/v2/a/manifests/t", raw, "Content-Type", typeManifest)
	c.want(404, "GET", "/v2/a/manifests/t", nil)
	fail = errors.New("secret")
	if r := c.want(500, "PUT", "/v2/a/manifests/t", raw, "Content-Type", typeManifest); string(r.body) == "secret" {
		t.Errorf("got %s", r.body)
	}
	c.want(404, "GET", "/v2/a/manifests/t", nil)
	fail = nil
	c.want(201, "PUT", "/v2/a/manifests/t", raw, "Content-Type", typeManifest)
	if fmt.Sprint(got) != "[layer x layer x layer x]" {
		t.Errorf("the archive got %q", got)
	}
	// A manifest whose blobs are missing does not reach the archive.
	c.want(404, "PUT", "/v2/b/manifests/t", raw, "Content-Type", typeManifest)
	if len(got) != 3 {
		t.Errorf("the archive got %q", got)
	}
}

type fullError struct{}

func (*fullError) Error() string { return "secret" }
func (*fullError) Unwrap() error { return syscall.ENOSPC }

// TestArchiveAll: what was pushed before there was an archive reaches it, each manifest once; what was
// deleted is left out, and what is damaged does not stop the rest, and is an error.
func TestArchiveAll(t *testing.T) {
	dir := t.TempDir()
	c := start(t, Config{Dir: dir})
	digests := map[string]string{} // of the layers, by repository
	for _, repo := range []string{"a", "b/c", "b/c/d", "e"} {
		for _, alg := range []string{"sha256", "sha512"} {
			raw := c.image(repo, alg, repo+alg, nil)
			c.want(201, "PUT", "/v2/"+repo+"/manifests/"+sum(alg, raw), raw, "Content-Type", typeManifest)
		}
		digests[repo] = sum("sha256", []byte("layer "+repo+"sha256"))
	}
	c.want(202, "DELETE", "/v2/b/c/blobs/"+digests["b/c"], nil)
	c.reg.Close()

	got := map[string]int{}
	reg, err := New(Config{Dir: dir, URL: c.url, Authorize: roles, Archive: func(_ context.Context, manifest []byte, open func(string) (io.ReadCloser, error)) error {
		var m manifestFile
		if err := json.Unmarshal(manifest, &m); err != nil {
			return err
		}
		f, err := open(m.Layers[0].Digest)
		if err != nil {
			return err
		} else if f == nil {
			got["gone"]++
			return nil
		}
		defer f.Close()
		layer, err := io.ReadAll(f)
		got[string(layer)]++
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if err := reg.ArchiveAll(t.Context()); err != nil || len(got) != 8 || got["gone"] != 1 || got["layer b/c/dsha512"] != 1 || got["layer asha256"] != 1 {
		t.Errorf("got %v, %v", got, err)
	}

	d, err := parseDigest(digests["e"])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(reg.store.blob("e", d), []byte("layer ! of 12"), 0o600); err != nil {
		t.Fatal(err)
	}
	clear(got)
	if err := reg.ArchiveAll(t.Context()); err == nil || !strings.Contains(err.Error(), `repository "e"`) || len(got) != 7 {
		t.Errorf("one blob is damaged: got %v, %v, want the others and an error", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	clear(got)
	if err := reg.ArchiveAll(ctx); !errors.Is(err, context.Canceled) || len(got) != 0 {
		t.Errorf("canceled: got %v, %v", got, err)
	}
}
