package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/await"
)

var errOutage = errors.New("the store did not answer")

// outage counts requests and fails the one with the given number, from 1.
type outage struct {
	calls, at atomic.Int64
}

func (o *outage) next() error {
	if o.calls.Add(1) == o.at.Load() {
		return errOutage
	}
	return nil
}

// flaky is a Target with an outage.
type flaky struct {
	Target
	*outage
}

func (f flaky) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if err := f.next(); err != nil {
		return v1.Descriptor{}, err
	}
	return f.Target.Resolve(ctx, reference)
}

func (f flaky) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	if err := f.next(); err != nil {
		return nil, "", err
	}
	return f.Target.Manifest(ctx, digest)
}

func (f flaky) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	return f.Target.Blob(ctx, d)
}

func (f flaky) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	if err := f.next(); err != nil {
		return nil, err
	}
	return f.Target.Referrers(ctx, subject)
}

func (f flaky) PushBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Target.PushBlob(ctx, d, open)
}

func (f flaky) PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error) {
	if err := f.next(); err != nil {
		return v1.Descriptor{}, err
	}
	return f.Target.PushManifest(ctx, raw, mediaType)
}

func (f flaky) Tag(ctx context.Context, tag string, d v1.Descriptor) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.Target.Tag(ctx, tag, d)
}

// flakyFiles are the files of a layout with an outage.
type flakyFiles struct {
	files
	*outage
}

func (f flakyFiles) open(name string) (io.ReadCloser, int64, error) {
	if err := f.next(); err != nil {
		return nil, 0, err
	}
	return f.files.open(name)
}

func (f flakyFiles) walk(visit func(name string, dir bool) error) error {
	if err := f.next(); err != nil {
		return err
	}
	return f.files.walk(visit)
}

// everyOutage runs do once for each request that it makes, and fails that request: do
// must then return its error, and neither "not found" nor "wrong".
func everyOutage(t *testing.T, name string, do func(*outage) error) {
	t.Helper()
	for at := int64(1); ; at++ {
		o := &outage{}
		o.at.Store(at)
		err := do(o)
		if o.calls.Load() < at {
			if err != nil || at == 1 {
				t.Errorf("%s: got %v after %d requests, want some, and no error", name, err, at-1)
			}
			return
		}
		if !errors.Is(err, errOutage) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
			t.Errorf("%s: request %d fails: got %v, want its error", name, at, err)
		}
	}
}

// savedLayout is a layout with the standard image, a bundle and cosign v2's signature.
func savedLayout(t *testing.T) (*Layout, v1.Descriptor) {
	t.Helper()
	l := newTestLayout(t)
	top := l.standard()
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := AttachBundle(t.Context(), layout, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	signature := pushSignature(t, layout, []byte(`{"critical":{}}`))
	if err := layout.Tag(t.Context(), CosignSignatures.Of(top.Digest), signature); err != nil {
		t.Fatal(err)
	}
	return layout, top
}

func emptyLayout(t *testing.T) *Layout {
	t.Helper()
	l, err := CreateLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOutages: whichever request a store leaves without an answer, the caller learns
// that nothing is known.
func TestOutages(t *testing.T) {
	full, top := savedLayout(t)
	index, err := full.content(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest := index.Manifests[0].Digest
	everyOutage(t, "Copy from", func(o *outage) error { return Copy(t.Context(), emptyLayout(t), flaky{full, o}, top) })
	everyOutage(t, "Copy to", func(o *outage) error { return Copy(t.Context(), flaky{emptyLayout(t), o}, full, top) })
	everyOutage(t, "Save from", func(o *outage) error {
		_, err := Save(t.Context(), emptyLayout(t), flaky{full, o}, top, "", nil)
		return err
	})
	everyOutage(t, "Save to", func(o *outage) error {
		_, err := Save(t.Context(), flaky{emptyLayout(t), o}, full, top, "", nil)
		return err
	})
	everyOutage(t, "AttachBundle", func(o *outage) error {
		_, err := AttachBundle(t.Context(), flaky{full, o}, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0))
		return err
	})
	everyOutage(t, "Entries", func(o *outage) error {
		return Entries(t.Context(), flaky{full, o}, manifest, func(int, *tar.Header, io.Reader) error { return nil })
	})
	everyOutage(t, "Bundles", func(o *outage) error {
		found, err := Bundles(t.Context(), flaky{full, o}, top.Digest)
		for _, b := range found {
			err = errors.Join(err, b.Err)
		}
		return err
	})
	everyOutage(t, "CheckAttachment", func(o *outage) error {
		d, err := full.Resolve(t.Context(), CosignSignatures.Of(top.Digest))
		if err != nil {
			t.Fatal(err)
		}
		return CheckAttachment(t.Context(), flaky{full, o}, d)
	})
	files := full.files
	broken := func(o *outage) *Layout { return &Layout{dir: full.dir, files: flakyFiles{files, o}} }
	everyOutage(t, "CheckSole", func(o *outage) error { return broken(o).CheckSole(t.Context(), "", top) })
	everyOutage(t, "Layout.Resolve", func(o *outage) error { _, err := broken(o).Resolve(t.Context(), ""); return err })
	everyOutage(t, "Layout.Referrers", func(o *outage) error { _, err := broken(o).Referrers(t.Context(), top.Digest); return err })
	everyOutage(t, "Layout.Tag", func(o *outage) error { return broken(o).Tag(t.Context(), "v1", top) })
	everyOutage(t, "Layout.PushManifest", func(o *outage) error {
		raw, err := BundleManifest(top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		_, err = broken(o).PushManifest(t.Context(), raw, string(types.OCIManifestSchema1))
		return err
	})
}

// TestOutagesOfARegistry: the same of every request that a registry denies.
func TestOutagesOfARegistry(t *testing.T) {
	t.Parallel()
	for _, api := range []bool{true, false} {
		o := &outage{}
		host := newServer(t, api, func(w http.ResponseWriter, _ *http.Request) bool {
			if o.next() == nil {
				return false
			}
			http.Error(w, `{"errors":[{"code":"DENIED","message":"not you"}]}`, http.StatusForbidden)
			return true
		})
		_, top := pushed(t, host)
		n := 0
		for name, do := range map[string]func(r *Registry) error{
			"Resolve":   func(r *Registry) error { _, err := r.Resolve(t.Context(), top.Digest.String()); return err },
			"Referrers": func(r *Registry) error { _, err := r.Referrers(t.Context(), top.Digest); return err },
			"Tags":      func(r *Registry) error { _, _, err := r.Tags(t.Context()); return err },
			"Tag":       func(r *Registry) error { n++; return r.Tag(t.Context(), fmt.Sprintf("v%d", n), top) },
			"PushBlob": func(r *Registry) error {
				n++
				blob := fmt.Append(nil, n)
				return r.PushBlob(t.Context(), v1.Descriptor{Digest: digestOf(blob), Size: int64(len(blob))}, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
			},
			"PushManifest": func(r *Registry) error {
				n++
				ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
				defer cancel()
				raw, err := BundleManifest(top, fmt.Append(nil, n), attest.PredicateSLSA1, time.Unix(0, 0))
				if err != nil {
					t.Fatal(err)
				}
				_, err = r.PushManifest(ctx, raw, string(types.OCIManifestSchema1))
				return err
			},
		} {
			for at := int64(1); at <= 4; at++ { // PushManifest looks at a tag many times
				o.calls.Store(0)
				o.at.Store(at)
				err := do(openRegistry(t, host+"/team/app", RegistryOptions{}))
				if o.calls.Load() < at {
					if err != nil {
						t.Errorf("%s: got %v without an outage", name, err)
					}
					break
				}
				if !hasStatus(err, http.StatusForbidden) || errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
					t.Errorf("%s, referrers API %v: request %d is denied: got %v", name, api, at, err)
				}
			}
			o.at.Store(0)
		}
	}
}

// crowd counts how many requests for manifests and blobs are running.
type crowd struct {
	Target
	running, most atomic.Int64
}

func (c *crowd) enter() func() {
	n := c.running.Add(1)
	for {
		most := c.most.Load()
		if n <= most || c.most.CompareAndSwap(most, n) {
			break
		}
	}
	time.Sleep(2 * time.Millisecond)
	return func() { c.running.Add(-1) }
}

func (c *crowd) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	defer c.enter()()
	return c.Target.Manifest(ctx, digest)
}

func (c *crowd) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	defer c.enter()()
	return c.Target.Blob(ctx, d)
}

func (c *crowd) PushManifest(ctx context.Context, raw []byte, mediaType string) (v1.Descriptor, error) {
	defer c.enter()()
	return c.Target.PushManifest(ctx, raw, mediaType)
}

// ofManifests counts only the requests for manifests: each of several copies at a time
// transfers several blobs.
type ofManifests struct{ *crowd }

func (m ofManifests) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return m.Target.Blob(ctx, d)
}

// TestRequestsAtATime: much that is attached to an image costs time, and not many
// connections at once.
func TestRequestsAtATime(t *testing.T) {
	layout := emptyLayout(t)
	blob := func(data []byte) v1.Descriptor {
		d := v1.Descriptor{MediaType: types.OCILayer, Digest: digestOf(data), Size: int64(len(data))}
		if err := layout.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var images []v1.Descriptor
	for i := range 3 * parallel {
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			types.OCIManifestSchema1, types.OCIConfigJSON, blob([]byte("{}")).Digest, types.OCILayer, blob(fmt.Append(nil, i+100)).Digest, 3)
		d, err := layout.PushManifest(t.Context(), raw, string(types.OCIManifestSchema1))
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, d)
	}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: images})
	if err != nil {
		t.Fatal(err)
	}
	top, err := layout.PushManifest(t.Context(), raw, string(types.OCIImageIndex))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * parallel {
		if _, err := AttachBundle(t.Context(), layout, top, bytes.Repeat([]byte{byte(i)}, maxInline+1), "kind", time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for name, do := range map[string]func(c *crowd) error{
		"Copy from": func(c *crowd) error { return Copy(t.Context(), emptyLayout(t), c, top) },
		"Copy to": func(c *crowd) error {
			src := c.Target
			c.Target = emptyLayout(t)
			return Copy(t.Context(), c, src, top)
		},
		"Bundles": func(c *crowd) error { _, err := Bundles(t.Context(), c, top.Digest); return err },
		"fetchBundles": func(c *crowd) error {
			found, err := Bundles(t.Context(), layout, top.Digest)
			fetchBundles(t.Context(), c, found)
			return err
		},
		"saver.attached": func(c *crowd) error {
			dst := emptyLayout(t)
			if err := Copy(t.Context(), dst, layout, top); err != nil {
				return err
			}
			_, _, _, err := (&saver{dst: dst, src: ofManifests{c}, room: maxSaved}).attached(t.Context(), top.Digest, maxAsked)
			return err
		},
	} {
		c := &crowd{Target: layout}
		if err := do(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := c.most.Load(); got > parallel || got < 2 {
			t.Errorf("%s: got %d requests at a time, want 2 to %d", name, got, parallel)
		}
	}
}
