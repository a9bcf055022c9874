package verdicts_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestAskedEarly: what is attached to an image, and what the tags of cosign name, is asked for while
// the image itself is read, once.
func TestAskedEarly(t *testing.T) {
	c := newScene(t)
	store, r := c.release(prooftest.Kinds...)
	key := c.p.KeyHolder()
	key.Unlogged = true
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, r.Image.Digest.String())
	store.Tagged(r.Image, oci.CosignSignatures, store.Layer(payload, "application/vnd.dev.cosign.simplesigning.v1+json", key.Simple(payload)))
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	signed := strings.Replace(rules, "- built: {source: https://git.example.com/team/app}", "- signature: {signer: {insecureUnloggedKey: {pem: "+fmt.Sprintf("%q", key.PublicKey())+"}}}", 1)
	for what, tt := range map[string]struct {
		rules string
		asked []string // paths that end so are asked for before the image is answered
	}{
		"referrers": {rules, []string{"/referrers/" + r.Image.Digest.String()}},
		"a tag":     {signed, []string{"/referrers/" + r.Image.Digest.String(), "/manifests/" + oci.CosignSignatures.Of(r.Image.Digest)}},
	} {
		c.answer(inner)
		c.push(store)
		var asked sync.WaitGroup
		asked.Add(len(tt.asked))
		c.answer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			for _, path := range tt.asked {
				if strings.HasSuffix(req.URL.Path, path) {
					asked.Done() // a second request would be a fault
				}
			}
			if strings.HasSuffix(req.URL.Path, "/manifests/"+r.Image.Digest.String()) {
				early := make(chan struct{})
				go func() { asked.Wait(); close(early) }()
				select {
				case <-early:
				case <-time.After(await.Patience):
					t.Errorf("%s: asked for after the image was read", what)
				}
			}
			inner.ServeHTTP(w, req)
		}))
		c.use(tt.rules)
		c.expect(what, c.question(r.Image), verify.Accepted)
	}
}
