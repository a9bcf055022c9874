package verdicts_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	platformregistry "github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// rounds counts round trips: a request that begins after an answer may depend on it.
type rounds struct {
	inner http.Handler

	mu    sync.Mutex
	ended int // round trips of which an answer was given
	asked []string
}

// ServeHTTP takes a while for each answer, so that requests that do not wait for another meet.
func (r *rounds) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	round := r.ended + 1
	r.asked = append(r.asked, fmt.Sprintf("%d %s", round, req.URL.Path))
	r.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	r.mu.Lock()
	r.ended = max(r.ended, round)
	r.mu.Unlock()
	r.inner.ServeHTTP(w, req)
}

// TestRoundTrips: how many answers of the registry a pod waits for, one after another, when nobody knows
// its image. Layers and configurations are not read: the node compares them with the digests.
func TestRoundTrips(t *testing.T) {
	c := newScene(t)
	key := c.p.KeyHolder()
	key.Unlogged = true
	signed := strings.Replace(rules, "- built: {source: https://git.example.com/team/app}", "- signature: {signer: {insecureUnloggedKey: {pem: "+fmt.Sprintf("%q", key.PublicKey())+"}}}", 1)
	// An image of its own, with what is attached to it.
	image := func(what string, kinds ...string) (*prooftest.Store, *prooftest.Release) {
		s := prooftest.NewStore(t)
		s.Tar = []byte(what)
		r := c.p.Release(s)
		r.Attach(kinds...)
		return s, r
	}
	cosign := func(what, old, changed string) (*prooftest.Store, *prooftest.Release) {
		s, r := image(what)
		payload := bytes.Replace(bundle.SimpleSigning(c.host+"/team/app", r.Image.Digest), []byte(old), []byte(changed), 1)
		s.Tagged(r.Image, oci.CosignSignatures, s.Layer(payload, "application/vnd.dev.cosign.simplesigning.v1+json", key.Simple(payload)))
		return s, r
	}
	plain, p := cosign("plain", "", "")
	noted, n := cosign("noted", "null", `{"by":"us"}`)
	copied, d := cosign("copied", "team/app", "team/api")
	released, r := image("released", prooftest.Kinds...)
	own, o := image("our own")
	proofs, made := image("our own", prooftest.Kinds...)
	for _, tt := range []struct {
		what     string
		store    *prooftest.Store
		r        *prooftest.Release
		rules    string
		registry http.Handler
		most     int
	}{
		{"a signature of cosign v2", plain, p, signed, strangers(), 1},
		{"a signature of cosign v2 with an annotation", noted, n, signed, strangers(), 2},
		{"a signature of cosign v2 for another repository", copied, d, signed, strangers(), 2},
		{"a release, with bundles as cosign attaches them", released, r, rules, strangers(), 3},
		{"a release as we make it", own, o, rules, strangers(), 2},
		{"a release as we make it, in our registry", own, o, rules, ours(t, c.host), 1},
	} {
		c.answer(tt.registry)
		c.push(tt.store)
		if tt.store == own {
			for kind, d := range made.Blobs {
				body, err := proofs.Blob(t.Context(), d)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := io.ReadAll(body)
				if err == nil {
					_, err = oci.AttachBundle(t.Context(), c.target(), o.Image, raw, kind, c.start)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		await.True(t, fmt.Sprintf("%s: %d round trips", tt.what, tt.most), func() bool { // on a busy machine, one may seem to be two
			c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: c.time}) // that knows nothing
			c.use(tt.rules)
			counts := &rounds{inner: tt.registry}
			c.answer(counts)
			c.expect(tt.what, c.question(tt.r.Image), verify.Accepted)
			all := strings.Join(counts.asked, "\n")
			for _, l := range tt.r.Layers {
				if strings.Contains(all, l.Digest.String()) {
					t.Errorf("%s: a layer was read:\n%s", tt.what, all)
				}
			}
			t.Logf("%s: %d requests in %d round trips:\n%s", tt.what, len(counts.asked), counts.ended, all)
			if counts.ended < tt.most {
				t.Errorf("%s: expected %d round trips, found %d", tt.what, tt.most, counts.ended)
			}
			return counts.ended <= tt.most
		})
	}
}

// strangers is a registry of somebody else.
func strangers() http.Handler {
	return registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
}

// ours is the registry of a platform, where everybody may push.
func ours(t *testing.T, host string) http.Handler {
	r, err := platformregistry.New(platformregistry.Config{URL: "http://" + host, Dir: t.TempDir(), AnonymousPull: true, Authorize: func(string) (string, platformregistry.Role) { return "test", platformregistry.Push }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
