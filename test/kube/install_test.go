package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
)

// anImage is the image in the plain manifests, which nobody has.
var anImage = "registry.example.com/colophond@sha256:" + strings.Repeat("0", 64)

// TestManifestsAreTheCharts: deploy/kubernetes/colophon.yaml is what the chart makes.
func TestManifestsAreTheCharts(t *testing.T) {
	c := kubetest.Start(t)
	got := filepath.Join(c.Dir(t), "colophon.yaml")
	cmd := exec.Command(filepath.Join(harness.Root(t), "scripts/manifests.sh"), got)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if read(t, got) != read(t, manifests(t)) {
		t.Error("deploy/kubernetes/colophon.yaml is not what the chart makes: run make manifests")
	}
}

func manifests(t testing.TB) string {
	return filepath.Join(harness.Root(t), "deploy/kubernetes/colophon.yaml")
}

func chart(t testing.TB) string { return filepath.Join(harness.Root(t), "deploy/kubernetes/chart") }

// TestManifestsAreAccepted: the API server accepts every object of the manifests, warns about none,
// and from that moment admits no pod until the webhook answers, but in the namespaces that are
// named.
func TestManifestsAreAccepted(t *testing.T) {
	c := kubetest.Start(t)
	c.Namespace(t, "before")
	c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", manifests(t))
	t.Cleanup(func() { c.Kubectl(t, "delete", "--ignore-not-found", "-f", manifests(t)) })
	if out := c.Kubectl(t, "apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f", manifests(t)); strings.Count(out, "serverside-applied") < 15 {
		t.Errorf("got %s, want all objects", out)
	}
	pod := func(namespace string) error {
		_, err := c.TryInput("", "run", "probe", "-n", namespace, "--image=registry.example.com/app:v1", "--dry-run=server", "--restart=Never")
		return err
	}
	c.Eventually(t, "pods are refused while no webhook answers", func() bool {
		err := pod("before")
		return err != nil && strings.Contains(err.Error(), "failed calling webhook")
	})
	for _, exempt := range []string{"kube-system", "colophon"} {
		if err := pod(exempt); err != nil && !strings.Contains(err.Error(), "PodSecurity") && !strings.Contains(err.Error(), "serviceaccount") {
			t.Errorf("a pod in %s: %v", exempt, err)
		}
	}
	// The restricted standard refuses no pod of the Deployment: they exist, and wait for their image.
	c.Eventually(t, "the Deployment has its pods", func() bool {
		out, _ := c.Try("get", "pods", "-n", "colophon", "-o", "name")
		return strings.Count(out, "pod/") == 2
	})
}

// TestCustomResourcesOfTheCluster: the API server asks about a custom resource that the chart names
// also if it is of no namespace.
func TestCustomResourcesOfTheCluster(t *testing.T) {
	c := kubetest.Start(t)
	out, err := c.Helm(t, "template", "colophon", chart(t), "--kube-version", "1.36.0", "-n", "colophon", "--show-only", "templates/webhooks.yaml", "--set", "image="+anImage,
		"--set", "webhook.customResources[0].group=example.com,webhook.customResources[0].version=v1,webhook.customResources[0].resource=engines,webhook.customResources[0].kind=Engine,webhook.customResources[0].fields={spec.runs}")
	if err != nil {
		t.Fatal(err)
	}
	const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: engines.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: engines, singular: engine, kind: Engine}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
	for _, objects := range []string{definition, out} {
		c.Apply(t, objects)
		t.Cleanup(func() {
			if _, err := c.TryInput(objects, "delete", "--ignore-not-found", "-f", "-"); err != nil {
				t.Error(err)
			}
		})
	}
	c.Eventually(t, "an Engine is refused while no webhook answers", func() bool {
		_, err := c.TryInput("{apiVersion: example.com/v1, kind: Engine, metadata: {name: e}, spec: {runs: x}}", "create", "--dry-run=server", "-f", "-")
		return err != nil && strings.Contains(err.Error(), "failed calling webhook")
	})
}

// TestChartRefusesWrongValues: what a value must not be is refused before anything is installed.
func TestChartRefusesWrongValues(t *testing.T) {
	c := kubetest.Start(t)
	for set, want := range map[string]string{
		"image=registry.example.com/colophond:v1": "image",
		"image=":                       "expected REPOSITORY@sha256:HEX",
		"webhook.failurePolicy=Ignore": "failurePolicy",
		"replicas=0":                   "replicas",
		"eviction.percent=0":           "percent",
		"eviction.always=true":         "always",
		"ahead.list=https://example.com/images.txt":          "authorsConfigMap",
		"ahead.list=http://example.com/images.txt":           "list",
		"audit.ledger=https://audit.example.com":             "keySecret",
		"audit.ledger=http://audit.example.com":              "ledger",
		"audit.private={source}":                             "private",
		"pullSecrets.read=all":                               "pullSecrets",
		"webhook.timeoutSeconds=31":                          "timeoutSeconds",
		"exemptNamespaces[0]=Kube_System":                    "exemptNamespaces",
		"webhook.kinds={knativ}":                             "kinds",
		"clusterImagePolicies.noMatchPolicy=permit":          "clusterImagePolicies",
		"webhook.customResources[0].group=apps":              "customResources",
		"image=x@sha256:" + strings.Repeat("0", 63) + ",a=b": "image",
	} {
		out, err := c.Helm(t, "template", "colophon", chart(t), "--kube-version", "1.36.0", "--set", set)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: got %v, %.200s, want an error about %s", set, err, out, want)
		}
	}
}

// permissions is all that the ServiceAccount of admission may do, beyond what everybody may who is
// known to the cluster. docs/kubernetes.md says why, line by line.
var permissions = map[string][]string{
	"default": {
		"events.events.k8s.io [] [] [create]",
		"imagepolicies.colophon.build [] [] [list watch]",
		"imagepolicies.colophon.build/status [] [] [patch]",
		"mutatingwebhookconfigurations.admissionregistration.k8s.io [] [colophon-admission] [get patch]",
		"namespacedimagepolicies.colophon.build [] [] [list watch]",
		"namespacedimagepolicies.colophon.build/status [] [] [patch]",
		"cronjobs.batch [] [] [list watch]",
		"daemonsets.apps [] [] [list watch]",
		"deployments.apps [] [] [list watch]",
		"jobs.batch [] [] [list watch]",
		"pods [] [] [list watch]",
		"replicasets.apps [] [] [list watch]",
		"replicationcontrollers [] [] [list watch]",
		"statefulsets.apps [] [] [list watch]",
		"policyreports.wgpolicyk8s.io [] [] [create patch]",
		"reports.openreports.io [] [] [create patch]",
		"serviceaccounts [] [] [get list watch]",
		"subjectaccessreviews.authorization.k8s.io [] [] [create]",
		"trustroots.colophon.build [] [] [list watch]",
		"trustroots.colophon.build/status [] [] [patch]",
		"validatingwebhookconfigurations.admissionregistration.k8s.io [] [colophon-admission] [get patch]",
	},
	"colophon": {
		"leases.coordination.k8s.io [] [colophon-admission] [get patch]",
		"secrets [] [colophon-admission-known] [get update]",
		"secrets [] [colophon-admission-tls] [get update]",
	},
}

// TestLeastPrivilege: the ServiceAccount of admission can do what the table says, and nothing else.
func TestLeastPrivilege(t *testing.T) {
	c := kubetest.Start(t)
	everybody := abilities(c.Kubectl(t, "auth", "can-i", "--list", "--as=system:serviceaccount:default:nobody", "--as-group=system:serviceaccounts", "--as-group=system:authenticated"))
	c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", manifests(t))
	t.Cleanup(func() { c.Kubectl(t, "delete", "--ignore-not-found", "-f", manifests(t)) })
	for namespace, want := range permissions {
		if namespace == "colophon" { // has those of the whole cluster, too
			want = append(slices.Clone(want), permissions["default"]...)
		}
		slices.Sort(want)
		var got []string
		c.Eventually(t, "the role is bound in "+namespace, func() bool {
			got = nil
			for _, line := range abilities(c.Kubectl(t, "auth", "can-i", "--list", "-n", namespace, "--as=system:serviceaccount:colophon:colophon-admission",
				"--as-group=system:serviceaccounts", "--as-group=system:authenticated")) {
				if !slices.Contains(everybody, line) {
					got = append(got, line)
				}
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
		if !slices.Equal(got, want) {
			t.Errorf("in %s, got\n%s\nwant\n%s", namespace, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	page := read(t, filepath.Join(harness.Root(t), "docs/kubernetes.md"))
	for _, lines := range permissions {
		for _, line := range lines {
			resource := strings.Split(line, " ")[0]
			name, _, _ := strings.Cut(resource, ".")
			if _, sub, ok := strings.Cut(resource, "/"); ok {
				name += "/" + sub
			}
			if !strings.Contains(page, "`"+name+"`") {
				t.Errorf("docs/kubernetes.md does not say why admission may use %s", name)
			}
		}
	}
}

// abilities returns the lines of a table of "kubectl auth can-i --list", with one space between
// columns.
func abilities(table string) (lines []string) {
	for _, line := range strings.Split(table, "\n")[1:] {
		if fields := strings.Fields(line); len(fields) > 0 {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return lines
}

// TestUpgradeKeepsCertificate: an upgrade by Helm leaves the certificate of the webhook as it is,
// in its Secret and in the configuration of the API server. Otherwise each upgrade would refuse
// pods until the webhook had seen it.
func TestUpgradeKeepsCertificate(t *testing.T) {
	c := kubetest.Start(t)
	install := func(replicas string) {
		t.Helper()
		if _, err := c.Helm(t, "upgrade", "--install", "colophon", chart(t), "-n", "colophon-helm", "--create-namespace", "--set", "image="+anImage, "--set", "replicas="+replicas); err != nil {
			t.Fatal(err)
		}
	}
	install("1")
	t.Cleanup(func() {
		if _, err := c.Helm(t, "uninstall", "colophon", "-n", "colophon-helm"); err != nil {
			t.Error(err)
		}
		c.Kubectl(t, "delete", "namespace", "colophon-helm", "--wait=false")
		if out := c.Kubectl(t, "get", "crd", "imagepolicies.colophon.build", "-o", "name"); out == "" {
			t.Error("uninstall removed the definitions, and with them all policies")
		}
	})
	ca := strings.TrimSpace(string(mustRun(t, "base64", "-w0", filepath.Join(os.Getenv("COLOPHON_KUBETEST_DIR"), "certs/apiserver.crt"))))
	c.Kubectl(t, "patch", "validatingwebhookconfiguration", "colophon-admission", "--type=json", "-p", `[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":"`+ca+`"}]`)
	c.Kubectl(t, "patch", "secret", "colophon-admission-tls", "-n", "colophon-helm", "-p", `{"data":{"tls.crt":"`+ca+`"}}`)
	install("3")
	if got := c.Kubectl(t, "get", "validatingwebhookconfiguration", "colophon-admission", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}"); got != ca {
		t.Errorf("got caBundle %.40q after an upgrade, want it kept", got)
	}
	if got := c.Kubectl(t, "get", "secret", "colophon-admission-tls", "-n", "colophon-helm", "-o", `jsonpath={.data.tls\.crt}`); got != ca {
		t.Errorf("got a certificate %.40q after an upgrade, want it kept", got)
	}
}

func mustRun(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
