package kube

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/kubetest"
)

// privateRegistry: an image that needs a login is read with the pull secrets of the pod and of its
// ServiceAccount, where admission may read Secrets, and runs.
func (s *shop) privateRegistry(t *testing.T) {
	with := func(name, namespace, image, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec: {%s, containers: [{name: app, image: %q}], terminationGracePeriodSeconds: 0}\n", name, namespace, more, image)
	}
	create := func(manifest string) error {
		_, err := s.TryInput(manifest, "create", "-f", "-")
		return err
	}
	tag := kubetest.PrivateRegistry + "/team/app:v1"
	refuses(t, create(with("private", "shop", s.private, "hostNetwork: false")), "credentials")
	refuses(t, create(with("private", "shop", tag, "hostNetwork: false")), "could not be resolved")
	s.Namespace(t, "other")
	for _, namespace := range []string{"shop", "other"} {
		s.Kubectl(t, "create", "secret", "generic", "pull", "-n", namespace, "--type=kubernetes.io/dockerconfigjson", "--from-literal=.dockerconfigjson="+kubetest.PullSecret)
	}
	if err := create(with("private", "shop", tag, "imagePullSecrets: [{name: pull}]")); err != nil {
		t.Fatal(err)
	}
	s.Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller, namespace: shop}\nimagePullSecrets: [{name: pull}]\n")
	if err := create(with("account", "shop", s.private, "serviceAccountName: puller")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"private", "account"} {
		s.Eventually(t, name+" runs", func() bool { return strings.Contains(s.PodLogs(t, "shop", name), "running the private image") })
	}
	// What is known with a secret is no answer without it.
	refuses(t, create(with("later", "shop", s.private, "hostNetwork: false")), "credentials")
	// The chart lets admission read the Secrets of "shop" alone.
	refuses(t, create(with("private", "other", s.private, "imagePullSecrets: [{name: pull}]")), "secrets")
	s.Kubectl(t, "delete", "pod", "private", "account", "-n", "shop")
}

// breaksGlass: who may by RBAC runs an image that policies refuse, for a time, and the audit log of
// the API server says so. The rights are those of docs/admission.md.
func (s *shop) breaksGlass(t *testing.T) {
	_, role, _ := strings.Cut(read(t, filepath.Join(harness.Root(t), "docs/admission.md")), "```yaml\napiVersion: rbac.authorization.k8s.io/v1\n")
	role, _, _ = strings.Cut(role, "```")
	s.Apply(t, "apiVersion: rbac.authorization.k8s.io/v1\n"+role)
	t.Cleanup(func() { s.Kubectl(t, "delete", "clusterrole", "break-glass") })
	s.Kubectl(t, "create", "rolebinding", "glass", "-n", "shop", "--clusterrole=break-glass", "--user=ada")
	s.Kubectl(t, "create", "rolebinding", "editors", "-n", "shop", "--clusterrole=edit", "--user=ada", "--user=bob")
	glass := func(manifest, reason string, d time.Duration) string {
		annotations := fmt.Sprintf("annotations: {colophon.build/break-glass: %q, colophon.build/break-glass-until: %q}", reason, time.Now().Add(d).UTC().Format(time.RFC3339))
		if strings.Contains(manifest, "kind: Pod") {
			return strings.Replace(manifest, "metadata: {", "metadata: {"+annotations+", ", 1)
		}
		return strings.Replace(manifest, "template: {metadata: {", "template: {metadata: {"+annotations+", ", 1)
	}
	create := func(user, manifest string) error {
		_, err := s.TryInput(manifest, "create", "--as="+user, "-f", "-")
		return err
	}
	refuses(t, create("bob", glass(pod("glass", s.unsigned), "the shop is down", time.Hour)), "bob may not break it")
	refuses(t, create("bob", glass(pod("glass", s.signed), "the shop is down", time.Hour)), "bob may not break it")
	refuses(t, create("ada", glass(pod("glass", s.unsigned), "the shop is down", 25*time.Hour)), "at most 24h")
	refuses(t, create("ada", pod("glass", s.unsigned)), "team/app")
	if err := create("ada", glass(pod("glass", unsignedTag), "the shop is down", time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.Eventually(t, "the pod runs", func() bool { return strings.Contains(s.PodLogs(t, "shop", "glass"), "running the unsigned image") })
	if log := s.AuditLog(t); !strings.Contains(log, `"images.validating.colophon.build/break-glass":"the shop is down"`) {
		t.Errorf("the audit log says nothing: %.2000s", log)
	}
	// Controllers make the pods of a template, until the time is over.
	over := time.Now().Add(45 * time.Second)
	if err := create("ada", glass(workloadsOf(s.unsigned)["Deployment"], "the shop is down", time.Until(over))); err != nil {
		t.Fatal(err)
	}
	s.Kubectl(t, "rollout", "status", "-n", "shop", "deployment/w", "--timeout=40s")
	_, err := s.Try("set", "image", "deployment/w", "app="+kubetest.Registry+"/team/app:other", "-n", "shop", "--as=bob")
	refuses(t, err, "bob may not")
	time.Sleep(time.Until(over))
	s.Kubectl(t, "scale", "deployment/w", "--replicas=2", "-n", "shop", "--as=bob")
	s.Eventually(t, "a new pod is refused", func() bool {
		return strings.Contains(s.Kubectl(t, "get", "events", "-n", "shop", "--field-selector=reason=FailedCreate", "-o", "jsonpath={.items[*].message}"), "denied the request: image "+s.unsigned)
	})
	s.Kubectl(t, "delete", "deployment/w", "pod/glass", "-n", "shop")
}

// staticPods: what a kubelet runs from its files is told of, with a warning. Nobody else can say that
// a pod is one.
func (s *shop) staticPods(t *testing.T) {
	s.RunStatic(t, "static", pod("static", s.unsigned))
	name := "static-" + s.Node
	s.Eventually(t, "the static pod runs and has a mirror", func() bool {
		_, err := s.Try("get", "pod", name, "-n", "shop")
		return err == nil && strings.Contains(s.PodLogs(t, "shop", name), "running the unsigned image")
	})
	claim := strings.Replace(pod("claim", s.unsigned), "metadata: {", "metadata: {annotations: {kubernetes.io/config.mirror: x}, ", 1)
	_, err := s.TryInput(strings.Replace(claim, "spec: {", "spec: {nodeName: "+s.Node+", ", 1), "create", "-f", "-")
	refuses(t, err, "team/app")
}

// burst: 500 pods at once with an image that nobody knows are decided by one reading in each
// replica.
func (s *shop) burst(t *testing.T) {
	replicas := s.replicas(t)
	reads := func() (n float64) {
		for _, r := range replicas {
			n += metric(t, r, "colophon_verdicts_reads_total")
		}
		return n
	}
	requests := func(image string) (n int) {
		_, digest, _ := strings.Cut(image, "@")
		for _, line := range s.RegistryRequests(t) {
			if strings.Contains(line, digest) || strings.Contains(line, strings.Replace(digest, ":", "-", 1)) {
				n++
			}
		}
		return n
	}
	push := func(name string) string {
		image := s.Push(t, "team/burst:"+name, kubetest.Busybox(t, "echo", name))
		s.signs(t, image)
		return image
	}
	one, many := push("one"), push("many")
	clients := make([]*kubetest.Client, 20)
	for i := range clients {
		clients[i] = s.Client(t)
	}
	before := requests(one)
	if err := ask(t.Context(), clients[0], one); err != nil {
		t.Fatal(err)
	}
	each := requests(one) - before
	before, start, known := requests(many), time.Now(), reads()
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			if err := ask(t.Context(), clients[i%len(clients)], many); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, n := requests(many)-before, reads()-known
	t.Logf("500 pods in %s: %v readings by %d replicas, %d requests (one reading: %d)", time.Since(start).Round(time.Millisecond), n, len(replicas), got, each)
	// The requests are about this image alone; replicas may read others again meanwhile.
	if each == 0 || n < 1 || got > each*len(replicas) {
		t.Errorf("got %v readings and %d requests, want one in each replica, of %d requests", n, got, each)
	}
}

// registryHangs: an image that nobody knows, at a registry that answers later than the API server
// waits, is refused each time, with the reason.
func (s *shop) registryHangs(t *testing.T) {
	var images []string
	for i := range 8 {
		images = append(images, s.Push(t, fmt.Sprintf("team/slow:v%d", i), kubetest.Busybox(t, "echo", fmt.Sprint("slow ", i))))
	}
	s.RegistryDelay(t, 11*time.Second)
	defer s.RegistryDelay(t, 0)
	var all sync.WaitGroup
	for _, image := range images {
		c := s.Client(t)
		all.Go(func() {
			if err := ask(t.Context(), c, image); err == nil || !strings.Contains(err.Error(), "in time") {
				t.Errorf("got %v, want a refusal because the registry does not answer in time", err)
			}
		})
	}
	all.Wait()
}

// dryRun: admission that only reports refuses and changes nothing. Then it learns of custom kinds.
func (s *shop) dryRun(t *testing.T) {
	s.install(t, "dryRun=true")
	s.alone(t)
	s.Apply(t, pod("reported", unsignedTag))
	if image := s.Kubectl(t, "get", "pod", "reported", "-n", "shop", "-o", "jsonpath={.spec.containers[0].image}"); image != unsignedTag {
		t.Errorf("a dry run changes the image to %s", image)
	}
	logs := s.Kubectl(t, "logs", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "--tail=-1", "--prefix=false")
	if !slices.ContainsFunc(strings.Split(logs, "\n"), func(line string) bool {
		return strings.Contains(line, `"object":"Pod shop/reported"`) && strings.Contains(line, `"admitted":false`)
	}) {
		t.Errorf("the log does not say that the pod would be refused: %.3000s", logs)
	}
	s.Kubectl(t, "delete", "pod", "reported", "-n", "shop")

	const definitions = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: engines.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: engines, singular: engine, kind: Engine}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: motors.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: motors, singular: motor, kind: Motor}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
	s.Apply(t, definitions)
	t.Cleanup(func() { s.Kubectl(t, "delete", "crd", "engines.example.com", "motors.example.com") })
	custom := func(n int, resource, kind string) string {
		return strings.ReplaceAll(fmt.Sprintf("C.group=example.com,C.version=v1,C.resource=%s,C.kind=%s", resource, kind), "C.", fmt.Sprintf("webhook.customResources[%d].", n))
	}
	s.install(t, "dryRun=false", custom(0, "engines", "Engine")+",webhook.customResources[0].fields={spec.runs}", custom(1, "motors", "Motor"))
	s.alone(t)
	object := func(kind, field, image string) error {
		out, err := s.TryInput(fmt.Sprintf("{apiVersion: example.com/v1, kind: %s, metadata: {name: e, namespace: shop}, spec: {%s: %q}}", kind, field, image), "create", "--dry-run=server", "-o", "jsonpath={.spec."+field+"}", "-f", "-")
		if err == nil && !strings.Contains(out, "@sha256:") {
			err = fmt.Errorf("admitted with the image %s", out)
		}
		return err
	}
	if err := object("Engine", "runs", signedTag); err != nil {
		t.Error(err)
	}
	refuses(t, object("Engine", "runs", unsignedTag), "team/app")
	refuses(t, object("Engine", "runs", s.unsigned), "team/app")
	refuses(t, object("Motor", "drives", s.signed), "nothing says which fields of a Motor.example.com name images")
	refuses(t, s.probe(s.unsigned), "team/app")
}

// alone waits until the replicas of the last change are the only ones.
func (s *shop) alone(t testing.TB) {
	t.Helper()
	s.settled(t)
	s.Eventually(t, "the old replicas are gone", func() bool { return len(s.replicas(t)) == 2 })
}
