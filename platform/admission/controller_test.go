package admission

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission/kubeapi"
	"github.com/colophon-build/colophon/platform/verdicts"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
)

const aKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhyQCx0E9wQWSFI9ULGwy3BuRklnt
IqozONbbdbqz11hlRJy9c7SG+hdcFl9jE9uE/dwtuwU2MqU9T/cN0YkWww==
-----END PUBLIC KEY-----
`

// TestClusterImagePoliciesOfTheCluster: admission follows the resources of policy-controller, and reads
// the Secrets and ConfigMaps that the configuration lists in its own namespace, and no others. It
// counts nothing until it has all of them. Of another Secret, it knows nothing.
func TestClusterImagePoliciesOfTheCluster(t *testing.T) {
	a, api := newAPIServer(t)
	list := func(items string) string { return `{"metadata":{"resourceVersion":"1"},"items":[` + items + `]}` }
	const of = "/apis/policy.sigstore.dev/"
	policies := `{"apiVersion":"policy.sigstore.dev/v1beta1","kind":"ClusterImagePolicy","metadata":{"name":"a","uid":"x","resourceVersion":"7","managedFields":[{}]},
		"spec":{"images":[{"glob":"**"}],"authorities":[{"key":{"secretRef":{"name":"NAME"}}}]},"status":{"conditions":[{"type":"Ready"}]}}`
	lists := map[string]string{
		"/apis/colophon.build/v1/imagepolicies": list(""), "/apis/colophon.build/v1/namespacedimagepolicies": list(""),
		of + "v1alpha1/trustroots": list(""),
	}
	secret, err := json.Marshal(map[string]any{"kind": "Secret", "data": map[string][]byte{"k": []byte(aKey)}})
	if err != nil {
		t.Fatal(err)
	}
	a.answer = func(path string) (int, string) {
		switch path {
		case "/api/v1/namespaces/colophon/secrets/pub":
			return http.StatusOK, string(secret)
		case "/api/v1/namespaces/colophon/configmaps/texts":
			return http.StatusForbidden, "{}"
		}
		if text, ok := lists[path]; ok {
			return http.StatusOK, text
		}
		return 0, ""
	}
	told := make(chan []verdicts.Document, 100)
	follow := func() {
		l := &loader{log: slog.New(slog.DiscardHandler)}
		p := &parts{documents: map[string][]verdicts.Document{}, all: func(all []verdicts.Document) { told <- all }}
		l.followPolicies(t.Context(), api, "colophon", &ClusterImagePolicies{Secrets: []string{"pub"}, ConfigMaps: []string{"texts"}}, p)
	}
	follow()
	select {
	case all := <-told:
		t.Fatalf("got %d documents before the policies were read", len(all))
	case <-time.After(300 * time.Millisecond):
	}
	a.mu.Lock()
	lists[of+"v1beta1/clusterimagepolicies"] = list(strings.Replace(policies, "NAME", "pub", 1))
	a.mu.Unlock()
	follow()
	all := await.Value(t, "the documents", told)
	if len(all) != 2 || all[0].Name != "ClusterImagePolicy a" || all[1].Name != "Secret pub" || strings.Contains(string(all[0].Raw), "managedFields") || strings.Contains(string(all[0].Raw), "status") {
		t.Fatalf("got %d: %+v", len(all), all)
	}
	store := verdicts.New(verdicts.Config{Transport: verdicts.Transport(false)})
	l := verdicts.NewLoader(store, slog.New(slog.DiscardHandler), nil)
	l.WithClusterImagePolicies(&verdicts.ClusterImagePolicies{})
	l.Tell(verdicts.TrustDocuments, nil)
	l.Tell(verdicts.PolicyDocuments, all)
	if _, problem := l.Ready(); problem != "" {
		t.Error(problem)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, asked := range a.asked {
		if strings.Contains(asked, "/secrets/") && asked != "GET /api/v1/namespaces/colophon/secrets/pub" {
			t.Errorf("it asked for %s", asked)
		}
	}
	if !slices.Contains(a.asked, "GET /api/v1/namespaces/colophon/configmaps/texts") {
		t.Error("it did not ask for the ConfigMap")
	}
}

// TestBesideDocument: a Secret that is gone is none, and one that cannot be read is an error.
func TestBesideDocument(t *testing.T) {
	a, api := newAPIServer(t)
	if _, err := besideDocument(t.Context(), api, "/api/v1/namespaces/colophon/secrets/gone", "Secret", "gone"); !errors.Is(err, kubeapi.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	a.answer = func(string) (int, string) { return http.StatusOK, `{"data":{"policy":"x"},"binaryData":{"b":"eA=="}}` }
	d, err := besideDocument(t.Context(), api, "/x", "ConfigMap", "texts")
	if err != nil || string(d.Raw) != `{"apiVersion":"v1","binaryData":{"b":"eA=="},"data":{"policy":"x"},"kind":"ConfigMap","metadata":{"name":"texts"}}` {
		t.Errorf("got %s, %v", d.Raw, err)
	}
}

// TestClusterImagePolicySettings: what they cannot mean is refused.
func TestClusterImagePolicySettings(t *testing.T) {
	for want, c := range map[string]ClusterImagePolicies{
		"":                                       {NoMatchPolicy: policy.WarnUnmatched, Secrets: []string{"a"}, ConfigMaps: []string{"b"}},
		"expected deny, warn or allow":           {NoMatchPolicy: "permit"},
		"expected the name of a Secret or":       {Secrets: []string{"../x"}},
		"expected at most 64 secrets and config": {ConfigMaps: slices.Repeat([]string{"a"}, maxBeside+1)},
	} {
		if err := c.check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
}
