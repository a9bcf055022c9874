package admission

import (
	"net/http"
	"testing"
)

// TestFailuresOfSecretsAreForgotten: a Secret that could not be read because the API server failed is
// read again for the next pod. One that is not there, or that admission may not read, is not asked for
// again for each pod of a burst, but soon.
func TestFailuresOfSecretsAreForgotten(t *testing.T) {
	a, api := newAPIServer(t)
	k := NewKubeCluster(api)
	a.put("/api/v1/namespaces/shop/serviceaccounts/default", map[string]any{})
	a.put("/api/v1/namespaces/shop/secrets/pull", map[string]any{"type": "kubernetes.io/dockerconfigjson", "data": map[string]any{".dockerconfigjson": []byte("{}")}})
	secrets := func() int { s, _ := k.PullSecrets(t.Context(), "shop", "default", []string{"pull"}); return len(s) }
	for _, code := range []int{http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout} {
		a.answer = func(string) (int, string) { return code, "{}" }
		if secrets() != 0 {
			t.Errorf("%d: got a secret", code)
		}
	}
	a.answer = nil
	if secrets() != 1 {
		t.Error("a failure of the API server is remembered")
	}
	k = NewKubeCluster(api)
	a.answer = func(string) (int, string) { return http.StatusNotFound, "{}" }
	secrets()
	n := len(a.asked)
	secrets()
	if len(a.asked) != n {
		t.Error("a Secret that is not there is asked for by each pod")
	}
	a.answer = nil
	for path, o := range k.kept {
		o.at = o.at.Add(-absentFor)
		k.kept[path] = o
	}
	if secrets() != 1 {
		t.Errorf("a Secret that was created is not seen after %s", absentFor)
	}
}
