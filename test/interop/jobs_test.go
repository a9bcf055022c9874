package interop

import (
	"os"
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
	verify[3] += "-of-another"
	if out, err := p.Colophon(t.Context(), verify...).CombinedOutput(); err == nil {
		t.Errorf("verify with another source is accepted:\n%s", out)
	}
}
