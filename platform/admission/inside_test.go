package admission

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
)

// apiServer keeps objects by path as the API server does: a change must name the version of what
// it changes. test/kube has the real one.
type apiServer struct {
	mu      sync.Mutex
	objects map[string]map[string]any
	version int
	patches []string
	asked   []string
	answer  func(path string) (int, string) // in place of an object, if it returns a status
}

func newAPIServer(t *testing.T) (*apiServer, *kubeapi.Client) {
	a := &apiServer{objects: map[string]map[string]any{}}
	srv := httptest.NewTLSServer(a)
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := kubeapi.New(kubeapi.Settings{Server: srv.URL, CA: ca, Token: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	a.asked = append(a.asked, r.Method+" "+r.URL.Path)
	if r.Header.Get("Authorization") != "Bearer s3cret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if a.answer != nil {
		if code, text := a.answer(r.URL.Path); code != 0 {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
			return
		}
	}
	have := a.objects[r.URL.Path]
	switch {
	case r.Method == http.MethodPatch:
		a.patches = append(a.patches, r.URL.Path+" "+string(body))
	case have == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case r.Method == http.MethodPut:
		var next map[string]any
		if json.Unmarshal(body, &next) != nil || version(next) != version(have) {
			w.WriteHeader(http.StatusConflict)
			return
		}
		a.put(r.URL.Path, next)
	}
	_ = json.NewEncoder(w).Encode(a.objects[r.URL.Path])
}

func version(o map[string]any) any {
	m, _ := o["metadata"].(map[string]any)
	return m["resourceVersion"]
}

func (a *apiServer) put(path string, o map[string]any) {
	a.version++
	o["metadata"] = map[string]any{"name": path[strings.LastIndex(path, "/")+1:], "resourceVersion": time.Duration(a.version).String()}
	a.objects[path] = o
}

// TestSharedCertificate: replicas that start at once show certificates of one authority; it is
// renewed before it ends; and an authority that ends stays trusted beside the new one.
func TestSharedCertificate(t *testing.T) {
	a, api := newAPIServer(t)
	const path = "/api/v1/namespaces/colophon/secrets/colophon-admission-tls"
	a.put(path, map[string]any{"kind": "Secret"})
	now := time.Now()
	at := func(now time.Time) (*tls.Certificate, []byte) {
		t.Helper()
		pair, bundle, err := shared(t.Context(), api, "colophon", now)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "colophon-admission.colophon.svc", Roots: roots, CurrentTime: now}); err != nil {
			t.Fatal(err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: "other.colophon.svc", Roots: roots, CurrentTime: now}); err == nil {
			t.Error("the certificate is valid for another name")
		}
		return pair, bundle
	}
	var all sync.WaitGroup
	serials := make([]string, 5)
	for i := range serials {
		all.Go(func() {
			if pair, _, err := shared(t.Context(), api, "colophon", now); err != nil {
				t.Error(err)
			} else {
				serials[i] = pair.Leaf.SerialNumber.String()
			}
		})
	}
	all.Wait()
	for _, s := range serials {
		if s != serials[0] {
			t.Fatalf("got the certificates %q, want one", serials)
		}
	}
	first, bundle := at(now)
	if again, _ := at(now.Add(59 * 24 * time.Hour)); again.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) != 0 {
		t.Error("it is renewed too early")
	}
	second, same := at(now.Add(61 * 24 * time.Hour))
	if second.Leaf.SerialNumber.Cmp(first.Leaf.SerialNumber) == 0 || string(same) != string(bundle) {
		t.Error("it is not renewed by the same authority after two thirds of its time")
	}
	later := now.Add(authority - leafLife/2)
	third, both := at(later)
	if strings.Count(string(both), "BEGIN") != 2 || !strings.HasSuffix(string(both), string(bundle)) {
		t.Error("the new authority does not stand beside the old one")
	}
	if third.Leaf.SerialNumber.Cmp(second.Leaf.SerialNumber) == 0 {
		t.Error("the certificate is not of the new authority")
	}
	// A clock that was ahead made the authority; now it is right.
	back := now.Add(-30 * 24 * time.Hour)
	at(back)
	at(back.Add(-authority))
	// Garbage in the Secret is replaced.
	a.mu.Lock()
	a.put(path, map[string]any{"kind": "Secret", "data": map[string]any{"tls.crt": []byte("x"), "ca.crt": []byte("y")}})
	a.mu.Unlock()
	at(now)
}

// TestTrustIn: the authority is written into the webhooks that lack it, and nothing else is.
func TestTrustIn(t *testing.T) {
	a, api := newAPIServer(t)
	const path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/colophon-admission"
	a.put(path, map[string]any{"webhooks": []any{
		map[string]any{"clientConfig": map[string]any{"caBundle": []byte("the authority")}}, map[string]any{"clientConfig": map[string]any{}},
	}})
	if err := trustIn(t.Context(), api, "validatingwebhookconfigurations", []byte("the authority")); err != nil {
		t.Fatal(err)
	}
	if len(a.patches) != 1 || !strings.Contains(a.patches[0], `"/webhooks/1/clientConfig/caBundle"`) || strings.Contains(a.patches[0], "/webhooks/0/") || !strings.Contains(a.patches[0], `"test"`) {
		t.Errorf("got %q", a.patches)
	}
	a.objects[path]["webhooks"] = a.objects[path]["webhooks"].([]any)[:1]
	if err := trustIn(t.Context(), api, "validatingwebhookconfigurations", []byte("the authority")); err != nil || len(a.patches) != 1 {
		t.Errorf("got %v and %q, want no other patch", err, a.patches)
	}
}

// TestNamesAreNoPaths: the names that a pod gives lead to Secrets of its namespace, and nowhere else.
func TestNamesAreNoPaths(t *testing.T) {
	a, api := newAPIServer(t)
	k := NewKubeCluster(api)
	a.put("/api/v1/namespaces/shop/serviceaccounts/default", map[string]any{"imagePullSecrets": []any{map[string]string{"name": "of-account"}, map[string]string{"name": "../../other/secrets/pull"}}})
	docker := map[string]any{"type": "kubernetes.io/dockerconfigjson", "data": map[string]any{".dockerconfigjson": []byte("{}")}}
	for _, name := range []string{"shop/secrets/of-account", "shop/secrets/pull", "other/secrets/pull"} {
		a.put("/api/v1/namespaces/"+name, docker)
	}
	a.put("/api/v1/namespaces/shop/secrets/password", map[string]any{"type": "Opaque", "data": map[string]any{".dockerconfigjson": []byte("{}")}})
	names := []string{"pull", "../../other/secrets/pull", "pull?x=1", "PULL", "", "pull/../x", "pull%2f..", "password"}
	secrets, notes := k.PullSecrets(t.Context(), "shop", "default", names)
	if len(secrets) != 2 || secrets[0].Name != "pull" || secrets[1].Name != "of-account" || len(notes) != 7 {
		t.Errorf("got %v and notes %q, want pull and of-account", secrets, notes)
	}
	for _, asked := range a.asked {
		if strings.Contains(asked, "other") {
			t.Errorf("another namespace was asked: %s", asked)
		}
	}
	n := len(a.asked)
	if _, _ = k.PullSecrets(t.Context(), "shop", "default", []string{"pull"}); len(a.asked) != n {
		t.Error("the Secrets are read again within half a minute")
	}
	if secrets, _ := k.PullSecrets(t.Context(), "../other", "default", []string{"pull"}); len(secrets) != 0 {
		t.Error("a namespace is taken for a path")
	}
}

// TestMayBreakGlass: only a clear yes is one.
func TestMayBreakGlass(t *testing.T) {
	a, api := newAPIServer(t)
	k := NewKubeCluster(api)
	for answer, want := range map[string]bool{
		`{"status":{"allowed":true}}`: true, `{"status":{"allowed":false}}`: false, `{"status":{"allowed":true,"denied":true}}`: false, `{}`: false, ``: false, `[]`: false,
		`{"status":{"evaluationError":"x"}}`: false,
	} {
		a.answer = func(string) (int, string) { return http.StatusCreated, answer }
		if got, err := k.MayBreakGlass(t.Context(), User{Username: "ada"}, "shop"); got != want {
			t.Errorf("%s: got %v, %v", answer, got, err)
		}
	}
	a.answer = func(string) (int, string) { return http.StatusForbidden, `{"status":{"allowed":true}}` }
	if got, err := k.MayBreakGlass(t.Context(), User{Username: "ada"}, "shop"); got || err == nil {
		t.Error("a refusal is taken for a yes")
	}
}

// TestStrangeStatus: a status that cannot be read, which people of a namespace may write, holds up
// no policy.
func TestStrangeStatus(t *testing.T) {
	_, api := newAPIServer(t)
	l := &loader{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	d := l.documentOf(t.Context(), api, "namespacedimagepolicies", json.RawMessage(`{"apiVersion":"colophon.build/v1","kind":"NamespacedImagePolicy","metadata":{"name":"a","namespace":"shop"},"spec":{"unmatched":"deny","rules":[]},"status":{"conditions":[{"lastTransitionTime":"2026-11-27 03:00:00"}]}}`))
	if d.Namespace != "shop" {
		t.Errorf("got %q", d.Namespace)
	}
	if _, err := policy.ParseSets(d.Raw); err != nil {
		t.Error(err)
	}
}

// TestStatusChangesNothing: what the cluster writes beside a policy makes it no other policy, and
// is written once.
func TestStatusChangesNothing(t *testing.T) {
	a, api := newAPIServer(t)
	l := &loader{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	object := func(version, status string) json.RawMessage {
		return json.RawMessage(`{"apiVersion":"colophon.build/v1","kind":"ImagePolicy","metadata":{"name":"a","generation":3,"resourceVersion":"` + version + `","managedFields":[{}]},"spec":{"unmatched":"deny","rules":[]},"status":` + status + `}`)
	}
	one, two := l.documentOf(t.Context(), api, "imagepolicies", object("1", `{}`)), l.documentOf(t.Context(), api, "imagepolicies", object("2", `{"conditions":[{"type":"Ready","status":"True","observedGeneration":3}]}`))
	if string(one.Raw) != string(two.Raw) || one.Name != two.Name {
		t.Errorf("got %s and %s", one.Raw, two.Raw)
	}
	count := func() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.patches) }
	two.Report("")
	time.Sleep(50 * time.Millisecond)
	if count() != 0 {
		t.Error("the same status is written again")
	}
	one.Report("it is broken")
	await.True(t, "the status is written", func() bool { return count() > 0 })
	if count() != 1 || !strings.Contains(a.patches[0], "/imagepolicies/a/status") || !strings.Contains(a.patches[0], `"status":"False"`) {
		t.Errorf("got %q", a.patches)
	}
}
