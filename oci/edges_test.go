package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
)

// TestAttachFile: what is attached is found, with its type and content.
func TestAttachFile(t *testing.T) {
	layout, top := savedLayout(t)
	content := []byte("a note")
	d, err := AttachFile(t.Context(), layout, top, "application/x-note", content, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Attachments(t.Context(), layout, top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Descriptor.Digest != d.Digest {
			continue
		}
		if a.ArtifactType != "application/x-note" || a.Annotations[createdAnnotation] != "1970-01-01T00:00:00Z" || len(a.Layers) != 1 {
			t.Fatalf("got %+v", a)
		}
		if got, err := Content(t.Context(), layout, a.Layers[0], 100); err != nil || !bytes.Equal(got, content) {
			t.Errorf("got %q, %v", got, err)
		}
		return
	}
	t.Errorf("got %+v, want %s in it", list, d.Digest)
}

// TestLargeManifestOfAReferrer: it is refused where it is listed, and its annotations
// are not kept.
func TestLargeManifestOfAReferrer(t *testing.T) {
	layout, top := savedLayout(t)
	many := newCrowded(t, layout, top, 1, strings.Repeat("x", attachedManifest))
	list, err := Attachments(t.Context(), many, top.Digest)
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, ErrMismatch) || list[0].Annotations != nil {
		t.Errorf("got %d, %v, want one that is refused", len(list), err)
	}
}

// liar is a store that answers one request for a manifest with other bytes, as many.
type liar struct {
	Target
	*outage
}

func (l liar) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	raw, mediaType, err := l.Target.Manifest(ctx, digest)
	if l.next() != nil {
		raw = append([]byte("{}"), bytes.Repeat([]byte(" "), max(0, len(raw)-2))...)
	}
	return raw, mediaType, err
}

// TestStoresThatDoNotParse: an implementation of Source may hand out what is no
// manifest. Everything that reads one parses it.
func TestStoresThatDoNotParse(t *testing.T) {
	full, top := savedLayout(t)
	signature, err := full.Resolve(t.Context(), CosignSignatures.Of(top.Digest))
	if err != nil {
		t.Fatal(err)
	}
	index, err := full.content(t.Context(), top.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(liar) error{
		"Copy": func(l liar) error { return Copy(t.Context(), emptyLayout(t), l, top) },
		"Save": func(l liar) error {
			left, err := Save(t.Context(), emptyLayout(t), l, top, "", nil)
			return errors.Join(append(left, err)...)
		},
		"Entries": func(l liar) error {
			return Entries(t.Context(), l, index.Manifests[0].Digest, func(int, *tar.Header, io.Reader) error { return nil })
		},
		"CheckAttachment": func(l liar) error { return CheckAttachment(t.Context(), l, signature) },
		"Bundles": func(l liar) error {
			found, err := Bundles(t.Context(), l, top.Digest)
			for _, b := range found {
				err = errors.Join(err, b.Err)
			}
			return err
		},
	} {
		for at := int64(1); ; at++ {
			l := liar{full, &outage{}}
			l.at.Store(at)
			err := do(l)
			if l.calls.Load() < at {
				if err != nil || at == 1 {
					t.Errorf("%s: got %v after %d requests, want some, and no error", name, err, at-1)
				}
				break
			}
			if !errors.Is(err, ErrMismatch) {
				t.Errorf("%s: answer %d is no manifest: got %v, want a refusal", name, at, err)
			}
		}
	}
}

// TestVisitThatFailsOnce: an error of visit ends Entries, whatever visit would have said
// of the next entry.
func TestVisitThatFailsOnce(t *testing.T) {
	l := newTestLayout(t)
	layer := l.blob(types.OCIUncompressedLayer, tarOf(t, testEntry{name: "a"}, testEntry{name: "b"}))
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	err = LayerEntries(t.Context(), src, layer, func(h *tar.Header, _ io.Reader) error {
		if h.Name == "a" {
			return errOutage
		}
		return nil
	})
	if !errors.Is(err, errOutage) {
		t.Errorf("got %v, want the error about the first entry", err)
	}
}

// TestSoleImageThatIsNotThere: an image that the layout does not have is not the only one
// in it, and a manifest.json that cannot be read is none that agrees.
func TestSoleImageThatIsNotThere(t *testing.T) {
	l := newTestLayout(t)
	top := l.standard()
	l.dockerManifest(top, nil)
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	gone := top
	gone.Digest = digestOf([]byte("gone"))
	if err := layout.CheckSole(t.Context(), "", gone); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	everyOutage(t, "CheckSole", func(o *outage) error {
		return (&Layout{dir: l.dir, files: flakyFiles{layout.files, o}}).CheckSole(t.Context(), "", top)
	})
	layout.Close()
	if err := layout.CheckSole(t.Context(), "", top); !errors.Is(err, os.ErrClosed) || errors.Is(err, ErrMismatch) {
		t.Errorf("a layout that was closed: got %v", err)
	}
}

// TestLayoutFiles: which files belong to a layout.
func TestLayoutFiles(t *testing.T) {
	hex256, hex512 := strings.Repeat("ab", 32), strings.Repeat("ab", 64)
	for name, want := range map[string]string{
		"oci-layout": "file", "index.json": "file", ".": "dir", "blobs": "dir", "ingest": "dir", "blobs/sha256": "dir", "blobs/sha512": "dir",
		"blobs/sha256/" + hex256: "blob", "blobs/sha512/" + hex512: "blob",
		"blobs/sha256/" + hex512: "", "blobs/sha512/" + hex256: "", "x/sha256/" + hex256: "", "sha256/" + hex256: "", "blobs/md5/" + hex256: "", "x": "",
	} {
		for _, dir := range []bool{false, true} {
			blob, err := layoutFile(name, dir)
			ok := want == "dir" == dir && want != ""
			if (err == nil) != ok || !ok && !errors.Is(err, ErrMismatch) || (blob != v1.Hash{}) != (ok && want == "blob") {
				t.Errorf("%s, directory: %v: got %v, %v, want it to be a %q", name, dir, blob, err, want)
			}
		}
	}
}

// manyFiles are the files of a layout with n blobs.
type manyFiles struct {
	files
	n int
}

func (m manyFiles) walk(visit func(name string, dir bool) error) error {
	for i := range m.n {
		if err := visit(fmt.Sprintf("blobs/sha256/%064x", i), false); err != nil {
			return err
		}
	}
	return nil
}

func (m manyFiles) open(string) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("{}")), 2, nil
}

// TestManyBlobs: as many blobs as may be are counted and searched, and no more.
func TestManyBlobs(t *testing.T) {
	for n, ok := range map[int]bool{maxBlobs: true, maxBlobs + 1: false} {
		l := &Layout{files: manyFiles{n: n}}
		m := measurer{layout: l}
		if err := m.inventory(); (err == nil) != ok || !ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("inventory of %d: got %v, want it accepted: %v", n, err, ok)
		}
		if _, err := l.unlisted(digestOf([]byte("image"))); (err == nil) != ok || !ok && !errors.Is(err, ErrMismatch) {
			t.Errorf("search of %d: got %v, want it accepted: %v", n, err, ok)
		}
	}
}

// TestManifestsOfALayout: a blob that is no manifest is none, also for its digest.
func TestManifestsOfALayout(t *testing.T) {
	l := newTestLayout(t)
	layout, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"", "[]", `{"schemaVersion":3,"manifests":[]}`, `{"schemaVersion":2,"mediaType":"application/x-manifest"}`, `{"schemaVersion":2}`} {
		if _, _, err := layout.Manifest(t.Context(), l.blob("", []byte(raw)).Digest); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a refusal", raw, err)
		}
	}
}

// TestLayoutIsNotRewritten: what is there already is not written again, so that a reader
// of the file is not disturbed.
func TestLayoutIsNotRewritten(t *testing.T) {
	layout, top := savedLayout(t)
	index := filepath.Join(layout.dir, "index.json")
	if err := layout.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := layout.Tag(t.Context(), "v1", top); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(index); err != nil || !os.SameFile(before, after) {
		t.Errorf("index.json was written again: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blobs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateLayout(dir); err == nil {
		t.Error("a layout was made whose blobs have no place")
	}
}

// brokenOnce fails its second read, and goes on after it.
type brokenOnce struct {
	io.Reader
	n int
}

func (b *brokenOnce) Read(p []byte) (int, error) {
	if b.n++; b.n == 2 {
		return 0, errOutage
	}
	return b.Reader.Read(p[:min(1, len(p))])
}

// TestErrorOfABlobStays: a blob whose reader has failed does not end well.
func TestErrorOfABlobStays(t *testing.T) {
	content := []byte("content")
	r, err := verifying(io.NopCloser(&brokenOnce{Reader: bytes.NewReader(content)}), v1.Descriptor{Digest: digestOf(content), Size: 7})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := io.ReadAll(r); !errors.Is(err, errOutage) {
			t.Errorf("got %v, want the error of the first time", err)
		}
	}
}

// TestMeasureRefusesParts: a fault in one part of an index is a fault of the image.
func TestMeasureRefusesParts(t *testing.T) {
	measureRefuses(t, []attack{
		{"missing manifest", "is missing", func(l *testLayout) {
			d := l.image(l.newImage("amd64", fileA(l.t)))
			os.Remove(l.path(blobPath(d.Digest)))
			l.index(d)
		}},
		{"missing manifest of a platform", "is missing", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			os.Remove(l.path(blobPath(list[1].Digest)))
			return list
		})},
		{"artifact as a platform", "artifact", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			im := l.newImage("s390x", fileA(l.t))
			im.manifest.ArtifactType = "application/x-note"
			return append(list, l.image(im))
		})},
		{"configuration of a platform", "platform in configuration", indexOf(func(l *testLayout, list []v1.Descriptor) []v1.Descriptor {
			im := l.newImage("s390x", fileA(l.t))
			im.bendConfig = func([]byte) []byte { return []byte("{}") }
			return append(list, l.image(im))
		})},
		{"manifest inside its descriptor", "got urls or data", func(l *testLayout) {
			d := l.image(l.newImage("amd64", fileA(l.t)))
			d.URLs = []string{"https://example.com/manifest"}
			l.index(d)
		}},
	})
}

// TestPushOfNoPossibleSize: it is refused before the registry is asked.
func TestPushOfNoPossibleSize(t *testing.T) {
	r, n := answering(t, func(http.ResponseWriter, *http.Request) {})
	for _, size := range []int64{-1, limits.LayerPacked + 1} {
		if err := r.PushBlob(t.Context(), v1.Descriptor{Digest: digestOf(nil), Size: size}, nil); !errors.Is(err, ErrMismatch) || n.Load() != 0 {
			t.Errorf("%d bytes: got %v after %d requests, want a refusal before the first", size, err, n.Load())
		}
	}
}

// TestPushedManifestIsKept: what was just pushed is not fetched again.
func TestPushedManifestIsKept(t *testing.T) {
	r, top := pushed(t, newServer(t, true, nil))
	r.base.Host = "127.0.0.1:1" // nobody is there
	if _, _, err := r.Manifest(t.Context(), top.Digest); err != nil {
		t.Errorf("got %v, want it from memory", err)
	}
}

// TestTagRefused: a registry that refuses a tag has said that the tag exists only if it
// answers so, and the tag names something else.
func TestTagRefused(t *testing.T) {
	for status, known := range map[int]bool{http.StatusForbidden: false, http.StatusNotFound: true} {
		host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case !strings.HasSuffix(r.URL.Path, "/manifests/v1"):
				return false
			case r.Method == http.MethodPut:
				w.WriteHeader(status)
			case known:
				serveIndex(w, listOf())
			default:
				w.WriteHeader(http.StatusInternalServerError - 1) // says nothing
			}
			return true
		})
		r, top := pushed(t, host)
		if err := r.Tag(t.Context(), "v1", top); !hasStatus(err, status) || errors.Is(err, ErrTagExists) {
			t.Errorf("%d: got %v, want the refusal", status, err)
		}
	}
}

// TestOneLogin: after the login, a request is sent once.
func TestOneLogin(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	var denied atomic.Int32
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if user, _, _ := r.BasicAuth(); user == "ada" {
			return false
		}
		denied.Add(1)
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	config := filepath.Join(home, "config.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"auths":{%q:{"username":"ada","password":"secret"}}}`, host), 0o600); err != nil {
		t.Fatal(err)
	}
	r := openRegistry(t, host+"/team/app", RegistryOptions{})
	for range 3 {
		if _, err := r.Resolve(t.Context(), "v1"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if denied.Load() != 2 { // the first request, and one ping
		t.Errorf("got %d requests without credentials, want 2", denied.Load())
	}
	// Credentials that cannot be read are not the same as none.
	if err := os.WriteFile(config, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRegistry(t, host+"/team/app", RegistryOptions{}).Resolve(t.Context(), "v1"); err == nil || !strings.Contains(err.Error(), "logging in to "+host) {
		t.Errorf("a configuration that cannot be read: got %v", err)
	}
}

// TestRepositoryNames: the host is said, the name has at most 255 characters, and a hint
// is given only where the name in lower case would be one.
func TestRepositoryNames(t *testing.T) {
	for s, want := range map[string]string{
		"a.example/" + strings.Repeat("a", 245): "", "a.example/" + strings.Repeat("a", 246): "want HOST/NAME",
		"team/app": "want HOST/NAME", "a_.example/app": "want HOST/NAME", "a.example/App?": "want HOST/NAME", "a.example/app?": "want HOST/NAME",
		"Team/App": "want HOST/NAME", "a.example/App": "such as a.example/app",
	} {
		_, err := OpenRegistry(s, RegistryOptions{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", s, err, want)
		}
	}
	r, err := ParseReference("team/app")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if _, err := r.Open(RegistryOptions{}); err == nil || !strings.Contains(err.Error(), "an image is HOST/NAME, with the registry's host") {
		t.Errorf("a directory that is not there: got %v, want the hint", err)
	}
}

// TestSaveOfAPart: what the source does not have is left out and named, and an image of
// which nothing is there is not found.
func TestSaveOfAPart(t *testing.T) {
	l := newTestLayout(t)
	one, two := l.image(l.newImage("amd64", fileA(t))), l.image(l.newImage("arm64", fileA(t)))
	index := func(list ...v1.Descriptor) v1.Descriptor {
		return l.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
	}
	both, none := index(one, two), l.json(types.OCIImageIndex, map[string]any{"schemaVersion": 2, "mediaType": types.OCIImageIndex, "manifests": []string{}})
	if err := os.Remove(l.path(blobPath(two.Digest))); err != nil {
		t.Fatal(err)
	}
	src, err := OpenLayout(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	l.index(both)
	left, err := Save(t.Context(), emptyLayout(t), src, both, "", nil)
	if err != nil || len(left) != 1 || !errors.Is(left[0], ErrNotFound) || !strings.Contains(left[0].Error(), two.Digest.String()) {
		t.Errorf("one of two: got %v, %v, want the other one named", left, err)
	}
	if _, err := Save(t.Context(), emptyLayout(t), src, index(two), "", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("none of one: got %v, want ErrNotFound", err)
	}
	if left, err := Save(t.Context(), emptyLayout(t), src, none, "", nil); err != nil || len(left) > 0 {
		t.Errorf("an index of nothing: got %v, %v", left, err)
	}
	// index.json may list the parts, too. One that is there must be as it says.
	l.index(both, one, two)
	if err := src.CheckSole(t.Context(), "", both); err != nil {
		t.Errorf("a part that is missing: %v", err)
	}
	one.Size++
	l.index(both, one)
	if err := src.CheckSole(t.Context(), "", both); !errors.Is(err, ErrMismatch) {
		t.Errorf("a part of another size: got %v, want a refusal", err)
	}
}

// TestCosignSavedIndex: `cosign save` of an index marks it in another way than an image.
// The search among the blobs reports a failure to read, and finds the largest manifest
// that Attachments reads.
func TestCosignSavedIndex(t *testing.T) {
	c := newCosignSaved(t)
	top := c.json(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{c.image}})
	top.Annotations = map[string]string{"kind": cosignImage + "Index"}
	c.index(top)
	want := c.attach(top, `{"a":1}`)
	l := c.open()
	if got, err := l.Referrers(t.Context(), top.Digest); err != nil || len(got) != 1 || got[0].Digest != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
	everyOutage(t, "Referrers", func(o *outage) error {
		_, err := (&Layout{dir: c.dir, files: flakyFiles{l.files, o}}).Referrers(t.Context(), top.Digest)
		return err
	})
	raw, err := BundleManifest(top, []byte(`{"b":1}`), strings.Repeat("x", 60_000), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	largest := c.blob("", append(raw, bytes.Repeat([]byte(" "), attachedManifest-len(raw))...))
	c.blob("", append(raw, bytes.Repeat([]byte(" "), attachedManifest-len(raw)+1)...))
	if got, err := l.Referrers(t.Context(), top.Digest); err != nil || len(got) != 2 || got[0].Digest != largest.Digest && got[1].Digest != largest.Digest {
		t.Errorf("got %v, %v, want %s and the largest, %s", got, err, want, largest.Digest)
	}
}

// TestListsThatAreNone: an answer that cannot be read, or does not say that it is a list,
// is no list, and a next page is at an address.
func TestListsThatAreNone(t *testing.T) {
	const entry = `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}`
	for name, test := range map[string]struct{ contentType, body, link string }{
		"an entry that is none":            {string(types.OCIImageIndex), `{"schemaVersion":2,"manifests":[5]}`, ""},
		"two digests of an entry":          {string(types.OCIImageIndex), `{"schemaVersion":2,"manifests":[` + strings.Replace(entry, `"size"`, `"Digest":"sha256:1","size"`, 1) + `]}`, ""},
		"no JSON":                          {string(types.OCIImageIndex), `{`, ""},
		"entries of another schema":        {"application/json", `{"manifests":[` + entry + `]}`, ""},
		"entries before what is no string": {"application/json", `{"schemaVersion":2,"manifests":[` + entry + `],"mediaType":5}`, ""},
		"a next page nowhere":              {string(types.OCIImageIndex), `{"schemaVersion":2,"manifests":[` + entry + `]}`, `<http://[>; rel="next"`},
	} {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", test.contentType)
			w.Header().Set("Link", test.link)
			io.WriteString(w, test.body)
		})
		if list, err := r.Referrers(t.Context(), digestOf([]byte("image"))); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, %v, want an error", name, list, err)
		}
	}
	r, n := answering(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := r.PushManifest(t.Context(), []byte(`{}`), string(types.OCIManifestSchema1)); !errors.Is(err, ErrMismatch) || n.Load() != 0 {
		t.Errorf("a manifest that is none: got %v after %d requests, want a refusal before the first", err, n.Load())
	}
}

// TestLongestPatience: a wait as long as the patience is begun. Who gives up meanwhile
// learns why the request failed.
func TestLongestPatience(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", fmt.Sprint(int(reach.Patience.Seconds())))
		w.WriteHeader(http.StatusServiceUnavailable)
		time.AfterFunc(100*time.Millisecond, cancel)
	})
	if _, err := r.Resolve(ctx, "v1"); !errors.Is(err, context.Canceled) || !hasStatus(err, http.StatusServiceUnavailable) {
		t.Errorf("got %v, want the last answer, and that it was cancelled", err)
	}
}
