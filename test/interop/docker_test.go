package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestDockerAttestations releases an image with attestations in BuildKit's form, which the tools
// of Docker read and no other tool takes for an image.
func TestDockerAttestations(t *testing.T) {
	p := harness.Start(t)
	p.Trust()
	b := &bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), repo: harness.GoRepo(t)}
	harness.Write(t, b.repo, map[string]string{"Dockerfile": "FROM scratch\nARG TARGETARCH\nENV ARCH=$TARGETARCH\nCOPY go.mod /\n"})
	harness.Commit(t, b.repo, "v2.0.0")
	release := func(t *testing.T, image, ref string, args ...string) (r api.Release) {
		t.Helper()
		cmd := p.Colophon(t.Context(), append([]string{"release", b.repo, "--ref", ref, "--image", image, "--docker-attestations", "--json"}, args...)...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("release: %v\n%s", err, &stderr)
		}
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	source := "file://" + b.repo
	for ref, platforms := range map[string][]string{"v1.0.0": nil, "v2.0.0": {"--platform", "linux/amd64,linux/arm64"}} {
		t.Run(ref, func(t *testing.T) {
			if platforms != nil {
				needs.Root(t, "the sandbox of a Dockerfile")
			}
			repository := p.Addr + "/team/app"
			r := release(t, repository, ref, platforms...)
			image := repository + ":" + ref
			if again := release(t, repository, ref, platforms...); !again.Unchanged || again.Digest != r.Digest {
				t.Errorf("the same release again: got %s, unchanged %t, want %s", again.Digest, again.Unchanged, r.Digest)
			}
			b.inspectDocker(t, image, r, len(platforms) > 0)
			if got := b.ours(t, 0, "verify", image, "--source", source); !strings.Contains(got, "accepted") {
				t.Errorf("verify: %s", got)
			}
			b.ours(t, 3, "verify", image, "--source", "https://git.example.com/other")
			if got := b.ours(t, 0, "inspect", image); !strings.Contains(got, "BuildKit attestation") {
				t.Errorf("inspect shows no unsigned claim:\n%s", got)
			}
			b.pullDocker(t, image, r)
			t.Run("podman and skopeo", func(t *testing.T) { b.pullContainers(t, image) })
		})
	}
	t.Run("without them", func(t *testing.T) { // the tags name the image with them
		out := b.ours(t, 1, "release", b.repo, "--ref", "v1.0.0", "--image", p.Addr+"/team/app")
		if !strings.Contains(out, "with other parameters") {
			t.Errorf("got %s", out)
		}
	})
}

// inspectDocker shows the attestations with the commands of Docker's documentation.
func (b *bench) inspectDocker(t *testing.T, image string, r api.Release, several bool) {
	t.Helper()
	sbom := b.run(t, "buildx", "imagetools", "inspect", image, "--format", "{{json .SBOM}}")
	provenance := b.run(t, "buildx", "imagetools", "inspect", image, "--format", "{{json .Provenance}}")
	platforms := 1
	if several {
		platforms = 2
		for _, shown := range []string{sbom, provenance} {
			for _, platform := range []string{`"linux/amd64"`, `"linux/arm64"`} {
				if !strings.Contains(shown, platform) {
					t.Errorf("imagetools does not show %s: %.400s", platform, shown)
				}
			}
		}
	}
	if n := strings.Count(sbom, `"spdxVersion": "SPDX-2.3"`) + strings.Count(sbom, `"spdxVersion":"SPDX-2.3"`); n != platforms {
		t.Errorf("imagetools shows %d SBOMs, want %d: %.400s", n, platforms, sbom)
	}
	if n := strings.Count(provenance, r.Source.ID); n < 2*platforms || strings.Contains(provenance, strings.TrimPrefix(r.Digest, "sha256:")) {
		t.Errorf("imagetools shows the commit %d times, and perhaps the index itself: %s", n, provenance)
	}
}

// pullDocker copies and reads the image with other clients.
func (b *bench) pullDocker(t *testing.T, image string, r api.Release) {
	t.Helper()
	// Of the whole index, crane takes attestation manifests for images, and counts no layers in them.
	b.run(t, "crane", "validate", "--remote", image, "--platform", "linux/amd64")
	b.run(t, "crane", "pull", "--format", "oci", image, filepath.Join(t.TempDir(), "pulled"))
	config := b.run(t, "crane", "config", "--platform", "linux/amd64", image)
	if !strings.Contains(config, `"amd64"`) {
		t.Errorf("crane config: got %s", config)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	b.ours(t, 0, "copy", image, saved)
	copied := b.Addr + "/copied/" + filepath.Base(t.Name())
	b.ours(t, 0, "copy", image, copied+":v1.0.0")
	for _, place := range []string{saved, copied + ":v1.0.0"} {
		if got := b.ours(t, 0, "verify", place, "--source", "file://"+b.repo); !strings.Contains(got, "accepted") {
			t.Errorf("verify of %s: %s", place, got)
		}
	}
	if got := strings.TrimSpace(b.run(t, "crane", "digest", copied+":v1.0.0")); got != r.Digest {
		t.Errorf("the copy: got %s, want %s", got, r.Digest)
	}
}

// pullContainers pulls the image with the tools of Podman, which choose a platform by the index.
func (b *bench) pullContainers(t *testing.T, image string) {
	dir, err := os.MkdirTemp("", "docker-") // podman wants a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, line := range []string{
		"skopeo copy --all --src-tls-verify=false docker://$I oci:$D/all:v1",
		"skopeo copy --src-tls-verify=false docker://$I oci:$D/one:v1",
		"podman --root $D/root --runroot $D/run --storage-driver vfs pull --tls-verify=false $I",
	} {
		args := strings.Fields(strings.NewReplacer("$I", image, "$D", dir).Replace(line))
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Skip("NOT ASKED FOR: it needs skopeo and podman, which make clients installs")
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "HOME="+b.home)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

// ours runs colophon, which must end with the exit code.
func (b *bench) ours(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := b.Colophon(t.Context(), args...)
	cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+b.docker)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("colophon %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}
