package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestTenantIsNotAdmission: a tenant who labels objects of its own namespace as admission's changes
// neither the configuration by which kube why and kube vsa decide, nor what kube status counts, nor
// what is shown as admission's record.
func TestTenantIsNotAdmission(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
case "$*" in
*ValidatingWebhookConfiguration*) echo '{"webhooks":[{"clientConfig":{"service":{"namespace":"colophon"}}}]}' ;;
*configmaps*"-n colophon"*) echo '{"items":[{"metadata":{"namespace":"colophon"},"data":{"admission.yaml":"exempt: [kube-system]"}}]}' ;;
*configmaps*) echo '{"items":[{"metadata":{"namespace":"colophon"},"data":{"admission.yaml":"exempt: [kube-system]"}},
	{"metadata":{"namespace":"tenant"},"data":{"admission.yaml":"names: {evil.example.com/: good.example.com/}"}}]}' ;;
*deployments*"-n colophon"*) echo '{"items":[{"metadata":{"namespace":"colophon"},"spec":{"replicas":2},"status":{"readyReplicas":0}}]}' ;;
*deployments*) echo '{"items":[{"metadata":{"namespace":"tenant"},"spec":{"replicas":9},"status":{"readyReplicas":9}}]}' ;;
*logs*"-n colophon"*) ;;
*logs*) echo '{"msg":"decision","objectUID":"u","admitted":true,"image":"evil"}' ;;
*) exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	c := &kubernetes{timeout: time.Minute}
	config, err := c.admissionConfig(t.Context(), io.Discard)
	if err != nil || len(config.Names) != 0 || config.namespace != "colophon" {
		t.Errorf("got the names %v of the namespace %q, %v; want those of colophon, none", config.Names, config.namespace, err)
	}
	var s clusterStatus
	if err := c.replicas(t.Context(), &s); err != nil || s.Replicas != (replicas{0, 2}) || len(s.Problems) != 1 {
		t.Errorf("got the replicas %+v, problems %v, %v; want 0 of 2", s.Replicas, s.Problems, err)
	}
	if records, err := c.records(t.Context(), metadata{UID: "u"}); err != nil || len(records) != 0 {
		t.Errorf("got the records %+v, %v; want none", records, err)
	}
}

// TestSummaryName: the summary about an image in one repository does not overwrite that about the same
// digest in another one.
func TestSummaryName(t *testing.T) {
	var all []signedDecision
	for _, want := range []string{"aa.vsa.json", "aa-2.vsa.json", "aa-3.vsa.json"} {
		got := summaryName("sha256:aa", all)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		all = append(all, signedDecision{Digest: "sha256:aa", File: got}, signedDecision{Digest: "sha256:bb", File: "bb"}, signedDecision{Digest: "sha256:aa"})
	}
}
