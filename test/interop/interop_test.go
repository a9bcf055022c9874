// Package interop tests the platform with stock clients of other projects, without any
// flag that disables a check.
package interop

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

type bench struct {
	*harness.Platform
	t      *testing.T
	home   string // HOME of the stock clients
	docker string
	repo   string
	image  string // with tag
	digest string
	root   string // trusted_root.json
	config string // signing_config.json
}

// TestStockClients releases an image and runs every client on it.
func TestStockClients(t *testing.T) {
	p := harness.Start(t)
	p.Trust()
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), repo: harness.GoRepo(t), image: p.Addr + "/team/app:v1.0.0"}
	out, err := p.Colophon(t.Context(), "release", b.repo, "--ref", "v1.0.0", "--image", p.Addr+"/team/app", "--json").Output()
	if err != nil {
		t.Fatalf("release: %v", err)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	b.digest = r.Digest
	b.root, b.config = filepath.Join(b.home, "trusted_root.json"), filepath.Join(b.home, "signing_config.json")
	for path, file := range map[string]string{"/trusted_root.json": b.root, "/signing_config.json": b.config} {
		if err := os.WriteFile(file, p.Get(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	identity := []string{"--certificate-identity", r.Builder, "--certificate-oidc-issuer", p.URL}

	t.Run("cosign verify", func(t *testing.T) {
		got := b.run(t, "cosign", append([]string{"verify", "--trusted-root", b.root, "--output", "json", b.image}, identity...)...)
		if !strings.Contains(got, b.digest) {
			t.Errorf("verified claims do not name %s: %s", b.digest, got)
		}
	})
	for _, kind := range []string{"slsaprovenance1", "spdxjson", "spdx", "cyclonedx"} {
		t.Run("cosign verify-attestation "+kind, func(t *testing.T) {
			b.run(t, "cosign", append([]string{"verify-attestation", "--trusted-root", b.root, "--type", kind, b.image}, identity...)...)
		})
	}
	t.Run("cosign verify refuses another identity", func(t *testing.T) {
		b.fail(t, "cosign", "verify", "--trusted-root", b.root, "--certificate-identity", r.Builder+"x", "--certificate-oidc-issuer", p.URL, b.image)
	})
	t.Run("cosign tree", func(t *testing.T) {
		got := b.run(t, "cosign", "tree", b.image)
		if n := strings.Count(got, "sha256:"); n < 4 {
			t.Errorf("tree shows %d digests, want the four attestations:\n%s", n, got)
		}
	})
	t.Run("cosign initialize", b.initialize)
	t.Run("cosign sign and attest", b.signHere)
	t.Run("crane", b.crane)
}

// initialize gets the trust root by TUF, as users of a private deployment do.
func (b *bench) initialize(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(root, b.Get("/tuf/1.root.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run(t, "cosign", "initialize", "--mirror", b.URL+"/tuf", "--root", root)
	b.run(t, "cosign", "verify", "--certificate-identity-regexp", "^"+b.URL+"/builders/", "--certificate-oidc-issuer", b.URL, b.image)
}

// signHere signs with a key, and the platform logs and timestamps the signature.
// Keyless signing by people needs another issuer, which the tests of the CA cover.
func (b *bench) signHere(t *testing.T) {
	dir := t.TempDir()
	b.run(t, "crane", "copy", b.image, b.Addr+"/team/copy:v1")
	image := b.Addr + "/team/copy@" + b.digest
	cmd := b.command(t, "cosign", "generate-key-pair")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("generate-key-pair: %v\n%s", err, out)
	}
	key, pub := filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
	predicate := filepath.Join(dir, "predicate.json")
	if err := os.WriteFile(predicate, []byte(`{"passed":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run(t, "cosign", "sign", "--yes", "--key", key, "--signing-config", b.config, "--trusted-root", b.root, image)
	b.run(t, "cosign", "attest", "--yes", "--key", key, "--signing-config", b.config, "--trusted-root", b.root, "--type", "https://example.com/test/v1", "--predicate", predicate, image)
	b.run(t, "cosign", "verify", "--key", pub, "--trusted-root", b.root, image)
	b.run(t, "cosign", "verify-attestation", "--key", pub, "--trusted-root", b.root, "--type", "https://example.com/test/v1", image)
}

func (b *bench) crane(t *testing.T) {
	if got := strings.TrimSpace(b.run(t, "crane", "digest", b.image)); got != b.digest {
		t.Errorf("crane digest: got %s, want %s", got, b.digest)
	}
	b.run(t, "crane", "validate", "--remote", b.image)
	if got := b.run(t, "crane", "ls", b.Addr+"/team/app"); !strings.Contains(got, "v1.0.0\n") {
		t.Errorf("crane ls: got %q, want v1.0.0 among them", got)
	}
	// Pushing another image to an existing tag is refused, and the tag stays.
	other := b.Addr + "/team/app:v1.0.0"
	if out := b.fail(t, "crane", "mutate", b.image, "--entrypoint", "/bin/false", "-t", other); !strings.Contains(out, "409") && !strings.Contains(out, "immutable") {
		t.Errorf("overwriting a tag: the error gives no reason: %s", out)
	}
	if got := strings.TrimSpace(b.run(t, "crane", "digest", b.image)); got != b.digest {
		t.Errorf("the tag moved: got %s, want %s", got, b.digest)
	}
}

func (b *bench) command(t *testing.T, name string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, harness.Bin(t, name), args...)
	cmd.Env = append(os.Environ(), "HOME="+b.home, "DOCKER_CONFIG="+b.docker, "COSIGN_PASSWORD=", "TUF_ROOT="+filepath.Join(b.home, "tuf"))
	return cmd
}

func (b *bench) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := b.command(t, name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out) + stderr.String()
}

func (b *bench) fail(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := b.command(t, name, args...).CombinedOutput()
	if err == nil {
		t.Fatalf("%s %s: succeeded, and must not\n%s", name, strings.Join(args, " "), out)
	}
	return string(out)
}
