package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// ci stands for the OIDC issuers of GitHub and GitLab, under their own names: a proxy sends
// what is for them to a server with a certificate that the platform trusts for this test. The
// claims are those that GitHub and GitLab document; neither of them was asked.
type ci struct {
	signer jose.Signer
	keys   jose.JSONWebKeySet
}

var ciHosts = []string{"token.actions.githubusercontent.com", "gitlab.com"}

func startCI(t *testing.T) *ci {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jose.JSONWebKey{Key: key, KeyID: "1", Algorithm: "ES256", Use: "sig"}
	c := &ci{keys: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk.Public()}}}
	if c.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jwk}, nil); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: ciHosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(c.discovery))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tunnel(w, r, srv.Listener.Addr().String()) }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("SSL_CERT_FILE", roots)
	return c
}

// tunnel connects a client to the server that stands for the hosts, and to nothing else.
func tunnel(w http.ResponseWriter, r *http.Request, to string) {
	host, _, _ := strings.Cut(r.Host, ":")
	if r.Method != http.MethodConnect || host != ciHosts[0] && host != ciHosts[1] {
		http.Error(w, "not in this test", http.StatusForbidden)
		return
	}
	up, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, read, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(up, read) // which may have the first bytes already
	io.Copy(down, up)
}

func (c *ci) discovery(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	issuer := "https://" + r.Host
	if r.URL.Path == "/keys" {
		json.NewEncoder(w).Encode(c.keys)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"issuer": issuer, "jwks_uri": issuer + "/keys", "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"ES256"}})
}

func (c *ci) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"aud": "sigstore", "iat": time.Now().Unix(), "nbf": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := c.signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// TestJobs signs and attests in what looks like a job of GitHub and like one of GitLab, and
// verifies by the source of the job.
func TestJobs(t *testing.T) {
	c := startCI(t)
	raw, err := os.ReadFile("testdata/fulcio-jobs.json")
	if err != nil {
		t.Fatal(err)
	}
	issuer := func(url, provider string) map[string]any {
		return map[string]any{"IssuerURL": url, "ClientID": "sigstore", "Type": "ci-provider", "CIProvider": provider}
	}
	p := harness.Start(t, "--config", harness.Config(t, map[string]any{"fulcio": map[string]any{
		"OIDCIssuers":      map[string]any{trust.GitHubIssuer: issuer(trust.GitHubIssuer, "github-workflow"), trust.GitLabIssuer: issuer(trust.GitLabIssuer, "gitlab-pipeline")},
		"CIIssuerMetadata": json.RawMessage(raw),
	}}))
	p.Trust()
	s := &pieces{&bench{Platform: p, t: t, home: t.TempDir(), docker: p.DockerConfig(), root: filepath.Join(t.TempDir(), "trusted_root.json")}, nil}
	if err := os.WriteFile(s.root, p.Get("/trusted_root.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	const commit = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
	t.Run("GitHub", func(t *testing.T) {
		const workflow = "acme/app/.github/workflows/release.yml@refs/tags/v1.2.0"
		token := c.token(t, map[string]any{
			"iss": trust.GitHubIssuer, "sub": "repo:acme/app:ref:refs/tags/v1.2.0", "repository": "acme/app", "repository_id": "7", "repository_owner": "acme", "repository_owner_id": "8",
			"repository_visibility": "public", "ref": "refs/tags/v1.2.0", "sha": commit, "workflow": "release", "workflow_ref": workflow, "workflow_sha": commit,
			"job_workflow_ref": workflow, "job_workflow_sha": commit, "event_name": "push", "run_id": "9", "run_attempt": "1", "runner_environment": "github-hosted",
		})
		runner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("audience") != "sigstore" || r.Header.Get("Authorization") != "Bearer the-job" {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			json.NewEncoder(w).Encode(map[string]string{"value": token})
		}))
		defer runner.Close()
		t.Setenv("GITHUB_ACTIONS", "true")
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", runner.URL+"/?api-version=2.0")
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-job")
		s.job(t, "github", "https://github.com/"+workflow, trust.GitHubIssuer, "github.com/acme/app")
	})
	t.Run("GitLab", func(t *testing.T) {
		const pipeline = "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1.2.0"
		t.Setenv("GITLAB_CI", "true")
		t.Setenv("CI_RUNNER_ID", "42")
		t.Setenv("CI_JOB_NAME", "release")
		t.Setenv("SIGSTORE_ID_TOKEN", c.token(t, map[string]any{
			"iss": trust.GitLabIssuer, "sub": "project_path:acme/app:ref_type:tag:ref:v1.2.0", "project_path": "acme/app", "project_id": "7", "namespace_path": "acme", "namespace_id": "8",
			"project_visibility": "public", "ref": "v1.2.0", "ref_type": "tag", "sha": commit, "ci_config_ref_uri": pipeline, "ci_config_sha": commit,
			"pipeline_source": "push", "job_id": "9", "runner_environment": "gitlab-hosted",
		}))
		s.job(t, "gitlab", "https://"+pipeline, trust.GitLabIssuer, "gitlab.com/acme/app")
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
