package pipeline

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// TestGitLabLogin: what the job writes for a registry is what clients look up for it. No registry but the
// project's gets the token of the job.
func TestGitLabLogin(t *testing.T) {
	_, login, _ := strings.Cut(make1(t, requests()["gitlab"], app())[gitlabFile], `mkdir -p "$HOME/.docker"`)
	login, _, found := strings.Cut(login, "colophon copy")
	if !found {
		t.Fatal("the job does not log in and copy")
	}
	for _, c := range []struct{ image, user string }{
		{"registry.gitlab.com/acme/app", "job"},
		{"registry.example.com:5000/acme/app", "ada"},
		{"docker.io/acme/app", "ada"},
		{"index.docker.io/acme/app", "ada"},
	} {
		home := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", `mkdir -p "$HOME/.docker"`+login)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home, "IMAGE=" + c.image, "CI_REGISTRY=registry.gitlab.com", "CI_REGISTRY_USER=job", "CI_REGISTRY_PASSWORD=token", "REGISTRY_USER=ada", "REGISTRY_PASSWORD=hunter2"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.image, err, out)
		}
		t.Setenv("DOCKER_CONFIG", filepath.Join(home, ".docker"))
		repo, err := name.NewRepository(c.image)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := authn.Resolve(t.Context(), authn.DefaultKeychain, repo)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := authn.Authorization(t.Context(), auth); err != nil || got.Username != c.user {
			t.Errorf("%s: expected the user %q, found %+v (%v)", c.image, c.user, got, err)
		}
	}
}

// TestReleaseWithoutClient: a job without its secret says so, and neither installs nor asks anybody.
func TestReleaseWithoutClient(t *testing.T) {
	dir := t.TempDir()
	for name, text := range make1(t, requests()["colophon-elsewhere"], app()) {
		if err := os.WriteFile(filepath.Join(dir, path.Base(name)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty := filepath.Join(dir, "client.json")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"", empty} {
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "release.sh"), "https://git.example.com/acme/app", "refs/tags/v1")
		cmd.Env = []string{"PATH=/usr/bin:/bin", "COLOPHON_PLATFORM=" + client, "https_proxy=http://127.0.0.1:1"}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "release.sh: COLOPHON_PLATFORM") {
			t.Errorf("client %q: expected an error about COLOPHON_PLATFORM, found %q (%v)", client, out, err)
		}
	}
}
