package oci

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
)

// fallback is a registry without the referrers API; index answers for the fallback tag.
func fallback(t *testing.T, index http.HandlerFunc) (*Registry, v1.Descriptor) {
	t.Helper()
	host := newServer(t, false, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/sha256-") {
			return false
		}
		index(w, r)
		return true
	})
	return pushed(t, host)
}

func listOf(digests ...v1.Hash) []byte {
	var entries []string
	for _, d := range digests {
		entries = append(entries, fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":%q}`, types.OCIManifestSchema1, d))
	}
	return []byte(`{"schemaVersion":2,"mediaType":"` + string(types.OCIImageIndex) + `","manifests":[` + strings.Join(entries, ",") + `]}`)
}

func serveIndex(w http.ResponseWriter, raw []byte) {
	w.Header().Set("Content-Type", string(types.OCIImageIndex))
	w.Write(raw)
}

// TestFallbackTagRefuses: what stands under the fallback tag is a list, and a list that
// cannot grow keeps nobody's referrer out in silence.
func TestFallbackTagRefuses(t *testing.T) {
	t.Parallel()
	var full []v1.Hash
	for i := range min(limits.Referrers, limits.IndexManifests) {
		full = append(full, digestOf(fmt.Append(nil, i)))
	}
	for name, test := range map[string]struct {
		index http.HandlerFunc
		want  string
	}{
		"an image": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			fmt.Fprintf(w, `{"schemaVersion":2,"config":{"mediaType":"x","digest":%q,"size":2}}`, digestOf(emptyConfig))
		}, "not an index of referrers"},
		"no digest": {func(w http.ResponseWriter, _ *http.Request) {
			serveIndex(w, []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"x","size":1}]}`))
		}, "digest"},
		"full": {func(w http.ResponseWriter, _ *http.Request) { serveIndex(w, listOf(full...)) }, fmt.Sprintf("more than %d referrers", len(full))},
		"fixed": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusConflict)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}, "does not let tag sha256-"},
		"denied": {func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			w.WriteHeader(http.StatusNotFound)
		}, "403 Forbidden"},
	} {
		r, top := fallback(t, test.index)
		if _, err := AttachBundle(t.Context(), r, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// TestLostWritesAreRepeated: another client's late write removes our entry, and one that
// we saw before. Both are written again.
func TestLostWritesAreRepeated(t *testing.T) {
	t.Parallel()
	other, late := digestOf([]byte("other")), digestOf([]byte("late"))
	var gets atomic.Int64
	var index atomic.Value
	index.Store(listOf(other))
	r, top := fallback(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			raw, _ := io.ReadAll(r.Body)
			index.Store(raw)
			w.WriteHeader(http.StatusCreated)
			return
		}
		if gets.Add(1) == 3 { // the first look wrote, and the second one found all
			index.Store(listOf(late))
		}
		serveIndex(w, index.Load().([]byte))
	})
	d, err := AttachBundle(t.Context(), r, top, []byte("bundle"), attest.PredicateSLSA1, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []v1.Hash{other, late, d.Digest} {
		if !bytes.Contains(index.Load().([]byte), []byte(want.Hex)) {
			t.Errorf("%s is lost", want)
		}
	}
	if !bytes.Contains(index.Load().([]byte), []byte(attest.BundleMediaType)) || !bytes.Contains(index.Load().([]byte), []byte(attest.PredicateSLSA1)) {
		t.Error("the entry lacks its artifact type or annotations")
	}
}

// TestPagesOfReferrers: a listing is whole, or an error.
func TestPagesOfReferrers(t *testing.T) {
	digests := func(from, n int) (list []v1.Hash) {
		for i := range n {
			list = append(list, digestOf(fmt.Append(nil, from+i)))
		}
		return list
	}
	for name, test := range map[string]struct {
		pages [][]byte
		want  int // entries; 0: an error
	}{
		"two pages":      {[][]byte{listOf(digests(0, 2)...), listOf(digests(1, 3)...)}, 4},
		"as many as can": {[][]byte{listOf(digests(0, limits.Referrers)...)}, limits.Referrers},
		"one too many":   {[][]byte{listOf(digests(0, limits.Referrers)...), listOf(digests(limits.Referrers, 1)...)}, 0},
		"second is gone": {[][]byte{listOf(digests(0, 2)...), nil}, 0},
	} {
		r, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("page"))
			if n >= len(test.pages) || test.pages[n] == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			if n+1 < len(test.pages) {
				w.Header().Set("Link", fmt.Sprintf(`<?page=%d>; rel="next"`, n+1))
			}
			serveIndex(w, test.pages[n])
		})
		list, err := r.Referrers(t.Context(), digestOf([]byte("image")))
		if (err == nil) != (test.want > 0) || len(list) != test.want {
			t.Errorf("%s: got %d, %v, want %d", name, len(list), err, test.want)
		}
	}
	var empty referrerList
	for range limits.Referrers {
		if err := empty.add([]byte(`{"manifests":[]}`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := empty.add([]byte(`{"manifests":[]}`)); err == nil {
		t.Error("a listing with no end is read")
	}
}
