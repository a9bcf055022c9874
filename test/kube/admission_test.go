package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// shop is a cluster in which admission is installed, with a policy that demands the signature of
// one key of all images of the team.
type shop struct {
	*kubetest.Cluster
	signed   string // image by digest, which writes "running" and waits
	unsigned string // another one
	private  string // a signed one that needs a login
	key      string // file of cosign
	signer   *ecdsa.PrivateKey

	base  sync.Once
	image v1.Image // of which pushSigned makes others
}

const helmNamespace = "colophon"

// open installs admission with the chart, from an image that has the programs of this tree, and
// with more values.
func open(t testing.TB, values ...string) *shop {
	s := &shop{Cluster: kubetest.Start(t)}
	s.defineReports(t)
	s.signed = s.Push(t, "team/app:v1", kubetest.Busybox(t, "sh", "-c", "echo running the signed image; sleep 1000000"))
	s.unsigned = s.Push(t, "team/app:unsigned", kubetest.Busybox(t, "sh", "-c", "echo running the unsigned image; sleep 1000000"))
	s.private = s.PushTo(t, kubetest.PrivateRegistry, "team/app:v1", kubetest.Busybox(t, "sh", "-c", "echo running the private image; sleep 1000000"))
	s.sign(t)
	image := s.Push(t, "colophon/colophond:test", kubetest.Image(t, map[string]string{"usr/bin/colophond": harness.Bin(t, "colophond"), "usr/bin/colophon-eval": harness.Bin(t, "colophon-eval")}, "/usr/bin/colophond"))
	s.Namespace(t, "shop")
	managed := slices.Contains(values, certManaged)
	if managed {
		s.Apply(t, definitionsOfCertManager)
		t.Cleanup(func() { s.Kubectl(t, "delete", "crd", "issuers.cert-manager.io", "certificates.cert-manager.io") })
		s.Eventually(t, "the kinds of cert-manager are served", func() bool {
			_, err := s.Try("get", "issuers.cert-manager.io,certificates.cert-manager.io", "-A")
			return err == nil
		})
	}
	s.install(t, append(values, "image="+image, "pullSecrets.namespaces={shop}", "eviction.enabled=true", "eviction.percent=60", "eviction.perMinute=60")...)
	if managed {
		s.certify(t)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.Try("logs", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "--prefix", "--tail=500")
			t.Logf("admission:\n%s", strings.Join(slices.DeleteFunc(strings.SplitAfter(out, "\n"), func(line string) bool { return strings.Contains(line, `"msg":"decision"`) }), ""))
			out, _ = s.Try("get", "pods,events", "-n", helmNamespace)
			t.Logf("pods and events:\n%s", out)
		}
		s.Kubectl(t, "delete", "imagepolicies,namespacedimagepolicies", "--all", "-A")
		if _, err := s.Helm(t, "uninstall", "colophon", "-n", helmNamespace); err != nil {
			t.Error(err)
		}
		s.Kubectl(t, "delete", "namespace", helmNamespace)
	})
	s.policy(t, "enforce")
	s.Apply(t, "apiVersion: colophon.build/v1\nkind: TrustRoot\nmetadata: {name: platform}\nspec:\n  document: |\n    "+strings.ReplaceAll(strings.TrimSpace(string(prooftest.New(t).Document())), "\n", "\n    "))
	t.Cleanup(func() { s.Kubectl(t, "delete", "trustroots", "--all") })
	s.settled(t)
	s.admits(t, s.signed)
	return s
}

// install installs the chart, or changes values of what is installed.
func (s *shop) install(t testing.TB, values ...string) {
	t.Helper()
	args := []string{"upgrade", "--install", "colophon", chart(t), "-n", helmNamespace, "--create-namespace", "--reuse-values", "--set-file", "certificateAuthorities=" + s.CertificateAuthority}
	for _, v := range values {
		args = append(args, "--set", v)
	}
	if _, err := s.Helm(t, args...); err != nil {
		t.Fatal(err)
	}
}

// settled waits until all replicas are those of the last change, and are ready.
func (s *shop) settled(t testing.TB) {
	t.Helper()
	s.Kubectl(t, "rollout", "status", "-n", helmNamespace, "deployment/colophon-admission", "--timeout=150s")
}

// sign makes a key and signs with it, by stock cosign.
func (s *shop) sign(t testing.TB) {
	s.key = filepath.Join(s.Dir(t), "cosign")
	var err error
	if s.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.signer)
	if err == nil {
		err = os.WriteFile(s.key+".pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.cosign(t, "import-key-pair", "--key", s.key+".pem", "--output-key-prefix", "cosign")
	s.signs(t, s.signed)
	s.signs(t, s.private)
}

// signs signs an image with the key.
func (s *shop) signs(t testing.TB, image string) {
	t.Helper()
	s.cosign(t, "sign", "--yes", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--key", s.key+".key", image)
}

func (s *shop) cosign(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "cosign"), args...)
	cmd.Dir = filepath.Dir(s.key)
	cmd.Env = append(os.Environ(), "COSIGN_PASSWORD=", "HOME="+cmd.Dir, "DOCKER_CONFIG="+s.DockerConfig(), "SSL_CERT_FILE="+s.CertificateAuthority)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cosign %s: %v: %s", args[0], err, out)
	}
}

// policy makes the policy of the shop the one that counts.
func (s *shop) policy(t testing.TB, mode string) {
	t.Helper()
	s.Apply(t, `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: team}
spec:
  unmatched: deny
  rules:
    - name: signed
      images: [{glob: "`+kubetest.Registry+`/team/**"}, {glob: "`+kubetest.PrivateRegistry+`/team/**"}]
      mode: `+mode+`
      accept:
        - signature:
            signer:
              insecureUnloggedKey:
                pem: |
                  `+strings.ReplaceAll(strings.TrimSpace(read(t, s.key+".pub")), "\n", "\n                  ")+"\n")
}

// pod returns the manifest of a pod.
func pod(name, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop}\nspec: {containers: [{name: app, image: %q}], terminationGracePeriodSeconds: 0}\n", name, image)
}

// probe asks the API server whether it would create a pod with an image.
func (s *shop) probe(image string) error {
	_, err := s.TryInput(pod("probe", image), "create", "--dry-run=server", "-f", "-")
	return err
}

func (s *shop) admits(t testing.TB, image string) {
	t.Helper()
	s.Eventually(t, "pods with "+image+" are admitted", func() bool { return s.probe(image) == nil })
}

// refuses fails the test unless an attempt was refused by admission, for the given reason.
func refuses(t testing.TB, err error, reason string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "colophon.build") || !strings.Contains(err.Error(), reason) {
		t.Errorf("got %v, want a refusal by admission because of %q", err, reason)
	}
}

// TestAdmission: what admission refuses never runs, and what it admits does, whichever way it is
// asked for, and whoever is killed meanwhile.
func TestAdmission(t *testing.T) {
	s := open(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a pod runs if its image is accepted", s.runs},
		{"a pod that is refused never runs", s.neverRuns},
		{"workloads", s.workloads},
		{"a tag that moves", s.movedTag},
		{"ephemeral containers", s.ephemeral},
		{"image volumes", s.volumes},
		{"a private registry", s.privateRegistry},
		{"break the glass", s.breaksGlass},
		{"static pods", s.staticPods},
		{"a burst of pods with an unknown image", s.burst},
		{"a registry that hangs", s.registryHangs},
		{"status and why", s.explains},
		{"a broken policy changes nothing", s.brokenPolicy},
		{"audit and warn admit", s.modes},
		{"metadata of pods that would be refused", s.metadata},
		{"findings about running pods", s.findings},
		{"no longer trusted", s.distrusts},
		{"eviction", s.eviction},
		{"known before a pod asks", s.ahead},
		{"a rolling restart under load", s.rolling},
		{"the API server restarts", s.apiRestarts},
		{"the webhook is gone", s.webhookGone},
		{"chaos", s.chaos},
		{"wrong clocks", s.wrongClocks},
		{"a dry run, and custom resources", s.dryRun},
	} {
		t.Run(step.name, step.run)
	}
}

func (s *shop) runs(t *testing.T) {
	s.Apply(t, pod("good", kubetest.Registry+"/team/app:v1"))
	image := s.Kubectl(t, "get", "pod", "good", "-n", "shop", "-o", "jsonpath={.spec.containers[0].image}")
	if _, digest, _ := strings.Cut(s.signed, "@"); image != kubetest.Registry+"/team/app:v1@"+digest {
		t.Errorf("got image %s, want the tag with its digest", image)
	}
	s.Eventually(t, "the pod runs", func() bool { return strings.Contains(s.PodLogs(t, "shop", "good"), "running the signed image") })
}

func (s *shop) neverRuns(t *testing.T) {
	for _, image := range []string{s.unsigned, kubetest.Registry + "/team/app:unsigned"} {
		_, err := s.TryInput(pod("bad", image), "create", "-f", "-")
		refuses(t, err, "team/app")
	}
	_, err := s.TryInput(pod("bad", "registry.example.com/elsewhere/app@sha256:"+strings.Repeat("0", 64)), "create", "-f", "-")
	refuses(t, err, "no rule of the polic")
	time.Sleep(3 * time.Second) // a pod that was admitted writes its line within one
	if out := s.Kubectl(t, "get", "pods", "-n", "shop", "-o", "name"); strings.Contains(out, "bad") {
		t.Errorf("got pods %s", out)
	}
	if logs := s.PodLogs(t, "shop", "bad"); logs != "" {
		t.Errorf("a pod that was refused wrote %q", logs)
	}
}

// workloadsOf returns a manifest of each kind that makes pods.
func workloadsOf(image string) map[string]string {
	template := fmt.Sprintf("{metadata: {labels: {app: w}}, spec: {restartPolicy: POLICY, containers: [{name: app, image: %q}]}}", image)
	always, never := strings.Replace(template, "POLICY", "Always", 1), strings.Replace(template, "POLICY", "Never", 1)
	const head = "\nmetadata: {name: w, namespace: shop}\nspec: "
	return map[string]string{
		"Deployment":            "apiVersion: apps/v1\nkind: Deployment" + head + "{replicas: 1, selector: {matchLabels: {app: w}}, template: " + always + "}",
		"ReplicaSet":            "apiVersion: apps/v1\nkind: ReplicaSet" + head + "{selector: {matchLabels: {app: w}}, template: " + always + "}",
		"StatefulSet":           "apiVersion: apps/v1\nkind: StatefulSet" + head + "{serviceName: w, selector: {matchLabels: {app: w}}, template: " + always + "}",
		"DaemonSet":             "apiVersion: apps/v1\nkind: DaemonSet" + head + "{selector: {matchLabels: {app: w}}, template: " + always + "}",
		"ReplicationController": "apiVersion: v1\nkind: ReplicationController" + head + "{selector: {app: w}, template: " + always + "}",
		"Job":                   "apiVersion: batch/v1\nkind: Job" + head + "{template: " + never + "}",
		"CronJob":               "apiVersion: batch/v1\nkind: CronJob" + head + "{schedule: '0 0 * * *', jobTemplate: {spec: {template: " + never + "}}}",
	}
}

func (s *shop) workloads(t *testing.T) {
	for kind, manifest := range workloadsOf(kubetest.Registry + "/team/app:unsigned") {
		_, err := s.TryInput(manifest, "create", "--dry-run=server", "-f", "-")
		if err == nil {
			t.Errorf("a %s with an unsigned image is admitted", kind)
			continue
		}
		refuses(t, err, "team/app")
	}
	for kind, manifest := range workloadsOf(kubetest.Registry + "/team/app:v1") {
		out, err := s.TryInput(manifest, "create", "--dry-run=server", "-o", "json", "-f", "-")
		if _, digest, _ := strings.Cut(s.signed, "@"); err != nil || !strings.Contains(out, "team/app:v1@"+digest) {
			t.Errorf("%s: got %v, %.300s, want it admitted with the digest", kind, err, out)
		}
	}
	s.Apply(t, workloadsOf(kubetest.Registry + "/team/app:v1")["Deployment"])
	s.Kubectl(t, "rollout", "status", "-n", "shop", "deployment/w", "--timeout=60s")
	_, err := s.Try("set", "image", "deployment/w", "app="+s.unsigned, "-n", "shop")
	refuses(t, err, "team/app")
	s.Kubectl(t, "scale", "deployment/w", "--replicas=2", "-n", "shop")
	s.Kubectl(t, "delete", "deployment", "w", "-n", "shop")
}

func (s *shop) movedTag(t *testing.T) {
	s.Push(t, "team/moving:v1", kubetest.Busybox(t, "sh", "-c", "echo running the unsigned image; sleep 1000000"))
	refuses(t, s.probe(kubetest.Registry+"/team/moving:v1"), "team/moving")
	_, digest, _ := strings.Cut(s.signed, "@")
	refuses(t, s.probe(kubetest.Registry+"/team/moving:v1@"+digest), "team/moving")
}

func (s *shop) ephemeral(t *testing.T) {
	_, err := s.Try("debug", "good", "-n", "shop", "--image="+s.unsigned, "--container=spy", "--", "true")
	refuses(t, err, "ephemeralContainers")
	if _, err := s.Try("debug", "good", "-n", "shop", "--image="+kubetest.Registry+"/team/app:v1", "--container=friend"); err != nil {
		t.Fatal(err)
	}
	image := s.Kubectl(t, "get", "pod", "good", "-n", "shop", "-o", "jsonpath={.spec.ephemeralContainers[0].image}")
	if !strings.Contains(image, "@sha256:") {
		t.Errorf("got ephemeral container %s, want it with its digest", image)
	}
	s.Eventually(t, "the ephemeral container runs", func() bool { return strings.Count(s.PodLogs(t, "shop", "good"), "running the signed image") == 2 })
}

func (s *shop) volumes(t *testing.T) {
	with := func(image string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: volume, namespace: shop}\nspec: {containers: [{name: app, image: %q}], volumes: [{name: v, image: {reference: %q}}]}\n", s.signed, image)
	}
	_, err := s.TryInput(with(s.unsigned), "create", "--dry-run=server", "-f", "-")
	refuses(t, err, "volumes[0].image.reference")
	_, digest, _ := strings.Cut(s.signed, "@")
	out, err := s.TryInput(with(signedTag), "create", "--dry-run=server", "-o", "jsonpath={.spec.volumes[?(@.name==\"v\")].image.reference}", "-f", "-")
	if err != nil || out != signedTag+"@"+digest {
		t.Errorf("a volume by tag: got %s, %v, want it with its digest", out, err)
	}
	init := strings.Replace(pod("init", s.signed), "spec: {", fmt.Sprintf("spec: {initContainers: [{name: first, image: %q}], ", signedTag), 1)
	out, err = s.TryInput(init, "create", "--dry-run=server", "-o", "jsonpath={.spec.initContainers[0].image}", "-f", "-")
	if err != nil || out != signedTag+"@"+digest {
		t.Errorf("an init container by tag: got %s, %v, want it with its digest", out, err)
	}
	// The mutating webhook is not asked about a pod whose images have digests.
	asked := s.mutations(t)
	if _, err := s.TryInput(with(s.signed), "create", "--dry-run=server", "-f", "-"); err != nil {
		t.Error(err)
	}
	if n := s.mutations(t) - asked; n != 0 {
		t.Errorf("the mutating webhook was asked %v times about digests", n)
	}
}

// mutations returns how often the mutating webhook admitted.
func (s *shop) mutations(t testing.TB) (n float64) {
	for _, r := range s.replicas(t) {
		n += metric(t, r, `colophon_admission_requests_total{answer="admitted",hook="mutate"}`)
	}
	return n
}

func (s *shop) explains(t *testing.T) {
	text, errs, code := colophon(t, s.Cluster, "kube", "status")
	if code != 0 || !strings.Contains(text, "every pod must satisfy the policies") || !strings.Contains(text, "replicas ready: 2 of 2") || !strings.Contains(text, "True") {
		t.Errorf("kube status: got exit code %d and\n%s%s", code, text, errs)
	}
	text, errs, code = colophon(t, s.Cluster, "kube", "why", "good", "-n", "shop")
	if code != 0 || !strings.Contains(text, "accepted") || !strings.Contains(text, `rule "signed" of policy "team"`) {
		t.Errorf("kube why: got exit code %d and\n%s%s", code, text, errs)
	}
	// From the pod to the record of the decision, which names who applied it.
	var why struct {
		Decided []struct {
			User, Operation, Object, ObjectUID, Image, Digest, Policies, Rules string
			Admitted                                                           bool
		}
		Problem string `json:"decidedProblem"`
	}
	text, _, _ = colophon(t, s.Cluster, "kube", "why", "good", "-n", "shop", "--json")
	if err := json.Unmarshal([]byte(text), &why); err != nil || len(why.Decided) == 0 {
		t.Fatalf("kube why --json: got %v, %d decisions, problem %q; want that of the pod's creation, and of its updates:\n%s", err, len(why.Decided), why.Problem, text)
	}
	uid := s.Kubectl(t, "get", "pod", "good", "-n", "shop", "-o", "jsonpath={.metadata.uid}")
	_, digest, _ := strings.Cut(s.signed, "@")
	if d := why.Decided[0]; d.User != "admin" || d.Operation != "CREATE" || d.Object != "Pod shop/good" || d.ObjectUID != uid || !d.Admitted || !strings.HasSuffix(d.Image, digest) || d.Policies == "" || d.Rules != "team/signed: accepted" {
		t.Errorf("got the decision %+v", d)
	}
}

func (s *shop) brokenPolicy(t *testing.T) {
	s.Kubectl(t, "patch", "imagepolicy", "team", "--type=json", "-p", `[{"op": "replace", "path": "/spec/rules/0/images/0/glob", "value": "registry.example.com/app:*"}]`)
	ready := func() string {
		return s.Kubectl(t, "get", "imagepolicy", "team", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
	}
	s.Eventually(t, "the policy says that it is not in force", func() bool { return strings.HasPrefix(ready(), "False") })
	if !strings.Contains(ready(), "glob") {
		t.Errorf("got status %q, want the reason", ready())
	}
	s.admits(t, s.signed)
	refuses(t, s.probe(s.unsigned), "team/app")
	if text, _, code := colophon(t, s.Cluster, "kube", "status"); code != 1 || !strings.Contains(text, "ImagePolicy team is not in force") {
		t.Errorf("kube status: got exit code %d and\n%s", code, text)
	}
	s.policy(t, "enforce")
	s.Eventually(t, "the policy is in force", func() bool { return strings.HasPrefix(ready(), "True") })
}

func (s *shop) modes(t *testing.T) {
	for _, mode := range []string{"audit", "warn"} {
		s.policy(t, mode)
		s.admits(t, s.unsigned)
	}
	s.policy(t, "enforce")
	s.Eventually(t, "the policy enforces", func() bool { return s.probe(s.unsigned) != nil })
	refuses(t, s.probe(s.unsigned), "team/app")
}

// metadata: a pod that policies refuse by now can be labelled, and ends. Otherwise no namespace
// with one could be removed.
func (s *shop) metadata(t *testing.T) {
	s.policy(t, "audit")
	s.admits(t, s.unsigned)
	s.Apply(t, pod("old", s.unsigned))
	s.policy(t, "enforce")
	s.Eventually(t, "the policy enforces", func() bool { return s.probe(s.unsigned) != nil })
	s.Kubectl(t, "label", "pod", "old", "-n", "shop", "a=b")
	s.Kubectl(t, "delete", "pod", "old", "-n", "shop", "--timeout=30s")
}

// defineReports makes the cluster know the reports that tools read, by the definitions of those who
// publish them.
func (s *shop) defineReports(t testing.TB) {
	for module, file := range map[string]string{
		"github.com/openreports/reports-api@v0.2.1": "config/crd/openreports.io_reports.yaml",
		"github.com/kyverno/kyverno@v1.19.1":        "config/crds/policyreport/wgpolicyk8s.io_policyreports.yaml",
	} {
		s.Kubectl(t, "apply", "--server-side", "-f", filepath.Join(s.module(t, module), file))
	}
}

// module returns the directory of a module in the module cache.
func (s *shop) module(t testing.TB, module string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir, cmd.Env = s.Dir(t), append(os.Environ(), "GOPROXY=off", "GOSUMDB=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s is not in the module cache: run make kube: %v: %s", module, err, out)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m.Dir
}

// findings: a pod that policies refuse by now keeps running, and is told of: in an event, though
// several replicas find it, and in the reports that tools read.
func (s *shop) findings(t *testing.T) {
	s.policy(t, "audit")
	s.admits(t, s.unsigned)
	s.Apply(t, pod("found", s.unsigned))
	s.Eventually(t, "the pod runs", func() bool { return s.PodLogs(t, "shop", "found") != "" })
	s.policy(t, "enforce")
	events := func() string {
		return s.Kubectl(t, "get", "events", "-n", "shop", "--field-selector=involvedObject.name=found,reportingComponent=colophon-admission", "-o", "jsonpath={.items[*].reason}")
	}
	failed := func(kind string) string {
		return s.Kubectl(t, "get", kind, "-n", "shop", "-o", `jsonpath={.items[?(@.scope.name=="found")].summary.fail} {.items[?(@.scope.name=="found")].results[*].policy}/{.items[?(@.scope.name=="found")].results[*].rule}`)
	}
	s.Eventually(t, "an event tells of the pod", func() bool { return strings.Contains(events(), "ImageRejected") })
	for _, kind := range []string{"policyreports.wgpolicyk8s.io", "reports.openreports.io"} {
		s.Eventually(t, kind+" tell of the pod", func() bool { return failed(kind) == "1 team/signed" })
	}
	text, _, code := colophon(t, s.Cluster, "kube", "why", "found", "-n", "shop")
	if code != 3 || !strings.Contains(text, "rejected") || !strings.Contains(text, "ImageRejected") {
		t.Errorf("kube why: got exit code %d and\n%s", code, text)
	}
	time.Sleep(2 * time.Second) // for the other replica
	if got := events(); got != "ImageRejected" {
		t.Errorf("got events %q, want one", got)
	}
	if out := s.Kubectl(t, "get", "events", "-n", helmNamespace, "-o", "jsonpath={.items[*].reportingComponent}"); strings.Contains(out, "colophon-admission") {
		t.Error("there are events about pods of a namespace that is exempt")
	}
	s.policy(t, "audit")
	for _, kind := range []string{"policyreports.wgpolicyk8s.io", "reports.openreports.io"} {
		s.Eventually(t, kind+" no longer blame the pod", func() bool { return failed(kind) == "0 /" })
	}
	s.Kubectl(t, "delete", "pod", "found", "-n", "shop", "--timeout=30s")
	s.policy(t, "enforce")
	s.Eventually(t, "the policy enforces", func() bool { return s.probe(s.unsigned) != nil })
	// The garbage collector learns of new kinds every 30 seconds.
	s.Eventually(t, "the reports go with the pod", func() bool {
		return s.Kubectl(t, "get", "policyreports.wgpolicyk8s.io,reports.openreports.io", "-n", "shop", "-o", "name") == ""
	})
}

func (s *shop) apiRestarts(t *testing.T) {
	s.Kill(kubetest.APIServer)
	s.Restart(t, kubetest.APIServer)
	s.admits(t, s.signed)
	refuses(t, s.probe(s.unsigned), "team/app")
	s.policy(t, "audit") // the webhook sees changes again
	s.admits(t, s.unsigned)
	s.policy(t, "enforce")
	s.Eventually(t, "the policy enforces", func() bool { return s.probe(s.unsigned) != nil })
}

func (s *shop) webhookGone(t *testing.T) {
	l := s.load(t, 1)
	l.disturb("the webhook is gone")
	s.Kubectl(t, "scale", "-n", helmNamespace, "deployment/colophon-admission", "--replicas=0")
	// Replicas that end answer a little longer.
	s.Eventually(t, "no webhook answers", func() bool {
		err := s.probe(s.signed)
		return err != nil && strings.Contains(err.Error(), "failed calling webhook")
	})
	s.Kubectl(t, "label", "pod", "good", "-n", "shop", "still=labelled")
	s.policy(t, "enforce") // policies can be written
	s.Kubectl(t, "get", "imagepolicies,trustroots")
	if err := dryRun(s.Cluster, "apiVersion: v1\nkind: Pod\nmetadata: {name: dns, namespace: kube-system}\nspec: {containers: [{name: a, image: registry.example.com/dns}]}\n"); err != nil {
		t.Errorf("a pod of kube-system: %v", err)
	}
	s.Kubectl(t, "scale", "-n", helmNamespace, "deployment/colophon-admission", "--replicas=2")
	s.settled(t)
	l.calm(t)
	l.end(t)
}
