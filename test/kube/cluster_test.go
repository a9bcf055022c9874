package kube

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/kubetest"
)

// TestClusterRunsPods: the cluster of the tests is a real one, in which pods run. What other
// tests say about pods that do not run would be worth nothing without it.
func TestClusterRunsPods(t *testing.T) {
	c := kubetest.Start(t)
	c.Namespace(t, "runs")
	c.Import(t, "local.test/hello:1", kubetest.Busybox(t, "sh", "-c", "echo hello from a pod; sleep 1000000"))
	c.Apply(t, `apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: runs}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec: {containers: [{name: hello, image: "local.test/hello:1", imagePullPolicy: Never}]}
`)
	c.Eventually(t, "the pod of the Deployment runs", func() bool {
		out, err := c.Try("logs", "-n", "runs", "deployment/hello")
		return err == nil && strings.Contains(out, "hello from a pod")
	})
	pod := strings.TrimSpace(c.Kubectl(t, "get", "pods", "-n", "runs", "-o", "jsonpath={.items[0].metadata.name}"))
	if logs := c.PodLogs(t, "runs", pod); !strings.Contains(logs, "hello from a pod") {
		t.Errorf("got logs %q on the node", logs)
	}
}
