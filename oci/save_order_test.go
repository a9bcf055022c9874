package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A ledger writes down in which order a registry was asked to store what.
type ledger struct {
	mu      sync.Mutex
	done    []string                                          // METHOD PATH
	refuses func(done []string, r *http.Request) (status int) // 0: nothing
}

func (l *ledger) before(w http.ResponseWriter, r *http.Request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuses != nil {
		if status := l.refuses(l.done, r); status != 0 {
			http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no subject"}]}`, status)
			return true
		}
	}
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		l.done = append(l.done, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v2/team/copy/"))
	}
	return false
}

func (l *ledger) at(request string) int { return slices.Index(l.done, request) }

// proven is a registry with an image and five bundles of it.
func proven(t *testing.T) (src *Registry, top v1.Descriptor, bundles []v1.Descriptor) {
	t.Helper()
	src, top = pushed(t, newServer(t, true, nil))
	for i := range 5 {
		d, err := AttachBundle(t.Context(), src, top, fmt.Appendf(nil, "bundle %d", i), "kind", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, d)
	}
	return src, top, bundles
}

// TestSaveTagsLast: the image gets its tag in one request, the last one, and what all
// attachments share is pushed once.
func TestSaveTagsLast(t *testing.T) {
	src, top, bundles := proven(t)
	var l ledger
	dst := openRegistry(t, newServer(t, true, l.before)+"/team/copy", RegistryOptions{})
	if left, err := Save(t.Context(), dst, src, top, "v1", nil); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
	if last := l.done[len(l.done)-1]; last != "PUT manifests/v1" || l.at("PUT manifests/"+top.Digest.String()) >= 0 {
		t.Errorf("got %q, want the tag last, and the image once", l.done)
	}
	for _, b := range bundles {
		if l.at("PUT manifests/"+b.Digest.String()) < 0 {
			t.Errorf("bundle %s is missing: %q", b.Digest, l.done)
		}
	}
	blobs := 0
	for _, r := range l.done {
		if strings.HasPrefix(r, "POST ") {
			blobs++
		}
	}
	c := copier{src: src, seen: map[v1.Hash]bool{}}
	if err := c.read(t.Context(), top); err != nil {
		t.Fatal(err)
	}
	if want := len(c.blobs) + 1 + len(bundles); blobs != want {
		t.Errorf("got %d uploads, want %d: those of the image, {} once, and the bundles", blobs, want)
	}
}

// TestSaveWithoutProofsHasNoTag: whichever proof a registry does not take, there is no tag.
func TestSaveWithoutProofsHasNoTag(t *testing.T) {
	src, top, bundles := proven(t)
	for _, b := range bundles {
		l := ledger{refuses: func(_ []string, r *http.Request) int {
			if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, b.Digest.String()) {
				return http.StatusForbidden
			}
			return 0
		}}
		dst := openRegistry(t, newServer(t, true, l.before)+"/team/copy", RegistryOptions{})
		if _, err := Save(t.Context(), dst, src, top, "v1", nil); !hasStatus(err, http.StatusForbidden) {
			t.Errorf("got %v, want 403", err)
		}
		if _, err := dst.Resolve(t.Context(), "v1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("the tag: got %v, want none", err)
		}
	}
}

// TestSaveWhereTheSubjectMustBeFirst: a registry that takes no referrer of a manifest that it does
// not have gets the image first, and everything in the end.
func TestSaveWhereTheSubjectMustBeFirst(t *testing.T) {
	src, top, bundles := proven(t)
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity} {
		image := "PUT manifests/" + top.Digest.String()
		l := ledger{refuses: func(done []string, r *http.Request) int {
			for _, b := range bundles {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "manifests/"+b.Digest.String()) && !slices.Contains(done, image) {
					return status
				}
			}
			return 0
		}}
		dst := openRegistry(t, newServer(t, true, l.before)+"/team/copy", RegistryOptions{})
		if left, err := Save(t.Context(), dst, src, top, "v1", nil); err != nil || len(left) > 0 {
			t.Errorf("%d: got %v, %v", status, left, err)
			continue
		}
		if found, err := Bundles(t.Context(), dst, top.Digest); err != nil || len(found) != len(bundles) {
			t.Errorf("%d: got %d bundles, %v, want %d", status, len(found), err, len(bundles))
		}
		if last := l.done[len(l.done)-1]; last != "PUT manifests/v1" {
			t.Errorf("%d: got %s last, want the tag", status, last)
		}
	}
}

// TestTagOfAnotherDigest: a registry that answers with another digest than that of the bytes has
// stored something else.
func TestTagOfAnotherDigest(t *testing.T) {
	src, top, _ := proven(t)
	host := newServer(t, true, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
			return false
		}
		w.Header().Set("Docker-Content-Digest", digestOf([]byte("other")).String())
		w.WriteHeader(http.StatusCreated)
		return true
	})
	dst := openRegistry(t, host+"/team/copy", RegistryOptions{})
	if _, err := Save(t.Context(), dst, src, top, "v1", nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("got %v, want ErrMismatch", err)
	}
}

// TestVerifyingTwice: a reader that checks a blob is checked again only for another blob, or if
// somebody has read from it.
func TestVerifyingTwice(t *testing.T) {
	content := []byte("content")
	d := v1.Descriptor{Digest: digestOf(content), Size: int64(len(content))}
	open := func(raw []byte) io.ReadCloser {
		r, err := verifying(io.NopCloser(bytes.NewReader(raw)), d)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := open(content)
	if again, err := verifying(first, d); err != nil || again != first {
		t.Errorf("the same blob: got another reader, %v", err)
	}
	again, err := verifying(open([]byte("cOntent")), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(again); !errors.Is(err, ErrMismatch) {
		t.Errorf("another content: got %v", err)
	}
	for name, other := range map[string]v1.Descriptor{"digest": {Digest: digestOf([]byte("x")), Size: d.Size}, "size": {Digest: d.Digest, Size: d.Size - 1}} {
		r, err := verifying(open(content), other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, ErrMismatch) {
			t.Errorf("another %s: got %v", name, err)
		}
	}
	begun := open(content)
	if _, err := begun.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if r, err := verifying(begun, d); err != nil {
		t.Fatal(err)
	} else if _, err := io.ReadAll(r); !errors.Is(err, ErrMismatch) {
		t.Errorf("a reader that was read from: got %v", err)
	}
}

// TestCopyOfDataThatLies: the data in a descriptor is used only if it is the blob.
func TestCopyOfDataThatLies(t *testing.T) {
	src, top := pushed(t, newServer(t, true, nil))
	content := []byte("what the blob has")
	blob := v1.Descriptor{MediaType: "application/x.test", Digest: digestOf(content), Size: int64(len(content))}
	if err := pushContent(t.Context(), src, blob.MediaType, content); err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"what it has not..", "short", strings.Repeat("long", 100)} {
		raw, err := artifactManifest(top, blob.MediaType, content, map[string]string{"data": data})
		if err != nil {
			t.Fatal(err)
		}
		var m v1.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		m.Layers[0].Data = []byte(data)
		if raw, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		if err := TryAttach(t.Context(), src); err != nil {
			t.Fatal(err)
		}
		d, err := src.PushManifest(t.Context(), raw, string(m.MediaType))
		if err != nil {
			t.Fatal(err)
		}
		dst := openRegistry(t, newServer(t, true, nil)+"/team/copy", RegistryOptions{})
		if err := Copy(t.Context(), dst, src, d); err != nil {
			t.Errorf("%q: %v", data, err)
		} else if got, err := readBlob(t.Context(), dst, blob, 100); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q: got %q, %v", data, got, err)
		}
	}
}

// TestWrongBlobIsNeverWhole: a server that has got all bytes may accept an upload before its source is
// found to be wrong.
func TestWrongBlobIsNeverWhole(t *testing.T) {
	want := v1.Descriptor{Digest: digestOf([]byte("content")), Size: 7}
	for _, text := range []string{"c0ntent", "contents", "content"} {
		for how, of := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "by bytes": iotest.OneByteReader, "with the error": iotest.DataErrReader} {
			r, err := verifying(io.NopCloser(of(strings.NewReader(text))), want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if right := text == "content"; (err == nil) != right || (len(got) == 7) != right || !right && !errors.Is(err, ErrMismatch) {
				t.Errorf("%s, %s: got %q, %v", text, how, got, err)
			}
		}
	}
}
