package verdicts_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// scene is a registry on loopback with images, and a store that reads it.
type scene struct {
	t        testing.TB
	p        *prooftest.Platform
	host     string
	store    *verdicts.Store
	asked    atomic.Int64                 // requests to the registry
	asks     atomic.Int64                 // requests for a listing of referrers
	guard    atomic.Pointer[http.Handler] // answers in place of the registry, if set
	password string                       // of user "tenant"; empty: everybody may read
	now      atomic.Int64                 // seconds after the start
	start    time.Time
}

const rules = shop.Rules

func newScene(t testing.TB) *scene {
	c := &scene{t: t, p: prooftest.New(t), start: time.Now()}
	c.host = shop.Serve(t, func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		c.asked.Add(1)
		if strings.Contains(r.URL.Path, "/referrers/") {
			c.asks.Add(1)
		}
		if g := c.guard.Load(); g != nil {
			(*g).ServeHTTP(w, r)
			return
		}
		_, given, _ := r.BasicAuth()
		if c.password != "" && r.Method == http.MethodGet && given != c.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		registry.ServeHTTP(w, r)
	})
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: c.time})
	return c
}

func (c *scene) time() time.Time         { return c.start.Add(time.Duration(c.now.Load()) * time.Second) }
func (c *scene) later(d time.Duration)   { c.now.Add(int64(d / time.Second)) }
func (c *scene) answer(h http.Handler)   { c.guard.Store(&h) }
func (c *scene) push(s *prooftest.Store) { s.Push(context.Background(), c.target()) }

func (c *scene) target() oci.Target {
	c.t.Helper()
	return shop.Open(c.t, c.host+"/team/app", oci.RegistryOptions{})
}

// release pushes an image with its proofs, or without them.
func (c *scene) release(proofs ...string) (*prooftest.Store, *prooftest.Release) {
	s := prooftest.NewStore(c.t)
	r := c.p.Release(s)
	r.Attach(proofs...)
	c.push(s)
	return s, r
}

func (c *scene) use(text string, roots ...*trust.Root) {
	c.t.Helper()
	if roots == nil {
		roots = []*trust.Root{c.p.Root()}
	}
	shop.Use(c.t, c.store, "test", c.host, text, roots...)
}

func (c *scene) question(d v1.Descriptor, logins ...authn.AuthConfig) verdicts.Question {
	c.t.Helper()
	name := c.host + "/team/app"
	image, err := policy.ParseImage(name + "@" + d.Digest.String())
	if err != nil {
		c.t.Fatal(err)
	}
	return verdicts.Question{Image: image, Repository: name, Namespace: "shop", Logins: logins}
}

// expect asks and compares the outcome.
func (c *scene) expect(what string, q verdicts.Question, want verify.Outcome) verdicts.Answer {
	c.t.Helper()
	a := c.store.Ask(c.t.Context(), q)
	if a.Decision.Outcome != want {
		c.t.Fatalf("%s: got %s (%s), want %s", what, a.Decision.Outcome, a.Decision.Reason, want)
	}
	return a
}

// TestBurst: 500 questions at once about an image that nobody knows read it once, and the next
// ones read nothing.
func TestBurst(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	q := c.question(r.Image)
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			if a := c.store.Ask(t.Context(), q); a.Decision.Outcome != verify.Accepted {
				t.Errorf("got %s: %s", a.Decision.Outcome, a.Decision.Reason)
			}
		})
	}
	all.Wait()
	if got := c.store.Stats().Reads; got != 1 {
		t.Errorf("got %d readings, want 1", got)
	}
	before := c.asked.Load()
	if a := c.expect("again", q, verify.Accepted); !a.Known || c.asked.Load() != before {
		t.Errorf("got known %v after %d requests, want an answer from memory", a.Known, c.asked.Load()-before)
	}
}

// TestWaiterLeaves: somebody who stops waiting takes nothing from the others, and the answer is
// there for the next one.
func TestWaiterLeaves(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	q, hold := c.question(r.Image), make(chan struct{})
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-hold
		c.guard.Store(nil)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	impatient, leave := context.WithCancel(t.Context())
	left, stayed := make(chan verdicts.Answer, 1), make(chan verdicts.Answer, 1)
	go func() { left <- c.store.Ask(impatient, q) }()
	for c.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	go func() { stayed <- c.store.Ask(t.Context(), q) }()
	leave()
	if a := <-left; a.Decision.Outcome != verify.Undecided || !strings.Contains(a.Decision.Reason, "in time") {
		t.Errorf("who left: got %s: %s", a.Decision.Outcome, a.Decision.Reason)
	}
	close(hold)
	if a := <-stayed; a.Decision.Outcome != verify.Accepted {
		t.Errorf("who stayed: got %s: %s", a.Decision.Outcome, a.Decision.Reason)
	}
	if got := c.store.Stats().Reads; got != 1 {
		t.Errorf("got %d readings, want 1", got)
	}
}

// TestTenants: what the credentials of one tenant could read is no answer to another, however
// well it is known.
func TestTenants(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.password = "s3cret"
	c.use(rules)
	good := authn.AuthConfig{Username: "tenant", Password: c.password}
	wrong := authn.AuthConfig{Username: "tenant", Password: "guess"}
	c.expect("nobody's", c.question(r.Image), verify.Undecided)
	c.expect("the tenant's", c.question(r.Image, good), verify.Accepted)
	for what, q := range map[string]verdicts.Question{"nobody's": c.question(r.Image), "a guess": c.question(r.Image, wrong)} {
		if a := c.expect(what, q, verify.Undecided); !strings.Contains(a.Decision.Reason, "credentials") {
			t.Errorf("%s: got %q", what, a.Decision.Reason)
		}
	}
	c.expect("a wrong one first", c.question(r.Image, wrong, good), verify.Accepted)
	if got := c.store.Stats().Reads; got != 1 {
		t.Errorf("got %d readings, want 1: whoever may read the image shares what is known", got)
	}
	// The right does not last: the registry takes it back.
	c.password = "changed"
	c.later(25 * time.Hour)
	c.expect("after the password changed", c.question(r.Image, good), verify.Undecided)
}

// TestRightIsTakenBack: within the day for which an answer counts, a tenant who may no longer
// read the image gets no answer after the next look.
func TestRightIsTakenBack(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.password = "s3cret"
	c.use(rules)
	q := c.question(r.Image, authn.AuthConfig{Username: "tenant", Password: c.password})
	c.expect("first", q, verify.Accepted)
	c.password = "changed"
	c.later(11 * time.Minute)
	c.expect("an aged answer starts a look", q, verify.Accepted)
	waitFor(t, func() bool { return c.store.Ask(t.Context(), q).Decision.Outcome == verify.Undecided })
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	await.True(t, "it happens", ok)
}

// TestFailuresAreForgotten: a failure of the registry is no answer to the next question.
func TestFailuresAreForgotten(t *testing.T) {
	for what, h := range map[string]http.HandlerFunc{
		"broken":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"wants more": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"has none":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"lies":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>please log in</html>") },
	} {
		t.Run(what, func(t *testing.T) {
			c := newScene(t)
			_, r := c.release(prooftest.Kinds...)
			c.use(rules)
			c.answer(h)
			if a := c.store.Ask(t.Context(), c.question(r.Image)); a.Decision.Outcome == verify.Accepted {
				t.Fatal("accepted")
			}
			c.guard.Store(nil)
			c.expect("then", c.question(r.Image), verify.Accepted)
		})
	}
}

// TestListingFails: if only the listing of what is attached fails, nothing is known.
func TestListingFails(t *testing.T) {
	c := newScene(t)
	store, r := c.release(prooftest.Kinds...)
	c.use(rules)
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	c.answer(inner)
	c.push(store)
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	c.expect("without a listing", c.question(r.Image), verify.Undecided)
	if n := c.store.Stats().Images; n != 0 {
		t.Errorf("%d images are kept, want none", n)
	}
	c.answer(inner)
	c.expect("then", c.question(r.Image), verify.Accepted)
}

// TestRejectionStandsUntilSigned: a rejection is remembered, costs no reading while nothing
// changes, and ends when a proof is attached.
func TestRejectionStandsUntilSigned(t *testing.T) {
	c := newScene(t)
	store, r := c.release()
	c.use(rules)
	q := c.question(r.Image)
	c.expect("unsigned", q, verify.Rejected)
	before := c.asked.Load()
	if a := c.expect("at once", q, verify.Rejected); !a.Known || c.asked.Load() != before {
		t.Errorf("got %d requests, want an answer from memory", c.asked.Load()-before)
	}
	for range 3 {
		c.later(2 * time.Second)
		c.expect("nothing changed", q, verify.Rejected)
	}
	if got := c.store.Stats().Reads; got != 2 {
		t.Errorf("got %d readings, want 2: after the second, what was attached is known", got)
	}
	r.Attach(prooftest.Kinds...)
	c.push(store)
	c.later(2 * time.Second)
	c.expect("signed", q, verify.Accepted)
}

// TestRegistryIsGone: what is known needs no registry; what is rejected stays so.
func TestRegistryIsGone(t *testing.T) {
	c := newScene(t)
	_, good := c.release(prooftest.Kinds...)
	other := prooftest.NewStore(t)
	other.Tar = []byte("another image")
	bad, _ := other.Image("bad")
	c.push(other)
	c.use(rules)
	c.expect("signed", c.question(good.Image), verify.Accepted)
	c.expect("unsigned", c.question(bad), verify.Rejected)
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	c.later(30 * time.Minute)
	before := c.asked.Load()
	c.expect("signed", c.question(good.Image), verify.Accepted)
	waitFor(t, func() bool { return c.asked.Load() >= before+3 }) // it tries three times in the background
	time.Sleep(100 * time.Millisecond)
	c.expect("signed, after a look that failed", c.question(good.Image), verify.Accepted)
	if a := c.store.Ask(t.Context(), c.question(bad)); a.Decision.Outcome == verify.Accepted {
		t.Error("the unsigned image is accepted")
	}
	c.later(time.Hour)
	c.expect("signed, when the certificate authority has ended", c.question(good.Image), verify.Undecided)
}

// TestTimes: what depends on the time is decided when somebody asks.
func TestTimes(t *testing.T) {
	c := newScene(t)
	_, r := c.release()
	q := c.question(r.Image)
	at := func(d time.Duration) string { return c.start.Add(d).UTC().Format(time.RFC3339) }
	c.use(strings.Replace(rules, "      accept:", "      enforceFrom: "+at(time.Hour)+"\n      accept:", 1))
	if a := c.expect("before it is enforced", q, verify.Accepted); len(a.Decision.Warnings) != 1 {
		t.Errorf("got warnings %q, want one", a.Decision.Warnings)
	}
	c.later(2 * time.Hour)
	c.expect("when it is enforced", q, verify.Rejected)
	c.use(strings.Replace(rules, "      accept:", "      exemptions: [{images: [{glob: \"HOST/**\"}], reason: moving, owner: ada, until: "+at(3*time.Hour)+"}]\n      accept:", 1))
	c.expect("exempt", q, verify.Accepted)
	c.later(2 * time.Hour)
	c.expect("the exemption ended", q, verify.Rejected)
	c.now.Store(-3600)
	c.use(rules)
	reads := c.store.Stats().Reads
	if a := c.store.Ask(t.Context(), q); a.Known || c.store.Stats().Reads == reads {
		t.Error("the clock went back behind the evidence, and it still answered")
	}
}

// TestTrustIsRefreshed: an answer that became undecided because trust roots are too old is not
// given any more when they are refreshed.
func TestTrustIsRefreshed(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	q := c.question(r.Image)
	refreshed := func() *trust.Root {
		root := c.p.Root()
		root.Repository = &trust.Repository{Refreshed: c.time()}
		return root
	}
	fresh := strings.Replace(rules, "      accept:", "      trust: {maxAge: 20m}\n      accept:", 1)
	c.use(fresh, refreshed())
	c.expect("fresh", q, verify.Accepted)
	c.later(25 * time.Minute)
	c.expect("too old", q, verify.Undecided)
	c.use(fresh, refreshed())
	c.expect("refreshed", q, verify.Accepted)
}

// TestSwap: other policies and trust roots count at once; broken ones change nothing.
func TestSwap(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	q := c.question(r.Image)
	if a := c.store.Ask(t.Context(), q); a.Decision.Outcome != verify.Undecided {
		t.Errorf("without a policy: got %s", a.Decision.Outcome)
	}
	c.use(rules)
	c.expect("first", q, verify.Accepted)
	if err := c.store.Use("broken", []*policy.Set{{Name: "x"}}, nil); err == nil || c.store.Policies() != "test" {
		t.Errorf("got %v and policies %q, want an error and the last good ones", err, c.store.Policies())
	}
	if err := c.store.Use("none", nil, nil); err == nil {
		t.Error("no policy at all was accepted")
	}
	c.expect("still", q, verify.Accepted)
	reads := c.store.Stats().Reads
	c.use(strings.Replace(rules, "    - name: app\n", "    - name: other\n      images: [{glob: \"HOST/other/**\"}]\n      accept: [{built: {source: https://git.example.com/team/lib}}]\n    - name: app\n", 1))
	c.expect("a rule about others", q, verify.Accepted)
	if got := c.store.Stats().Reads; got != reads {
		t.Errorf("a rule about other images read this one again")
	}
	c.use(strings.Replace(rules, "team/app}", "team/lib}", 1))
	c.expect("another source", q, verify.Rejected)
	c.use(rules, prooftest.New(t).Root())
	c.expect("another trust root", q, verify.Rejected)
	c.use(rules)
	c.expect("and back", q, verify.Accepted)
}

// TestNamespaces: the policy of a namespace counts there alone.
func TestNamespaces(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	own := strings.NewReplacer("kind: ImagePolicy", "kind: NamespacedImagePolicy", "{name: shop}", "{name: shop, namespace: strict}", "team/app}", "team/lib}").Replace(rules)
	c.use(rules + "---\n" + own)
	q := c.question(r.Image)
	c.expect("shop", q, verify.Accepted)
	q.Namespace = "strict"
	c.expect("strict", q, verify.Rejected)
	q.Namespace = "shop"
	c.expect("shop again", q, verify.Accepted)
}

// TestNothingIsRead: about an image that no rule is about, no registry is asked.
func TestNothingIsRead(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.use(strings.Replace(rules, "HOST/team/**", "registry.example.com/team/**", 1))
	before := c.asked.Load()
	c.expect("unmatched", c.question(r.Image), verify.Rejected)
	if n := c.asked.Load() - before; n != 0 {
		t.Errorf("got %d requests, want none", n)
	}
}

// TestStrangeAddresses: strangers cannot make us connect to this machine or to its cloud.
func TestStrangeAddresses(t *testing.T) {
	asked := atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer srv.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	s := verdicts.New(verdicts.Config{Transport: verdicts.Transport(false)})
	for _, host := range []string{"127.0.0.1:" + port, "localhost:" + port, "169.254.169.254", "[::1]:" + port, "[::ffff:127.0.0.1]:" + port, "0.0.0.0:" + port} {
		if _, err := s.Resolve(t.Context(), host+"/a", "latest", "", nil); err == nil || asked.Load() {
			t.Errorf("%s: got %v, want a refusal", host, err)
		}
	}
	client := http.Client{Transport: verdicts.Transport(false)}
	for _, host := range []string{"169.254.169.254", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16", "[::ffff:168.63.129.16]"} {
		if _, err := client.Get("http://" + host); err == nil || !strings.Contains(err.Error(), "no registry") {
			t.Errorf("%s: got %v, want a refusal", host, err)
		}
	}
}

// faulty is a transport with a fault.
type faulty struct{}

func (faulty) RoundTrip(*http.Request) (*http.Response, error) { panic("a fault") }

// TestFaultIsNoAnswer: a fault while an image is read leaves it undecided, and the process goes on.
func TestFaultIsNoAnswer(t *testing.T) {
	c := newScene(t)
	_, r := c.release(prooftest.Kinds...)
	c.store = verdicts.New(verdicts.Config{Transport: faulty{}})
	c.use(rules)
	a := c.expect("a fault", c.question(r.Image), verify.Undecided)
	if !strings.Contains(a.Decision.Reason, "ended with a fault") {
		t.Errorf("got %s", a.Decision.Reason)
	}
	if _, err := c.store.Resolve(t.Context(), c.host+"/team/app", "v1", "", nil); err == nil {
		t.Error("a tag was resolved")
	}
}

// TestTooMuchAtOnce: past its limit, the store refuses, and lets the others wait their time.
func TestTooMuchAtOnce(t *testing.T) {
	c := newScene(t)
	c.use(rules)
	hold := make(chan struct{})
	var running, most atomic.Int64
	c.answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), running.Add(1)))
		<-hold
		running.Add(-1)
		w.WriteHeader(http.StatusForbidden)
	}))
	busy := 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for i := range 4200 {
		_, err := c.store.Resolve(ctx, c.host+"/team/app", fmt.Sprint("v", i), "", nil)
		if err != nil && strings.Contains(err.Error(), "4096 images") {
			busy++
		}
		if i == 0 {
			<-ctx.Done()
		}
	}
	close(hold)
	if busy != 4200-4096 || most.Load() > 16 {
		t.Errorf("got %d refused and %d requests at once, want %d and at most 16", busy, most.Load(), 4200-4096)
	}
}

// TestMemory: 10,000 images fit in 200 MiB, by what 100 of them take; and the store drops the
// oldest past its limit.
func TestMemory(t *testing.T) {
	c := newScene(t)
	const n = 100
	var questions []verdicts.Question
	for i := range n {
		s := prooftest.NewStore(t)
		s.Tar = []byte(fmt.Sprint("image ", i))
		r := c.p.Release(s)
		r.Attach(prooftest.Kinds...)
		c.push(s)
		questions = append(questions, c.question(r.Image))
	}
	c.use(rules)
	c.expect("the first", questions[0], verify.Accepted)
	before := heap()
	for _, q := range questions[1:] {
		c.expect("an image", q, verify.Accepted)
	}
	each := (heap() - before) / (n - 1)
	stats := c.store.Stats()
	t.Logf("%d bytes for an image, estimated %d", each, stats.Bytes/int64(stats.Images))
	if each*10_000 > 200<<20 {
		t.Errorf("an image takes %d bytes: 10,000 take more than 200 MiB", each)
	}
	if stats.Images != n || stats.Bytes < each*n/2 {
		t.Errorf("got %d images of %d bytes, estimated less than half of %d", stats.Images, stats.Bytes, each*n)
	}
	small := verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Memory: 40 * stats.Bytes / n})
	sets, err := policy.ParseSets([]byte(strings.ReplaceAll(rules, "HOST", c.host)))
	if err != nil {
		t.Fatal(err)
	}
	if err := small.Use("x", sets, []*trust.Root{c.p.Root()}); err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		small.Ask(t.Context(), q)
	}
	if got := small.Stats().Images; got < 20 || got > 60 {
		t.Errorf("a store for about 40 images keeps %d", got)
	}
	if a := small.Ask(t.Context(), questions[n-1]); !a.Known {
		t.Error("the last one was dropped")
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkKnown: one question about an image that is known.
func BenchmarkKnown(b *testing.B) {
	c := newScene(b)
	_, r := c.release(prooftest.Kinds...)
	c.use(rules)
	q := c.question(r.Image)
	c.expect("first", q, verify.Accepted)
	for b.Loop() {
		if a := c.store.Ask(b.Context(), q); !a.Known || a.Decision.Outcome != verify.Accepted {
			b.Fatal(a.Decision.Reason)
		}
	}
}
