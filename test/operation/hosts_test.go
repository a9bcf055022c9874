package operation

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestBuildHost enrols a build host. It builds for its platform, and for no other.
func TestBuildHost(t *testing.T) {
	needsRoot(t)
	p := harness.Start(t)
	at := freeport.Address(t)
	startHost(t, "builder", enrol(t, p, 0o600, "builder", "--host", "127.0.0.1"), at, nil, "--mirror", harness.BaseImages(t))
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"--mirror", harness.BaseImages(t), "--config", harness.Config(t, map[string]any{"roles": map[string]any{"builder": at}})}
	p.Up()
	if p.Role("builder") != 0 {
		t.Error("the platform still runs a local builder")
	}
	release(t, p, harness.GoRepo(t), "app")
	release(t, p, dockerRepo(t, "echo here > /where"), "dockerfile")

	// The host refuses the credentials of another platform.
	other := harness.Start(t, "--config", harness.Config(t, map[string]any{"roles": map[string]any{"builder": at}}))
	if output, code := begin(t, other, harness.GoRepo(t), "app", "source")(); code != 1 || strings.Contains(output, "released") {
		t.Errorf("another platform built there: exit code %d\n%s", code, output)
	}
}

// TestEveryRoleOnItsOwnHost runs all roles on other hosts. Then it runs there only the
// attestor and the API, which reach the other roles through serve's door.
func TestEveryRoleOnItsOwnHost(t *testing.T) {
	needs.Long(t)
	needsRoot(t)
	repo := served(t, dockerRepo(t, "echo here > /where"))
	for name, elsewhere := range map[string][]string{
		"all":              {"trust", "registry", "builder", "attestor", "api"},
		"attestor and api": {"attestor", "api"},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.Reserve(t)
			roles := map[string]any{"door": freeport.Address(t)}
			for _, role := range elsewhere {
				roles[role] = freeport.Address(t)
			}
			roles["api"] = p.Addr
			hosts := map[string]*host{}
			start := func(role string) {
				t.Helper()
				args := []string{"--url", p.URL}
				if role != "api" {
					args = append(args, "--host", "127.0.0.1")
				}
				file, args := enrol(t, p, 0o600, role, args...), []string(nil)
				if role == "builder" || role == "attestor" {
					args = []string{"--mirror", harness.BaseImages(t)}
				}
				settings := maps.Clone(roles)
				if role != "builder" { // its user owns the standard library that all tests share
					settings["uidBase"] = 64800 + 100*len(hosts)
				}
				hosts[role] = startHost(t, role, file, roles[role].(string), settings, args...)
			}
			last := len(elsewhere) - 2 // attestor and API call the other roles when they start
			for _, role := range elsewhere[:last] {
				start(role)
			}
			p.Args = []string{"--mirror", harness.BaseImages(t), "--config", harness.Config(t, map[string]any{"roles": roles})}
			p.Up()
			for _, role := range elsewhere[last:] {
				start(role)
			}
			for _, role := range elsewhere {
				if p.Role(role) != 0 {
					t.Errorf("serve still runs the role %s", role)
				}
			}
			eventually(t, "all roles answer", func() bool { return ready(p) })
			release(t, p, repo, "app")
			p.Trust()
			out, err := p.Colophon(t.Context(), "verify", p.Addr+"/app:v1.0.0", "--source", repo).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Build L3") {
				t.Errorf("verify: %v\n%s", err, out)
			}
			if metrics := string(p.Get("/metrics")); !strings.Contains(metrics, "colophon_releases_total") || !strings.Contains(metrics, "colophon_builds_running") {
				t.Error("/metrics lacks the metrics of roles on other hosts")
			}

			// /readyz reports a host that stops, and recovers when it is back.
			hosts["attestor"].stop()
			if ready(p) {
				t.Error("/readyz does not report that the attestor is missing")
			}
			hosts["attestor"].start()
			eventually(t, "all roles answer", func() bool { return ready(p) })
			release(t, p, repo, "again")

			// A role may request only what its certificate allows: the API may not get tokens.
			at, behind := roles["door"].(string), "trust"
			if address, ok := roles["trust"]; ok {
				at = address.(string)
			}
			for role, want := range map[string]int{"api": http.StatusForbidden, "attestor": http.StatusBadRequest} {
				if got := token(t, hosts[role].file, at, behind); got != want {
					t.Errorf("the %s's enrolment asks for a token: got %d, want %d", role, got, want)
				}
			}
		})
	}
}

// token requests a token from the trust services at a door, with the credentials of an
// enrolment, and returns the status.
func token(t *testing.T, file, at, role string) (status int) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Asker *peer.Credentials }
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	resp, err := peer.Endpoint{Address: at, Role: role, Credentials: e.Asker}.Client().Post("http://trust/token", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func needsRoot(t *testing.T) {
	t.Helper()
	needs.Root(t, "a host of a role")
}

func dockerRepo(t *testing.T, run string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	harness.Write(t, dir, map[string]string{"Dockerfile": "FROM busybox:1.35\nRUN " + run + "\n"})
	harness.Commit(t, dir, "v1.0.0")
	return dir
}

// served serves a repository over HTTPS, and makes this test's platforms trust the
// server. It returns the URL.
func served(t *testing.T, repo string) string {
	t.Helper()
	srv := httptest.NewTLSServer(githttp.Handler(t, filepath.Dir(repo)))
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", ca)
	t.Setenv("GIT_SSL_CAINFO", "") // it would take precedence
	return srv.URL + "/" + filepath.Base(repo) + "/.git"
}

// TestBuildHostRefuses: a build host refuses an enrolment file that others can read, and
// does not run without root.
func TestBuildHostRefuses(t *testing.T) {
	p := harness.Start(t)
	for name, test := range map[string]struct {
		file, want string
	}{
		"others can read it": {enrol(t, p, 0o644, "builder", "--host", "127.0.0.1"), "chmod 600"},
		"no file":            {"/nonexistent", "no such file"},
	} {
		cmd := exec.Command(harness.Bin(t, "colophond"), "builder", "--enrolment", test.file, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v, %s; want %q", name, err, out, test.want)
		}
	}
}

func enrol(t *testing.T, p *harness.Platform, mode os.FileMode, role string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "enrolment.json")
	cmd := exec.Command(harness.Bin(t, "colophond"), append([]string{"enrol", role, "--data", p.Data, "--output", file}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("enrol %s: %v: %s", role, err, out)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

// A host runs one role of a platform on another host, until the test ends.
type host struct {
	t          *testing.T
	role, file string
	args       []string
	log        *harness.Log
	stop       func()
}

func startHost(t *testing.T, role, file, address string, roles map[string]any, args ...string) *host {
	t.Helper()
	h := &host{t: t, role: role, file: file, log: &harness.Log{}, stop: func() {}}
	h.args = append([]string{role, "--enrolment", file, "--data", filepath.Join(t.TempDir(), "data"),
		"--listen", address, "--config", harness.Config(t, map[string]any{"roles": roles})}, args...)
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Logf("log of the %s's host:\n%s", role, h.log)
		}
	})
	h.start()
	return h
}

func (h *host) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, harness.Bin(h.t, "colophond"), h.args...)
	cmd.Stderr = h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.stop = func() { cancel(); cmd.Wait() }
	if line, _ := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "ready") {
		h.t.Fatalf("the %s's host did not start: %q\n%s", h.role, line, h.log)
	}
}

// TestReloadWithOtherHosts: a SIGHUP that changes nothing for a role leaves it alone, also if it asks roles of other hosts.
func TestReloadWithOtherHosts(t *testing.T) {
	needsRoot(t)
	manager := listenNotices(t)
	p := harness.Start(t, "--config", harness.Config(t, map[string]any{"roles": map[string]any{"builder": "127.0.0.1:1"}}))
	manager.next("READY=1")
	before := p.Role("attestor")
	p.Signal(syscall.SIGHUP)
	manager.next("RELOADING=1\nMONOTONIC_USEC=")
	manager.next("READY=1")
	if now := p.Role("attestor"); now != before {
		t.Errorf("the attestor started anew, and broke off its releases: it was process %d, and is %d", before, now)
	}
}
