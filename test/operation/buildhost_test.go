package operation

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
)

// TestBuildHost enrols a build host, has it build for the platform, and for no other.
func TestBuildHost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: a build host needs root")
	}
	p := harness.Start(t)
	file := enrol(t, p, 0o600)
	door := buildHost(t, file, "--mirror", harness.BaseImages(t))
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"--mirror", harness.BaseImages(t), "--config", harness.Config(t, map[string]any{"roles": map[string]any{"builder": door}})}
	p.Up()
	if p.Role("builder") != 0 {
		t.Error("the platform still runs a builder of its own")
	}
	release(t, p, harness.GoRepo(t), "app")

	dir := filepath.Join(t.TempDir(), "app")
	harness.Write(t, dir, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nRUN echo here > /where\n"})
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "first"}, {"tag", "v1.0.0"}} {
		harness.Git(t, dir, args...)
	}
	release(t, p, dir, "dockerfile")

	// Another platform's credentials are worth nothing there.
	other := harness.Start(t, "--config", harness.Config(t, map[string]any{"roles": map[string]any{"builder": door}}))
	if output, code := begin(t, other, harness.GoRepo(t), "app", "source")(); code != 1 || strings.Contains(output, "released") {
		t.Errorf("another platform built there: exit code %d\n%s", code, output)
	}
}

// The file is a secret, and a host without root is none to build on.
func TestBuildHostRefuses(t *testing.T) {
	p := harness.Start(t)
	for name, test := range map[string]struct {
		file, want string
	}{
		"others can read it": {enrol(t, p, 0o644), "chmod 600"},
		"no file":            {"/nonexistent", "no such file"},
	} {
		cmd := exec.Command(harness.Bin(t, "colophond"), "builder", "--enrolment", test.file, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v, %s; want %q", name, err, out, test.want)
		}
	}
}

func enrol(t *testing.T, p *harness.Platform, mode os.FileMode) string {
	t.Helper()
	out, err := exec.Command(harness.Bin(t, "colophond"), "enrol", "builder", "--data", p.Data, "--host", "127.0.0.1").Output()
	if err != nil {
		t.Fatalf("enrol: %v", err)
	}
	file := filepath.Join(t.TempDir(), "enrolment.json")
	if err := os.WriteFile(file, out, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// buildHost runs a build host until the test ends, and returns its address.
func buildHost(t *testing.T, file string, args ...string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, harness.Bin(t, "colophond"), append([]string{"builder", "--enrolment", file, "--data", filepath.Join(t.TempDir(), "data"),
		"--listen", address, "--config", harness.Config(t, nil)}, args...)...)
	log := &harness.Log{}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
		if t.Failed() {
			t.Logf("build host's log:\n%s", log)
		}
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatalf("the build host did not start: %q\n%s", line, log)
	}
	return address
}
