package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/oci/imagelist"
	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
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

const rules = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: shop}
spec:
  unmatched: deny
  rules:
    - name: app
      images: [{glob: "HOST/team/**"}]
      accept:
        - built: {source: https://git.example.com/team/app}
`

func newScene(t testing.TB) *scene {
	c := &scene{t: t, p: prooftest.New(t), log: new(bytes.Buffer), operation: "CREATE", user: "ada"}
	inner := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(c.delay)
		_, given, _ := r.BasicAuth()
		switch {
		case c.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case c.password != "" && given != c.password:
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	c.host = strings.TrimPrefix(srv.URL, "http://")
	dst, err := oci.OpenRegistry(c.host+"/team/app", oci.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	signed, plain := prooftest.NewStore(t), prooftest.NewStore(t)
	r := c.p.Release(signed)
	r.Attach(prooftest.Kinds...)
	signed.Push(context.Background(), dst)
	plain.Tar = []byte("another image")
	d, _ := plain.Image("bad")
	plain.Push(context.Background(), dst)
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
	sets, err := policy.ParseSets([]byte(strings.ReplaceAll(text, "HOST", c.host)))
	if err == nil {
		err = c.store.Use("test", sets, []*trust.Root{c.p.Root()})
	}
	if err != nil {
		c.t.Fatal(err)
	}
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
	c.operation, c.subresouc, c.old = "DELETE", "", ""
	c.validate("a deletion", c.goodPod(), false, "expected CREATE or UPDATE")
}

// TestGarbage: what is no request is refused with a reason, and never admitted.
func TestGarbage(t *testing.T) {
	c := newScene(t)
	whole := string(c.body(c.goodPod()))
	for what, tt := range map[string]struct {
		body string
		code int
	}{
		"nothing":           {"", http.StatusBadRequest},
		"null":              {"null", http.StatusBadRequest},
		"no JSON":           {"{", http.StatusBadRequest},
		"a list":            {"[]", http.StatusBadRequest},
		"no request":        {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, http.StatusBadRequest},
		"no uid":            {strings.Replace(whole, `"u1"`, `""`, 1), http.StatusBadRequest},
		"version v1beta1":   {strings.Replace(whole, "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), http.StatusBadRequest},
		"another kind":      {strings.Replace(whole, "AdmissionReview", "Pod", 1), http.StatusBadRequest},
		"members twice":     {strings.Replace(whole, `"operation":"CREATE"`, `"operation":"CREATE","operation":"DELETE"`, 1), http.StatusBadRequest},
		"in another case":   {strings.Replace(whole, `"operation":"CREATE"`, `"operation":"DELETE","Operation":"CREATE"`, 1), http.StatusBadRequest},
		"more after it":     {whole + whole, http.StatusBadRequest},
		"deep":              {strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000), http.StatusBadRequest},
		"too long":          {`"` + strings.Repeat("x", 9<<20) + `"`, http.StatusRequestEntityTooLarge},
		"not UTF-8":         {strings.Replace(whole, "u1", "\xff", 1), http.StatusBadRequest},
		"users of a number": {strings.Replace(whole, `"username":"ada"`, `"username":1`, 1), http.StatusBadRequest},
	} {
		for _, path := range []string{admission.PathMutate, admission.PathValidate} {
			if code, a, text := c.post(path, []byte(tt.body)); code != tt.code || a.Response.Allowed || len(text) > 2000 {
				t.Errorf("%s: got %d %s, want %d", what, code, text, tt.code)
			}
		}
	}
	for what, change := range map[string]func(*http.Request){
		"GET":          func(r *http.Request) { r.Method = http.MethodGet },
		"text":         func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") },
		"no type":      func(r *http.Request) { r.Header.Del("Content-Type") },
		"another path": func(r *http.Request) { r.URL.Path = "/" },
	} {
		r := httptest.NewRequest(http.MethodPost, admission.PathValidate, strings.NewReader(whole))
		r.Header.Set("Content-Type", "application/json")
		change(r)
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if w.Code < 400 || w.Code >= 500 {
			t.Errorf("%s: got %d", what, w.Code)
		}
	}
	// These are requests, and their objects are garbage.
	for what, object := range map[string]string{
		"another kind within": `{"apiVersion":"v1","kind":"Pod","x":1}`,
		"a container of text": `{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":["x"]}}`,
		"containers no list":  `{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":{"image":"x"}}}`,
		"no image":            `{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":[{"name":"a"}]}}`,
		"no name of an image": pod("UPPER/Case"),
		"sha512":              pod(c.host + "/team/app@sha512:" + strings.Repeat("ab", 64)),
		"501 images":          `{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":[` + strings.TrimSuffix(strings.Repeat(`{"image":"x"},`, 501), ",") + `]}}`,
	} {
		body := c.body(object)
		if what == "another kind within" {
			body = bytes.Replace(body, []byte(`"kind":"Pod","version"`), []byte(`"kind":"Job","version"`), 1)
		}
		if code, a, text := c.post(admission.PathValidate, body); code != http.StatusOK || a.Response.Allowed || a.Response.Status.Message == "" {
			t.Errorf("%s: got %d %s", what, code, text)
		}
	}
	c.operation, c.old = "CREATE", ""
	if _, a, text := c.post(admission.PathValidate, bytes.Replace(c.body(c.goodPod()), []byte(`"object":`), []byte(`"objekt":`), 1)); a.Response.Allowed {
		t.Errorf("without an object: got %s", text)
	}
}

// TestManyImages: 500 images of one pod are decided within the time, and one bad one among them is seen.
func TestManyImages(t *testing.T) {
	c := newScene(t)
	var list []string
	for i := range 499 {
		list = append(list, fmt.Sprintf(`{"name":"c%d","image":%q}`, i, c.good+"@"+c.goodAt))
	}
	object := func() string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[` + strings.Join(list, ",") + `]}}`
	}
	c.validate("499 good ones", object(), true)
	list = append(list, fmt.Sprintf(`{"name":"z","image":%q}`, c.bad+"@"+c.badAt))
	c.validate("and a bad one", object(), false)
	list = append(list[:499:499], list[0], list[1])
	c.validate("501 good ones", object(), false, "at most 500 images")
}

// TestLargeObjects: many large objects at once take no more memory than a few.
func TestLargeObjects(t *testing.T) {
	c := newScene(t)
	c.operation = "UPDATE"
	large := strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"x":[`+strings.Repeat("{},", 800_000)+`{}],`, 1)
	c.old = large
	body := c.body(large)
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() { c.post(admission.PathValidate, body) })
	}
	done, most := make(chan struct{}), uint64(0)
	go func() { all.Wait(); close(done) }()
	for busy := true; busy; {
		select {
		case <-done:
			busy = false
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapAlloc-min(now.HeapAlloc, before.HeapAlloc))
		}
	}
	if t.Logf("12 requests of %d MiB take %d MiB", len(body)>>20, most>>20); most > 450<<20 {
		t.Error("this is too much")
	}
}

// TestRegistryHangs: an answer comes before the API server stops waiting, and it is no.
func TestRegistryHangs(t *testing.T) {
	c := newScene(t)
	c.delay = 3 * time.Second
	for _, path := range []string{admission.PathMutate, admission.PathValidate} {
		object := map[string]string{admission.PathMutate: pod(c.good), admission.PathValidate: c.goodPod()}[path]
		r := httptest.NewRequest(http.MethodPost, path+"?timeout=1s", bytes.NewReader(c.body(object)))
		r.Header.Set("Content-Type", "application/json")
		w, start := httptest.NewRecorder(), time.Now()
		c.handler.ServeHTTP(w, r)
		if took := time.Since(start); took > time.Second || !strings.Contains(w.Body.String(), `"allowed":false`) || !strings.Contains(w.Body.String(), "in time") {
			t.Errorf("%s: after %s: %s", path, took, w.Body)
		}
	}
}

// TestRegistryIsDown: nothing is admitted because nobody could look, unless no rule enforces.
func TestRegistryIsDown(t *testing.T) {
	c := newScene(t)
	c.down.Store(true)
	c.validate("by digest", c.goodPod(), false, "nobody knows", "502")
	c.ask(admission.PathMutate, "by tag", pod(c.good), false, "could not be resolved", "502")
	for _, mode := range []string{"audit", "warn"} {
		c.use(strings.NewReplacer("    - name: app\n", "    - name: app\n      mode: "+mode+"\n", "unmatched: deny", "unmatched: allow").Replace(rules))
		c.log.Reset()
		if a := c.validate("by digest, "+mode, c.goodPod(), true); (len(a.Response.Warnings) > 0) != (mode == "warn") || !strings.Contains(c.log.String(), "502") {
			t.Errorf("%s: got warnings %q and log %s", mode, a.Response.Warnings, c.log)
		}
		c.ask(admission.PathMutate, "by tag, "+mode, pod(c.good), true, "502")
		c.validate("by tag, "+mode, pod(c.good), true, "by a tag")
	}
	// A digest that a rule names may be behind any tag.
	c.use(strings.NewReplacer("unmatched: deny", "unmatched: allow", `glob: "HOST/team/**"`, `digest: "`+c.badAt+`"`).Replace(rules))
	c.ask(admission.PathMutate, "by tag, and a rule about a digest", pod(c.bad), false)
	c.validate("by tag, and a rule about a digest", pod(c.bad), false)
	c.use(strings.NewReplacer("unmatched: deny", "unmatched: allow", "HOST/team/**", "HOST/other/app@*").Replace(rules))
	c.ask(admission.PathMutate, "by tag, and a rule about others", pod(c.bad), true, "502")
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

// TestPrivateImages: the pull secrets of the pod and of its ServiceAccount are used, and those of
// nobody else.
func TestPrivateImages(t *testing.T) {
	c := newScene(t)
	c.password = "s3cret"
	secret := `{"auths":{"https://` + c.host + `/team":{"username":"u","password":"s3cret"}}}`
	c.cluster.secrets["shop/pull"], c.cluster.secrets["other/pull"] = secret, secret
	c.validate("without", c.goodPod(), false, "credentials")
	c.ask(admission.PathMutate, "without, by tag", pod(c.good), false)
	named := strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"pull"}],`, 1)
	c.validate("named", named, true)
	c.validate("known, and without", c.goodPod(), false, "credentials")
	c.ask(admission.PathMutate, "named, by tag", strings.Replace(named, "@"+c.goodAt, "", 1), true)
	template := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":` + strings.Replace(named, `"apiVersion":"v1","kind":"Pod",`, "", 1) + `}}`
	c.validate("of a template", template, true)
	c.cluster.secrets["shop/of-builder"] = secret
	c.validate("of the ServiceAccount", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"serviceAccountName":"builder",`, 1), true)
	c.validate("of another ServiceAccount", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"serviceAccountName":"other",`, 1), false)
	c.cluster.secrets["shop/broken"] = `{"auths":{"` + c.host + `":{"auth":"s3cret"}}}`
	a := c.validate("a broken one", strings.Replace(c.goodPod(), `"spec":{`, `"spec":{"imagePullSecrets":[{"name":"broken"}],`, 1), false, "base64 of USERNAME:PASSWORD")
	if text := a.Response.Status.Message + c.log.String(); strings.Contains(text, "s3cret") {
		t.Error("a password is in an answer or in the log")
	}
}

// TestStaticPods: only the kubelet of the node is believed that a pod runs already.
func TestStaticPods(t *testing.T) {
	c := newScene(t)
	mirror := strings.NewReplacer(`"metadata":{`, `"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"},`, `"spec":{`, `"spec":{"nodeName":"n1",`).Replace(c.badPod())
	c.validate("by a person", mirror, false)
	c.user, c.groups = "system:node:n2", []string{"system:nodes"}
	c.validate("by another node", mirror, false)
	c.user = "system:node:n1"
	c.validate("by the node", mirror, true, "team/app:bad")
	gone := strings.Replace(mirror, c.bad+"@"+c.badAt, c.host+"/team/app:gone", 1)
	a := c.ask(admission.PathMutate, "by the node, with a tag that is not there", gone, true)
	if len(a.Response.Patch) > 0 {
		t.Errorf("the mirror is changed: %s", a.Response.Patch)
	}
	c.validate("by the node, with a tag that is not there", gone, true, "by a tag")
	c.groups = nil
	c.validate("by somebody with the name of the node", mirror, false)
}

// TestBreakGlass: only who may, with a reason, and for a time.
func TestBreakGlass(t *testing.T) {
	c := newScene(t)
	c.cluster.may["root@shop"], c.cluster.may["ada@other"] = true, true
	glass := func(object, reason string, d time.Duration) string {
		return strings.Replace(object, `"metadata":{`, fmt.Sprintf(`"metadata":{"annotations":{"colophon.build/break-glass":%q,"colophon.build/break-glass-until":%q},`, reason, time.Now().Add(d).UTC().Format(time.RFC3339)), 1)
	}
	c.validate("by ada", glass(c.badPod(), "the shop is down", time.Hour), false, "ada may not break it")
	c.validate("by ada, of a good image", glass(c.goodPod(), "the shop is down", time.Hour), false, "ada may not break it")
	c.user = "root"
	a := c.validate("by root", glass(c.badPod(), "the shop is down", time.Hour), true, "THE GLASS IS BROKEN", "the shop is down")
	if a.Response.Audit["break-glass"] != "the shop is down" || !strings.Contains(c.log.String(), `"level":"ERROR","msg":"the glass is broken"`) {
		t.Errorf("got audit %v and log %s", a.Response.Audit, c.log)
	}
	c.validate("without a reason", glass(c.badPod(), " ", time.Hour), false, "expected a reason")
	c.validate("for too long", glass(c.badPod(), "the shop is down", 25*time.Hour), false, "at most 24h")
	c.validate("too late", glass(c.badPod(), "the shop is down", -time.Hour), false, "ended")
	c.validate("without a time", strings.Replace(c.badPod(), `"metadata":{`, `"metadata":{"annotations":{"colophon.build/break-glass":"the shop is down"},`, 1), false, "break-glass-until")
	c.cluster.fails = true
	c.validate("nobody knows who may", glass(c.badPod(), "the shop is down", time.Hour), false, "not known")
	// Controllers copy what was admitted; they are asked for nothing else.
	c.user = "system:serviceaccount:kube-system:replicaset-controller"
	c.validate("by a controller", glass(c.badPod(), "the shop is down", time.Hour), true)
	c.validate("by a controller, too late", glass(c.badPod(), "the shop is down", -time.Hour), false)
	for _, user := range []string{"system:serviceaccount:shop:replicaset-controller", "system:serviceaccount:kube-system:default"} {
		c.user = user
		c.validate("by "+user, glass(c.badPod(), "the shop is down", time.Hour), false)
	}
	c.cluster.fails, c.user = false, "ada"
	deployment := func(pod string) string {
		return `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"p"},"spec":{"template":` + strings.Replace(pod, `"apiVersion":"v1","kind":"Pod",`, "", 1) + `}}`
	}
	broken := glass(c.goodPod(), "the shop is down", time.Hour)
	c.operation, c.old = "UPDATE", deployment(broken)
	c.validate("unchanged annotations", deployment(broken), true)
	c.validate("ada uses the glass of root", deployment(strings.Replace(broken, c.good+"@"+c.goodAt, c.bad+"@"+c.badAt, 1)), false, "may not")
}

// TestGlassWhileRegistryHangs: the glass can be broken when a registry takes all the time.
func TestGlassWhileRegistryHangs(t *testing.T) {
	c := newScene(t)
	c.delay = 3 * time.Second
	c.cluster.may["ada@shop"] = true
	annotations := fmt.Sprintf(`"metadata":{"annotations":{"colophon.build/break-glass":"the registry hangs","colophon.build/break-glass-until":%q},`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	for path, object := range map[string]string{admission.PathMutate: pod(c.bad), admission.PathValidate: c.badPod()} {
		r := httptest.NewRequest(http.MethodPost, path+"?timeout=1s", bytes.NewReader(c.body(strings.Replace(object, `"metadata":{`, annotations, 1))))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if !strings.Contains(w.Body.String(), `"allowed":true`) || !strings.Contains(w.Body.String(), "THE GLASS IS BROKEN") {
			t.Errorf("%s: got %s", path, w.Body)
		}
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
