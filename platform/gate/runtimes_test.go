package gate_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	platformregistry "github.com/colophon-build/colophon/platform/registry"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/test/shop"
)

// dockerd starts a Docker daemon of its own, and returns its address.
func dockerd(t *testing.T, dir string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "dockerd needs root")
	}
	at := "unix://" + dir + "/docker.sock"
	cmd := exec.Command(program(t, "dockerd"), "--host", at, "--data-root", dir+"/docker", "--exec-root", dir+"/exec", "--pidfile", dir+"/docker.pid", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("dockerd: %s", log.Bytes()[max(0, log.Len()-2000):])
		}
	})
	await.True(t, "dockerd answers", func() bool { return exec.Command(program(t, "docker"), "--host", at, "info").Run() == nil })
	return at
}

// TestRuntimes: docker, podman, skopeo and containerd pull an image that can be run and that stock cosign
// signed, and not the one without a signature: from a gate before a registry, and from the registry of a
// platform with a gate of its own.
func TestRuntimes(t *testing.T) {
	dir, short := t.TempDir(), shortDir(t)
	docker, daemon := dockerd(t, dir), newContainerd(t)
	run := func(program_ string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, program(t, program_), args...)
		cmd.Env, cmd.Dir = append(os.Environ(), "HOME="+dir, "DOCKER_CONFIG="+dir, "COSIGN_PASSWORD=", "TUF_ROOT="+dir, "REGISTRY_AUTH_FILE="+filepath.Join(dir, "config.json")), dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("config.json", "{}")
	insecure := write("policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	if out, err := run("cosign2", "generate-key-pair"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	public, err := os.ReadFile(filepath.Join(dir, "cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	signed := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec:\n  unmatched: deny\n  rules:\n    - name: app\n      images: [{glob: \"HOST/team/**\"}]\n      accept:\n        - signature:\n            signer:\n              insecureUnloggedKey:\n                pem: |\n                  " +
		strings.ReplaceAll(strings.TrimSpace(string(public)), "\n", "\n                  ") + "\n"
	anything := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: shop}\nspec: {unmatched: allow, rules: []}\n"

	gated := newScene(t, nil)
	p := prooftest.New(t)
	var reg *platformregistry.Registry
	srv := httptest.NewUnstartedServer(nil)
	own := srv.Listener.Addr().String()
	if reg, err = platformregistry.New(platformregistry.Config{URL: "http://" + own, Dir: t.TempDir(), AnonymousPull: true, Gate: &platformregistry.Gate{}, Log: gated.log.Logger(), Authorize: func(string) (string, platformregistry.Role) { return "test", platformregistry.Push }}); err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = reg
	srv.Start()
	t.Cleanup(srv.Close)
	shop.Use(t, reg.Verdicts(), "first", own, anything, p.Root())

	for _, place := range []struct {
		what, push, pull string // hosts
		use              func()
	}{
		{"a gate", gated.host, strings.TrimPrefix(gated.url, "http://"), func() { gated.use(signed) }},
		{"registry.gate", own, own, func() { shop.Use(t, reg.Verdicts(), "then", own, signed, p.Root()) }},
	} {
		for tag, sign := range map[string]bool{"good": true, "bad": false} {
			image, err := random.Image(2048, 2)
			if err != nil {
				t.Fatal(err)
			}
			pushed := push(t, place.push+"/team/real:"+tag, image)
			if sign {
				if out, err := run("cosign2", "sign", "--yes", "--tlog-upload=false", "--key=cosign.key", "--registry-username=test", "--registry-password=test", "--allow-insecure-registry", pushed); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
			}
		}
		place.use()
		write("registries.conf", "[[registry]]\nlocation = \""+place.pull+"\"\ninsecure = true\n")
		for tag, want := range map[string]bool{"good": true, "bad": false} {
			ref := place.pull + "/team/real:" + tag
			for client, args := range map[string][]string{
				"docker": {"--host", docker, "pull", ref},
				"podman": {"--root", short + "/root", "--runroot", short + "/run", "--storage-driver", "vfs", "pull", "--signature-policy", insecure, "--tls-verify=false", ref},
				"skopeo": {"--policy", insecure, "copy", "--src-tls-verify=false", "docker://" + ref, "oci:" + dir + "/copy-" + tag + place.what[:1]},
				"ctr":    {"-a", filepath.Join(daemon.dir, "sock"), "images", "pull", "--plain-http", "--snapshotter", "native", ref},
			} {
				out, err := run(client, args...)
				if got := err == nil; got != want {
					t.Errorf("%s, %s %s: pulled %v\n%s", place.what, client, tag, got, out)
				}
				if !want && client != "ctr" && !strings.Contains(out, "signature") {
					t.Errorf("%s, %s: the reason is not shown: %s", place.what, client, out)
				}
			}
		}
	}
}

// push pushes an image, and returns it by digest.
func push(t *testing.T, ref string, image v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref)
	if err == nil {
		err = remote.Write(tag, image, remote.WithAuth(&authn.Basic{Username: "test", Password: "test"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.Context().Digest(digest.String()).String()
}
