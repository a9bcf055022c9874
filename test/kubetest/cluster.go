package kubetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// Cluster is a Kubernetes cluster that runs until the test process ends.
type Cluster struct {
	Kubeconfig string // of an administrator
	Node       string // name of the node
	// CertificateAuthority is the file with the authority that certifies the registry.
	CertificateAuthority string

	dir        string
	pushing    sync.Once
	toRegistry http.RoundTripper
	parts      map[string]*process // by name
}

// Parts of a cluster that a test may kill.
const (
	Etcd           = "etcd"
	APIServer      = "kube-apiserver"
	RegistryServer = "registry"
)

// process is a program of the cluster.
type process struct {
	name string
	args []string
	env  []string // besides that of the test
	log  string   // file
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

var (
	started     sync.Mutex
	theCluster  *Cluster
	startFailed bool
)

// Start returns the cluster of this test process, which all its tests share: use a namespace for
// each test. The first call starts it. It ends the test if the machine lacks something.
func Start(t testing.TB) *Cluster {
	t.Helper()
	need(t)
	started.Lock()
	defer started.Unlock()
	if startFailed {
		t.Fatal("the cluster did not start, as an earlier test says")
	}
	if theCluster == nil {
		startFailed = true
		c := &Cluster{dir: os.Getenv(inside), Node: "node1", parts: map[string]*process{}}
		c.Kubeconfig = filepath.Join(c.dir, "kubeconfig")
		c.startControlPlane(t)
		c.startRegistry(t)
		c.startNode(t)
		theCluster, startFailed = c, false
	}
	return theCluster
}

// token is that of the administrator, and nodeToken that of the kubelet. Nobody else can reach the
// cluster.
const token, nodeToken = "administrator", "kubelet"

func (c *Cluster) startControlPlane(t testing.TB) {
	t.Helper()
	key := filepath.Join(c.dir, "serviceaccounts.key")
	writeKey(t, key)
	c.write(t, "tokens.csv", token+`,admin,admin,"system:masters"`+"\n"+nodeToken+`,system:node:`+c.Node+`,node,"system:nodes"`+"\n")
	c.write(t, "kubeconfig", kubeconfig(token))
	c.write(t, "audit.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [create], resources: [{group: \"\", resources: [pods]}], omitStages: [RequestReceived]}, {level: None}]\n")
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	c.run(t, "etcd", "--data-dir", filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	certs := filepath.Join(c.dir, "certs")
	// Aggregator routing sends requests for a Service to its pods: there is no kube-proxy.
	c.run(t, program("kube-apiserver"), "--etcd-servers="+client, "--bind-address=0.0.0.0", "--advertise-address="+apiAddress, "--secure-port=443", "--cert-dir="+certs,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--service-cluster-ip-range="+services, "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--token-auth-file="+filepath.Join(c.dir, "tokens.csv"),
		"--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP", "--enable-aggregator-routing=true",
		"--audit-policy-file="+filepath.Join(c.dir, "audit.yaml"), "--audit-log-path="+filepath.Join(c.dir, "audit.log"))
	c.waitAPI(t)
	c.run(t, program("kube-controller-manager"), "--kubeconfig="+c.Kubeconfig, "--service-account-private-key-file="+key, "--root-ca-file="+filepath.Join(certs, "apiserver.crt"),
		"--use-service-account-credentials=true", "--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir="+filepath.Join(c.dir, "controller-certs"),
		"--controllers=*,-nodeipam,-cloud-node-lifecycle,-node-route-controller,-service-lb-controller,-persistentvolume-binder-controller,-persistentvolume-attach-detach-controller,-certificatesigningrequest-signing-controller")
	c.run(t, program("kube-scheduler"), "--kubeconfig="+c.Kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir="+filepath.Join(c.dir, "scheduler-certs"))
	c.Eventually(t, "the default ServiceAccount exists", func() bool {
		_, err := c.Try("get", "serviceaccount", "default")
		return err == nil
	})
}

// waitAPI waits until the API server is ready.
func (c *Cluster) waitAPI(t testing.TB) {
	t.Helper()
	c.Eventually(t, "the API server is ready", func() bool {
		out, err := c.Try("get", "--raw", "/readyz")
		return err == nil && out == "ok"
	})
}

// Kill ends a part of the cluster by SIGKILL, and returns when it is gone.
func (c *Cluster) Kill(part string) { c.parts[part].kill() }

// Restart starts a part again that was killed, and waits until it answers.
func (c *Cluster) Restart(t testing.TB, part string) {
	t.Helper()
	c.parts[part].start(t)
	if part == RegistryServer {
		c.waitRegistry(t)
		return
	}
	c.waitAPI(t)
}

// Processes returns the ids of the processes in containers, and outside, that run a program of the
// given name (15 bytes of it count).
func (c *Cluster) Processes(name string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is good
	for _, file := range files {
		raw, _ := os.ReadFile(file) // it may have ended
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && strings.TrimSpace(string(raw)) == name {
			pids = append(pids, pid)
		}
	}
	return pids
}

// AuditLog returns the API server's records of created pods, one a line.
func (c *Cluster) AuditLog(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// kubeconfig returns the configuration of a client with a token.
func kubeconfig(token string) string {
	return `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://` + apiAddress + `", insecure-skip-tls-verify: true}}]
users: [{name: user, user: {token: ` + token + `}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
`
}

// Dir returns a new directory that everything in the cluster sees, such as a pod with a hostPath.
func (c *Cluster) Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(c.dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Kubectl runs kubectl as the administrator and returns its standard output.
func (c *Cluster) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.Try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try runs kubectl as the administrator. The error has what it printed.
func (c *Cluster) Try(args ...string) (string, error) { return c.TryInput("", args...) }

// TryInput runs kubectl with standard input. The error has what it printed.
func (c *Cluster) TryInput(input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program("kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// Apply applies manifests.
func (c *Cluster) Apply(t testing.TB, manifests string) {
	t.Helper()
	if _, err := c.TryInput(manifests, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// Namespace makes a namespace and removes it after the test.
func (c *Cluster) Namespace(t testing.TB, name string, labels ...string) {
	t.Helper()
	c.Eventually(t, "the namespace of an earlier test is gone", func() bool {
		_, err := c.Try("create", "namespace", name)
		return err == nil
	})
	for _, label := range labels {
		c.Kubectl(t, "label", "namespace", name, label)
	}
	c.Eventually(t, "the namespace has its ServiceAccount", func() bool {
		_, err := c.Try("get", "serviceaccount", "default", "-n", name)
		return err == nil
	})
	t.Cleanup(func() { c.Kubectl(t, "delete", "namespace", name, "--wait=false") })
}

// Eventually waits until ok returns true, or ends the test with the last lines of each program's log.
func (c *Cluster) Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	became := false
	defer func() {
		if !became {
			t.Log(c.tails())
		}
	}()
	await.True(t, what, ok)
	became = true
}

// tails returns the last lines of each program's log.
func (c *Cluster) tails() string {
	var out strings.Builder
	for _, p := range c.parts {
		raw, _ := os.ReadFile(p.log)
		fmt.Fprintf(&out, "\n--- %s:\n%s", p.name, raw[max(0, len(raw)-1500):])
	}
	return out.String()
}

func (c *Cluster) write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run starts a program of the cluster.
func (c *Cluster) run(t testing.TB, command string, args ...string) {
	t.Helper()
	name := filepath.Base(command)
	p := &process{name: name, args: append([]string{command}, args...), log: filepath.Join(c.dir, name+".log")}
	c.parts[name] = p
	p.start(t)
}

func (p *process) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	p.done = make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
}

// kill ends the program and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// writeKey writes the key that signs tokens of ServiceAccounts.
func writeKey(t testing.TB, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Helm runs helm and returns its standard output. The error has what it printed.
func (c *Cluster) Helm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "helm"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("helm %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}
