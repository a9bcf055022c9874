package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// bySubject lists only the referrers of the manifest that it is asked about.
type bySubject struct {
	*prooftest.Store
	fail map[v1.Hash]error // of listings, by subject
}

func (b bySubject) Referrers(ctx context.Context, subject v1.Hash) (of []v1.Descriptor, err error) {
	all, err := b.Store.Referrers(ctx, subject)
	for _, d := range all {
		raw, _, err := b.Manifest(ctx, d.Digest)
		var m v1.Manifest
		if err == nil && strict.Unmarshal(raw, limits.Manifest, &m) == nil && m.Subject != nil && m.Subject.Digest == subject {
			of = append(of, d)
		}
	}
	if b.fail[subject] != nil {
		err = b.fail[subject]
	}
	return of, err
}

// wrapping is a released manifest, and indexes that have it.
type wrapping struct {
	*scene
	inner, other v1.Descriptor // linux/amd64 and linux/arm64
	fail         map[v1.Hash]error
}

func newWrapping(t *testing.T) *wrapping {
	c := newScene(t)
	c.wants.Ref = ""
	index := indexOf(t, c.s, c.r.Image)
	return &wrapping{c, index.Manifests[0], index.Manifests[1], map[v1.Hash]error{}}
}

// prove attaches the proofs of a release of d.
func (w *wrapping) prove(d v1.Descriptor, change func(*prooftest.Release)) {
	r := w.p.ReleaseOf(d)
	if change != nil {
		change(r)
	}
	for _, kind := range prooftest.Kinds {
		w.s.Attach(d, w.p.Sign(r.Signer(), r.Statement(kind)), kind)
	}
}

// index stores an index as `docker buildx imagetools create` writes it.
func (w *wrapping) index(entries ...v1.Descriptor) v1.Descriptor {
	w.t.Helper()
	raw, err := json.MarshalIndent(v1.IndexManifest{MediaType: types.OCIImageIndex, SchemaVersion: 2, Manifests: entries}, "", "  ")
	if err != nil {
		w.t.Fatal(err)
	}
	return w.s.Put(raw, types.OCIImageIndex)
}

// beside stores a manifest for the platform unknown/unknown with one layer.
func (w *wrapping) beside(layer string, mediaType types.MediaType) v1.Descriptor {
	w.t.Helper()
	raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{w.s.Put([]byte(layer), mediaType)},
		Config: w.s.Put([]byte(`{"architecture":"unknown","os":"unknown"}`), types.OCIConfigJSON)})
	if err != nil {
		w.t.Fatal(err)
	}
	d := w.s.Put(raw, types.OCIManifestSchema1)
	d.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	return d
}

func (w *wrapping) ask(d v1.Descriptor) *verify.Verdict {
	w.t.Helper()
	w.opts.Trust, w.opts.Policy = []*trust.Root{w.p.Root()}, demanded(w.t, w.wants)
	v := verify.Image(w.t.Context(), bySubject{w.s, w.fail}, d.Digest.String(), w.now, w.opts)
	for _, l := range v.Links {
		w.t.Logf("%-11s %-9s %s%s", l.Name, l.Status, l.Claim, l.Reason)
	}
	w.t.Log(v.Hint)
	return v
}

// TestWrappedManifest: an index that adds nothing to a manifest is as good as the
// manifest, and an index that adds anything is not.
func TestWrappedManifest(t *testing.T) {
	for name, tt := range map[string]struct {
		entries func(w *wrapping) []v1.Descriptor
		want    verify.Outcome
	}{
		"alone": {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.inner} }, verify.Accepted},
		"with BuildKit's attestation": {func(w *wrapping) []v1.Descriptor {
			return []v1.Descriptor{w.inner, w.beside(`{"_type":"https://in-toto.io/Statement/v1"}`, "application/vnd.in-toto+json")}
		}, verify.Accepted},
		"with another platform":         {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.inner, w.other} }, verify.Rejected},
		"after another platform":        {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.other, w.inner} }, verify.Rejected},
		"with a runnable attachment":    {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.inner, w.beside("a tar", types.OCILayer)} }, verify.Rejected},
		"with an attachment of no type": {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.inner, w.beside("a tar", "application/x")} }, verify.Rejected},
		"with a missing attachment": {func(w *wrapping) []v1.Descriptor {
			d := w.beside("{}", "application/vnd.in-toto+json")
			w.s.Remove(d.Digest)
			return []v1.Descriptor{w.inner, d}
		}, verify.Rejected},
		"called unknown": {func(w *wrapping) []v1.Descriptor {
			w.inner.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
			return []v1.Descriptor{w.inner}
		}, verify.Rejected},
		"called another platform": {func(w *wrapping) []v1.Descriptor {
			w.inner.Platform = w.other.Platform
			return []v1.Descriptor{w.inner}
		}, verify.Rejected},
		"of another size": {func(w *wrapping) []v1.Descriptor { w.inner.Size++; return []v1.Descriptor{w.inner} }, verify.Rejected},
		"of another type": {func(w *wrapping) []v1.Descriptor {
			w.inner.MediaType = types.DockerManifestSchema2
			return []v1.Descriptor{w.inner}
		}, verify.Rejected},
		"with other bytes": {func(w *wrapping) []v1.Descriptor { w.inner.Data = []byte("x"); return []v1.Descriptor{w.inner} }, verify.Rejected},
		"from elsewhere": {func(w *wrapping) []v1.Descriptor {
			w.inner.URLs = []string{"https://x.example"}
			return []v1.Descriptor{w.inner}
		}, verify.Rejected},
		"an index": {func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.index(w.inner)} }, verify.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrapping(t)
			w.prove(w.inner, nil)
			inner := w.inner.Digest.String()
			index := w.index(tt.entries(w)...)
			v := w.ask(index)
			if v.Outcome != tt.want {
				t.Fatalf("got %v, want %v", v.Outcome, tt.want)
			}
			if v.Outcome == verify.Accepted && !strings.Contains(requirement(t, v, "provenance exists").Evidence, "about the manifest "+w.inner.Digest.String()) {
				t.Errorf("got %+v, want the provenance to be about the manifest", v.Requirements)
			}
			if v.Outcome == verify.Accepted && (v.Digest != inner || v.Index != index.Digest.String() || !strings.Contains(link(t, v, verify.LinkImage).Claim, "wraps this manifest")) {
				t.Errorf("got digest %s in index %s, want %s in %s", v.Digest, v.Index, inner, index.Digest)
			}
		})
	}
}

// TestWrappedEvidence: what is signed about the index itself counts, and the proofs of
// the manifest must meet the policy.
func TestWrappedEvidence(t *testing.T) {
	another := func(r *prooftest.Release) {
		const uri = "https://git.example.com/team/application"
		r.Parameters.Source.URI, r.Identity.SourceURI = uri, uri
		r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(uri, prooftest.Ref)
	}
	for name, tt := range map[string]struct {
		bend func(w *wrapping, index v1.Descriptor)
		want verify.Outcome
		in   bool // the verdict is about the manifest
	}{
		"the manifest is proved":          {func(w *wrapping, _ v1.Descriptor) { w.prove(w.inner, nil) }, verify.Accepted, true},
		"the index is proved":             {func(w *wrapping, index v1.Descriptor) { w.prove(index, nil) }, verify.Accepted, false},
		"both are":                        {func(w *wrapping, index v1.Descriptor) { w.prove(index, nil); w.prove(w.inner, another) }, verify.Accepted, false},
		"neither is":                      {func(*wrapping, v1.Descriptor) {}, verify.Rejected, false},
		"the manifest has another source": {func(w *wrapping, _ v1.Descriptor) { w.prove(w.inner, another) }, verify.Rejected, true},
		"the index has another source":    {func(w *wrapping, index v1.Descriptor) { w.prove(index, another); w.prove(w.inner, nil) }, verify.Rejected, false},
		"the index's list is unread":      {func(w *wrapping, index v1.Descriptor) { w.fail[index.Digest] = errDown; w.prove(w.inner, nil) }, verify.Undecided, false},
		"the manifest's list is unread":   {func(w *wrapping, _ v1.Descriptor) { w.fail[w.inner.Digest] = errDown; w.prove(w.inner, nil) }, verify.Undecided, true},
		"the manifest is unread":          {func(w *wrapping, _ v1.Descriptor) { w.prove(w.inner, nil); w.s.Fail[w.inner.Digest.String()] = errDown }, verify.Undecided, false},
		"junk at the index": {func(w *wrapping, index v1.Descriptor) {
			w.s.Attach(index, []byte("{}"), attest.PredicateSLSA1)
			w.prove(w.inner, nil)
		}, verify.Accepted, true},
		"a proof of the manifest, moved": {func(w *wrapping, index v1.Descriptor) {
			r := w.p.ReleaseOf(w.inner)
			for _, kind := range prooftest.Kinds {
				w.s.Attach(index, w.p.Sign(r.Signer(), r.Statement(kind)), kind)
			}
		}, verify.Rejected, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrapping(t)
			index := w.index(w.inner)
			tt.bend(w, index)
			v := w.ask(index)
			if v.Outcome != tt.want {
				t.Fatalf("got %v, want %v", v.Outcome, tt.want)
			}
			if got := v.Index != ""; got != tt.in {
				t.Errorf("the verdict is about %s, in the index %q", v.Digest, v.Index)
			}
		})
	}
}

// TestProofsOfOnePlatform: proofs of a manifest in an index count for its platform
// alone, and only if nobody else is meant by it.
func TestProofsOfOnePlatform(t *testing.T) {
	amd64, arm64 := &v1.Platform{OS: "linux", Architecture: "amd64"}, &v1.Platform{OS: "linux", Architecture: "arm64"}
	second := func(platform *v1.Platform) func(w *wrapping) []v1.Descriptor {
		return func(w *wrapping) []v1.Descriptor {
			d := w.beside("a second image", types.OCILayer)
			d.Platform = platform
			return []v1.Descriptor{w.inner, w.other, d}
		}
	}
	two := func(w *wrapping) []v1.Descriptor { return []v1.Descriptor{w.inner, w.other} }
	for name, tt := range map[string]struct {
		entries  func(w *wrapping) []v1.Descriptor
		platform *v1.Platform
		want     verify.Outcome
		hint     string
	}{
		"the proved one":       {two, amd64, verify.Accepted, ""},
		"the other one":        {two, arm64, verify.Rejected, ""},
		"both":                 {two, nil, verify.Rejected, "something is attached to linux/amd64 (sha256:"},
		"another for the same": {second(amd64), amd64, verify.Rejected, "linux/amd64 (sha256:"},
		"another variant":      {second(&v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}), amd64, verify.Rejected, "linux/amd64 (sha256:"},
		"one for any":          {second(nil), amd64, verify.Rejected, "linux/amd64 (sha256:"},
		"another spelling":     {second(&v1.Platform{OS: "Linux", Architecture: "x86_64"}), amd64, verify.Rejected, "linux/amd64 (sha256:"},
		"no OS":                {second(&v1.Platform{Architecture: "amd64"}), amd64, verify.Rejected, "linux/amd64 (sha256:"},
		"what nobody knows":    {second(&v1.Platform{OS: "linux", Architecture: "amd64:1"}), amd64, verify.Rejected, "linux/amd64 (sha256:"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrapping(t)
			w.prove(w.inner, nil)
			w.opts.Platform = tt.platform
			index := w.index(tt.entries(w)...)
			v := w.ask(index)
			if v.Outcome != tt.want || !strings.Contains(v.Hint, tt.hint) {
				t.Fatalf("got %v, hint %q, want %v, %q", v.Outcome, v.Hint, tt.want, tt.hint)
			}
			if v.Outcome == verify.Accepted && (v.Digest != w.inner.Digest.String() || v.Index != index.Digest.String() || !strings.Contains(link(t, v, verify.LinkImage).Claim, "about this manifest, and not about the index")) {
				t.Errorf("got digest %s, index %s: %s", v.Digest, v.Index, link(t, v, verify.LinkImage).Claim)
			}
		})
	}
}

// TestManifestOfProvedIndex: the proof of an index is about the index.
func TestManifestOfProvedIndex(t *testing.T) {
	w := newWrapping(t)
	w.prove(w.r.Image, nil)
	if v := w.ask(w.inner); v.Outcome != verify.Rejected || !strings.Contains(v.Hint, "verify the image's index, with --platform") {
		t.Errorf("got %v, hint %q", v.Outcome, v.Hint)
	}
	w.opts.Platform = w.inner.Platform
	if v := w.ask(w.r.Image); v.Outcome != verify.Accepted || v.Index != "" {
		t.Errorf("got %v, index %q, want the index accepted", v.Outcome, v.Index)
	}
}

// TestWrappedIsNotRemembered: a verdict about another digest than the one that was asked
// for is found again by asking.
func TestWrappedIsNotRemembered(t *testing.T) {
	w := newWrapping(t)
	w.prove(w.inner, nil)
	index := w.index(w.inner)
	w.opts.Trust, w.opts.Policy = []*trust.Root{w.p.Root()}, demanded(t, w.wants)
	src, cache := &counted{Source: bySubject{w.s, w.fail}}, verify.Cache{Age: time.Minute, Size: 10}
	for range 2 {
		before := src.asked
		v := cache.Image(t.Context(), src, index.Digest.String(), w.now, w.opts)
		if v.Outcome != verify.Accepted || v.Digest != w.inner.Digest.String() || v.Index != index.Digest.String() || src.asked == before {
			t.Errorf("got %v about %s in %s after %d questions", v.Outcome, v.Digest, v.Index, src.asked-before)
		}
	}
}

// TestUnlistedWay: a login page in place of the referrers API leaves an image undecided,
// unless the tags prove it; a registry without the API has no more than its tags.
func TestUnlistedWay(t *testing.T) {
	for name, tt := range map[string]struct {
		status  int
		body    string
		attach  bool // under the fallback tag
		want    verify.Outcome
		hint    string
		unknown string
	}{
		"no API, nothing":       {405, "", false, verify.Rejected, "405 Method Not Allowed; proofs were looked for under tags alone", ""},
		"no API, a list":        {405, "", true, verify.Accepted, "", ""},
		"login page, nothing":   {200, "<html>", false, verify.Undecided, "", "has no referrers API: GET "},
		"login page, a list":    {200, "<html>", true, verify.Accepted, "", ""},
		"access denied, a list": {403, "", true, verify.Undecided, "", "403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := 404, "" // while it is written
			inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, "/referrers/") {
					inner.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(status)
				io.WriteString(w, body)
			}))
			defer srv.Close()
			c := newScene(t)
			if tt.attach {
				c.r.Attach(prooftest.Kinds...)
			}
			repository, err := oci.OpenRegistry(strings.TrimPrefix(srv.URL, "http://")+"/team/app", oci.RegistryOptions{})
			if err != nil {
				t.Fatal(err)
			}
			c.s.Push(t.Context(), repository)
			status, body = tt.status, tt.body
			v := c.verdictOf(repository)
			if v.Outcome != tt.want || !strings.Contains(v.Hint, tt.hint) || !strings.Contains(link(t, v, verify.LinkSignature).Reason, tt.unknown) {
				t.Errorf("got %v, hint %q, want %v, %q", v.Outcome, v.Hint, tt.want, tt.hint)
			}
			if strings.Count(v.Hint, "referrers API") > 1 {
				t.Errorf("said more than once: %q", v.Hint)
			}
		})
	}
}

// TestWrapperDoubts: what is not known about the index is not forgotten for the manifest in it.
func TestWrapperDoubts(t *testing.T) {
	for name, tt := range map[string]struct {
		doubt func(w *wrapping, index v1.Descriptor)
		want  verify.Outcome
	}{
		"none": {func(*wrapping, v1.Descriptor) {}, verify.Accepted},
		"the index's fallback tag does not answer": {func(w *wrapping, index v1.Descriptor) {
			tag := "sha256-" + index.Digest.Hex
			w.s.Tag(tag, v1.Descriptor{})
			w.s.Fail[tag] = errors.New("500")
		}, verify.Undecided},
		"an item of the index is malformed": {func(w *wrapping, index v1.Descriptor) {
			w.s.Attach(index, []byte(`{"mediaType":`), scanned)
		}, verify.Undecided},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrapping(t)
			w.prove(w.inner, nil)
			index := w.index(w.inner)
			tt.doubt(w, index)
			p := demanded(t, w.wants)
			p.Absent = []policy.Absent{{PredicateType: scanned}}
			v := verify.Image(t.Context(), bySubject{w.s, w.fail}, index.Digest.String(), w.now, verify.Options{Trust: []*trust.Root{w.p.Root()}, Policy: p})
			if v.Outcome != tt.want {
				t.Errorf("got %s, %+v, want %s", v.Outcome, v.Links, tt.want)
			}
		})
	}
}
