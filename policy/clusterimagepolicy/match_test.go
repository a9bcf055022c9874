package clusterimagepolicy_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

// TestWorkloadOf: group, version, resource and labels of objects. What no API server takes is no workload.
func TestWorkloadOf(t *testing.T) {
	labels := map[string]any{"env": "prod"}
	for _, c := range []struct{ apiVersion, kind, want string }{
		{"v1", "Pod", "/v1/pods"},
		{"v1", "ReplicationController", "/v1/replicationcontrollers"},
		{"apps/v1", "Deployment", "apps/v1/deployments"},
		{"apps/v1", "StatefulSet", "apps/v1/statefulsets"},
		{"batch/v1", "CronJob", "batch/v1/cronjobs"},
		{"example.com/v2", "Proxy", "example.com/v2/proxies"},
		{"example.com/v2", "Class", "example.com/v2/classes"},
	} {
		w := clusterimagepolicy.WorkloadOf(c.apiVersion, c.kind, map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"a": 1}})
		if w == nil || strings.Join([]string{w.Group, w.Version, w.Resource}, "/") != c.want || !maps.Equal(w.Labels, map[string]string{"env": "prod"}) || w.Spec == nil || w.ObjectMeta == nil || w.TypeMeta == nil {
			t.Errorf("%s %s: got %+v, want %s", c.apiVersion, c.kind, w, c.want)
		}
	}
	if w := clusterimagepolicy.WorkloadOf("v1", "Pod", map[string]any{"metadata": map[string]any{}}); w == nil || w.Spec != nil || len(w.Labels) != 0 {
		t.Errorf("got %+v, want a pod without labels and spec", w)
	}
	for name, metadata := range map[string]any{"none": nil, "text": "x", "labels": map[string]any{"labels": []any{}}, "a label": map[string]any{"labels": map[string]any{"env": true}}} {
		if w := clusterimagepolicy.WorkloadOf("v1", "Pod", map[string]any{"metadata": metadata}); w != nil {
			t.Errorf("%s: got %+v, want nothing", name, w)
		}
	}
	if clusterimagepolicy.WorkloadOf("", "Pod", map[string]any{"metadata": map[string]any{}}) != nil || clusterimagepolicy.WorkloadOf("v1", "", map[string]any{"metadata": map[string]any{}}) != nil {
		t.Error("got a workload without a version or a kind")
	}
}

// TestSelector: labels are selected as Kubernetes does.
func TestSelector(t *testing.T) {
	for selector, want := range map[string]map[string]bool{ // by the value of the label env; "-" has none
		"{matchLabels: {env: prod}}": {"prod": true, "test": false, "-": false},
		"{matchLabels: {}}":          {"prod": true, "-": true},
		"{matchExpressions: [{key: env, operator: In, values: [prod, lab]}]}":                                    {"prod": true, "lab": true, "test": false, "-": false},
		"{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}":                                      {"prod": false, "test": true, "-": true},
		"{matchExpressions: [{key: env, operator: Exists}]}":                                                     {"prod": true, "": true, "-": false},
		"{matchExpressions: [{key: env, operator: DoesNotExist}]}":                                               {"prod": false, "": false, "-": true},
		"{matchLabels: {env: prod}, matchExpressions: [{key: env, operator: DoesNotExist}]}":                     {"prod": false, "-": false},
		"{matchExpressions: [{key: env, operator: Exists}, {key: env, operator: NotIn, values: [prod, 'lab']}]}": {"prod": false, "test": true, "-": false},
	} {
		text := strings.Replace(minimal, "  images:", "  match: [{version: v1, resource: pods, selector: "+selector+"}]\n  images:", 1)
		o, err := clusterimagepolicy.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", selector, err)
		}
		for value, want := range want {
			w := &clusterimagepolicy.Workload{Version: "v1", Resource: "pods", Labels: map[string]string{"env": value}}
			if value == "-" {
				w.Labels = nil
			}
			if got := o.Policies[0].AboutWorkload(w); got != want {
				t.Errorf("%s, env is %q: got %v, want %v", selector, value, got, want)
			}
		}
	}
}

// TestPredicateTypes: the short names of cosign stand for predicate types; a URI is itself.
func TestPredicateTypes(t *testing.T) {
	for name, want := range map[string]string{
		"custom": "https://cosign.sigstore.dev/attestation/v1", "slsaprovenance": "https://slsa.dev/provenance/v0.2", "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
		"slsaprovenance1": "https://slsa.dev/provenance/v1", "spdx": "https://spdx.dev/Document", "spdxjson": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom",
		"link": "https://in-toto.io/Link/v1", "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1", "openvex": "https://openvex.dev/ns",
		"https://example.com/x": "https://example.com/x", "Custom": "Custom",
	} {
		if got := (&clusterimagepolicy.Attestation{PredicateType: name}).PredicateURI(); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
