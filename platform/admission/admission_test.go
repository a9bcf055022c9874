package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
)

// scene is a registry with a signed image and one without proofs, and a webhook.
type scene struct {
	t              testing.TB
	p              *prooftest.Platform
	host           string
	good, bad      string // HOST/team/app:TAG
	goodAt, badAt  string // digests
	store          *verdicts.Store
	handler        *admission.Handler
	cluster        *cluster
	config         admission.Config
	log            *bytes.Buffer
	down           atomic.Bool
	delay          time.Duration
	password       string
	operation      string
	user           string
	groups         []string
	old, subresouc string
	dryRun         bool
}

// cluster answers in place of the API server.
type cluster struct {
	mu      sync.Mutex
	may     map[string]bool // who may break the glass
	fails   bool
	secrets map[string]string // content by NAMESPACE/NAME
}

func (c *cluster) PullSecrets(_ context.Context, namespace, account string, names []string) (out []admission.PullSecret, notes []string) {
	for _, n := range append(names, "of-"+account) {
		if content, ok := c.secrets[namespace+"/"+n]; ok {
			out = append(out, admission.PullSecret{Name: n, Config: []byte(content)})
		}
	}
	return out, notes
}

func (c *cluster) MayBreakGlass(ctx context.Context, u admission.User, namespace string) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails {
		return false, errors.New("the API server does not answer")
	}
	return c.may[u.Username+"@"+namespace], nil
}

const rules = shop.Rules

func newScene(t testing.TB) *scene {
	c := &scene{t: t, p: prooftest.New(t), log: new(bytes.Buffer), operation: "CREATE", user: "ada"}
	c.host = shop.Serve(t, func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		select {
		case <-time.After(c.delay):
		case <-t.Context().Done():
		}
		_, given, _ := r.BasicAuth()
		switch {
		case c.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case c.password != "" && given != c.password:
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			registry.ServeHTTP(w, r)
		}
	})
	r, d := shop.Push(t, c.p, shop.Open(t, c.host+"/team/app", oci.RegistryOptions{}))
	c.good, c.bad = c.host+"/team/app:v1.2.0", c.host+"/team/app:bad"
	c.goodAt, c.badAt = r.Image.Digest.String(), d.Digest.String()
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	c.cluster = &cluster{may: map[string]bool{}, secrets: map[string]string{}}
	c.config = admission.Config{Verdicts: c.store, Cluster: c.cluster, Log: slog.New(slog.NewJSONHandler(c.log, nil))}
	c.start()
	c.use(rules)
	return c
}

func (c *scene) start() {
	c.config.Registerer = prometheus.NewRegistry()
	c.handler = admission.New(c.config)
}

func (c *scene) use(text string) {
	c.t.Helper()
	shop.Use(c.t, c.store, "test", c.host, text, c.p.Root())
}

// answer is what the API server reads.
type answer struct {
	Response struct {
		UID       string                   `json:"uid"`
		Allowed   bool                     `json:"allowed"`
		Status    struct{ Message string } `json:"status"`
		Patch     []byte                   `json:"patch"`
		PatchType string                   `json:"patchType"`
		Warnings  []string                 `json:"warnings"`
		Audit     map[string]string        `json:"auditAnnotations"`
	} `json:"response"`
}

func (c *scene) body(object string) []byte {
	c.t.Helper()
	var head struct{ APIVersion, Kind string }
	if err := json.Unmarshal([]byte(object), &head); err != nil {
		c.t.Fatalf("%v in %s", err, object)
	}
	group, version, grouped := strings.Cut(head.APIVersion, "/")
	if !grouped {
		group, version = "", group
	}
	req := map[string]any{
		"uid": "u1", "kind": map[string]string{"group": group, "version": version, "kind": head.Kind}, "operation": c.operation, "namespace": "shop", "name": "x",
		"userInfo": map[string]any{"username": c.user, "groups": c.groups}, "object": json.RawMessage(object), "dryRun": c.dryRun, "subResource": c.subresouc,
	}
	if c.old != "" {
		req["oldObject"] = json.RawMessage(c.old)
	}
	raw, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": req})
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

func (c *scene) post(path string, body []byte) (int, answer, string) {
	c.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path+"?timeout=10s", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	var a answer
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			c.t.Fatal(err)
		}
		if a.Response.UID != "u1" {
			c.t.Errorf("got uid %q", a.Response.UID)
		}
	}
	return w.Code, a, w.Body.String()
}

// validate asks about an object, and compares the answer; the refusal must have all words.
func (c *scene) validate(what, object string, allowed bool, words ...string) answer {
	c.t.Helper()
	return c.ask(admission.PathValidate, what, object, allowed, words...)
}

func (c *scene) ask(path, what, object string, allowed bool, words ...string) answer {
	c.t.Helper()
	code, a, text := c.post(path, c.body(object))
	if code != http.StatusOK || a.Response.Allowed != allowed {
		c.t.Errorf("%s: got %d, %s, want allowed %v", what, code, text, allowed)
	}
	for _, w := range words {
		if !strings.Contains(a.Response.Status.Message+strings.Join(a.Response.Warnings, "\n"), w) {
			c.t.Errorf("%s: got %q and warnings %q, want %q", what, a.Response.Status.Message, a.Response.Warnings, w)
		}
	}
	return a
}

func pod(image string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"` + image + `"}]}}`
}

func (c *scene) goodPod() string { return pod(c.good + "@" + c.goodAt) }
func (c *scene) badPod() string  { return pod(c.bad + "@" + c.badAt) }

// TestEveryPlace: an image that no proof has is refused wherever an object names it, beside a good one.
func TestEveryPlace(t *testing.T) {
	c := newScene(t)
	good := `{"name":"a","image":"` + c.good + "@" + c.goodAt + `"}`
	bad := `{"name":"b","image":"` + c.bad + "@" + c.badAt + `"}`
	specs := map[string]string{
		"container":           `{"containers":[` + good + `,` + bad + `]}`,
		"init container":      `{"containers":[` + good + `],"initContainers":[` + bad + `]}`,
		"ephemeral container": `{"containers":[` + good + `],"ephemeralContainers":[` + bad + `]}`,
		"image volume":        `{"containers":[` + good + `],"volumes":[{"name":"v","image":{"reference":"` + c.bad + "@" + c.badAt + `"}}]}`,
		"CSI volume":          `{"containers":[` + good + `],"volumes":[{"name":"v","csi":{"driver":"x","volumeAttributes":{"image":"` + c.bad + "@" + c.badAt + `"}}}]}`,
	}
	kinds := map[string]string{
		"Pod":                   `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":SPEC}`,
		"PodTemplate":           `{"apiVersion":"v1","kind":"PodTemplate","metadata":{"name":"p"},"template":{"spec":SPEC}}`,
		"ReplicationController": `{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"Deployment":            `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"ReplicaSet":            `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"StatefulSet":           `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"DaemonSet":             `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"Job":                   `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"CronJob":               `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"p"},"spec":{"jobTemplate":{"spec":{"template":{"spec":SPEC}}}}}`,
		"Knative Service":       `{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
		"Argo Rollout":          `{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","metadata":{"name":"p"},"spec":{"template":{"spec":SPEC}}}`,
	}
	for kind, object := range kinds {
		c.validate(kind, strings.Replace(object, "SPEC", `{"containers":[`+good+`]}`, 1), true)
		for place, spec := range specs {
			whole := strings.Replace(object, "SPEC", spec, 1)
			c.validate(kind+", "+place, whole, false, "team/app:bad", "signature")
			for _, tag := range []string{c.bad, c.good} {
				byTag := strings.Replace(whole, c.bad+"@"+c.badAt, tag, 1)
				c.validate(kind+", by tag, "+place, byTag, false, "by a tag")
				a := c.ask(admission.PathMutate, kind+", by tag, "+place, byTag, true)
				want := map[string]string{c.bad: c.badAt, c.good: c.goodAt}[tag]
				var patch []struct{ Op, Path, Value string }
				if err := json.Unmarshal(a.Response.Patch, &patch); err != nil || a.Response.PatchType != "JSONPatch" || len(patch) != 1 || patch[0].Value != tag+"@"+want || patch[0].Op != "replace" {
					t.Errorf("%s, %s: got patch %s, want %s with %s", kind, place, a.Response.Patch, tag, want)
				}
				if got := at(t, byTag, patch[0].Path); got != tag {
					t.Errorf("%s, %s: the patch is about %s, which has %v", kind, place, patch[0].Path, got)
				}
			}
		}
	}
}

// at returns what a JSON pointer leads to.
func at(t *testing.T, doc, pointer string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatal(err)
	}
	for token := range strings.SplitSeq(pointer[1:], "/") {
		switch x := v.(type) {
		case map[string]any:
			v = x[strings.NewReplacer("~1", "/", "~0", "~").Replace(token)]
		case []any:
			var n int
			if _, err := fmt.Sscan(token, &n); err != nil {
				t.Fatal(err)
			}
			v = x[n]
		}
	}
	return v
}

// TestCustomKinds: the images of a custom kind are those that the configuration names; a kind
// about which nothing is said is refused.
func TestCustomKinds(t *testing.T) {
	c := newScene(t)
	engine := func(image string) string {
		return `{"apiVersion":"example.com/v1","kind":"Engine","metadata":{"name":"e"},"spec":{"runs/with":["` + image + `"]}}`
	}
	c.validate("not configured", engine(c.good+"@"+c.goodAt), false, "nothing says which fields of a Engine.example.com")
	c.validate("no workload", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"e"},"data":{}}`, false, "nothing says")
	var err error
	if c.config.Fields, err = imagelist.ParseFields([]string{"Engine.example.com=spec.runs/with[]"}); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.validate("good", engine(c.good+"@"+c.goodAt), true)
	c.validate("bad", engine(c.bad+"@"+c.badAt), false)
	a := c.ask(admission.PathMutate, "by tag", engine(c.good), true)
	var patch []struct{ Path, Value string }
	if err := json.Unmarshal(a.Response.Patch, &patch); err != nil || len(patch) != 1 || at(t, engine(c.good), patch[0].Path) != c.good {
		t.Errorf("got %s, %v", a.Response.Patch, err)
	}
	for _, key := range []string{"metadata.annotations[", "/metadata/annotations", "x/metadata/annotations/y"} {
		hidden := strings.Replace(engine(c.good+"@"+c.goodAt), `"spec":{`, `"spec":{"`+key+`":{"image":{"repository":"x","tag":"y"}},`, 1)
		c.validate("an image in parts under "+key, hidden, false, "in parts")
	}
	task := func(image string) string {
		return `{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"t"},"spec":{"steps":[{"image":"` + image + `"},{"image":"` + c.good + "@" + c.goodAt + `"}]}}`
	}
	c.validate("a kind of our table, bad", task(c.bad+"@"+c.badAt), false, "spec.steps[0].image")
	if a := c.validate("with parameters", task("$(params.image)"), true); len(a.Response.Warnings) != 1 {
		t.Errorf("got warnings %q", a.Response.Warnings)
	}
	c.validate("with parameters of another project", task("{{image}}"), false, "spec.steps[0].image")
	c.validate("an image in parts", `{"apiVersion":"example.com/v1","kind":"Other","metadata":{"name":"e"},"spec":{"image":{"repository":"x","tag":"y"}}}`, false, "in parts")
}

// TestUpdates: an update is about the images that it changes, also if it reduces the replicas.
func TestUpdates(t *testing.T) {
	c := newScene(t)
	deployment := func(replicas int, image string) string {
		return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"replicas":%d,"template":{"spec":{"containers":[{"name":"a","image":%q}]}}}}`, replicas, image)
	}
	bad, good := c.bad+"@"+c.badAt, c.good+"@"+c.goodAt
	c.operation, c.old = "UPDATE", deployment(3, bad)
	c.validate("unchanged", deployment(3, bad), true)
	c.validate("fewer replicas", deployment(0, bad), true)
	c.validate("to a good one", deployment(3, good), true)
	c.old = deployment(3, good)
	c.validate("fewer replicas and another image", deployment(0, bad), false)
	c.validate("another image", deployment(3, bad), false)
	c.old = c.badPod()
	c.validate("a running pod", c.badPod(), true)
	debug := strings.Replace(c.badPod(), `"spec":{`, `"spec":{"ephemeralContainers":[{"name":"d","image":"`+bad+`"}],`, 1)
	c.subresouc = "ephemeralcontainers"
	c.validate("the same image again, to debug", debug, false)
	a := c.ask(admission.PathMutate, "to debug, by tag", strings.Replace(debug, bad, c.good, 1), true)
	if !strings.Contains(string(a.Response.Patch), "/spec/ephemeralContainers/0/image") || strings.Contains(string(a.Response.Patch), "/spec/containers") {
		t.Errorf("got patch %s", a.Response.Patch)
	}
	// A custom resource of which nothing is known, as after its kind was taken out of the configuration.
	unknown := func(meta, spec string) string {
		return `{"apiVersion":"example.com/v1","kind":"Engine","metadata":{"name":"e"` + meta + `},"spec":{"runs":"` + spec + `"}}`
	}
	c.subresouc, c.old = "", unknown("", bad)
	c.validate("a finalizer of what is not known", unknown(`,"finalizers":["a"],"labels":{"a":"b"}`, bad), true)
	c.validate("its spec", unknown("", good), false, "nothing says")
	c.validate("its annotations", unknown(`,"annotations":{"a":"b"}`, bad), false, "nothing says")
	c.old = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":{"spec":{"containers":["x"]}}}}`
	c.validate("from what cannot be read to a good one", deployment(1, good), true)
	c.validate("from what cannot be read to a bad one", deployment(1, bad), false)
	c.operation, c.subresouc, c.old = "DELETE", "", ""
	c.validate("a deletion", c.goodPod(), false, "expected CREATE or UPDATE")
}

// TestModes: what does not enforce warns, and says what will be refused.
func TestModes(t *testing.T) {
	c := newScene(t)
	c.use(strings.Replace(rules, "    - name: app\n", "    - name: app\n      mode: warn\n", 1))
	c.validate("warn", c.badPod(), true, "rejected")
	c.use(strings.Replace(rules, "    - name: app\n", "    - name: app\n      mode: audit\n", 1))
	if a := c.validate("audit", c.badPod(), true); len(a.Response.Warnings) > 0 || !strings.Contains(c.log.String(), `shop/app: rejected`) {
		t.Errorf("audit: got warnings %q and log %s", a.Response.Warnings, c.log)
	}
	c.config.DryRun = true
	c.start()
	c.use(rules)
	c.validate("dry run", c.badPod(), true)
	if a := c.ask(admission.PathMutate, "dry run", pod(c.good), true); len(a.Response.Patch) > 0 {
		t.Errorf("a dry run changes: %s", a.Response.Patch)
	}
	if !strings.Contains(c.log.String(), `"admitted":false`) || !strings.Contains(c.log.String(), `"dryRun":true`) {
		t.Errorf("got the log %s, want what would have been refused", c.log)
	}
}

// TestNoPolicy: before the first policy was read, nothing is admitted.
func TestNoPolicy(t *testing.T) {
	c := newScene(t)
	c.store = verdicts.New(verdicts.Config{Transport: verdicts.Transport(true)})
	c.config.Verdicts = c.store
	c.start()
	c.validate("by digest", c.goodPod(), false, "no policy")
	c.validate("by tag", pod(c.good), false)
}

// TestRecord: the line about a decision says who, what, which digest, commit and rule, and how long.
func TestRecord(t *testing.T) {
	c := newScene(t)
	c.validate("good", c.goodPod(), true)
	var line map[string]any
	if err := json.Unmarshal(c.log.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, c.log)
	}
	for name, want := range map[string]any{"msg": "decision", "user": "ada", "object": "Pod shop/p", "operation": "CREATE", "image": c.good + "@" + c.goodAt, "digest": c.goodAt,
		"commit": prooftest.Commit, "source": prooftest.Source, "rules": "shop/app: accepted", "outcome": "accepted", "policies": "test", "known": false, "admitted": true, "place": "spec.containers[0].image"} {
		if line[name] != want {
			t.Errorf("%s: got %v, want %v", name, line[name], want)
		}
	}
	if took, _ := line["took"].(float64); took <= 0 {
		t.Errorf("got took %v", line["took"])
	}
}

// TestInjectors: an annotation that makes another webhook add a container refuses nothing by itself.
func TestInjectors(t *testing.T) {
	c := newScene(t)
	c.validate("istio", strings.Replace(c.goodPod(), `"metadata":{`, `"metadata":{"annotations":{"sidecar.istio.io/proxyImage":"x"},`, 1), true)
}

// BenchmarkKnown: both webhooks about a pod whose image is known, from the bytes of the request to
// those of the answer. 1,000 pods a second on two cores are 2 ms of processor time for each.
func BenchmarkKnown(b *testing.B) {
	c := newScene(b)
	c.config.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
	c.start()
	body := c.body(c.goodPod())
	c.validate("first", c.goodPod(), true)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			for _, path := range []string{admission.PathMutate, admission.PathValidate} {
				if _, a, text := c.post(path, body); !a.Response.Allowed {
					b.Error(text)
				}
			}
		}
	})
}
