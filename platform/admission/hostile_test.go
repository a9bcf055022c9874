package admission_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission"
)

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
	t.Parallel()
	c := newScene(t)
	c.delay = time.Minute
	for _, path := range []string{admission.PathMutate, admission.PathValidate} {
		object := map[string]string{admission.PathMutate: pod(c.good), admission.PathValidate: c.goodPod()}[path]
		r := httptest.NewRequest(http.MethodPost, path+"?timeout=1s", bytes.NewReader(c.body(object)))
		r.Header.Set("Content-Type", "application/json")
		w, start := httptest.NewRecorder(), time.Now()
		c.handler.ServeHTTP(w, r)
		if took := time.Since(start); took >= c.delay || !strings.Contains(w.Body.String(), `"allowed":false`) || !strings.Contains(w.Body.String(), "in time") {
			t.Errorf("%s: after %s: %s", path, took, w.Body)
		}
	}
}

// TestRegistryIsDown: nothing is admitted because nobody could look, unless no rule enforces.
func TestRegistryIsDown(t *testing.T) {
	t.Parallel()
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
