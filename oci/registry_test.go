package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// newServer runs go-containerregistry's registry, with before in front of it;
// before says whether it has answered.
func newServer(t *testing.T, referrers bool, before func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	inner := registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before == nil || !before(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func openRegistry(t *testing.T, repo string, opts RegistryOptions) *Registry {
	t.Helper()
	r, err := OpenRegistry(repo, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pushed is a registry that holds the standard image.
func pushed(t *testing.T, host string) (*Registry, v1.Descriptor) {
	t.Helper()
	l := newTestLayout(t)
	top := l.standard()
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	r := openRegistry(t, host+"/team/app", RegistryOptions{})
	if err := Copy(t.Context(), r, src, top); err != nil {
		t.Fatal(err)
	}
	return r, top
}

func TestCopyThereAndBack(t *testing.T) {
	var uploads atomic.Int32
	host := newServer(t, true, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			uploads.Add(1)
		}
		return false
	})
	r, top := pushed(t, host)
	if n := uploads.Load(); n != 5 { // two configurations, three layers
		t.Errorf("got %d uploads, want 5", n)
	}
	if err := r.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	fresh := openRegistry(t, r.Name(), RegistryOptions{})
	for _, reference := range []string{"v1", top.Digest.String()} {
		d, err := fresh.Resolve(t.Context(), reference)
		if err != nil || d.Digest != top.Digest || d.Size != top.Size || d.MediaType != top.MediaType {
			t.Errorf("resolve %s: got %+v, %v", reference, d, err)
		}
	}
	dir := t.TempDir()
	back, err := CreateLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), back, fresh, top); err != nil {
		t.Fatal(err)
	}
	if err := back.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	m, err := MeasureLayout(dir)
	if err != nil || m.Descriptor.Digest != top.Digest {
		t.Fatalf("measured %+v, %v", m, err)
	}
	if d, err := back.Resolve(t.Context(), ""); err != nil || d.Digest != top.Digest {
		t.Errorf("resolve of the only entry: got %v, %v", d.Digest, err)
	}
	// Again: whether a small blob is there is not asked, because that would cost as much as sending it.
	before := uploads.Load()
	if err := Copy(t.Context(), r, back, top); err != nil || uploads.Load() != before+5 {
		t.Errorf("second copy: %v, %d uploads, want 5", err, uploads.Load()-before)
	}
	other := m.Platforms[0].Manifest
	if err := back.Tag(t.Context(), "v1", other); !errors.Is(err, ErrTagExists) {
		t.Errorf("moving a layout's tag: got %v, want ErrTagExists", err)
	}
}

func TestNotFound(t *testing.T) {
	r, _ := pushed(t, newServer(t, true, nil))
	absent := digestOf([]byte("absent"))
	_, tagErr := r.Resolve(t.Context(), "absent")
	_, _, manifestErr := r.Manifest(t.Context(), absent)
	_, blobErr := r.Blob(t.Context(), v1.Descriptor{Digest: absent, Size: 6})
	for _, err := range []error{tagErr, manifestErr, blobErr} {
		if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	subject := digestOf([]byte("image"))
	for _, status := range []int{401, 403, 503} {
		broken := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true })
		b := openRegistry(t, broken+"/team/app", RegistryOptions{})
		_, resolveErr := b.Resolve(t.Context(), "v1")
		_, referrersErr := b.Referrers(t.Context(), subject)
		_, bundlesErr := Bundles(t.Context(), b, subject)
		for _, err := range []error{resolveErr, referrersErr, bundlesErr} {
			if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) {
				t.Errorf("status %d: got %v, want an error that is neither absent nor wrong", status, err)
			}
		}
	}
}

func TestReadsAreRepeated(t *testing.T) {
	t.Parallel()
	var fail atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if fail.Add(-1) >= 0 {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	})
	r, top := pushed(t, host)
	fail.Store(2)
	if _, err := openRegistry(t, r.Name(), RegistryOptions{}).Resolve(t.Context(), top.Digest.String()); err != nil {
		t.Errorf("two bad gateways: %v", err)
	}
}

func TestTagExists(t *testing.T) {
	var tagged atomic.Bool
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/v1") && tagged.Swap(true) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"tag may not move"}]}`)
			return true
		}
		return false
	})
	r, top := pushed(t, host)
	for range 2 { // the second is refused, and points there already
		if err := r.Tag(t.Context(), "v1", top); err != nil {
			t.Fatal(err)
		}
	}
	raw, _, err := r.Manifest(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseContent(raw, top.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Tag(t.Context(), "v1", c.Manifests[0]); !errors.Is(err, ErrTagExists) {
		t.Errorf("got %v, want ErrTagExists", err)
	}
}

// TestLyingRegistry: whatever a registry hands out, a caller never gets bytes
// that are not what it asked for, and can tell a lie from an outage.
func TestLyingRegistry(t *testing.T) {
	manifest := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	serve := func(contentType string, body []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set("Content-Type", contentType); w.Write(body) }
	}
	index, image := string(types.OCIImageIndex), string(types.OCIManifestSchema1)
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		digest v1.Hash
	}{
		"other bytes":  {serve(index, manifest), digestOf([]byte("other"))},
		"other type":   {serve(image, manifest), digestOf(manifest)},
		"unknown type": {serve("text/html", manifest), digestOf(manifest)},
		"both at once": {serve(index, both), digestOf(both)},
		"duplicate":    {serve(index, twice), digestOf(twice)},
		"too big":      {serve(index, make([]byte, limits.Manifest+1)), digestOf(make([]byte, limits.Manifest+1))},
		"header differs": {func(w http.ResponseWriter) {
			w.Header().Set("Docker-Content-Digest", digestOf(nil).String())
			serve(index, manifest)(w)
		}, digestOf(manifest)},
		"too many": {serve(index, many), digestOf(many)},
	} {
		host := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool { c.answer(w); return true })
		r := openRegistry(t, host+"/team/app", RegistryOptions{})
		if _, _, err := r.Manifest(t.Context(), c.digest); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want ErrMismatch", name, err)
		}
	}
	host := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool { serve(index, manifest)(w); return true })
	if _, _, err := openRegistry(t, host+"/team/app", RegistryOptions{}).Manifest(t.Context(), digestOf(manifest)); err != nil {
		t.Errorf("an honest answer: %v", err)
	}
}

var (
	both  = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"layers":[]}`)
	twice = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"manifests":[]}`)
	many  = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
		strings.Repeat(`{"mediaType":"x","size":1,"digest":"`+digestOf(nil).String()+`"},`, limits.IndexManifests) +
		`{"mediaType":"x","size":1,"digest":"` + digestOf(nil).String() + `"}]}`)
)

func TestLyingBlobs(t *testing.T) {
	blob := bytes.Repeat([]byte("colophon"), 10_000)
	want := v1.Descriptor{Digest: digestOf(blob), Size: int64(len(blob))}
	for name, c := range map[string]struct {
		body    []byte
		chunked bool
		ok      bool
	}{
		"honest":            {blob, false, true},
		"honest, chunked":   {blob, true, true},
		"other":             {bytes.Repeat([]byte("c0lophon"), 10_000), false, false},
		"shorter":           {blob[1:], false, false},
		"longer":            {append(bytes.Clone(blob), 'x'), false, false},
		"shorter, chunked":  {blob[1:], true, false},
		"longer, chunked":   {append(bytes.Clone(blob), 'x'), true, false},
		"endless beginning": {append(bytes.Clone(blob), make([]byte, 1<<20)...), true, false},
	} {
		host := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool {
			if c.chunked {
				w.(http.Flusher).Flush()
			}
			w.Write(c.body)
			return true
		})
		rc, err := openRegistry(t, host+"/team/app", RegistryOptions{}).Blob(t.Context(), want)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(rc)
			rc.Close()
		}
		if c.ok && (err != nil || !bytes.Equal(got, blob)) || !c.ok && !errors.Is(err, ErrMismatch) || len(got) > len(blob) {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
}

func TestBundlesAreAttachedAndFound(t *testing.T) {
	t.Parallel()
	for _, native := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers API %v", native), func(t *testing.T) {
			r, top := pushed(t, newServer(t, native, nil))
			attachAndFind(t, r, top)
		})
	}
	t.Run("layout", func(t *testing.T) {
		l := newTestLayout(t)
		top := l.standard()
		layout, err := OpenLayout(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		attachAndFind(t, layout, top)
		if d, err := layout.Resolve(t.Context(), ""); err != nil || d.Digest != top.Digest {
			t.Errorf("the only image beside its referrers: got %v, %v", d.Digest, err)
		}
	})
}

func attachAndFind(t *testing.T, target Target, top v1.Descriptor) {
	t.Helper()
	if found, err := Bundles(t.Context(), target, top.Digest); err != nil || len(found) != 0 {
		t.Fatalf("before: got %d, %v", len(found), err)
	}
	created := time.Date(2026, 11, 20, 11, 31, 15, 999, time.FixedZone("", 3600))
	want := map[string]string{}
	for range 2 { // again changes nothing
		for _, predicate := range []string{attest.PredicateSign, attest.PredicateSLSA1} {
			d, err := AttachBundle(t.Context(), target, top, []byte("bundle of "+predicate), predicate, created)
			if err != nil {
				t.Fatal(err)
			}
			want[d.Digest.String()] = predicate
		}
	}
	// Something else is attached too, and is no bundle.
	raw := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"application/x-note","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		types.OCIManifestSchema1, digestOf(emptyConfig), top.MediaType, top.Digest, top.Size))
	if _, err := target.PushManifest(t.Context(), raw, string(types.OCIManifestSchema1)); err != nil {
		t.Fatal(err)
	}
	found, err := Bundles(t.Context(), target, top.Digest)
	if err != nil || len(found) != 2 || len(want) != 2 {
		t.Fatalf("got %d bundles of %d, %v", len(found), len(want), err)
	}
	for i, a := range found {
		predicate := want[a.Descriptor.Digest.String()]
		if a.Err != nil || string(a.Raw) != "bundle of "+predicate || a.Annotations[attest.AnnotationType] != predicate {
			t.Errorf("bundle %d: %+v", i, a)
		}
		if got := a.Annotations["org.opencontainers.image.created"]; got != "2026-11-20T10:31:15Z" {
			t.Errorf("created: got %q", got)
		}
		if i > 0 && found[i-1].Descriptor.Digest.String() > a.Descriptor.Digest.String() {
			t.Error("bundles are not in the order of their digests")
		}
	}
	if all, err := Attachments(t.Context(), target, top.Digest); err != nil || len(all) != 3 {
		t.Errorf("got %+v, %v, want 3 attachments", all, err)
	}
}

// TestParallelAttachLosesNothing: eight processes attach to one image in a
// registry without the referrers API, where the tag is all there is. None of
// them gets to write before all have read, so that seven writes are lost.
func TestParallelAttachLosesNothing(t *testing.T) {
	t.Parallel()
	const writers = 8
	var puts atomic.Int32
	allRead := make(chan struct{})
	host := newServer(t, false, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/sha256-") {
			return false
		}
		n := puts.Add(1)
		if n == writers {
			close(allRead)
		}
		if n <= writers {
			select {
			case <-allRead:
			case <-r.Context().Done():
			}
		}
		return false
	})
	_, top := pushed(t, host)
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		// A Registry of its own each: they share no lock, as processes do not.
		r := openRegistry(t, host+"/team/app", RegistryOptions{})
		wg.Go(func() {
			_, errs[i] = AttachBundle(context.Background(), r, top, fmt.Appendf(nil, "bundle %d", i), attest.PredicateSLSA1, time.Unix(0, 0))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	found, err := Bundles(t.Context(), openRegistry(t, host+"/team/app", RegistryOptions{}), top.Digest)
	if err != nil || len(found) != writers {
		t.Fatalf("got %d of %d, %v", len(found), writers, err)
	}
	if puts.Load() <= writers {
		t.Errorf("no write was lost on the way (%d writes)", puts.Load())
	}
}

// TestListingsThatLie: content decides what is about an image, and a listing
// that cannot be had is never an empty one.
func TestListingsThatLie(t *testing.T) {
	var page atomic.Value
	page.Store("")
	header := http.Header{}
	contentType := string(types.OCIImageIndex)
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if s := page.Load().(string); s != "" && strings.Contains(r.URL.Path, "/referrers/") {
			maps.Copy(w.Header(), header)
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, s)
			return true
		}
		return false
	})
	r, top := pushed(t, host)
	about, err := AttachBundle(t.Context(), r, top, []byte("mine"), attest.PredicateSLSA1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	other := top
	other.Digest = digestOf([]byte("another image"))
	foreign, err := AttachBundle(t.Context(), r, other, []byte("its"), attest.PredicateSLSA1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(d v1.Hash, artifactType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":%q,"artifactType":%q}`, types.OCIManifestSchema1, d, artifactType)
	}
	list := func(entries ...string) string {
		return `{"schemaVersion":2,"manifests":[` + strings.Join(entries, ",") + `]}`
	}
	page.Store(list(entry(about.Digest, "application/x-note"), entry(foreign.Digest, attest.BundleMediaType), entry(top.Digest, attest.BundleMediaType),
		entry(digestOf([]byte("gone")), attest.BundleMediaType), entry(about.Digest, "")))
	found, err := Bundles(t.Context(), r, top.Digest)
	if err != nil || len(found) != 2 {
		t.Fatalf("got %d candidates, %v", len(found), err)
	}
	for _, a := range found {
		if a.Descriptor.Digest == about.Digest && (a.Err != nil || string(a.Raw) != "mine") {
			t.Errorf("the image's own: %+v", a)
		}
		if a.Descriptor.Digest != about.Digest && !errors.Is(a.Err, ErrNotFound) {
			t.Errorf("the one that is gone: %+v", a)
		}
	}

	failing := func(name, body string) {
		t.Helper()
		page.Store(body)
		if list, err := Bundles(t.Context(), r, top.Digest); err == nil {
			t.Errorf("%s: got a list of %d, want an error", name, len(list))
		}
	}
	failing("not JSON", "hello")
	failing("duplicate member", `{"manifests":[],"manifests":[]}`)
	failing("no digest", list(`{"mediaType":"x","size":1}`))
	var flood []string
	for i := range limits.Referrers + 1 {
		flood = append(flood, entry(digestOf(fmt.Append(nil, i)), ""))
	}
	failing("flood", list(flood...))
	page.Store(list(append(flood[:520], entry(about.Digest, ""))...))
	if found, err := Bundles(t.Context(), r, top.Digest); err != nil || !slices.ContainsFunc(found, func(b Bundle) bool { return string(b.Raw) == "mine" }) {
		t.Errorf("behind 520 others: got %d bundles, %v, want the image's own", len(found), err)
	}
	elsewhere := newServer(t, true, func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, list())
		return true
	})
	header.Set("Link", `<http://`+elsewhere+`/v2/team/app/referrers/x>; rel="next"`)
	failing("next page elsewhere", list())
	header.Set("Link", `<?again>; rel="next"`)
	failing("pages without end", list())
	header.Set("Link", `nonsense`)
	failing("link that is none", list())
	header.Del("Link")
	contentType = "text/html"
	failing("a page for people", list())
}
