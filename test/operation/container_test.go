package operation

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestFirstProcess: serve works as process 1, which it is in a container that has no init.
// There, a role whose parent is process 1 is no orphan.
func TestFirstProcess(t *testing.T) {
	needsRoot(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	p := harness.Reserve(t)
	p.Program = filepath.Join(t.TempDir(), "colophond")
	harness.Write(t, filepath.Dir(p.Program), map[string]string{"colophond": "#!/bin/sh\nexec " + unshare + " --pid --fork --mount-proc --kill-child " + harness.Bin(t, "colophond") + ` "$@"` + "\n"})
	if err := os.Chmod(p.Program, 0o755); err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"--config", harness.Config(t, nil)}
	p.Up()
	if !ready(p) {
		t.Errorf("the platform is not ready: %s", p.Log)
	}
}

// A podman has its images and containers in a directory of the test.
type podman struct {
	t   *testing.T
	dir string
}

func newPodman(t *testing.T) podman {
	if os.Getenv("COLOPHON_CLIENTS") == "" {
		t.Skip("NOT ASKED FOR: it needs podman, which make clients installs, and Debian's archive")
	}
	needsRoot(t)
	for _, program := range []string{"podman", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil {
			needs.Missing(t, "%v; make clients installs it", err)
		}
	}
	p := podman{t, t.TempDir()}
	t.Cleanup(func() { p.run(context.Background(), "rm", "--all", "--force", "--time", "5") })
	return p
}

func (p podman) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", append([]string{"--root", p.dir + "/storage", "--runroot", p.dir + "/run", "--storage-driver", "overlay"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+p.dir)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (p podman) ok(args ...string) string {
	p.t.Helper()
	out, err := p.run(p.t.Context(), args...)
	if err != nil {
		p.t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// build builds deploy/container/Dockerfile with the programs that the Makefile built.
func (p podman) build(image string) {
	p.t.Helper()
	const base = "docker.io/library/debian:bookworm-slim"
	to := "containers-storage:[overlay@" + p.dir + "/storage+" + p.dir + "/run]" + base
	if out, err := exec.CommandContext(p.t.Context(), "skopeo", "copy", "oci:"+harness.BaseImages(p.t)+":"+base, to).CombinedOutput(); err != nil {
		p.t.Fatalf("skopeo: %v\n%s", err, out)
	}
	programs := filepath.Join(p.dir, "programs")
	for _, name := range []string{"colophon", "colophond", "colophon-scan", "buildkitd"} {
		data, err := os.ReadFile(harness.Bin(p.t, name))
		if err := errors.Join(err, os.MkdirAll(programs+"/out", 0o755), os.WriteFile(filepath.Join(programs, "out", name), data, 0o755)); err != nil {
			p.t.Fatal(err)
		}
	}
	root := harness.Root(p.t)
	p.ok("build", "--format", "docker", "--network", "host", "--pull=never", "--build-context", "programs="+programs, "--tag", image, "--file", root+"/deploy/container/Dockerfile", root)
}

// inContainer are the options with which docs/configuration.md runs the platform's image, but
// for the limits, which podman would raise.
var inContainer = []string{
	"--cap-drop", "ALL", "--cap-add", "SYS_ADMIN,CHOWN,DAC_OVERRIDE,FOWNER,KILL,SETUID,SETGID,SETPCAP,NET_BIND_SERVICE",
	"--security-opt", "unmask=ALL", "--security-opt", "apparmor=unconfined",
	"--ulimit", "nofile=16384:16384", "--ulimit", "nproc=16384:16384",
}

// TestContainer runs the platform's image in a container that is not privileged, with an
// address of its own, and releases examples/hello on it from outside.
func TestContainer(t *testing.T) {
	p := newPodman(t)
	p.build("colophond")

	gateway := net.ParseIP(p.ok("network", "inspect", "podman", "--format", "{{range .Subnets}}{{.Gateway}}{{end}}")).To4()
	if gateway == nil {
		t.Fatal("podman's network has no address")
	}
	address := net.IPv4(gateway[0], gateway[1], 200, byte(2+os.Getpid()%250))
	certs := filepath.Join(p.dir, "certs")
	if err := os.Mkdir(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	harness.WriteCertificate(t, certs+"/cert.pem", certs+"/key.pem", 1, address, gateway)
	t.Setenv("SSL_CERT_FILE", certs+"/roots.pem")
	public, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt") // for what the build downloads
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(certs + "/cert.pem")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certs+"/roots.pem", slices.Concat(own, public), 0o644); err != nil {
		t.Fatal(err)
	}

	repo := filepath.Join(p.dir, "hello")
	harness.CopyTree(t, filepath.Join(harness.Root(t), "examples", "hello"), repo)
	harness.Commit(t, repo, "v1.0.0")
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: githttp.Handler(t, filepath.Dir(repo))}
	go server.ServeTLS(listener, certs+"/cert.pem", certs+"/key.pem")
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	source := "https://" + net.JoinHostPort(gateway.String(), port) + "/hello/.git"

	args := append([]string{"run", "--detach", "--name", "platform"}, inContainer...)
	args = append(args, "--ip", address.String(), "--env", "SSL_CERT_FILE=/etc/colophon/roots.pem",
		"--volume", certs+":/etc/colophon:ro", "--volume", harness.BaseImages(t)+":/mirror:ro", "colophond", "serve")
	flags := []string{
		"--data", "/var/lib/colophon", "--mirror", "/mirror", "--listen", ":443", "--url", "https://" + address.String(),
		"--tls-cert", "/etc/colophon/cert.pem", "--tls-key", "/etc/colophon/key.pem",
	}
	p.ok(append(args, flags...)...)
	for range 60 {
		if out, err := p.run(t.Context(), "exec", "platform", "colophon", "status"); err == nil {
			t.Log(out)
			break
		}
		time.Sleep(time.Second)
	}
	if out, err := p.run(t.Context(), "healthcheck", "run", "platform"); err != nil {
		t.Fatalf("health check: %v %s\n%s", err, out, p.ok("logs", "platform"))
	}
	if out := p.ok(append([]string{"exec", "platform", "colophond", "check"}, flags...)...); !strings.Contains(out, "each role has its own") {
		t.Errorf("check: got %s, want a user for each role", out)
	}

	login := filepath.Join(p.dir, "client.json")
	if err := os.WriteFile(login, []byte(p.ok("exec", "platform", "cat", "/var/lib/colophon/client.json")), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CONFIG_HOME", p.dir+"/config")
	t.Setenv("GIT_SSL_CAINFO", certs+"/roots.pem")
	image := address.String() + "/team/hello"
	for _, c := range []struct{ line, want string }{
		{"login " + login, ""},
		{"release " + source + " --ref v1.0.0 --image " + image, "SLSA Build L3"},
		{"trust add --yes https://" + address.String(), ""},
		{"verify " + image + ":v1.0.0 --source " + source, "accepted"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		out, err := exec.CommandContext(ctx, harness.Bin(t, "colophon"), strings.Fields(c.line)...).CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Fatalf("colophon %s: %v\n%s\n%s", c.line, err, out, p.ok("logs", "platform"))
		}
	}
	p.ok("stop", "--time", "60", "platform")
	if code := p.ok("inspect", "platform", "--format", "{{.State.ExitCode}}"); code != "0" {
		t.Errorf("stopped: got exit code %s, want 0\n%s", code, p.ok("logs", "platform"))
	}
}
