package verify_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const laterCommit = "0123456789abcdef0123456789abcdef01234567"

// TestTwoReleasesOfOneDigest: two commits that give one image each prove it. The
// verdict rests on the proofs of the one that is demanded, never on some of each.
func TestTwoReleasesOfOneDigest(t *testing.T) {
	c := newScene(t)
	later := c.r.Again(laterCommit, "refs/tags/v1.2.1")
	c.r.Attach(prooftest.Kinds...)
	later.Attach(prooftest.Kinds...)
	for ref, commit := range map[string]string{"v1.2.0": prooftest.Commit, "v1.2.1": laterCommit} {
		c.wants = policy.Document{Source: "git.example.com/team/app", Ref: ref}
		v := c.verdict()
		if v.Outcome != verify.Accepted {
			t.Fatalf("%s: got %s, %s", ref, v.Outcome, v.Why())
		}
		if v.Facts == nil || v.Facts.Build.Commit != commit || v.Facts.Build.Ref != "refs/tags/"+ref || len(v.Facts.Signed) != 4 {
			t.Errorf("%s: facts: got %+v, want those of commit %s", ref, v.Facts, commit)
		}
		for _, s := range v.Facts.Signed {
			if s.Signer != prooftest.Builder || s.LogIndex == nil || len(s.Times) == 0 || s.TrustRoot == "" {
				t.Errorf("%s: got %+v", ref, s)
			}
		}
	}
	// Whoever demands neither gets one of the two, whole.
	c.wants = policy.Document{Source: "git.example.com/team/app"}
	if v := c.verdict(); v.Outcome != verify.Accepted {
		t.Errorf("got %s, %s", v.Outcome, v.Why())
	}
}

// TestPartsOfTwoReleasesAreNoProof: what one release lacks cannot be borrowed
// from the other, though the same builder signed both about the same digest.
func TestPartsOfTwoReleasesAreNoProof(t *testing.T) {
	for kind, link := range map[string]string{attest.PredicateSign: "signature", attest.PredicateSPDX: "sbom", attest.PredicateCDX: "sbom"} {
		c := newScene(t)
		c.r.Attach(missing(kind)...)
		c.r.Again(laterCommit, "refs/tags/v1.2.1").Attach(kind)
		c.want(verify.Rejected, link, verify.Broken, "want the source of the provenance")
	}
	c := newScene(t)
	c.r.Attach(missing(attest.PredicateSLSA1)...)
	c.r.Again(laterCommit, "refs/tags/v1.2.1").Attach(attest.PredicateSLSA1)
	c.want(verify.Rejected, "provenance", verify.Broken, "ref: got")
}

// TestFewRequests: verifying an image with its four attestations takes eight
// requests, in three round trips.
func TestFewRequests(t *testing.T) {
	counter := &waves{inner: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(counter)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host + "/team/app:v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	repo, err := oci.OpenRegistry(host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := repo.Resolve(t.Context(), "v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	p := prooftest.New(t)
	r := p.ReleaseOf(v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	for _, kind := range prooftest.Kinds {
		if _, err := oci.AttachBundle(t.Context(), repo, d, p.Sign(r.Signer(), r.Statement(kind)), kind, p.Now); err != nil {
			t.Fatal(err)
		}
	}
	await.True(t, "a verification of at most 3 round trips", func() bool { // on a busy machine, one may seem to be two
		again, err := oci.OpenRegistry(host+"/team/app", oci.RegistryOptions{}) // knows nothing yet
		if err != nil {
			t.Fatal(err)
		}
		counter.begin()
		v := verify.Image(t.Context(), again, "v1.2.0", time.Now(), verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, demand)})
		requests, trips := counter.end()
		if v.Outcome != verify.Accepted {
			t.Fatalf("got %s, %s", v.Outcome, v.Why())
		}
		said := fmt.Sprintf("%d requests in %d round trips:\n%s", len(requests), trips, strings.Join(requests, "\n"))
		if t.Log(said); len(requests) > 8 {
			t.Fatalf("want at most 8 requests, got %s", said)
		}
		return trips <= 3
	})
}

// waves holds requests back until no more arrive, then lets them through
// together: each wave is one round trip of a client that waits for answers.
type waves struct {
	inner http.Handler

	mu       sync.Mutex
	counting bool
	requests []string
	trips    int
	wave     chan struct{}
	quiet    *time.Timer
}

func (w *waves) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counting, w.requests, w.trips = true, nil, 0
}

func (w *waves) end() ([]string, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counting = false
	return w.requests, w.trips
}

func (w *waves) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	if !w.counting {
		w.mu.Unlock()
		w.inner.ServeHTTP(rw, r)
		return
	}
	w.requests = append(w.requests, r.Method+" "+r.URL.Path)
	const silence = 300 * time.Millisecond
	if w.wave == nil {
		w.trips++
		w.wave = make(chan struct{})
		w.quiet = time.AfterFunc(silence, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			close(w.wave)
			w.wave = nil
		})
	} else {
		w.quiet.Reset(silence)
	}
	wave := w.wave
	w.mu.Unlock()
	<-wave
	w.inner.ServeHTTP(rw, r)
}
