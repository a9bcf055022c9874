package interop

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// A registryClient is a stock client of registries. Its commands are words, in which $R stands
// for the registry's host, $T for the token, $P for where podman and buildah keep images, and
// $U for the login of a client that has no login command.
type registryClient struct {
	name    string
	version string   // command that prints it
	setup   []string // makes what push sends, without the registry
	login   string
	push    []string     // logged in
	pull    []string     // with a fresh home; logged in only if the registry is private
	daemon  func(*shelf) // starts the server that the client needs
}

var registryClients = []registryClient{
	{
		name: "crane", version: "crane version",
		setup: []string{"tar cf layer.tar hello"},
		login: "crane auth login $R -u any --password-stdin",
		push:  []string{"crane append --oci-empty-base -f layer.tar -t $R/crane/app:v1", "crane copy $R/crane/app:v1 $R/crane/copy:v1"},
		pull:  []string{"crane validate --remote $R/crane/app:v1", "crane ls $R/crane/copy"},
	},
	{
		name: "skopeo", version: "skopeo --version",
		setup: []string{"umoci init --layout image", "umoci new --image image:v1"},
		login: "skopeo login --tls-verify=false $R -u any --password-stdin",
		push:  []string{"skopeo copy --dest-tls-verify=false oci:image:v1 docker://$R/skopeo/app:v1", "skopeo copy --src-tls-verify=false --dest-tls-verify=false docker://$R/skopeo/app:v1 docker://$R/skopeo/copy:v1"},
		pull:  []string{"skopeo copy --src-tls-verify=false docker://$R/skopeo/app:v1 oci:pulled:v1", "skopeo list-tags --tls-verify=false docker://$R/skopeo/copy"},
	},
	{
		name: "podman", version: "podman --version",
		setup: []string{"podman $P import layer.tar app"},
		login: "podman $P login --tls-verify=false $R -u any --password-stdin",
		push:  []string{"podman $P push --tls-verify=false app $R/podman/app:v1"},
		pull:  []string{"podman $P pull --tls-verify=false $R/podman/app:v1"},
	},
	{
		name: "buildah", version: "buildah --version",
		setup: []string{"buildah $P from --name work scratch", "buildah $P commit work app"},
		login: "buildah login --tls-verify=false -u any --password-stdin $R",
		push:  []string{"buildah $P push --tls-verify=false app docker://$R/buildah/app:v1"},
		pull:  []string{"buildah $P pull --tls-verify=false $R/buildah/app:v1"},
	},
	{
		name: "docker", version: "docker --version",
		daemon: (*shelf).dockerd,
		setup:  []string{"docker import layer.tar app", "docker tag app $R/docker/app:v1"},
		login:  "docker login $R -u any --password-stdin",
		push:   []string{"docker push $R/docker/app:v1", "docker rmi $R/docker/app:v1 app"},
		pull:   []string{"docker pull $R/docker/app:v1"},
	},
	{
		name: "docker buildx", version: "buildx version",
		setup: []string{"tar cf layer.tar hello"},
		login: "crane auth login $R -u any --password-stdin", // it has none; docker's and crane's file is the same
		push:  []string{"crane append --oci-empty-base -f layer.tar -t $R/buildx/one:v1", "buildx imagetools create -t $R/buildx/app:v1 $R/buildx/one:v1"},
		pull:  []string{"buildx imagetools inspect $R/buildx/app:v1"},
	},
	{
		name: "containerd", version: "ctr --version",
		daemon: (*shelf).containerd,
		setup:  []string{"umoci init --layout image", "umoci new --image image:v1", "tar cf image.tar -C image .", "ctr image import --index-name $R/ctr/app:v1 image.tar"},
		push:   []string{"ctr image push --plain-http --user any:$T $R/ctr/app:v1"},
		pull:   []string{"ctr image pull --plain-http $U $R/ctr/app:v1"},
	},
	{
		name: "regctl", version: "regctl version --format {{.VCSTag}}",
		login: "regctl registry login $R -u any --pass-stdin",
		push:  []string{"regctl artifact put --artifact-type application/x.test -f hello $R/regctl/app:v1", "regctl image copy --referrers $R/regctl/app:v1 $R/regctl/copy:v1"},
		pull:  []string{"regctl artifact get $R/regctl/app:v1", "regctl tag ls $R/regctl/copy", "regctl repo ls $R"},
	},
	{
		name: "oras", version: "oras version",
		login: "oras login --plain-http $R -u any --password-stdin",
		push:  []string{"oras push --plain-http --artifact-type application/x.test $R/oras/app:v1 hello", "oras attach --plain-http --artifact-type application/x.note $R/oras/app:v1 hello"},
		pull:  []string{"oras pull --plain-http -o pulled $R/oras/app:v1", "oras discover --plain-http $R/oras/app:v1", "oras repo ls --plain-http $R"},
	},
	{
		name: "helm", version: "helm version --short",
		setup: []string{"helm create chart", "helm package chart"},
		login: "helm registry login --plain-http $R -u any --password-stdin",
		push:  []string{"helm push --plain-http chart-0.1.0.tgz oci://$R/helm"},
		pull:  []string{"helm pull --plain-http oci://$R/helm/chart --version 0.1.0"},
	},
}

// readToken is a pull-only token.
const readToken = "pull-token-of-this-test"

// TestClients has each client log in, push and pull: at a registry that everybody may read,
// and at one that needs a token for that, too. With a pull-only token, pulls work and pushes fail.
func TestClients(t *testing.T) {
	if os.Getenv("COLOPHON_CLIENTS") == "" {
		t.Skip("NOT ASKED FOR: it needs ten clients, which make clients installs or builds")
	}
	needs.Root(t, "podman, dockerd and containerd")
	for _, c := range registryClients {
		for name, open := range map[string]bool{"open": true, "private": false} {
			t.Run(c.name+"/"+name, func(t *testing.T) { c.try(newShelf(t, open), open) })
		}
	}
}

func (c *registryClient) try(s *shelf, open bool) {
	version := s.ok(c.version)
	s.t.Logf("%s: %s", c.name, version)
	// helm and docker buildx, as they are built here, do not print theirs in full.
	if number := versionNumber.FindString(version); number != "" && number != "0.0.0" {
		page, err := os.ReadFile(filepath.Join(harness.Root(s.t), "docs", "registry.md"))
		if want := c.name + " " + number; err != nil || !strings.Contains(string(page), want) {
			s.t.Errorf("docs/registry.md does not have %s: %v", want, err)
		}
	}
	if c.daemon != nil {
		c.daemon(s)
	}
	for _, line := range c.setup {
		s.ok(line)
	}
	first := c.push[0]
	if c.login != "" {
		s.fails(first)
	}
	for _, s.token = range []string{"wrong", readToken} {
		if c.login != "" {
			out, err := s.run(c.login)
			if works := s.token == readToken || strings.HasPrefix(c.login, "crane "); (err == nil) != works { // crane only writes a file
				s.t.Errorf("%s with the token %q: got %v, %s", c.login, s.token, err, out)
			}
		}
		s.fails(first)
	}
	s.token = imagesToken
	if c.login != "" {
		s.ok(c.login)
	}
	for _, line := range c.push {
		s.ok(line)
	}
	if s.user = ""; c.login != "" {
		s.logout()
	}
	if !open {
		s.fails(c.pull[0])
		s.token = readToken
		if s.user = "--user any:" + readToken; c.login != "" {
			s.ok(c.login)
		}
	}
	for _, line := range c.pull {
		s.ok(line)
	}
}

// A shelf is a registry and the directory in which a client works.
type shelf struct {
	t        *testing.T
	name     string // of the registry
	requests *counted
	host     string
	dir      string
	token    string
	user     string
	env      []string
}

func newShelf(t *testing.T, open bool) *shelf {
	s := &shelf{t: t, name: "ours", dir: t.TempDir(), token: imagesToken}
	srv := httptest.NewUnstartedServer(nil)
	s.host = srv.Listener.Addr().String()
	r, err := registry.New(registry.Config{
		URL: "http://" + s.host, Dir: t.TempDir(), AnonymousPull: open,
		Authorize: func(token string) (string, registry.Role) {
			switch token {
			case imagesToken:
				return "clients", registry.Push
			case readToken:
				return "readers", registry.Pull
			}
			return "", registry.Nobody
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.requests = &counted{Handler: r}
	srv.Config.Handler = s.requests
	srv.Start()
	t.Cleanup(func() { srv.Close(); r.Close() })
	bin, err := filepath.Abs("../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+s.dir, "DOCKER_CONFIG="+s.dir+"/.docker", "REGISTRY_AUTH_FILE="+s.dir+"/auth.json",
		"DOCKER_HOST=unix://"+s.dir+"/docker.sock", "CONTAINERD_ADDRESS="+s.dir+"/containerd.sock", "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR="+s.dir)
	s.file("hello", "hello")
	s.ok("tar cf layer.tar hello")
	s.noLogin()
	return s
}

// noLogin writes what clients need before a login: regctl must be told of plain HTTP, also on
// loopback, and buildah needs the file that a login writes.
func (s *shelf) noLogin() {
	s.file("auth.json", "{}")
	s.file(".regctl/config.json", `{"hosts": {"`+s.host+`": {"tls": "disabled"}}}`)
}

func (s *shelf) file(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

// logout forgets what each client keeps of a login.
func (s *shelf) logout() {
	for _, name := range []string{"auth.json", ".docker", ".config", ".regctl"} {
		os.RemoveAll(filepath.Join(s.dir, name))
	}
	s.noLogin()
}

// run runs a command; a login gets the token on standard input.
func (s *shelf) run(line string) (string, error) {
	line = strings.NewReplacer("$R", s.host, "$T", s.token, "$U", s.user, "$P", "--root "+s.dir+"/storage --runroot "+s.dir+"/run --storage-driver vfs").Replace(line)
	args := strings.Fields(line)
	ctx, cancel := context.WithTimeout(s.t.Context(), await.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.find(args[0]), args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin = s.dir, s.env, strings.NewReader(s.token)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// find returns the program that the Makefile built, or else the one in PATH.
func (s *shelf) find(program string) string {
	s.t.Helper()
	if path, err := filepath.Abs(filepath.Join("../../out/bin", program)); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		needs.Missing(s.t, "%s: %v; make clients installs it", program, err)
	}
	return path
}

func (s *shelf) ok(line string) string {
	s.t.Helper()
	out, err := s.run(line)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (s *shelf) fails(line string) {
	s.t.Helper()
	if out, err := s.run(line); err == nil {
		s.t.Errorf("%s with the token %q, if it is used: got %s, want an error", line, s.token, out)
	}
}

// daemonOf starts a server of a client, and waits until the command answers.
func (s *shelf) daemonOf(ready string, args ...string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.find(args[0]), args[1:]...)
	cmd.Env, cmd.Dir = s.env, s.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	s.t.Cleanup(func() { <-ended })
	await.True(s.t, args[0]+" is ready", func() bool {
		select {
		case <-ended:
			s.t.Fatalf("%s: ended\n%s", args[0], &out)
		default:
		}
		_, err := s.run(ready)
		return err == nil
	})
}

func (s *shelf) dockerd() {
	s.daemonOf("docker info", "dockerd", "--host", "unix://"+s.dir+"/docker.sock", "--data-root", s.dir+"/docker", "--exec-root", s.dir+"/exec", "--pidfile", s.dir+"/docker.pid",
		"--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs")
}

func (s *shelf) containerd() {
	s.file("containerd.toml", "version = 2\nroot = '"+s.dir+"/containerd'\nstate = '"+s.dir+"/state'\ndisabled_plugins = ['io.containerd.grpc.v1.cri']\n[grpc]\naddress = '"+s.dir+"/containerd.sock'\n")
	s.daemonOf("ctr version", "containerd", "--config", s.dir+"/containerd.toml")
}
