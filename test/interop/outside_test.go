package interop

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
)

// people is an OIDC issuer such as organisations run, which identifies people by mail
// addresses.
type people struct{ *harness.Issuer }

func newPeople(t *testing.T) *people { return &people{harness.NewIssuer(t)} }

// token writes a token to a file. claims override the default claims.
func (p *people) token(t *testing.T, claims map[string]any) (file string) {
	t.Helper()
	all := map[string]any{"sub": "ada", "email": "ada@example.com", "email_verified": true}
	maps.Copy(all, claims)
	file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(p.Token(t, all)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// asBuilders returns the configuration of another platform's issuer, whose tokens
// identify that platform's builders.
func asBuilders(url string) (issuer, metadata map[string]any) {
	return map[string]any{"IssuerURL": url, "ClientID": "sigstore", "Type": "ci-provider", "CIProvider": "other-colophon"},
		map[string]any{
			"SubjectAlternativeNameTemplate": "builder_id",
			"ExtensionTemplates": map[string]string{
				"BuildSignerURI": "builder_id", "BuildSignerDigest": "builder_digest", "RunnerEnvironment": "runner_environment",
				"SourceRepositoryURI": "source_uri", "SourceRepositoryDigest": "source_digest", "SourceRepositoryRef": "source_ref",
				"BuildConfigDigest": "parameters_digest", "BuildTrigger": "build_trigger", "RunInvocationURI": "invocation_uri",
			},
		}
}

// TestOutsideTrustServices runs platform b with the certificate, log and timestamp
// services of platform a. People of another issuer sign with the services of a.
func TestOutsideTrustServices(t *testing.T) {
	staff := newPeople(t)
	b := harness.Reserve(t)
	issuer, metadata := asBuilders(b.URL)
	a := harness.Start(t, "--config", harness.Config(t, map[string]any{"fulcio": map[string]any{
		"OIDCIssuers": map[string]any{
			b.URL:     issuer,
			staff.URL: map[string]any{"IssuerURL": staff.URL, "ClientID": "sigstore", "Type": "email"},
		},
		"CIIssuerMetadata": map[string]any{"other-colophon": metadata},
	}}))
	dir := t.TempDir()
	root, signing := filepath.Join(dir, "trusted_root.json"), filepath.Join(dir, "signing_config.json")
	for path, file := range map[string]string{"/trusted_root.json": root, "/signing_config.json": signing} {
		if err := os.WriteFile(file, a.Get(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Args = []string{"--config", harness.Config(t, map[string]any{"trustedRoot": root, "signingConfig": signing})}
	b.Up()
	if got := string(b.Get("/trusted_root.json")); got != string(a.Get("/trusted_root.json")) {
		t.Error("b does not serve the trusted root of a unchanged")
	}
	before := a.Checkpoint()

	repo := harness.GoRepo(t)
	b.Trust()
	out, err := b.Colophon(t.Context(), "release", repo, "--ref", "v1.0.0", "--image", b.Addr+"/team/app", "--json").Output()
	if err != nil {
		t.Fatalf("release: %v\n%s", err, b.Log)
	}
	var r api.Release
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	image := b.Addr + "/team/app:v1.0.0"
	if !strings.HasPrefix(r.Builder, b.URL+"/builders/") {
		t.Errorf("builder: got %s, want one of %s", r.Builder, b.URL)
	}
	if after := a.Checkpoint(); after.Size < before.Size+4 {
		t.Errorf("a's log has %d entries after %d, want 4 more", after.Size, before.Size)
	}
	a.LogExtends(before)
	if out, err := b.Colophon(t.Context(), "verify", image, "--source", r.Source.URI).CombinedOutput(); err != nil {
		t.Errorf("verify with b's trust document: %v\n%s", err, out)
	}
	// A consumer who trusts only a does not trust b's builders.
	a.Trust()
	cmd := a.Colophon(t.Context(), "verify", image, "--source", r.Source.URI)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("verify with a's trust document: %v, want it rejected\n%s", err, out)
	}

	stock := &bench{Platform: b, t: t, home: t.TempDir(), docker: b.DockerConfig(), image: image, digest: r.Digest}
	identity := []string{"--trusted-root", root, "--certificate-identity", r.Builder, "--certificate-oidc-issuer", b.URL}
	stock.run(t, "cosign", append([]string{"verify", image}, identity...)...)
	stock.run(t, "cosign", append([]string{"verify-attestation", "--type", "slsaprovenance1", image}, identity...)...)
	stock.fail(t, "cosign", "verify", image, "--trusted-root", root, "--certificate-identity", r.Builder, "--certificate-oidc-issuer", a.URL)

	t.Run("people sign", func(t *testing.T) { peopleSign(t, stock, staff, root, signing, a.URL) })
}

// peopleSign signs with stock cosign and a token of another issuer.
func peopleSign(t *testing.T, stock *bench, staff *people, root, signing, origin string) {
	stock.run(t, "crane", "copy", stock.image, stock.Addr+"/team/signed:v1")
	image := stock.Addr + "/team/signed@" + stock.digest
	sign := []string{"sign", "--yes", "--signing-config", signing, "--trusted-root", root, "--identity-token"}
	stock.run(t, "cosign", append(sign, staff.token(t, nil), image)...)
	stock.run(t, "cosign", "verify", image, "--trusted-root", root, "--certificate-identity", "ada@example.com", "--certificate-oidc-issuer", staff.URL)
	stock.fail(t, "cosign", "verify", image, "--trusted-root", root, "--certificate-identity", "bob@example.com", "--certificate-oidc-issuer", staff.URL)
	for name, claims := range map[string]map[string]any{
		"unverified address": {"email_verified": false},
		"another audience":   {"aud": "elsewhere"},
		"expired":            {"exp": time.Now().Add(-time.Minute).Unix()},
		"the platform":       {"iss": origin},
		"nobody's issuer":    {"iss": staff.URL + "/other"},
	} {
		t.Run(name, func(t *testing.T) {
			stock.fail(t, "cosign", append(sign, staff.token(t, claims), image)...)
		})
	}
}
