package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/test/kubetest"
)

// deployment returns the manifest of a Deployment in the namespace of the shop.
func deployment(name, image string, replicas int) string {
	return fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s, namespace: shop}, spec: {replicas: %d, selector: {matchLabels: {app: %[1]s}}, template: {metadata: {labels: {app: %[1]s}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: app, image: %[3]q}]}}}}\n", name, replicas, image)
}

// eviction: pods whose image a policy rejects and says to evict go as far as their disruption budget
// allows, and no others; a policy that would make most pods go evicts none, and says so.
func (s *shop) eviction(t *testing.T) {
	const evict = "enforce\n      onRunning: evict"
	pods := func(app string) int {
		return strings.Count(s.Kubectl(t, "get", "pods", "-n", "shop", "-l", "app="+app, "--field-selector=status.phase=Running", "-o", "name"), "pod/")
	}
	ledger := s.ledger(t)
	s.policy(t, "audit")
	s.admits(t, s.unsigned)
	const budget = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: budget, namespace: shop}\nspec: {minAvailable: %d, selector: {matchLabels: {app: rejected}}}\n"
	s.Apply(t, deployment("rejected", s.unsigned, 2)+"---\n"+fmt.Sprintf(budget, 2)+"---\n"+deployment("accepted", s.signed, 4))
	t.Cleanup(func() {
		s.policy(t, "enforce") // first: with fewer pods, the policy that is a mistake would evict some
		s.Eventually(t, "the policy enforces", func() bool { return s.probe(s.unsigned) != nil && s.probe(s.signed) == nil })
		s.Kubectl(t, "delete", "-n", "shop", "deployment/rejected", "deployment/accepted", "--timeout=60s")
	})
	s.Eventually(t, "the pods run, and the budget knows it", func() bool {
		return pods("rejected") == 2 && pods("accepted") == 4 && s.Kubectl(t, "get", "pdb", "budget", "-n", "shop", "-o", "jsonpath={.status.currentHealthy}") == "2"
	})
	s.policy(t, evict)
	log := func() string {
		out, _ := s.Try("logs", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "--tail=-1")
		return out
	}
	s.Eventually(t, "a pod is not evicted because its budget needs it", func() bool { return strings.Contains(log(), "a pod is evicted later") })
	if n := pods("rejected"); n != 2 {
		t.Errorf("got %d pods, want the 2 that the budget needs", n)
	}
	s.Apply(t, fmt.Sprintf(budget, 1))
	s.Eventually(t, "one pod was evicted", func() bool { return pods("rejected") == 1 })
	time.Sleep(5 * time.Second)
	if n := pods("rejected"); n != 1 {
		t.Errorf("got %d pods, want the one that the budget needs", n)
	}
	s.Kubectl(t, "delete", "pdb", "budget", "-n", "shop")
	s.Eventually(t, "the other one was evicted", func() bool { return pods("rejected") == 0 })
	if n := pods("accepted"); n != 4 {
		t.Errorf("got %d pods whose image is accepted, want 4", n)
	}
	if out := s.Kubectl(t, "get", "events", "-n", "shop", "--field-selector=reason=PodEvicted,reportingComponent=colophon-admission", "-o", "name"); strings.Count(out, "event") != 2 {
		t.Errorf("got events %s, want one of each pod", out)
	}
	if got := s.Kubectl(t, "get", "lease", "colophon-admission", "-n", helmNamespace, "-o", `jsonpath={.metadata.annotations.colophon\.build/evicted}`); !strings.Contains(got, "=") {
		t.Errorf("the lease counts the evictions as %q", got)
	}

	s.evicted(t, ledger)

	// The mistake: a rule about everything that only others satisfy.
	s.Kubectl(t, "patch", "imagepolicy", "team", "--type=json", "-p", `[{"op": "replace", "path": "/spec/rules/0/accept", "value": [{"built": {"source": "https://git.example.com/team/another"}}]}]`)
	s.Eventually(t, "an event says that no pod is evicted", func() bool {
		return strings.Contains(s.Kubectl(t, "get", "events", "-n", "default", "--field-selector=reason=EvictionStopped", "-o", "jsonpath={.items[*].message}{.items[*].note}"), "is the policy right?")
	})
	if text, _, _ := colophon(t, s.Cluster, "kube", "status"); !strings.Contains(text, "EvictionStopped") {
		t.Errorf("kube status does not say that evictions are stopped:\n%s", text)
	}
	if n := pods("accepted"); n != 4 {
		t.Errorf("got %d pods, want 4: a bad policy evicted some", n)
	}
}

// evicted: the ledger has what runs, the verdict on which each eviction rests, before it, and what came of it.
func (s *shop) evicted(t *testing.T, ledger *audit.Ledger) {
	t.Helper()
	count := map[string]int{}
	s.Eventually(t, "the ledger has both evictions", func() bool {
		count = map[string]int{}
		verdicts := map[string]bool{} // by the UID of the pod
		for _, r := range recorded(t, ledger) {
			if r.Where.Cluster != "prod-a" || r.Basis.Policy == "" || r.About.Digest == "" {
				t.Errorf("got the record %+v", r)
			}
			if r.Kind == records.KindEvict && !verdicts[r.Where.UID] {
				t.Errorf("the ledger has no verdict on which this eviction rests: %+v", r)
			}
			if r.Effect == records.Refused {
				verdicts[r.Where.UID] = true
			}
			count[strings.TrimSpace(string(r.Kind)+" "+r.Outcome+" "+r.Effect)]++
		}
		return count["evict done"] == 2
	})
	if count["evict failed"] == 0 || count["running rejected refused"] < 2 || count["running accepted none"] == 0 || count["running rejected none"] == 0 {
		t.Errorf("got the records %v", count)
	}
}

// ahead: the image that a workload names is known to each replica before a pod asks, also to one
// that has started since, and then needs no registry.
func (s *shop) ahead(t *testing.T) {
	image := s.Push(t, "team/app:ahead", kubetest.Busybox(t, "sh", "-c", "echo running the image of the release; sleep 1000000"))
	s.signs(t, image)
	s.Apply(t, deployment("ahead", image, 0))
	t.Cleanup(func() { s.Kubectl(t, "delete", "-n", "shop", "deployment/ahead") })
	version := func() string {
		return s.Kubectl(t, "get", "secret", "colophon-admission-known", "-n", helmNamespace, "-o", "jsonpath={.metadata.resourceVersion}")
	}
	before := version()
	s.Kubectl(t, "rollout", "restart", "-n", helmNamespace, "deployment/colophon-admission")
	s.settled(t)
	var replicas []string
	s.Eventually(t, "the replicas that end are gone", func() bool {
		replicas = strings.Fields(s.Kubectl(t, "get", "pods", "-n", helmNamespace, "-o", "jsonpath={.items[*].metadata.name}"))
		return len(replicas) == 2
	})
	for _, name := range replicas {
		s.Eventually(t, name+" has read ahead", func() bool {
			out, err := s.Try("get", "--raw", "/api/v1/namespaces/"+helmNamespace+"/pods/"+name+":8080/proxy/metrics")
			return err == nil && strings.Contains(out, `colophon_admission_ahead_total{result="known"}`) && strings.Contains(out, "colophon_admission_ahead_waiting 0\n")
		})
	}
	s.Eventually(t, "what is known is saved", func() bool { return version() != before })
	s.Kill(kubetest.RegistryServer)
	t.Cleanup(func() { s.Restart(t, kubetest.RegistryServer) })
	for range 20 {
		if err := s.probe(image); err != nil {
			t.Fatalf("without a registry, a pod with a known image: %v", err)
		}
	}
	if err := s.probe(kubetest.Registry + "/team/app@sha256:" + strings.Repeat("1", 64)); err == nil {
		t.Error("without a registry, a pod with an image that nobody knows is admitted")
	}
	// The same when all replicas have ended meanwhile.
	for _, pid := range s.Processes("colophond") {
		kill(t, pid)
	}
	s.Eventually(t, "a pod with a known image is admitted, though no replica has a registry", func() bool { return s.probe(image) == nil })
	refuses(t, s.probe(kubetest.Registry+"/team/app@sha256:"+strings.Repeat("1", 64)), "nobody knows")
}
