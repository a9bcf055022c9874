package admission_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
)

// The tests of this file try mistakes that admission controllers are known for: docs/threats.md
// lists them.

// in asks about a pod of another namespace.
func (c *scene) in(namespace, object string) answer {
	c.t.Helper()
	_, a, _ := c.post(admission.PathValidate, bytes.Replace(c.body(object), []byte(`"namespace":"shop"`), []byte(`"namespace":"`+namespace+`"`), 1))
	return a
}

// TestModesOfOneImage: rules that watch and rules that enforce each decide for themselves about one
// image, in any order, and in each namespace.
func TestModesOfOneImage(t *testing.T) {
	c := newScene(t)
	const head, images = "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec:\n  unmatched: deny\n  rules:\n", "      images: [{glob: \"HOST/team/**\"}]\n"
	rule := func(name, mode, source string) string {
		return "    - name: " + name + "\n      mode: " + mode + "\n" + images + "      accept: [{built: {source: https://git.example.com/team/" + source + "}}]\n"
	}
	for _, tt := range []struct {
		rules   string
		allowed bool
	}{
		{rule("watch", "audit", "other") + rule("app", "enforce", "app"), true},
		{rule("app", "enforce", "app") + rule("watch", "audit", "other"), true},
		{rule("watch", "audit", "app") + rule("app", "enforce", "other"), false},
		{rule("app", "enforce", "other") + rule("watch", "audit", "app"), false},
		{rule("warn", "warn", "other") + rule("watch", "audit", "app") + rule("app", "enforce", "other"), false},
	} {
		c.use(head + tt.rules)
		c.log.Reset()
		for range 2 { // not known, then known
			c.validate(tt.rules, c.goodPod(), tt.allowed)
			c.validate(tt.rules, c.badPod(), false)
		}
		if log := c.log.String(); !strings.Contains(log, "shop/watch: ") || !strings.Contains(log, "shop/app: ") {
			t.Errorf("got the log %s, want both rules", log)
		}
	}
	own := func(namespace, mode string) string {
		return "---\n" + strings.NewReplacer("kind: ImagePolicy", "kind: NamespacedImagePolicy", "name: shop}", "name: own, namespace: "+namespace+"}").Replace(head) + rule("own", mode, "other")
	}
	c.use(head + rule("app", "enforce", "app") + own("watched", "audit") + own("strict", "enforce"))
	for range 2 {
		if a := c.in("watched", c.goodPod()); !a.Response.Allowed {
			t.Errorf("where the rule only watches: got %s", a.Response.Status.Message)
		}
		if c.in("strict", c.goodPod()).Response.Allowed {
			t.Error("an acceptance of one namespace is an answer in another")
		}
		c.validate("in a third one", c.goodPod(), true)
	}
}

// TestRacingCredentials: pods with a good, a wrong and no secret race for one image, while the
// registry turns down even good ones at first. Each gets its own answer, and once the registry
// is well, a good one is admitted at once.
func TestRacingCredentials(t *testing.T) {
	c := newScene(t)
	c.password = "s3cret"
	secret := func(password string) string {
		return `{"auths":{"` + c.host + `":{"username":"u","password":"` + password + `"}}}`
	}
	c.cluster.secrets["shop/good"], c.cluster.secrets["shop/wrong"] = secret("s3cret"), secret("guess")
	with := func(name string) []byte {
		if name == "none" {
			return c.body(c.goodPod())
		}
		return c.body(strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"`+name+`"}],`, 1))
	}
	race := func(good func(allowed bool)) {
		var all sync.WaitGroup
		for i := range 120 {
			name := []string{"good", "wrong", "none"}[i%3]
			body := with(name)
			all.Go(func() {
				_, a, text := c.post(admission.PathValidate, body)
				if name != "good" && a.Response.Allowed {
					t.Errorf("with the secret %s: got %s", name, text)
				}
				if name == "good" {
					good(a.Response.Allowed)
				}
			})
		}
		all.Wait()
	}
	right := c.password
	c.password = "nobody's" // the registry is confused
	race(func(bool) {})
	c.password = right
	var refused atomic.Int64
	race(func(allowed bool) {
		if !allowed {
			refused.Add(1)
		}
	})
	if refused.Load() > 0 {
		t.Errorf("%d good pods were refused after the registry was well again", refused.Load())
	}
	if _, a, text := c.post(admission.PathValidate, with("none")); a.Response.Allowed {
		t.Errorf("known, and without a secret: got %s", text)
	}
}

// TestCopyIsNotTheImage: an image that somebody copied elsewhere, with all its proofs, is what its
// name says: the rules about the original are not about the copy.
func TestCopyIsNotTheImage(t *testing.T) {
	c := newScene(t)
	_, port, _ := strings.Cut(c.host, ":")
	for _, name := range []string{"localhost:" + port + "/team/app", c.host + "/copies/app"} {
		c.validate("a copy", pod(name+":v1.2.0@"+c.goodAt), false, "no rule of the polic")
		c.ask(admission.PathMutate, "a copy, by tag", pod(name+":none"), false)
	}
}

// TestMovedTag: what is known about an image is known of its digest. A tag that moves leads to the
// new image at once.
func TestMovedTag(t *testing.T) {
	c := newScene(t)
	pinned := func() string {
		a := c.ask(admission.PathMutate, "by tag", pod(c.good), true)
		var patch []struct{ Value string }
		if err := json.Unmarshal(a.Response.Patch, &patch); err != nil || len(patch) != 1 {
			t.Fatalf("got patch %s", a.Response.Patch)
		}
		return patch[0].Value
	}
	c.validate("before", pod(pinned()), true)
	tag, err := name.NewTag(c.good)
	if err != nil {
		t.Fatal(err)
	}
	other, err := remote.Get(tag.Context().Tag("bad"))
	if err == nil {
		err = remote.Tag(tag, other)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := pinned(); got != c.good+"@"+c.badAt {
		t.Errorf("got %s, want the digest that the tag has now", got)
	}
	c.validate("after", pod(pinned()), false, "signature")
	c.validate("the old digest beside the tag", c.goodPod(), true)
}

// TestProofsOfStrangers: proofs that a stranger signed, and statements that nobody signed, are no
// proofs, however they are attached.
func TestProofsOfStrangers(t *testing.T) {
	c := newScene(t)
	dst, err := oci.OpenRegistry(c.host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	store := prooftest.NewStore(t)
	store.Tar = []byte("an image of a stranger")
	r := prooftest.New(t).Release(store)
	r.Attach(prooftest.Kinds...)
	for _, kind := range prooftest.Kinds {
		store.AttachFile(r.Image, r.Statement(kind), "application/vnd.in-toto+json")
		store.Tagged(r.Image, "att", store.Layer(r.Statement(kind), attest.EnvelopeMediaType, map[string]string{"predicateType": kind}))
	}
	store.Tag("stranger", r.Image)
	store.Push(t.Context(), dst)
	c.validate("signed by a stranger", pod(c.host+"/team/app@"+r.Image.Digest.String()), false, "team/app")
}

// TestPolicyThatDemandsNothing: a policy without anything to accept is no policy: the last good one
// stays in force.
func TestPolicyThatDemandsNothing(t *testing.T) {
	c := newScene(t)
	for _, accept := range []string{"[]", "[{}]", "null", "[null]", "[{built: {}}]", "[{signature: {}}]"} {
		text := strings.ReplaceAll(strings.Replace(rules, "\n        - built: {source: https://git.example.com/team/app}", " "+accept, 1), "HOST", c.host)
		if sets, err := policy.ParseSets([]byte(text)); err == nil {
			t.Errorf("accept: %s: got policies %v", accept, sets)
		}
	}
	c.validate("bad", c.badPod(), false)
}

// TestClock: the clock of a webhook jumps forwards and backwards while it is asked. No jump admits
// an image without a proof. A signed one may be refused, because its certificate authority has
// ended or it was signed in the future, but no longer than the time is wrong.
func TestClock(t *testing.T) {
	c := newScene(t)
	var jump atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: now})
	c.config.Verdicts, c.config.Now = c.store, now
	c.start()
	c.use(rules)
	const day = 24 * time.Hour
	c.validate("before", c.goodPod(), true)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	c.cluster.may["ada@shop"] = true
	glass := strings.Replace(c.badPod(), `"metadata":{`, fmt.Sprintf(`"metadata":{"annotations":{"colophon.build/break-glass":"the shop is down","colophon.build/break-glass-until":%q},`, until), 1)
	var all sync.WaitGroup
	stop := make(chan struct{})
	good, bad := c.body(c.goodPod()), c.body(c.badPod())
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, a, text := c.post(admission.PathValidate, good); !a.Response.Allowed && !strings.Contains(a.Response.Status.Message, "nobody knows") && !strings.Contains(a.Response.Status.Message, "in the future") {
					t.Errorf("after a jump of %s: a signed image is rejected: %s", time.Duration(jump.Load()), text)
				}
				if _, a, text := c.post(admission.PathValidate, bad); a.Response.Allowed {
					t.Errorf("after a jump of %s: an unsigned image is admitted: %s", time.Duration(jump.Load()), text)
				}
			}
		})
	}
	for _, d := range []time.Duration{time.Second, -time.Second, 11 * time.Minute, -11 * time.Minute, 2 * time.Hour, -2 * time.Hour, 25 * time.Hour, -25 * time.Hour, 400 * day, -400 * day, 30 * 365 * day, -56 * 365 * day, 200 * 365 * day} {
		jump.Store(int64(d))
		time.Sleep(20 * time.Millisecond)
		if _, a, text := c.post(admission.PathValidate, c.body(glass)); a.Response.Allowed != (d < time.Hour && time.Hour-d <= 24*time.Hour) {
			t.Errorf("after a jump of %s: a broken glass gives %s", d, text)
		}
		if d == -2*time.Hour { // until what is rejected was looked at again
			time.Sleep(2500 * time.Millisecond)
		}
		jump.Store(0)
		await.True(t, fmt.Sprintf("a signed image is admitted when the time is right again after a jump of %s", d), func() bool {
			_, a, _ := c.post(admission.PathValidate, good) // it may join a reading that began at the wrong time
			return a.Response.Allowed
		})
	}
	close(stop)
	all.Wait()
}
