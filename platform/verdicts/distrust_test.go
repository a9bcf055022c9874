package verdicts_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// TestDistrust: an entry counts for the next answer about an image that is known, without a request, and
// so does its lift; what the store answers by has another id then.
func TestDistrust(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(strings.Replace(rules, "accept:", "distrust: {maxAge: 10m}\n      accept:", 1))
	q := c.question(r.Image)
	if a := c.expect("without a list", q, verify.Undecided); !strings.Contains(a.Decision.Reason, "no issuer") {
		t.Errorf("got %q", a.Decision.Reason)
	}
	issuer := distrusttest.New(t)
	if !c.store.Distrust(distrust.Lists{issuer.Known("shop")}) {
		t.Error("the first list changed nothing")
	}
	c.expect("with an empty list", q, verify.Accepted)
	before, policies := c.asked.Load(), c.store.Policies()
	issuer.Add()
	if c.store.Distrust(distrust.Lists{issuer.Known("shop")}) || c.store.Policies() != policies {
		t.Error("a new head of the same entries counts as a change")
	}
	issuer.Add(distrust.Scope{Commit: prooftest.Commit})
	if !c.store.Distrust(distrust.Lists{issuer.Known("shop")}) || c.store.Policies() == policies {
		t.Error("an entry counts as no change")
	}
	if a := c.expect("told", q, verify.Rejected); !strings.Contains(a.Decision.Reason, "entry 0 of shop") || !a.Known {
		t.Errorf("got %q, known %t", a.Decision.Reason, a.Known)
	}
	if n := c.asked.Load() - before; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	issuer.Lift(0)
	c.store.Distrust(distrust.Lists{issuer.Known("shop")})
	c.expect("lifted", q, verify.Accepted)
	c.later(11 * time.Minute)
	c.expect("with an old list", q, verify.Undecided)
}

// TestDistrustMemory: with lists, what builds used and packages are kept about an image, so that it takes more memory.
func TestDistrustMemory(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	c.expect("without lists", c.question(r.Image), verify.Accepted)
	before := c.store.Stats().Bytes
	c.store.Distrust(distrust.Lists{distrusttest.New(t).Known("shop")})
	c.expect("with one", c.question(r.Image), verify.Accepted)
	if after := c.store.Stats(); after.Bytes < 2*before || after.Reads != 2 {
		t.Errorf("got %d bytes and %d reads, without lists %d bytes", after.Bytes, after.Reads, before)
	}
}

// TestListsExpected: nobody gets an answer before the lists were read.
func TestListsExpected(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	c.expect("without lists", c.question(r.Image), verify.Accepted)
	c.store.ExpectDistrust()
	c.expect("before they are read", c.question(r.Image), verify.Undecided)
	if id := c.store.Policies(); id != "" {
		t.Errorf("got the id %q, want none: it is not ready", id)
	}
	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Commit: prooftest.Commit})
	c.store.Distrust(distrust.Lists{issuer.Known("shop")})
	c.expect("after", c.question(r.Image), verify.Rejected)
}

// TestFollowLists: an entry reaches a store within five seconds. A list that is rolled back, of another
// issuer, or cannot be read, changes nothing of what was said before.
func TestFollowLists(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	q := c.question(r.Image)
	issuer := distrusttest.New(t)
	var answer atomic.Pointer[[]byte] // in place of the list
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch other := answer.Load(); {
		case other == nil:
			issuer.ServeHTTP(w, req)
		case *other == nil:
			w.WriteHeader(http.StatusBadGateway)
		default:
			_, _ = w.Write(*other)
		}
	}))
	defer server.Close()
	file := distrusttest.Write(t, issuer.Issuer("shop", server.URL+"/distrust"))
	settings := &verdicts.Distrusted{Issuers: file, Dir: filepath.Join(t.TempDir(), "lists")}
	l := verdicts.NewLoader(c.store, slog.New(slog.DiscardHandler), nil)
	l.FollowLists(t.Context(), settings)
	wait := func(what string, want verify.Outcome) {
		t.Helper()
		await.True(t, fmt.Sprintf("%s: %s", what, want), func() bool { return c.store.Ask(t.Context(), q).Decision.Outcome == want })
	}
	wait("an empty list", verify.Accepted)
	old := issuer.Raw()
	entries := 0
	await.Quick(t, "an entry reaches the store", 5*time.Second, func() {
		if entries > 0 {
			issuer.Lift(entries - 1)
			wait("lifted", verify.Accepted)
		}
		issuer.Add(distrust.Scope{Builder: prooftest.Builder, Wide: true})
		entries++
		wait("told", verify.Rejected)
	})
	none, theirs, fork := []byte(nil), distrusttest.New(t).Raw(), issuer.Fork().Raw()
	for what, raw := range map[string]*[]byte{"the list before": &old, "nothing": &none, "another issuer's list": &theirs, "a fork": &fork} {
		answer.Store(raw)
		time.Sleep(2500 * time.Millisecond)
		if a := c.store.Ask(t.Context(), q); a.Decision.Outcome != verify.Rejected {
			t.Errorf("%s was served, and the image is %s", what, a.Decision.Outcome)
		}
	}
	// A restart does not forget what the list had.
	again := verdicts.NewLoader(c.store, slog.New(slog.DiscardHandler), nil)
	c.store.Distrust(nil)
	answer.Store(&old)
	again.FollowLists(t.Context(), settings)
	wait("after a restart, the list before", verify.Rejected)
	answer.Store(nil)
	issuer.Lift(entries - 1)
	wait("lifted", verify.Accepted)
}

// TestTellList: the platform's own list counts for its registry. One that was rolled back, or that somebody else
// signed, changes nothing.
func TestTellList(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(strings.Replace(rules, "accept:", "distrust: {maxAge: 10m}\n      accept:", 1))
	q := c.question(r.Image)
	issuer := distrusttest.New(t)
	l := verdicts.NewLoader(c.store, slog.New(slog.DiscardHandler), nil)
	tell := func(raw []byte) { l.TellList("the platform", raw, []byte(issuer.PublicKey())) }
	tell([]byte("damaged"))
	c.expect("damaged, from the first", q, verify.Undecided)
	old := issuer.Raw()
	tell(old)
	c.expect("an empty list", q, verify.Accepted)
	tell(issuer.Add(distrust.Scope{Commit: prooftest.Commit}))
	c.expect("told", q, verify.Rejected)
	for what, raw := range map[string][]byte{"rolled back": old, "somebody else's": distrusttest.New(t).Raw(), "damaged": []byte("x")} {
		tell(raw)
		c.expect(what, q, verify.Rejected)
	}
	tell(issuer.Lift(0))
	c.expect("lifted", q, verify.Accepted)
}

// TestDistrustUnread: an entry about the digest of an exempt image counts also if a rule that only watches
// asks for the image, and the registry does not show it.
func TestDistrustUnread(t *testing.T) {
	c := newScene(t)
	_, r := c.release()
	accept := "accept: [{built: {source: https://git.example.com/team/app}}]\n"
	c.use(rules[:strings.Index(rules, "rules:")] + `rules:
    - name: app
      images: [{glob: "HOST/team/**"}]
      exemptions: [{images: [{glob: "HOST/team/**"}], reason: moved, owner: ops, until: 2099-01-01}]
      ` + accept + `    - name: new
      mode: warn
      images: [{glob: "HOST/team/**"}]
      ` + accept)
	issuer := distrusttest.New(t)
	issuer.Add(distrust.Scope{Digest: r.Image.Digest.String()})
	c.store.Distrust(distrust.Lists{issuer.Known("shop")})
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	c.expect("the registry denies", c.question(r.Image), verify.Rejected)
}
