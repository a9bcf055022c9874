package kube

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
)

// colophon runs the CLI with the administrator's kubeconfig, and returns its output and exit code.
func colophon(t testing.TB, c *kubetest.Cluster, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "colophon"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "PATH="+filepath.Join(harness.Root(t), "out/bin")+":"+os.Getenv("PATH"), "COLOPHON_TRUST="+c.Dir(t), "SSL_CERT_FILE="+c.CertificateAuthority)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		code = exit.ExitCode()
	}
	return out.String(), errs.String(), code
}

// TestKubeStatus: kube status finds each way in which pods pass unchecked, or none passes.
func TestKubeStatus(t *testing.T) {
	c := kubetest.Start(t)
	problems := func() (all []string) {
		t.Helper()
		out, errs, code := colophon(t, c, "kube", "status", "--json")
		var s struct {
			Protected bool
			Problems  []string
		}
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("%v: %s %s", err, out, errs)
		}
		if s.Protected != (code == 0) || s.Protected != (len(s.Problems) == 0) {
			t.Errorf("got exit code %d, protected: %v, problems %q", code, s.Protected, s.Problems)
		}
		return s.Problems
	}
	has := func(what string) {
		t.Helper()
		if all := problems(); !slices.ContainsFunc(all, func(p string) bool { return strings.Contains(p, what) }) {
			t.Errorf("got problems %q, want %q", all, what)
		}
	}
	has("the ValidatingWebhookConfiguration colophon-admission does not exist")
	has("the MutatingWebhookConfiguration colophon-admission does not exist")
	c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", manifests(t))
	t.Cleanup(func() { c.Kubectl(t, "delete", "--ignore-not-found", "-f", manifests(t)) })
	has("no replica of admission is ready")
	has("there is no policy")
	has("it has no caBundle yet")
	change := func(kind, patch, what string) {
		t.Helper()
		c.Kubectl(t, "patch", kind, "colophon-admission", "--type=json", "-p", patch)
		has(what)
		c.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", manifests(t))
	}
	change("validatingwebhookconfiguration", `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`, "failurePolicy: expected Fail, found Ignore")
	change("validatingwebhookconfiguration", `[{"op":"replace","path":"/webhooks/0/rules/0/resources","value":["pods"]}]`, "no rule for UPDATE of pods/ephemeralcontainers")
	change("mutatingwebhookconfiguration", `[{"op":"replace","path":"/webhooks/0/rules/0/operations","value":["UPDATE"]}]`, "no rule for CREATE of pods")
	change("validatingwebhookconfiguration", `[{"op":"add","path":"/webhooks/0/objectSelector","value":{"matchLabels":{"a":"b"}}}]`, "objectSelector")
	change("validatingwebhookconfiguration", `[{"op":"add","path":"/webhooks/0/namespaceSelector/matchExpressions/-","value":{"key":"a","operator":"Exists"}}]`, "label a is Exists")
	change("validatingwebhookconfiguration", `[{"op":"add","path":"/webhooks/0/matchConditions/-","value":{"name":"never","expression":"false"}}]`, "matchCondition never")
	text, _, code := colophon(t, c, "kube", "status")
	if code != 1 || !strings.Contains(text, "replicas ready: 0 of 2") || !strings.Contains(text, "not checked: pods in the namespaces kube-system, colophon") {
		t.Errorf("got exit code %d and\n%s", code, text)
	}
	if _, errs, code := colophon(t, c, "kube", "why", "nobody", "-n", "default"); code != 1 || !strings.Contains(errs, "NotFound") {
		t.Errorf("why about a pod that is not there: got exit code %d, %s", code, errs)
	}
}
