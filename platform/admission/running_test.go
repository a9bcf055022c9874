package admission

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// live is a registry with an image that has its proofs and one that has none, a cluster that runs
// pods, and what verifies them.
type live struct {
	t         *testing.T
	p         *prooftest.Platform
	host      string
	good, bad string // NAME@DIGEST
	down      atomic.Bool
	slow      atomic.Int64 // how long each answer of the registry takes
	asked     atomic.Int64
	store     *verdicts.Store
	h         *Handler
	seen      *inventory
	api       *clusterAPI
	v         *verifier
	metrics   *prometheus.Registry
	log       bytes.Buffer
	now       time.Time
}

const evicting = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "HOST/team/**"}]
      onRunning: evict
      accept:
        - built: {source: https://git.example.com/team/app}
`

func newLive(t *testing.T) *live {
	c := &live{t: t, p: prooftest.New(t), now: time.Now(), metrics: prometheus.NewRegistry()}
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		time.Sleep(time.Duration(c.slow.Load()))
		if c.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	c.host = strings.TrimPrefix(srv.URL, "http://")
	signed, plain := prooftest.NewStore(t), prooftest.NewStore(t)
	r := c.p.Release(signed)
	r.Attach(prooftest.Kinds...)
	plain.Tar = []byte("another image")
	d, _ := plain.Image("bad")
	for _, s := range []*prooftest.Store{signed, plain} {
		dst, err := oci.OpenRegistry(c.host+"/team/app", oci.RegistryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Push(context.Background(), dst)
	}
	c.good, c.bad = c.host+"/team/app@"+r.Image.Digest.String(), c.host+"/team/app@"+d.Digest.String()
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true), Now: func() time.Time { return c.now }})
	c.h = New(Config{Verdicts: c.store, Cluster: faulty{}, Log: slog.New(slog.NewTextHandler(&c.log, nil)), Registerer: c.metrics, Now: func() time.Time { return c.now }})
	c.seen = newInventory(c.h, []string{"kube-system"})
	c.seen.listed[podsPath] = true
	a, api := newClusterAPI(t)
	lead := newLease(api, "colophon", c.h.Log)
	lead.now = c.h.Now
	c.api, c.v = a, &verifier{h: c.h, seen: c.seen, rec: &recorder{api: api, log: c.h.Log, now: c.h.Now}, lead: lead, eviction: Eviction{Enabled: true, Percent: 10, PerMinute: 6}}
	c.use(evicting)
	return c
}

func (c *live) use(text string) {
	c.t.Helper()
	sets, err := policy.ParseSets([]byte(strings.ReplaceAll(text, "HOST", c.host)))
	if err == nil {
		err = c.store.Use(fmt.Sprint(len(text), strings.Count(text, "evict")), sets, []*trust.Root{c.p.Root()})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// runs makes the cluster run a pod.
func (c *live) runs(namespace, name, image, annotations string) {
	c.t.Helper()
	raw := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":%q,"name":%q,"uid":"uid-of-%s","annotations":{%s}},"spec":{"containers":[{"name":"a","image":%q}]}}`, namespace, name, name, annotations, image)
	o := c.seen.hold(c.t.Context(), watched[podsPath], raw)
	c.seen.set(podsPath+" "+namespace+"/"+name, o)
}

// settles lets the verifier do all that there is to do for a time, with the leader's lease.
func (c *live) settles(d time.Duration) {
	c.t.Helper()
	for end := c.now.Add(d); !c.now.After(end); c.now = c.now.Add(5 * time.Second) {
		if err := c.v.lead.renew(c.t.Context(), "shop", 0); err != nil {
			c.t.Fatal(err)
		}
		for c.v.step(c.t.Context(), c.now) {
		}
	}
}

func (c *live) metric(name string) (n float64) {
	all, _ := c.metrics.Gather()
	for _, m := range all {
		if m.GetName() == name {
			for _, one := range m.GetMetric() {
				n += one.GetGauge().GetValue() + one.GetCounter().GetValue()
			}
		}
	}
	return n
}

// faulty is a cluster with a fault, for the pods of one namespace.
type faulty struct{ noCluster }

func (faulty) PullSecrets(_ context.Context, namespace, _ string, _ []string) ([]PullSecret, []string) {
	if namespace == "faulty" {
		panic("a fault")
	}
	return nil, nil
}

// TestRunning: pods are verified when they come, when the policies change and once a day, by the
// leader alone. A pod with which we have a fault does not keep the others from being verified.
func TestRunning(t *testing.T) {
	c := newLive(t)
	c.runs("faulty", "faulty", c.bad, "")
	c.runs("shop", "bad", c.bad, "")
	c.runs("shop", "good", c.good, "")
	c.runs("kube-system", "exempt", c.bad, "")
	const refused = "colophon_admission_running_refused"
	asked := c.asked.Load()
	if c.v.step(t.Context(), c.now); c.metric(refused) != 0 || c.asked.Load() != asked {
		t.Error("a replica that does not lead verified pods")
	}
	c.v.eviction.Enabled = false
	c.settles(10 * time.Second)
	if got := c.metric(refused); got != 1 || !strings.Contains(c.log.String(), "a fault") {
		t.Errorf("got %v refused, want 1; log: %s", got, &c.log)
	}
	if got := c.api.posted("ImageRejected"); len(got) != 1 || !strings.Contains(got[0], "uid-of-bad") {
		t.Errorf("got events %q, want one", got)
	}
	before := c.store.Stats()
	c.settles(time.Hour)
	if c.store.Stats() != before {
		t.Error("pods were verified again for no reason")
	}
	c.use(strings.Replace(evicting, "team/app}", "team/other}", 1))
	if c.settles(10 * time.Second); c.metric(refused) != 2 {
		t.Errorf("got %v refused by the new policy, want 2", c.metric(refused))
	}
	c.use(evicting)
	c.runs("shop", "later", c.bad, "")
	if c.settles(10 * time.Second); c.metric(refused) != 2 {
		t.Errorf("got %v refused with the new pod, want 2", c.metric(refused))
	}
	c.seen.set(podsPath+" shop/later", nil)
	if c.settles(10 * time.Second); c.metric(refused) != 1 {
		t.Errorf("got %v refused when it has gone, want 1", c.metric(refused))
	}
	c.v.lead.until = time.Time{}
	if c.v.step(t.Context(), c.now); c.metric(refused) != 0 {
		t.Error("a replica that leads no more counts pods")
	}
}

// TestEviction: a pod is evicted if an enforcing rule that says so rejects its image, and for no
// other reason.
func TestEviction(t *testing.T) {
	c := newLive(t)
	for n := range 12 {
		c.runs("shop", fmt.Sprint("good", n), c.good, "")
	}
	hour := c.now.Add(time.Hour).Format(time.RFC3339)
	c.runs("kube-system", "exempt", c.bad, "")
	c.runs("shop", "static", c.bad, `"kubernetes.io/config.mirror":"x"`)
	c.runs("shop", "glass", c.bad, `"colophon.build/break-glass":"incident 4711","colophon.build/break-glass-until":"`+hour+`"`)
	c.runs("shop", "elsewhere", "registry.example.com/x@sha256:"+strings.Repeat("0", 64), "") // no rule is about it
	c.runs("shop", "unknown", c.host+"/team/gone@sha256:"+strings.Repeat("0", 64), "")        // undecided
	const other = "    - name: other\n      images: [{glob: \"HOST/team/**\"}]\n      accept:\n        - built: {source: https://git.example.com/team/app}\n"
	for what, text := range map[string]string{
		"report": strings.Replace(evicting, "evict", "report", 1), "by default": strings.Replace(evicting, "onRunning: evict", "", 1),
		"audit, and another rule that rejects": strings.Replace(evicting, "evict\n", "evict\n      mode: audit\n", 1) + other,
		"audit":                                strings.Replace(evicting, "evict\n", "evict\n      mode: audit\n", 1), "later": strings.Replace(evicting, "evict\n", "evict\n      enforceFrom: 2999-01-01\n", 1),
	} {
		c.runs("shop", "bad", c.bad, "")
		if c.use(text); text == evicting {
			t.Fatal(what)
		}
		c.settles(time.Minute)
		if got := c.api.posted("/eviction"); len(got) != 0 {
			t.Fatalf("%s: got %q", what, got)
		}
	}
	c.use(evicting)
	c.settles(10 * time.Second)
	got := c.api.posted("/eviction")
	if len(got) == 0 || !strings.HasPrefix(got[0], "/api/v1/namespaces/shop/pods/bad/eviction ") || !strings.Contains(got[0], `"preconditions":{"uid":"uid-of-bad"}`) {
		t.Fatalf("got %q, want the eviction of the bad pod; log: %s", got, &c.log)
	}
	c.seen.set(podsPath+" shop/bad", nil)
	c.settles(3 * time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 1 {
		t.Errorf("got %q, want no other eviction", got)
	}
	if len(c.api.posted("PodEvicted")) != 1 || counted(c.v.lead) != 1 {
		t.Errorf("got %d events and %d counted, want one", len(c.api.posted("PodEvicted")), counted(c.v.lead))
	}
	// A time that is too far ahead was never allowed by anybody.
	c.runs("shop", "forged", c.bad, `"colophon.build/break-glass":"for ever","colophon.build/break-glass-until":"2999-01-01T00:00:00Z"`)
	for n := range 12 {
		c.runs("shop", fmt.Sprint("more", n), c.good, "")
	}
	c.settles(20 * time.Second)
	if got := c.api.posted("pods/forged/eviction"); len(got) == 0 {
		t.Error("a pod whose glass is broken for years was not evicted")
	}
	for _, off := range []func(){func() { c.v.eviction.Enabled = false }, func() { c.v.eviction.Enabled, c.h.DryRun = true, true }} {
		c.seen.set(podsPath+" shop/forged", nil)
		off()
		c.runs("shop", "off", c.bad, "")
		c.settles(time.Minute)
		if got := c.api.posted("pods/off/eviction"); len(got) != 0 {
			t.Errorf("got %q though it is off", got)
		}
		c.seen.set(podsPath+" shop/off", nil)
		c.settles(time.Minute)
	}
}

// TestBadPolicyEvictsNoCluster: if a policy rejects more than the configuration allows, no pod is
// evicted, and it is said; what was evicted within a day counts, whichever replica did it.
func TestBadPolicyEvictsNoCluster(t *testing.T) {
	c := newLive(t)
	for n := range 20 {
		c.runs("shop", fmt.Sprint("pod", n), c.good, "")
	}
	c.use(strings.Replace(evicting, "team/app}", "team/other}", 1))
	c.settles(5 * time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 0 {
		t.Fatalf("got %d evictions by a policy that rejects everything", len(got))
	}
	if got := c.api.posted("EvictionStopped"); len(got) != 1 || !strings.Contains(got[0], "20 pods would be evicted") || !strings.Contains(got[0], `"kind":"ImagePolicy"`) {
		t.Errorf("got events %q, want one about the policy", got)
	}
	if c.metric("colophon_admission_eviction_stopped") != 1 {
		t.Error("the metric does not say it")
	}
	c.use(evicting)
	c.settles(10 * time.Second)
	if c.metric("colophon_admission_eviction_stopped") != 0 {
		t.Error("the metric says it after the policy was mended")
	}
	// Two of 22 are allowed. One went today already, by another leader.
	if err := c.v.lead.renew(t.Context(), "shop", 1); err != nil {
		t.Fatal(err)
	}
	c.runs("shop", "bad1", c.bad, "")
	c.runs("shop", "bad2", c.bad, "")
	c.settles(5 * time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 0 {
		t.Errorf("got %q, want none: three of a day are too many", got)
	}
	c.settles(25 * time.Hour)
	if got := c.api.posted("/eviction"); len(got) == 0 {
		t.Error("the day after, no pod was evicted")
	}
}

// TestOneNamespaceStopsNoOther: a namespace with more rejected pods than its share keeps them, and no other
// namespace from evicting its own.
func TestOneNamespaceStopsNoOther(t *testing.T) {
	c := newLive(t)
	for n := range 20 {
		c.runs("tenant", fmt.Sprint("bad", n), c.bad, "")
		c.runs("shop", fmt.Sprint("good", n), c.good, "")
	}
	c.runs("shop", "bad", c.bad, "")
	c.settles(10 * time.Second)
	got := c.api.posted("/eviction")
	if len(got) == 0 || slices.ContainsFunc(got, func(p string) bool { return !strings.Contains(p, "/namespaces/shop/pods/bad/") }) {
		t.Errorf("got evictions %.300q, want that of the bad pod of shop", got)
	}
	if got := c.api.posted("EvictionStopped"); len(got) != 1 || !strings.Contains(got[0], "20 pods would be evicted") || !strings.Contains(got[0], "namespace tenant") {
		t.Errorf("got events %q, want one about tenant", got)
	}
	if n, in := c.v.lead.evictions(); n == 0 || in["shop"] != n {
		t.Errorf("got %d evictions, in namespaces %v", n, in)
	}
	// The share of the cluster counts besides: one of each of many namespaces is too much.
	c = newLive(t)
	for n := range 20 {
		c.runs(fmt.Sprint("tenant", n), fmt.Sprint("bad", n), c.bad, "")
	}
	c.settles(time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 0 {
		t.Errorf("got %d evictions of all pods of the cluster", len(got))
	}
	if got := c.api.posted("EvictionStopped"); len(got) != 1 || !strings.Contains(got[0], "of the cluster") {
		t.Errorf("got events %q, want one about the cluster", got)
	}
}

// TestDeletedPodIsReported: a pod that somebody has deleted runs until its time is over. It is reported
// until then, and not evicted.
func TestDeletedPodIsReported(t *testing.T) {
	c := newLive(t)
	delete := func(deleted bool) {
		text := ""
		if deleted {
			text = `"deletionTimestamp":"2026-11-27T08:00:00Z","deletionGracePeriodSeconds":3600,`
		}
		raw := fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{%s"namespace":"shop","name":"bad","uid":"uid-of-bad"},"spec":{"containers":[{"name":"a","image":%q}]}}`, text, c.bad)
		c.seen.set(podsPath+" shop/bad", c.seen.hold(t.Context(), watched[podsPath], raw))
	}
	delete(true)
	c.settles(time.Minute)
	if n := c.metric("colophon_admission_running_refused"); n != 1 || len(c.api.posted("ImageRejected")) != 1 {
		t.Errorf("got %v pods refused, events %q", n, c.api.posted("ImageRejected"))
	}
	if got := c.api.posted("/eviction"); len(got) != 0 {
		t.Errorf("got %q", got)
	}
	delete(false) // another pod of the name
	c.settles(10 * time.Second)
	if got := c.api.posted("/eviction"); len(got) == 0 {
		t.Error("a pod that nobody deleted was not evicted")
	}
}

// TestNameOfTheRuntime: the digest of a tag is found though the runtime writes the image's name in full.
func TestNameOfTheRuntime(t *testing.T) {
	digest := "sha256:" + strings.Repeat("1", 64)
	ref, err := oci.ParseReference("nginx:1.25")
	if err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]bool{"docker.io/library/nginx:1.25": true, "nginx:1.25": true, "docker.io/library/nginx:1.26": false, "quay.io/library/nginx:1.25": false, "docker.io/library/nginx:1.25@" + digest: false, "": false} {
		var pod runningPod
		pod.Status.ContainerStatuses = []containerStatus{{Image: image, ImageID: "docker.io/library/nginx@" + digest}}
		out, known := pod.pulled(imagelist.Image{Name: "nginx:1.25", Reference: ref})
		if known != want || known && out.Reference.Digest != digest {
			t.Errorf("%q: got %q, known %v; want %v", image, out.Name, known, want)
		}
	}
}

// TestEvictionWithoutAnswer: an eviction of which nobody knows whether it was made counts as one; one
// that the API server says it could not make does not.
func TestEvictionWithoutAnswer(t *testing.T) {
	for status, want := range map[int]int{http.StatusGatewayTimeout: 1, http.StatusInternalServerError: 0} {
		c := newLive(t)
		c.runs("shop", "bad", c.bad, "")
		c.api.evict = func(string) int { return status }
		c.settles(10 * time.Second)
		if posts, got := len(c.api.posted("/eviction")), counted(c.v.lead); posts == 0 || got != want {
			t.Errorf("%d: got %d evictions counted after %d requests, want %d", status, got, posts, want)
		}
	}
}

// TestReplacedPodsCountOnce: a pod that its controller replaced makes room for no further eviction.
func TestReplacedPodsCountOnce(t *testing.T) {
	c := newLive(t)
	c.v.eviction.Percent = 50
	for n := range 4 {
		c.runs("shop", fmt.Sprint("pod", n), map[bool]string{true: c.bad, false: c.good}[n < 2], "")
	}
	c.api.evict = func(path string) int {
		name := strings.Split(path, "/")[6]
		c.seen.set(podsPath+" shop/"+name, nil)
		c.runs("shop", name+"-new", c.good, "")
		return http.StatusCreated
	}
	c.settles(2 * time.Minute)
	c.runs("shop", "pod3", c.bad, "")
	c.settles(2 * time.Minute)
	if got := c.api.posted("/eviction"); len(got) != 2 {
		t.Errorf("got %d evictions of 4 pods, want half of them: %q", len(got), got)
	}
}

// TestDisruptionBudget: a pod that its budget needs stays, is asked about again later, and counts as
// no eviction; those that nothing keeps go, at the rate that the configuration says.
func TestDisruptionBudget(t *testing.T) {
	c := newLive(t)
	c.v.eviction.Percent = 100
	c.runs("shop", "needed", c.bad, "")
	for n := range 3 {
		c.runs("shop", fmt.Sprint("bad", n), c.bad, "")
	}
	c.api.evict = func(path string) int {
		if strings.Contains(path, "needed") {
			return http.StatusTooManyRequests
		}
		name := strings.Split(path, "/")[6]
		go c.seen.set(podsPath+" shop/"+name, nil)
		return http.StatusCreated
	}
	c.settles(10 * time.Second)
	if got := len(c.api.posted("/eviction")); got == 0 || got > 2 {
		t.Errorf("got %d attempts in 10 seconds, want one or two", got)
	}
	c.settles(3 * time.Minute)
	for n := range 3 {
		if got := c.api.posted(fmt.Sprintf("bad%d/eviction", n)); len(got) != 1 {
			t.Errorf("bad%d: got %d attempts, want one", n, len(got))
		}
	}
	if got := len(c.api.posted("needed/eviction")); got < 2 || got > 12 {
		t.Errorf("got %d attempts to evict the pod that its budget needs, want some", got)
	}
	if got := counted(c.v.lead); got != 3 {
		t.Errorf("got %d evictions counted, want 3", got)
	}
}

// TestPulledImage: of a pod that names a tag, the image is the one that runs, if exactly one does.
func TestPulledImage(t *testing.T) {
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	const tagged = "registry.example.com/app:v1"
	for what, c := range map[string]struct {
		image    string
		statuses []containerStatus
		want     string // empty: not known
	}{
		"a digest":           {tagged + "@" + b, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + b},
		"a tag":              {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"twice the same":     {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + a}}, tagged + "@" + a},
		"the tag moved":      {tagged, []containerStatus{{tagged, "registry.example.com/app@" + a}, {tagged, "registry.example.com/app@" + b}}, ""},
		"not pulled yet":     {tagged, []containerStatus{{tagged, ""}}, ""},
		"no repository":      {tagged, []containerStatus{{tagged, a}}, ""},
		"another image":      {tagged, []containerStatus{{"registry.example.com/other:v1", "registry.example.com/other@" + a}}, ""},
		"a text, no digest":  {tagged, []containerStatus{{tagged, "registry.example.com/app@latest"}}, ""},
		"no status, no name": {tagged, nil, ""},
	} {
		var list imagelist.List
		if err := list.Document([]byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "` + c.image + `"}]}}`)); err != nil {
			t.Fatal(err)
		}
		var p runningPod
		p.Status.ContainerStatuses = c.statuses
		got, known := p.pulled(list.Images[0])
		if known != (c.want != "") || known && (got.Name != c.want || got.Reference.Digest != c.want[strings.Index(c.want, "@")+1:]) {
			t.Errorf("%s: got %s, %v, want %q", what, got.Name, known, c.want)
		}
	}
}
