package verdicts_test

import (
	"io"
	"log"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestAskedEarly: what is attached to an image is asked for while the image itself is read, once. What
// fails there is a failure: it is no empty list.
func TestAskedEarly(t *testing.T) {
	c := newScene(t)
	store, r := c.release(prooftest.Kinds...)
	c.use(rules)
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	c.answer(inner)
	c.push(store)
	listed := make(chan struct{})
	c.asks.Store(0)
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.Contains(req.URL.Path, "/referrers/"):
			close(listed) // the second one would fail
		case strings.HasSuffix(req.URL.Path, "/manifests/"+r.Image.Digest.String()):
			<-listed // an image that is read first waits for ever
		}
		inner.ServeHTTP(w, req)
	}))
	c.expect("signed", c.question(r.Image), verify.Accepted)
	if n := c.asks.Load(); n != 1 {
		t.Errorf("got %d listings, want 1", n)
	}
}
