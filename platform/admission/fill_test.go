package admission

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// workload puts a Deployment into the inventory.
func (c *live) workload(namespace, name, image string) {
	c.t.Helper()
	raw := fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"namespace":%q,"name":%q,"uid":"u"},"spec":{"template":{"spec":{"serviceAccountName":"of-%s","containers":[{"name":"a","image":%q}]}}}}`, namespace, name, namespace, image)
	const path = "/apis/apps/v1/deployments"
	c.seen.set(path+" "+namespace+"/"+name, c.seen.hold(c.t.Context(), watched[path], raw))
}

func (c *live) filler() *filler { return newFiller(c.h, c.seen, prometheus.NewRegistry()) }

// view returns how many images are in view.
func (f *filler) view() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.wants)
}

// until fails the test if ok does not come true within seconds.
func (c *live) until(what string, ok func() bool) {
	c.t.Helper()
	defer func() {
		if c.t.Failed() {
			c.t.Logf("log: %s", &c.log)
		}
	}()
	await.True(c.t, what, ok)
}

// ask asks as the webhook does for a pod.
func (c *live) ask(name string, logins ...authn.AuthConfig) verdicts.Answer {
	c.t.Helper()
	image, err := policy.ParseImage(name)
	if err != nil {
		c.t.Fatal(err)
	}
	repository, _, _ := strings.Cut(name, "@")
	return c.store.Ask(c.t.Context(), verdicts.Question{Image: image, Repository: repository, Namespace: "shop", Logins: logins})
}

// tenant is a cluster in which the pods of one namespace have a pull secret.
type tenant struct {
	noCluster
	host string
}

func (n tenant) PullSecrets(_ context.Context, namespace, account string, _ []string) ([]PullSecret, []string) {
	if namespace != "tenant" || account != "of-tenant" {
		return nil, nil
	}
	return []PullSecret{{Name: "pull", Config: []byte(`{"auths":{"` + n.host + `":{"username":"tenant","password":"s3cret"}}}`)}}, nil
}

// TestFilledAhead: the image of a workload, and one that a list names, are known before a pod asks,
// to those alone whose pull secrets could read it, and then need no registry.
func TestFilledAhead(t *testing.T) {
	c := newLive(t)
	c.h.Cluster = tenant{host: c.host}
	f := c.filler()
	c.workload("shop", "web", c.good)
	c.workload("tenant", "web", c.bad) // another image of the repository
	c.workload("kube-system", "exempt", c.host+"/team/app@sha256:"+strings.Repeat("1", 64))
	c.workload("shop", "tagged", c.host+"/team/app:v1")
	c.workload("shop", "elsewhere", "registry.invalid/app@sha256:"+strings.Repeat("1", 64)) // no rule is about it: no registry is asked
	stop := await.Background(t, func(ctx context.Context) error { f.run(ctx); return nil })
	c.until("all was read", func() bool { return c.store.Stats().Images == 2 && f.view() == 3 })
	ref, _ := oci.ParseReference(c.good)
	f.name("list", []imagelist.Image{{Name: c.good, Reference: ref}, {Name: "x", Problem: "no image"}})
	login := authn.AuthConfig{Username: "tenant", Password: "s3cret"}
	c.until("the named image was read with the pull secret", func() bool { return c.ask(c.good, login).Known })
	stop()
	c.down.Store(true)
	for _, logins := range [][]authn.AuthConfig{nil, {login}} {
		if a := c.ask(c.good, logins...); !a.Known || a.Decision.Outcome != verify.Accepted {
			t.Errorf("got %s (%s), known %v, want accepted without a registry", a.Decision.Outcome, a.Decision.Reason, a.Known)
		}
	}
	if a := c.ask(c.good, authn.AuthConfig{Username: "other", Password: "x"}); a.Decision.Outcome != verify.Undecided {
		t.Errorf("another tenant got %s", a.Decision.Outcome)
	}
}

// TestFillIsBounded: what is read ahead leaves most of a registry's connections to pods, and a
// workload cannot make it grow without bound.
func TestFillIsBounded(t *testing.T) {
	c := newLive(t)
	f := c.filler()
	for n := range 60 {
		c.workload("shop", fmt.Sprint("w", n), fmt.Sprintf("%s/team/app%d@sha256:%064d", c.host, n, n))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c.slow.Store(int64(time.Second))
	most := 0
	go func() { // from the first one on, it looks for 2 s
		defer stop()
		for end := time.Now().Add(await.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			f.mu.Lock()
			if now := max(f.running[c.host], f.atOnce); most == 0 && now > 0 {
				end, most = time.Now().Add(2*time.Second), now
			} else {
				most = max(most, now)
			}
			f.mu.Unlock()
		}
	}()
	f.run(ctx)
	f.mu.Lock()
	got := most
	f.mu.Unlock()
	if got == 0 || got > maxAheadOfHost {
		t.Errorf("got %d images read at once, want at most %d", got, maxAheadOfHost)
	}
	var many []imagelist.Image
	for n := range maxNamed + 10 {
		many = append(many, imagelist.Image{Name: fmt.Sprintf("x.example.com/app@sha256:%064d", n), Reference: oci.Reference{Repository: "x.example.com/app", Digest: fmt.Sprintf("sha256:%064d", n)}})
	}
	if f.name("list", many); len(f.named["list"]) != maxNamed {
		t.Errorf("got %d named images, want %d", len(f.named["list"]), maxNamed)
	}
	for n := range 10 { // each of them could read each of the named ones
		c.workload(fmt.Sprint("ns", n), "w", fmt.Sprintf("x.example.com/app@sha256:%064d", maxNamed+n))
	}
	if out, left := f.collect(); len(out) > maxAhead || left == 0 {
		t.Errorf("got %d images at once, %d left out", len(out), left)
	}
	if f.look(time.Now()); len(f.wants) > maxAhead || f.left == 0 {
		t.Errorf("got %d images in view, %d left out", len(f.wants), f.left)
	}
}

// TestFillFromMirror: an image is read ahead where pods read it, from its mirror.
func TestFillFromMirror(t *testing.T) {
	c := newLive(t)
	c.use(strings.Replace(evicting, "HOST/team/", "far.invalid/shop/", 1))
	c.h.Mirrors = policy.Names{"far.invalid/shop/": c.host + "/team/"}
	_, digest, _ := strings.Cut(c.good, "@")
	c.workload("shop", "web", "far.invalid/shop/app@"+digest)
	stop := await.Background(t, func(ctx context.Context) error { c.filler().run(ctx); return nil })
	c.until("the mirror was read", func() bool { return c.store.Stats().Images == 1 })
	stop()
	c.down.Store(true)
	a, err := c.h.read(t.Context(), &request{Operation: "CREATE", Kind: kind{"", "v1", "Pod"}, Namespace: "shop",
		Object: fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"a","image":"far.invalid/shop/app@%s"}]}}`, digest)})
	if err != nil {
		t.Fatal(err)
	}
	if o := c.h.judge(t.Context(), a, a.images[0], c.h.access(t.Context(), a)); o.refused != "" || !o.answer.Known {
		t.Errorf("got %q, known %v; want accepted without a registry", o.refused, o.answer.Known)
	}
}

// TestSignedList: a list counts if one of its authors signed exactly these bytes.
func TestSignedList(t *testing.T) {
	c := newLive(t)
	dir := t.TempDir()
	at := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "# for the release\n" + c.good + "\n"
	author := func(issuer, name string) string {
		return at("authors-"+strings.ReplaceAll(name, "/", "_"), `{"authors":[{"name":"ops","signer":{"certificate":{"issuer":"`+issuer+`","identity":{"is":"`+name+`"}}}}]}`)
	}
	id := c.p.Release(prooftest.NewStore(t)).Identity
	sum := sha256.Sum256([]byte(text))
	st := must(attest.NewStatement("list", hex.EncodeToString(sum[:]), attest.PredicateSign, struct{}{}))
	list, signature := at("list", text), at("list.sigstore.json", string(c.p.Sign(id, st)))
	mine := author(id.Issuer, id.SAN)
	images, _, err := (&SignedList{From: list, Authors: mine}).read(t.Context(), c.store.Roots(), time.Now())
	if err != nil || len(images) != 1 || images[0].Name != c.good {
		t.Fatalf("got %v, %v, want the image", images, err)
	}
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer srv.Close()
	if images, _, err := (&SignedList{From: srv.URL + "/list", Authors: mine}).read(t.Context(), c.store.Roots(), time.Now()); err != nil || len(images) != 1 {
		t.Errorf("by URL: got %v, %v", images, err)
	}
	for what, s := range map[string]SignedList{
		"another author":   {list, author(id.Issuer, "https://ci.example.com/other")},
		"no signature":     {at("unsigned", text), mine},
		"other bytes":      {at("changed", text+c.bad+"\n"), mine},
		"a missing list":   {srv.URL + "/missing", mine},
		"a missing author": {list, dir + "/missing"},
	} {
		if what == "other bytes" {
			at("changed.sigstore.json", string(must(os.ReadFile(signature))))
		}
		if images, _, err := s.read(t.Context(), c.store.Roots(), time.Now()); err == nil {
			t.Errorf("%s: got %v", what, images)
		}
	}
	for _, from := range []string{"", "http://example.com/list", "https://user@example.com/list", "ftp://example.com/list"} {
		if (&SignedList{From: from, Authors: mine}).check() == nil {
			t.Errorf("%q: want an error", from)
		}
	}
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// TestReleasesOfThePlatform: releases are named when they happen, and a platform that answers
// garbage names nothing.
func TestReleasesOfThePlatform(t *testing.T) {
	c := newLive(t)
	name, digest, _ := strings.Cut(c.good, "@")
	runs := `{"releases":[{"id":"` + strings.Repeat("a", 32) + `","state":"released","result":{"image":"` + name + `","digest":"` + digest + `"}},{"id":"` + strings.Repeat("b", 32) + `","state":"released"}]}`
	answer, asked := runs, []string{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI()+" "+r.Header.Get("Authorization"))
		fmt.Fprint(w, answer)
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "client.json")
	if err := os.WriteFile(file, []byte(`{"url":"`+srv.URL+`","token":"s3cret"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	images, newest, err := releases(t.Context(), file, "")
	if err != nil || len(images) != 1 || images[0].Name != c.good || newest != strings.Repeat("a", 32) {
		t.Fatalf("got %v, %q, %v, want the image", images, newest, err)
	}
	before := len(asked)
	if images, _, err := releases(t.Context(), file, newest); err != nil || images != nil || len(asked) != before+1 || !strings.Contains(asked[before], "limit=1") || !strings.Contains(asked[before], "state=released Bearer s3cret") {
		t.Errorf("nothing new: got %v, %v after %q", images, err, asked[before:])
	}
	for _, answer = range []string{"", "[]", `{"releases":[{"id":"../x"}]}`, strings.Replace(runs, `"sha256:`, `"md5:`, 1), strings.Replace(runs, `"result"`, `"other"`, 1)} {
		if images, _, _ := releases(t.Context(), file, ""); len(images) > 0 {
			t.Errorf("%.40q: got %v", answer, images)
		}
	}
}
