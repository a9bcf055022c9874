// Package kubetest starts a real Kubernetes cluster for tests: etcd, API server, controller
// manager, scheduler, and a node with kubelet and containerd on which pods run. All of it, with
// the test itself, is in namespaces of its own: it listens on loopback that nobody else sees,
// reaches no network, and ends with the test however that ends.
package kubetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/needs"
)

// inside says to a test process that it is in namespaces of its own: its directory.
const inside = "COLOPHON_KUBETEST_DIR"

const (
	// apiAddress is where the API server and the kubelet are: an address of the loopback device.
	apiAddress = "10.99.0.1"
	// services is the network of services; its first address is the API server's, for pods.
	services     = "10.0.0.0/24"
	apiInCluster = "10.0.0.1"
	// pods is the network of pods; its first address is this host's.
	pods = "10.88.0.0/16"
)

// Main runs the tests of a package that needs a cluster, and is what its TestMain calls. It runs
// the test binary again, as the first process of namespaces of its own.
func Main(m *testing.M) int {
	if dir := os.Getenv(serving); dir != "" {
		fmt.Fprintln(os.Stderr, "kubetest: registries:", serveRegistries(dir))
		return 1
	}
	if os.Getenv(inside) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "kubetest:", err)
			return 1
		}
		return m.Run()
	}
	if !asked() || lacks() != "" {
		return m.Run() // each test says why it does not run
	}
	dir, err := os.MkdirTemp("", "kubetest")
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubetest:", err)
		return 1
	}
	runtime.LockOSThread() // the signal of Pdeathsig comes when the thread ends
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = cmd.Run()
	// With the first process of the namespaces, the kernel ended all others.
	left := errors.Join(removeCgroups(dir), os.RemoveAll(dir))
	if left != nil {
		fmt.Fprintln(os.Stderr, "kubetest: not removed:", left)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	if err != nil || left != nil {
		fmt.Fprintln(os.Stderr, "kubetest:", err)
		return 1
	}
	return 0
}

// settle prepares the namespaces: no mount leaves them, /proc shows their processes, and the
// loopback device has the cluster's addresses.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", apiAddress + "/32", "dev", "lo"},
		{"addr", "add", apiInCluster + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// removeCgroups removes the cgroups of the containers that ended with a cluster. Clusters that run at
// the same time have theirs beside them. The kernel may need some time for what has ended.
func removeCgroups(dir string) error {
	containers, err := filepath.Glob(filepath.Join(dir, "containerd/state/io.containerd.runtime.v2.task/k8s.io/*"))
	if err != nil {
		return err
	}
	trees, _ := filepath.Glob("/sys/fs/cgroup/*/k8s.io") // the pattern is good
	for _, tree := range append(trees, "/sys/fs/cgroup/k8s.io") {
		for _, c := range containers {
			if err := removeBusy(filepath.Join(tree, filepath.Base(c))); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		_ = os.Remove(tree) // unless it has those of others
	}
	return nil
}

func removeBusy(dir string) error {
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := os.Remove(dir); !errors.Is(err, syscall.EBUSY) || time.Now().After(until) {
			return err
		}
	}
}

// programs are those that the Makefile builds, and commands those of Debian packages.
var (
	programs = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "helm"}
	commands = map[string]string{"etcd": "etcd-server", "containerd": "containerd", "ctr": "containerd", "runc": "runc", "ip": "iproute2", "busybox": "busybox-static", "/usr/lib/cni/bridge": "containernetworking-plugins"}
)

// asked reports whether somebody asked for a cluster, as make kube does.
func asked() bool { return os.Getenv("COLOPHON_KUBE") != "" }

// lacks says what this machine lacks for a cluster, or "".
func lacks() string {
	if os.Geteuid() != 0 {
		return "a cluster needs root"
	}
	for _, name := range programs {
		if _, err := os.Stat(program(name)); err != nil {
			return name + " is missing: run make kube-tools"
		}
	}
	for command, debian := range commands {
		if _, err := exec.LookPath(command); err != nil {
			return command + " is missing: install " + debian
		}
	}
	return ""
}

// program returns the path of a program in out/bin.
func program(name string) string {
	dir, err := os.Getwd()
	if err != nil {
		return name
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "out", "bin", name)
		}
	}
	return name
}

// need ends a test that is not in namespaces of its own.
func need(t testing.TB) {
	t.Helper()
	switch reason := lacks(); {
	case os.Getenv(inside) != "":
	case !asked():
		t.Skip("NOT ASKED FOR: make kube starts a cluster")
	case reason != "":
		needs.Missing(t, "%s", reason)
	default:
		t.Fatal("TestMain of this package must call kubetest.Main")
	}
}
