package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/kubetest"
)

// podJSON is the body of a request for a pod that no node runs.
func podJSON(image string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"load-"},"spec":{"schedulerName":"nobody","containers":[{"name":"app","image":%q}]}}`, image)
}

const podsPath = "/api/v1/namespaces/shop/pods"

// ask asks the API server whether it would create a pod with an image.
func ask(ctx context.Context, c *kubetest.Client, image string) error {
	_, err := c.Do(ctx, http.MethodPost, podsPath+"?dryRun=All", podJSON(image))
	return err
}

// load is clients that ask about images without a pause, while parts of the cluster are disturbed.
// Whatever happens, no pod with an unsigned image is admitted. While nothing is disturbed, none with a
// signed image is refused; otherwise it may be, for want of an answer: never because the image is
// rejected. It begins disturbed: what went before may have left a replica that starts.
type load struct {
	s       *shop
	stop    context.CancelFunc
	clients sync.WaitGroup

	mu    sync.Mutex
	down  string // what is disturbed, or ""
	since int64  // grows when that changes

	good, bad, again, made atomic.Int64
	wrong                  []string
}

// load starts clients. They end with the test, or before.
func (s *shop) load(t *testing.T, clients int) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{s: s, stop: stop, down: "the load begins"}
	for range clients {
		c := s.Client(t)
		l.clients.Go(func() {
			for ctx.Err() == nil {
				l.step(ctx, c)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

// tags of the images of a shop, which lead to the same digests.
const (
	signedTag   = kubetest.Registry + "/team/app:v1"
	unsignedTag = kubetest.Registry + "/team/app:unsigned"
)

func (l *load) step(ctx context.Context, c *kubetest.Client) {
	signed := rand.IntN(2) == 0
	image := map[bool][]string{true: {l.s.signed, signedTag}, false: {l.s.unsigned, unsignedTag}}[signed][rand.IntN(2)]
	query := "?dryRun=All"
	if rand.IntN(8) == 0 { // one that stays
		query = ""
	}
	time.Sleep(5 * time.Millisecond) // others work here, too
	down, since := l.state()
	_, err := c.Do(ctx, http.MethodPost, podsPath+query, podJSON(image))
	now, then := l.state()
	switch calm := down == "" && since == then; {
	case ctx.Err() != nil:
	case !signed:
		l.bad.Add(1)
		if err == nil {
			l.fault("an unsigned image is admitted (%s, then %s)", down, now)
		}
	case err == nil:
		if l.good.Add(1); query == "" {
			l.made.Add(1)
		}
	case calm:
		l.fault("while nothing is disturbed, %s: %v", image, err)
	case down == registryGone && since == then && strings.Contains(image, "@"):
		l.fault("without a registry, the known image %s: %v", image, err)
	case !forWant(err):
		l.fault("while %s, a signed image is rejected: %v", down, err)
	default:
		l.again.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

// registryGone is the one disturbance in which known images are admitted as always.
const registryGone = "the registry is gone"

// forWant reports whether a request failed because somebody did not answer.
func forWant(err error) bool {
	refused, answered := errors.AsType[*kubetest.Refused](err)
	if !answered || refused.Code >= 500 || refused.Code == http.StatusTooManyRequests {
		return true // of the API server itself, or it could not call the webhook
	}
	return strings.Contains(refused.Message, "nobody knows whether it may run") || strings.Contains(refused.Message, "its tag could not be resolved")
}

func (l *load) state() (string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down, l.since
}

func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
}

// disturb says that something is disturbed from now on.
func (l *load) disturb(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.since = what, l.since+1
}

// calm waits until the cluster answers as always, and says so.
func (l *load) calm(t *testing.T) {
	t.Helper()
	c := l.s.Client(t)
	l.s.Eventually(t, "all answers are as always after "+l.down, func() bool {
		return l.s.replicasAnswer() == nil && ask(t.Context(), c, l.s.signed) == nil && ask(t.Context(), c, signedTag) == nil
	})
	l.disturb("")
}

// replicasAnswer asks each replica that the API server may ask about the signed image, as the API server
// does: with the authorities that it trusts. The API server itself may ask one alone for long.
func (s *shop) replicasAnswer() error {
	bundle, err := s.Try("get", "validatingwebhookconfiguration", "colophon-admission", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	if err != nil {
		return err
	}
	authorities, err := base64.StdEncoding.DecodeString(bundle)
	if err != nil {
		return err
	}
	ready, err := s.Try("get", "endpointslices", "-n", helmNamespace, "-l", "kubernetes.io/service-name=colophon-admission", "-o", `jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}`)
	if err != nil {
		return err
	}
	replicas := strings.Fields(ready)
	if len(replicas) < 2 {
		return fmt.Errorf("%d replicas are ready", len(replicas))
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authorities)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "colophon-admission." + helmNamespace + ".svc"}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: 15 * time.Second, Transport: transport}
	for _, address := range replicas {
		for path, image := range map[string]string{"/mutate": signedTag, "/validate": s.signed} {
			if err := direct(client, address, path, image); err != nil {
				return fmt.Errorf("replica %s: %w", address, err)
			}
		}
	}
	return nil
}

// direct asks a webhook about a pod, as the API server does.
func direct(client *http.Client, address, path, image string) error {
	review := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"","version":"v1","kind":"Pod"},"operation":"CREATE","namespace":"shop","userInfo":{"username":"admin"},"object":%s}}`, podJSON(image))
	resp, err := client.Post("https://"+address+":8443"+path+"?timeout=10s", "application/json", strings.NewReader(review))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(raw, []byte(`"allowed":true`)) {
		err = fmt.Errorf("%s", raw)
	}
	return err
}

// end stops the clients, when they have asked enough, and reports what they saw. What they created is
// removed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.s.Eventually(t, "clients got answers about both images", func() bool { return l.good.Load() >= 20 && l.bad.Load() >= 20 })
	l.stop()
	l.clients.Wait()
	for i, w := range l.wrong {
		if i < 20 {
			t.Error(w)
		}
	}
	t.Logf("signed: %d admitted (%d stay), %d to try again; unsigned: %d refused; wrong: %d", l.good.Load(), l.made.Load(), l.again.Load(), l.bad.Load(), len(l.wrong))
	images := l.s.Kubectl(t, "get", "pods", "-n", "shop", "-o", "jsonpath={range .items[*]}{.metadata.generateName} {.spec.containers[0].image}{\"\\n\"}{end}")
	for line := range strings.Lines(images) {
		if strings.HasPrefix(line, "load- ") && !strings.Contains(line, l.s.signed[strings.Index(l.s.signed, "@"):]) {
			t.Errorf("there is a pod with %s", line)
		}
	}
	l.s.Kubectl(t, "delete", "pods", "-n", "shop", "--field-selector=spec.schedulerName=nobody", "--grace-period=0", "--force")
}

// rolling: while one replica after the other is replaced, no request is lost.
func (s *shop) rolling(t *testing.T) {
	l := s.load(t, 4)
	l.calm(t)
	s.Kubectl(t, "rollout", "restart", "-n", helmNamespace, "deployment/colophon-admission")
	s.settled(t)
	s.Eventually(t, "the replicas that end are gone", func() bool { return len(s.replicas(t)) == 2 })
	l.end(t)
}

// chaos: parts of the cluster are killed at any time under load, one after the other or two at
// once.
func (s *shop) chaos(t *testing.T) {
	length := 45 * time.Second
	if text := os.Getenv("COLOPHON_CHAOS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	// Replicas that start read what pods run, so that they know the image.
	s.Apply(t, strings.Replace(pod("known", s.signed), "spec: {", "spec: {schedulerName: nobody, ", 1))
	l := s.load(t, 4)
	l.calm(t)
	// Each once, and then any of them.
	order := r.Perm(len(disturbances))
	for start, n := time.Now(), 0; n < len(order) || time.Since(start) < length; n++ {
		d := disturbances[r.IntN(len(disturbances))]
		if n < len(order) {
			d = disturbances[order[n]]
		}
		time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		begin := time.Now()
		l.disturb(d.what)
		d.do(s, t, r)
		l.calm(t)
		t.Logf("%s: calm after %s", d.what, time.Since(begin).Round(time.Millisecond))
	}
	l.end(t)
}

// disturbances are what happens in a cluster. Each is over when do returns; the parts may need time.
var disturbances = []struct {
	what string
	do   func(*shop, *testing.T, *rand.Rand)
}{
	{"one replica is killed", func(s *shop, t *testing.T, r *rand.Rand) {
		pids := s.Processes("colophond")
		kill(t, pids[r.IntN(len(pids))])
	}},
	{"all replicas are killed", func(s *shop, t *testing.T, r *rand.Rand) {
		for _, pid := range s.Processes("colophond") {
			kill(t, pid)
		}
	}},
	{"the API server is killed", func(s *shop, t *testing.T, r *rand.Rand) {
		s.Kill(kubetest.APIServer)
		pause(r)
		s.Restart(t, kubetest.APIServer)
	}},
	{"etcd is killed", func(s *shop, t *testing.T, r *rand.Rand) {
		s.Kill(kubetest.Etcd)
		pause(r)
		s.Restart(t, kubetest.Etcd)
	}},
	{registryGone, func(s *shop, t *testing.T, r *rand.Rand) {
		s.Kill(kubetest.RegistryServer)
		pause(r)
		s.Restart(t, kubetest.RegistryServer)
	}},
	{"the registry is gone, and replicas with it", func(s *shop, t *testing.T, r *rand.Rand) {
		s.Kill(kubetest.RegistryServer)
		for _, pid := range s.Processes("colophond") {
			kill(t, pid)
		}
		pause(r)
		s.Restart(t, kubetest.RegistryServer)
	}},
	{"the registry takes longer than the API server waits", func(s *shop, t *testing.T, r *rand.Rand) {
		s.RegistryDelay(t, 12*time.Second)
		pause(r)
		s.RegistryDelay(t, 0)
	}},
	{"the API server and a replica are killed", func(s *shop, t *testing.T, r *rand.Rand) {
		pids := s.Processes("colophond")
		kill(t, pids[r.IntN(len(pids))])
		s.Kill(kubetest.APIServer)
		s.Restart(t, kubetest.APIServer)
	}},
	{"the clock of one replica jumps", func(s *shop, t *testing.T, r *rand.Rand) {
		pids := s.Processes("colophond")
		one := r.IntN(len(pids))
		s.clocksJump(t, r, pids[one:one+1])
	}},
	{"the clocks of all replicas jump", func(s *shop, t *testing.T, r *rand.Rand) { s.clocksJump(t, r, s.Processes("colophond")) }},
}

func pause(r *rand.Rand) { time.Sleep(time.Duration(500+r.IntN(2500)) * time.Millisecond) }

func kill(t *testing.T, pid int) {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Error(err)
	}
}

// replicas returns the addresses of the pods of admission.
func (s *shop) replicas(t testing.TB) []string {
	return strings.Fields(s.Kubectl(t, "get", "pods", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "-o", "jsonpath={.items[*].status.podIP}"))
}

// metric returns a metric of a replica, with its labels; 0 if there is none.
func metric(t testing.TB, address, name string) (value float64) {
	t.Helper()
	resp, err := http.Get("http://" + address + ":8080/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if _, after, found := strings.Cut("\n"+string(raw), "\n"+name+" "); found {
		if _, err := fmt.Sscan(after, &value); err != nil {
			t.Fatal(err)
		}
	}
	return value
}
