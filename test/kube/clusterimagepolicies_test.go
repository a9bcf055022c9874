package kube

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/kubetest"
)

// controllerDefinition defines a resource of policy-controller, without its schema.
func controllerDefinition(kind, plural, version string) string {
	return `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ` + plural + `.policy.sigstore.dev}
spec:
  group: policy.sigstore.dev
  scope: Cluster
  names: {plural: ` + plural + `, singular: ` + strings.ToLower(kind) + `, kind: ` + kind + `}
  versions: [{name: ` + version + `, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
}

// TestClusterImagePolicies: admission decides by the ClusterImagePolicies of the cluster, with a key in
// a Secret of its own namespace, from the moment that one changes; kube why says the same.
func TestClusterImagePolicies(t *testing.T) {
	definitions := controllerDefinition("ClusterImagePolicy", "clusterimagepolicies", "v1beta1") + controllerDefinition("TrustRoot", "trustroots", "v1alpha1")
	c := kubetest.Start(t)
	c.Apply(t, definitions)
	t.Cleanup(func() {
		if _, err := c.TryInput(definitions, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	s := open(t, "clusterImagePolicies.enabled=true,clusterImagePolicies.noMatchPolicy=allow,clusterImagePolicies.secrets={signer}")
	s.policy(t, "audit")
	s.Eventually(t, "our own policy only records", func() bool { return s.probe(s.unsigned) == nil })
	s.Kubectl(t, "create", "secret", "generic", "signer", "-n", helmNamespace, "--from-file=cosign.pub="+s.key+".pub")
	policy := func(authorities string) {
		s.Apply(t, "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: signed}\nspec:\n  images: [{glob: '"+kubetest.Registry+"/team/**'}]\n  authorities:\n"+authorities)
	}
	policy("    - key: {secretRef: {name: signer}}\n")
	s.Eventually(t, "an image without the signature is refused", func() bool {
		err := s.probe(s.unsigned)
		return err != nil && strings.Contains(err.Error(), "has no signature of the image")
	})
	s.admits(t, s.signed)
	if out := s.Kubectl(t, "auth", "can-i", "--list", "-n", helmNamespace, "--as=system:serviceaccount:"+helmNamespace+":colophon-admission"); !strings.Contains(out, "[signer]") {
		t.Errorf("got %s, want the right to read the Secret signer alone", out)
	}
	if out, errs, code := colophon(t, s.Cluster, "kube", "status"); code != 0 || !strings.Contains(out, "ClusterImagePolicy") {
		t.Errorf("kube status: got exit code %d, %s %s", code, out, errs)
	}
	s.Apply(t, pod("asked", s.signed))
	policy("    - static: {action: fail, message: not today}\n")
	s.Eventually(t, "a change counts", func() bool {
		err := s.probe(s.signed)
		return err != nil && strings.Contains(err.Error(), "not today")
	})
	if out, errs, code := colophon(t, s.Cluster, "kube", "why", "asked", "-n", "shop"); code != 3 || !strings.Contains(out, "not today") {
		t.Errorf("kube why: got exit code %d, %s %s", code, out, errs)
	}
	policy("    - {key: {secretRef: {name: signer}}}\n  policy: {type: cue, data: 'authorityMatches: {\"authority-0\": {signatures: [...{id: string}]}}'}\n")
	s.Eventually(t, "colophon-eval decides", func() bool { return s.probe(s.signed) == nil })
}
