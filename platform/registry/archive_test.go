package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
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
