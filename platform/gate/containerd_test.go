package gate_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
)

// containerd is a daemon of its own, without the Kubernetes part.
type containerd struct {
	t   *testing.T
	dir string
	ctr string
}

func newContainerd(t *testing.T) *containerd {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "containerd needs root")
	}
	c := &containerd{t, t.TempDir(), program(t, "ctr")}
	sock := filepath.Join(c.dir, "sock")
	config := "version = 2\nroot = \"" + c.dir + "/root\"\nstate = \"" + c.dir + "/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = \"" + sock + "\"\n"
	c.write("config.toml", config)
	cmd := exec.Command(program(t, "containerd"), "-c", filepath.Join(c.dir, "config.toml"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	await.True(t, "containerd answers", func() bool {
		_, err := c.run("version")
		return err == nil
	})
	return c
}

func (c *containerd) write(name, content string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *containerd) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), await.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.ctr, append([]string{"-a", filepath.Join(c.dir, "sock")}, args...)...).CombinedOutput()
	return string(out), err
}

// fetch fetches an image, with a hosts.toml whose host is the gate.
func (c *containerd) fetch(server, host, tag string) (string, error) {
	c.write("certs/shop.example.com/hosts.toml", "server = \"http://"+server+"\"\n\n[host.\"http://"+host+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
	return c.run("content", "fetch", "--hosts-dir", filepath.Join(c.dir, "certs"), "shop.example.com/team/app:"+tag)
}

// TestContainerd: containerd gets the accepted image and not the other one, if the gate is its only
// way, as docs/gate.md says.
func TestContainerd(t *testing.T) {
	d, c := newContainerd(t), newScene(t, nil)
	gate := strings.TrimPrefix(c.url, "http://")
	if out, err := d.fetch(gate, gate, "v1.2.0"); err != nil {
		t.Errorf("accepted: %v\n%s", err, out)
	}
	if out, err := d.fetch(gate, gate, "bad"); err == nil || !strings.Contains(out, "403 Forbidden") {
		t.Errorf("rejected: got %v\n%s", err, out)
	}
	if out, err := d.fetch(c.host, gate, "bad"); err != nil {
		t.Errorf("docs/gate.md says that containerd goes around the gate if server is the registry: got %v\n%s", err, out)
	}
}
