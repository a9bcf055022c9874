package interop

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// TestJobs signs and attests in what looks like a job of GitHub and like one of GitLab, and
// verifies by the source of the job.
func TestJobs(t *testing.T) {
	c := harness.StartCI(t)
	p := harness.Start(t, "--config", harness.Config(t, c.Config()))
	p.Trust()
	s := &pieces{&bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), root: filepath.Join(t.TempDir(), "trusted_root.json")}, nil}
	if err := os.WriteFile(s.root, p.Get("/trusted_root.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(t *testing.T, env map[string]string) {
		for name, value := range env {
			t.Setenv(name, value)
		}
	}
	t.Run("GitHub", func(t *testing.T) {
		as(t, c.GitHub())
		s.job(t, "github", harness.GitHubIdentity, trust.GitHubIssuer, "github.com/acme/app")
	})
	t.Run("GitLab", func(t *testing.T) {
		as(t, c.GitLab(t))
		s.job(t, "gitlab", harness.GitLabIdentity, trust.GitLabIssuer, "gitlab.com/acme/app")
	})
}

// job signs an image as a job does, with no flag, and attests its provenance.
func (p *pieces) job(t *testing.T, name, identity, issuer, source string) {
	p.push(t, "jobs/"+name+":v1")
	image := p.Addr + "/jobs/" + name + ":v1"
	signed := p.colophon(t, "sign", image)
	if signed[0].Identity != identity || signed[0].Issuer != issuer {
		t.Errorf("got %+v", signed[0])
	}
	p.colophon(t, "attest", image, "--type", "provenance")
	if again := p.colophon(t, "attest", image, "--type", "provenance"); !again[0].Already {
		t.Error("attested twice")
	}
	stock := []string{"--trusted-root", p.root, "--certificate-identity", identity, "--certificate-oidc-issuer", issuer}
	p.run(t, "cosign", append([]string{"verify", image}, stock...)...)
	p.run(t, "cosign", append([]string{"verify-attestation", "--type", "slsaprovenance1", image}, stock...)...)
	verify := []string{"verify", image, "--source", source, "--ref", "refs/tags/v1.2.0", "--identity", identity, "--issuer", issuer, "--skip-source"}
	if out, err := p.Colophon(t.Context(), verify...).CombinedOutput(); err != nil || !strings.Contains(string(out), "381e42a") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	p.jobFiles(t, identity, issuer, source)
	verify[3] += "-of-another"
	if out, err := p.Colophon(t.Context(), verify...).CombinedOutput(); err == nil {
		t.Errorf("verify with another source is accepted:\n%s", out)
	}
}

// jobFiles attests release files as a job does, and lets stock tools verify them.
func (p *pieces) jobFiles(t *testing.T, identity, issuer, source string) {
	dir := filepath.Join(t.TempDir(), "dist")
	harness.Write(t, dir, map[string]string{"app_linux_amd64": "linux", "app_windows_amd64.exe": "windows"})
	if out, err := exec.CommandContext(t.Context(), "tar", "-czf", filepath.Join(dir, "app.tar.gz"), "-C", dir, "app_linux_amd64").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	made := p.colophon(t, append([]string{"attest", "--files"}, files...)...)
	if len(made) != 10 {
		t.Errorf("got %d bundles, want a signature and a provenance of 3 files, an SBOM and their list: %+v", len(made), made)
	}
	// A run that ended half way, and the same command again, now with all that is there.
	for _, name := range []string{"SHA256SUMS.sigstore.json", "app.tar.gz.intoto.jsonl"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if files, err = filepath.Glob(dir + "/*"); err != nil {
		t.Fatal(err)
	}
	again := p.colophon(t, append([]string{"attest", "--files"}, files...)...)
	for i, a := range again {
		missing := strings.HasSuffix(a.Bundle, "SHA256SUMS.sigstore.json") || strings.HasSuffix(a.Bundle, "app.tar.gz.intoto.jsonl")
		if a.Already == missing || a.Bundle != made[i].Bundle || a.Already && a.LogIndex != made[i].LogIndex {
			t.Errorf("again: got %+v, first %+v", a, made[i])
		}
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "-c", "--strict", "SHA256SUMS")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 4 {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	stock := []string{"--trusted-root", p.root, "--certificate-identity", identity, "--certificate-oidc-issuer", issuer}
	for _, name := range []string{"app_linux_amd64", "SHA256SUMS"} {
		file := filepath.Join(dir, name)
		p.run(t, "cosign", append([]string{"verify-blob", "--bundle", file + ".sigstore.json", file}, stock...)...)
		p.run(t, "cosign", append([]string{"verify-blob-attestation", "--type", "slsaprovenance1", "--bundle", file + ".intoto.jsonl", file}, stock...)...)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	demand := []string{"--source", source, "--tag", "v1.2.0", "--identity", identity, "--issuer", issuer, "--skip-source"}
	for _, what := range []string{dir, filepath.Join(dir, "app.tar.gz"), server.URL + "/app_windows_amd64.exe"} {
		if out, err := p.Colophon(t.Context(), append([]string{"verify", what}, demand...)...).CombinedOutput(); err != nil || !strings.Contains(string(out), "381e42a") {
			t.Errorf("verify %s: %v\n%s", what, err, out)
		}
	}
	harness.Write(t, dir, map[string]string{"app.tar.gz": "another archive"})
	p.refused(t, "is not the list of what is in", "attest", "--files", dir)
	p.refused(t, "rejected", append([]string{"verify", dir}, demand...)...)
	p.refused(t, "rejected", append([]string{"verify", filepath.Join(dir, "app.tar.gz")}, demand...)...)
}
