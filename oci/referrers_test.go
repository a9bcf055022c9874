package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

const ociIndex = string(types.OCIImageIndex)

// without writes an answer in place of the referrers API.
func without(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// ways are answers to a request for referrers: of registries that say that they have no
// API, of something else than a registry, and of registries that may have the API.
func ways(t *testing.T) (missing, odd, undecided map[string]http.HandlerFunc) {
	elsewhere := httptest.NewServer(without(http.StatusOK, "text/html", "<html>sign in</html>"))
	t.Cleanup(elsewhere.Close)
	to := func(address string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, address, http.StatusFound) }
	}
	odd = map[string]http.HandlerFunc{
		"HTML":                            without(200, "text/html", "<html>"),
		"JSON of another kind":            without(200, "application/json", `{"errors":[{"code":"UNSUPPORTED"}]}`),
		"JSON of another kind, as a list": without(200, ociIndex, `{"errors":[{"code":"UNSUPPORTED"}]}`),
		"a manifest":                      without(200, string(types.OCIManifestSchema1), `{"schemaVersion":2,"mediaType":"`+string(types.OCIManifestSchema1)+`"}`),
		"an empty list of another type":   without(200, "application/json", `{"schemaVersion":2,"manifests":[]}`),
		"nothing":                         without(200, "application/json", ""),
		"a redirect to another host":      to(elsewhere.URL + "/login"),
		"a redirect without an end": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		},
		"a redirect without an address": without(http.StatusMovedPermanently, "text/plain", ""),
	}
	missing = map[string]http.HandlerFunc{}
	for _, status := range []int{400, 404, 405, 406, 501} {
		missing[http.StatusText(status)] = without(status, "application/json", `{"errors":[{"code":"UNSUPPORTED"}]}`)
	}
	undecided = map[string]http.HandlerFunc{
		"a list that two readers read differently": without(200, ociIndex, `{"schemaVersion":2,"manifests":[],"manifests":[]}`),
		"a list that is cut off":                   without(200, ociIndex, `{"schemaVersion":2,"manifests":[`),
	}
	for _, status := range []int{401, 403, 429, 500, 502, 503, 504} {
		undecided[http.StatusText(status)] = without(status, "application/json", `{}`)
	}
	return missing, odd, undecided
}

// waysRegistry is a registry without the referrers API that holds the standard image.
func waysRegistry(t *testing.T) (*Registry, v1.Descriptor, *atomic.Value) {
	var answer atomic.Value
	answer.Store(http.HandlerFunc(without(404, "text/plain", "")))
	host := newServer(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		answer.Load().(http.HandlerFunc)(w, r)
		return true
	})
	r, image := pushed(t, host)
	return r, image, &answer
}

// TestWaysToReferrers: what is attached is found by the ways that the registry has,
// whatever it answers in place of the others.
func TestWaysToReferrers(t *testing.T) {
	r, image, answer := waysRegistry(t)
	missing, odd, undecided := ways(t)
	// The signature of cosign v2 is there from the beginning, the referrer later.
	if err := r.Tag(t.Context(), CosignSignatures.Of(image.Digest), image); err != nil {
		t.Fatal(err)
	}
	look := func(t *testing.T, a http.HandlerFunc) ([]Attached, *Registry, error) {
		answer.Store(a)
		fresh := openRegistry(t, r.Name(), RegistryOptions{})
		list, err := Attachments(t.Context(), fresh, image.Digest, CosignSignatures)
		return list, fresh, err
	}
	// listed: there is a list under the fallback tag.
	expect := func(when string, referrers int, listed bool) {
		for name, a := range missing {
			t.Run(when+"/"+name, func(t *testing.T) {
				list, fresh, err := look(t, a)
				if err != nil || len(list) != referrers+1 || list[referrers].Tag != CosignSignatures {
					t.Fatalf("got %+v, %v, want %d referrers and the signature", list, err, referrers)
				}
				if said := fresh.WithoutReferrersAPI(); !strings.HasPrefix(said, "the registry has no referrers API: ") {
					t.Errorf("got %q, want how the registry answered", said)
				}
			})
		}
		for name, a := range odd {
			t.Run(when+"/"+name, func(t *testing.T) {
				list, fresh, err := look(t, a)
				n := len(list)
				if !listed {
					if n--; n < 0 || noAPI(list[n].Err) == nil {
						t.Fatalf("got %+v, %v, want an error among them", list, err)
					}
					if _, err := fresh.Referrers(t.Context(), image.Digest); err == nil {
						t.Error("no error, and nobody knows the referrers")
					}
				}
				if err != nil || n != referrers+1 || list[referrers].Tag != CosignSignatures {
					t.Fatalf("got %+v, %v, want %d referrers and the signature", list, err, referrers)
				}
			})
		}
		for name, a := range undecided {
			t.Run(when+"/"+name, func(t *testing.T) {
				if list, _, err := look(t, a); err == nil {
					t.Errorf("got %+v, want an error", list)
				}
			})
		}
	}
	expect("no fallback tag", 0, false)
	// GitLab gives the image itself the fallback tag.
	if err := r.Tag(t.Context(), fallbackTag(image.Digest), r.part(t, image)); err != nil {
		t.Fatal(err)
	}
	expect("the fallback tag is an image", 0, false)
	answer.Store(http.HandlerFunc(odd["HTML"]))
	if _, err := AttachBundle(t.Context(), r, image, []byte(`{}`), attest.PredicateSign, time.Unix(0, 0)); noAPI(err) == nil {
		t.Errorf("attaching behind a login page: got %v, want an error", err)
	}
	answer.Store(http.HandlerFunc(without(405, "text/plain", "")))
	if _, err := AttachBundle(t.Context(), r, image, []byte(`{}`), attest.PredicateSign, time.Unix(0, 0)); !errors.Is(err, errNoListing) {
		t.Errorf("attaching in place of that image: got %v, want an error", err)
	}
	raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.putManifest(t.Context(), fallbackTag(image.Digest), raw, ociIndex); err != nil {
		t.Fatal(err)
	}
	answer.Store(http.HandlerFunc(without(501, "text/plain", "")))
	if _, err := AttachBundle(t.Context(), r, image, []byte(`{}`), attest.PredicateSign, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	expect("a referrer under the fallback tag", 1, true)
}

// part returns the first manifest of an index.
func (r *Registry) part(t *testing.T, index v1.Descriptor) v1.Descriptor {
	t.Helper()
	raw, _, err := r.Manifest(t.Context(), index.Digest)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseContent(raw, index.MediaType)
	if err != nil {
		t.Fatal(err)
	}
	return c.Manifests[0]
}

// TestListOfAnyType: entries of a list count whatever its type; a later page that is no
// list cuts it off.
func TestListOfAnyType(t *testing.T) {
	r, image, answer := waysRegistry(t)
	entry := `{"mediaType":"` + string(types.OCIManifestSchema1) + `","size":2,"digest":"sha256:` + strings.Repeat("ab", 32) + `"}`
	for contentType, body := range map[string]string{
		"application/json": `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + entry + `]}`,
		"text/plain":       `{"schemaVersion":2,"manifests":[` + entry + `]}`,
		ociIndex:           `{"manifests":[` + entry + `]}`,
	} {
		answer.Store(http.HandlerFunc(without(200, contentType, body)))
		fresh := openRegistry(t, r.Name(), RegistryOptions{})
		if list, err := fresh.Referrers(t.Context(), image.Digest); err != nil || len(list) != 1 || fresh.WithoutReferrersAPI() != "" {
			t.Errorf("%s: got %v, %v, %q, want one referrer", contentType, list, err, fresh.WithoutReferrersAPI())
		}
	}
	for name, second := range map[string]http.HandlerFunc{"404": without(404, "", ""), "HTML": without(200, "text/html", "<html>")} {
		answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				second(w, r)
				return
			}
			w.Header().Set("Link", `<`+r.URL.Path+`?page=2>; rel="next"`)
			without(200, ociIndex, `{"schemaVersion":2,"manifests":[`+entry+`]}`)(w, r)
		}))
		if list, err := openRegistry(t, r.Name(), RegistryOptions{}).Referrers(t.Context(), image.Digest); err == nil || !strings.Contains(err.Error(), "page 2") {
			t.Errorf("%s in place of page 2: got %v, %v, want an error", name, list, err)
		}
	}
}

// indexUnderTag is a registry without the referrers API, which counts how often the
// index under the fallback tag is read, and when it was written.
type indexUnderTag struct {
	gets    atomic.Int64
	raw     atomic.Value
	written atomic.Int64
	slow    time.Duration
}

func (i *indexUnderTag) answer(w http.ResponseWriter, r *http.Request) {
	time.Sleep(i.slow)
	if r.Method == http.MethodPut {
		raw, _ := io.ReadAll(r.Body)
		i.raw.Store(raw)
		i.written.Store(time.Now().UnixNano())
		w.WriteHeader(http.StatusCreated)
		return
	}
	i.gets.Add(1)
	serveIndex(w, i.raw.Load().([]byte))
}

// TestFallbackTagIsWatched: another client of a slow registry takes long between its read
// and its write. An entry counts as written when the index had it for longer than that.
func TestFallbackTagIsWatched(t *testing.T) {
	t.Parallel()
	index := &indexUnderTag{slow: 100 * time.Millisecond}
	index.raw.Store(listOf())
	r, top := fallback(t, index.answer)
	if _, err := AttachBundle(t.Context(), r, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	// The first look reads and writes: 200 ms.
	if got := time.Since(time.Unix(0, index.written.Load())); got < settleFloor+4*2*index.slow {
		t.Errorf("watched for %s, want %s", got, settleFloor+4*2*index.slow)
	}
	// Again: the entry is there already, and is watched as long. A lost one is watched anew.
	index.slow, index.gets = 0, atomic.Int64{}
	if _, err := AttachBundle(t.Context(), r, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if n := index.gets.Load(); n < 2 {
		t.Errorf("looked %d times at an index that had the entry, want more", n)
	}
}

// TestLastEntryUnderTheFallbackTag: as many entries as an index may have, and as many
// bytes.
func TestLastEntryUnderTheFallbackTag(t *testing.T) {
	t.Parallel()
	var most []v1.Hash
	for i := range limits.IndexManifests - 1 {
		most = append(most, digestOf(fmt.Append(nil, i)))
	}
	index := &indexUnderTag{}
	index.raw.Store(listOf(most...))
	r, top := fallback(t, index.answer)
	if _, err := AttachBundle(t.Context(), r, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
		t.Error(err)
	}
	large := func(n int) []byte {
		return bytes.Replace(listOf(most[0]), []byte(`"size"`), []byte(`"annotations":{"x":"`+strings.Repeat("x", n)+`"},"size"`), 1)
	}
	index.raw.Store(large(0))
	if _, err := AttachBundle(t.Context(), r, top, []byte("other"), attest.PredicateSLSA1, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	left := limits.Manifest - len(index.raw.Load().([]byte))
	for n, ok := range map[int]bool{left: true, left + 1: false} {
		index.raw.Store(large(n))
		if _, err := AttachBundle(t.Context(), r, top, []byte("other"), attest.PredicateSLSA1, time.Unix(0, 0)); (err == nil) != ok || !ok && !strings.Contains(err.Error(), "is full") {
			t.Errorf("%d bytes left: got %v, want it attached: %v", left-n, err, ok)
		}
	}
}
