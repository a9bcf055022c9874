package admission

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/verdicts"
)

const knownPath = "/api/v1/namespaces/colophon/secrets/colophon-admission-known"

// process is what a replica knows, which has just started.
func (c *live) process() {
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: func() time.Time { return c.now }, Program: "a program"})
	c.h.Verdicts = c.store
}

// admits validates a pod that names an image.
func (c *live) admits(image string) bool {
	c.t.Helper()
	review := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"shop","userInfo":{"username":"ada"},"object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":%q}]}}}}`, image)
	r := httptest.NewRequest(http.MethodPost, PathValidate, strings.NewReader(review))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return strings.Contains(w.Body.String(), `"allowed":true`)
}

// TestKnownOutlivesReplicas: a pod with a known image is admitted after all replicas ended while the
// registry is down; one with an image that nobody knew, or that was rejected, is not.
func TestKnownOutlivesReplicas(t *testing.T) {
	c := newLive(t)
	a, api := newAPIServer(t)
	c.process()
	c.use(evicting)
	if !c.admits(c.good) || c.admits(c.bad) {
		t.Fatal("the policies decide otherwise")
	}
	k := newKnown(api, "colophon", c.store, c.h.Log)
	if err := k.write(t.Context()); err == nil {
		t.Error("a Secret that is not there was written")
	}
	a.put(knownPath, map[string]any{"kind": "Secret"})
	if err := k.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.down.Store(true)
	c.process()
	c.use(evicting)
	if c.admits(c.good) {
		t.Fatal("the registry is not down")
	}
	c.process()
	newKnown(api, "colophon", c.store, c.h.Log).restore(t.Context())
	c.use(evicting)
	if !c.admits(c.good) || c.admits(c.bad) {
		t.Error("a known image was refused, or one that was rejected was admitted")
	}
	// What somebody else wrote there is no answer, and keeps no replica from starting.
	for _, value := range []string{"", "Z2FyYmFnZQ=="} {
		a.put(knownPath, map[string]any{"kind": "Secret", "data": map[string]any{"known": value}})
		c.process()
		newKnown(api, "colophon", c.store, c.h.Log).restore(t.Context())
		c.use(evicting)
		if c.admits(c.good) {
			t.Errorf("%q: it was admitted", value)
		}
	}
}

// TestKnownIsWrittenOnce: what has not changed is not written again.
func TestKnownIsWrittenOnce(t *testing.T) {
	c := newLive(t)
	a, api := newAPIServer(t)
	c.process()
	c.use(evicting)
	if !c.admits(c.good) {
		t.Fatal("it was refused")
	}
	a.put(knownPath, map[string]any{"kind": "Secret"})
	k := newKnown(api, "colophon", c.store, c.h.Log)
	if err := k.write(t.Context()); err != nil {
		t.Fatal(err)
	}
	version := a.version
	if err := k.write(t.Context()); err != nil || a.version != version {
		t.Errorf("what has not changed was written again: %v", err)
	}
}
