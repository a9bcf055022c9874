package kubetest

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// pause is the image of each pod's sandbox: a program that waits.
const pause = "local.test/pause:1"

// startNode starts containerd and a kubelet, and waits until the node is ready.
func (c *Cluster) startNode(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"cni", "podlogs", "static"} {
		if err := os.Mkdir(filepath.Join(c.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in := strings.NewReplacer("DIR", c.dir, "PODS", pods, "PAUSE", pause)
	c.write(t, "cni/10-test.conflist", in.Replace(network))
	c.run(t, "containerd", "-c", c.write(t, "containerd.toml", in.Replace(containerdConfig)))
	c.Eventually(t, "containerd is ready", func() bool { return c.ctr("version") == nil })
	c.Import(t, pause, Busybox(t, "sleep", "1000000"))
	c.run(t, program("kubelet"), "--config="+c.write(t, "kubelet.yaml", in.Replace(kubeletConfig)), "--kubeconfig="+c.write(t, "kubelet.kubeconfig", kubeconfig(nodeToken)),
		"--root-dir="+filepath.Join(c.dir, "kubelet"), "--cert-dir="+filepath.Join(c.dir, "kubelet-certs"), "--hostname-override="+c.Node, "--node-ip="+apiAddress)
	c.Eventually(t, "the node is ready", func() bool {
		out, err := c.Try("get", "node", c.Node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return err == nil && out == "True"
	})
}

func (c *Cluster) ctr(args ...string) error {
	return exec.Command("ctr", append([]string{"-a", filepath.Join(c.dir, "containerd.sock"), "-n", "k8s.io"}, args...)...).Run()
}

// RunStatic gives the kubelet the manifest of a pod that it runs whatever the API server says, until
// the test ends.
func (c *Cluster) RunStatic(t testing.TB, name, manifest string) {
	t.Helper()
	path := c.write(t, filepath.Join("static", name+".yaml"), manifest)
	t.Cleanup(func() { _ = os.Remove(path) })
}

// Import gives the node an image under a name with a tag, so that no registry is asked for it.
func (c *Cluster) Import(t testing.TB, ref string, image v1.Image) {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(c.Dir(t), "image.tar")
	if err := tarball.WriteToFile(archive, tag, image); err != nil {
		t.Fatal(err)
	}
	if err := c.ctr("images", "import", archive); err != nil {
		t.Fatalf("import %s: %v", ref, err)
	}
}

// Busybox returns an image that has busybox as /bin/busybox and runs one of its commands.
func Busybox(t testing.TB, command ...string) v1.Image {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return Image(t, map[string]string{"bin/busybox": path}, append([]string{"/bin/busybox"}, command...)...)
}

// Image returns an image of one layer that has static programs of this machine, by their path in
// the image, and runs the given command.
func Image(t testing.TB, files map[string]string, command ...string) v1.Image {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, path := range slices.Sorted(maps.Keys(files)) { // the same files are the same image
		raw, err := os.ReadFile(files[path])
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(raw)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: configOf(t, image).RootFS, Config: v1.Config{Entrypoint: command}})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func configOf(t testing.TB, image v1.Image) *v1.ConfigFile {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// PodLogs returns what the containers of a pod wrote, as the node has it: "" if none ever ran.
func (c *Cluster) PodLogs(t testing.TB, namespace, pod string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "podlogs", namespace+"_"+pod+"_*", "*", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
	}
	return out.String()
}

const network = `{"cniVersion": "0.4.0", "name": "test", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "DIR/addresses", "ranges": [[{"subnet": "PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
`

const containerdConfig = `version = 2
root = "DIR/containerd/root"
state = "DIR/containerd/state"
[grpc]
  address = "DIR/containerd.sock"
[ttrpc]
  address = "DIR/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "DIR/hosts"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "DIR/cni"
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
containerRuntimeEndpoint: unix://DIR/containerd.sock
address: 0.0.0.0
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
failSwapOn: false
makeIPTablesUtilChains: false
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
podLogsDir: DIR/podlogs
staticPodPath: DIR/static
fileCheckFrequency: 1s
syncFrequency: 10s
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
`
