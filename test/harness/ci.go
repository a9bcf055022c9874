package harness

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/colophon-build/colophon/trust"
)

// CI stands for the OIDC issuers of GitHub and GitLab, under their own names: a proxy sends
// what is for them to a server with a certificate that platforms of this test trust. The
// claims are those that GitHub and GitLab document; neither of them was asked.
type CI struct {
	issuer *Issuer
	runner *httptest.Server
	jobs   sync.Map // claims of GitHubJob, by their number
	n      atomic.Int64
}

// The jobs of CI, and what signs there.
const (
	CICommit       = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
	gitHubJob      = "the-job" // what the runner of GitHub wants to be told
	githubWorkflow = "acme/app/.github/workflows/release.yml@refs/tags/v1.2.0"
	gitlabPipeline = "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1.2.0"
	GitHubIdentity = "https://github.com/" + githubWorkflow
	GitLabIdentity = "https://" + gitlabPipeline
)

var ciHosts = []string{"token.actions.githubusercontent.com", "gitlab.com"}

// StartCI runs the issuers, and sets the environment by which platforms find them.
func StartCI(t *testing.T) *CI {
	t.Helper()
	c := &CI{issuer: newIssuer(t)}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
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
	srv := httptest.NewUnstartedServer(c.issuer)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { tunnel(w, r, srv.Listener.Addr().String()) }))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("SSL_CERT_FILE", roots)
	c.runner = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("audience") != "sigstore" || !strings.EqualFold(r.Header.Get("Authorization"), "Bearer "+gitHubJob) {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		claims := map[string]any{"run_id": cmp.Or(r.URL.Query().Get("run"), "9")}
		if job, ok := c.jobs.Load(r.URL.Query().Get("job")); ok {
			maps.Copy(claims, job.(map[string]any))
		}
		json.NewEncoder(w).Encode(map[string]string{"value": c.github(t, claims)})
	}))
	t.Cleanup(c.runner.Close)
	return c
}

// tunnel connects a client to the server that stands for the hosts, and to nothing else.
func tunnel(w http.ResponseWriter, r *http.Request, to string) {
	host, _, _ := strings.Cut(r.Host, ":")
	if r.Method != http.MethodConnect || !slices.Contains(ciHosts, host) {
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

// fulcioJobs is the metadata of GitHub's and GitLab's issuers from the configuration of the
// public Fulcio instance, as JSON (github.com/sigstore/fulcio v1.8.8,
// config/identity/config.yaml, Apache-2.0).
//
//go:embed fulcio-jobs.json
var fulcioJobs []byte

// Config is the configuration of a platform whose certificate authority takes the tokens of
// jobs, and makes the certificates that the public instance makes.
func (c *CI) Config() map[string]any {
	issuer := func(url, provider string) map[string]any {
		return map[string]any{"IssuerURL": url, "ClientID": "sigstore", "Type": "ci-provider", "CIProvider": provider}
	}
	return map[string]any{"fulcio": map[string]any{
		"OIDCIssuers":      map[string]any{trust.GitHubIssuer: issuer(trust.GitHubIssuer, "github-workflow"), trust.GitLabIssuer: issuer(trust.GitLabIssuer, "gitlab-pipeline")},
		"CIIssuerMetadata": json.RawMessage(fulcioJobs),
	}}
}

// GitHub returns the environment of a job of GitHub that may ask for tokens.
func (c *CI) GitHub() map[string]string {
	return map[string]string{"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": c.runner.URL + "/?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": gitHubJob}
}

// GitHubToken returns the token that such a job gets.
func (c *CI) GitHubToken(t testing.TB) string { return c.github(t, map[string]any{"run_id": "9"}) }

// StolenGitHub is the environment of another run of that job, which nobody of the team started.
func (c *CI) StolenGitHub() map[string]string {
	job := c.GitHub()
	job["ACTIONS_ID_TOKEN_REQUEST_URL"] += "&run=10"
	return job
}

// GitHubJob is the environment of a job of GitHub whose token has other claims than that of GitHub.
func (c *CI) GitHubJob(claims map[string]any) map[string]string {
	number := strconv.FormatInt(c.n.Add(1), 10)
	c.jobs.Store(number, claims)
	job := c.GitHub()
	job["ACTIONS_ID_TOKEN_REQUEST_URL"] += "&job=" + number
	return job
}

func (c *CI) github(t testing.TB, claims map[string]any) string {
	all := map[string]any{
		"iss": trust.GitHubIssuer, "sub": "repo:acme/app:ref:refs/tags/v1.2.0", "repository": "acme/app", "repository_id": "7", "repository_owner": "acme", "repository_owner_id": "8",
		"repository_visibility": "public", "ref": "refs/tags/v1.2.0", "sha": CICommit, "workflow": "release", "workflow_ref": githubWorkflow, "workflow_sha": CICommit,
		"job_workflow_ref": githubWorkflow, "job_workflow_sha": CICommit, "event_name": "push", "run_attempt": "1", "runner_environment": "github-hosted",
	}
	maps.Copy(all, claims)
	return c.issuer.Token(t, all)
}

// GitLab returns the environment of a job of GitLab with an id_token.
func (c *CI) GitLab(t testing.TB) map[string]string { return c.GitLabJob(t, nil) }

// GitLabJob is the environment of a job of GitLab whose id_token has other claims than that of GitLab.
func (c *CI) GitLabJob(t testing.TB, claims map[string]any) map[string]string {
	all := map[string]any{
		"iss": trust.GitLabIssuer, "sub": "project_path:acme/app:ref_type:tag:ref:v1.2.0", "project_path": "acme/app", "project_id": "7", "namespace_path": "acme", "namespace_id": "8",
		"project_visibility": "public", "ref": "v1.2.0", "ref_type": "tag", "sha": CICommit, "ci_config_ref_uri": gitlabPipeline, "ci_config_sha": CICommit,
		"pipeline_source": "push", "job_id": "9", "runner_environment": "gitlab-hosted",
	}
	maps.Copy(all, claims)
	return map[string]string{"GITLAB_CI": "true", "CI_RUNNER_ID": "42", "CI_JOB_NAME": "release", "SIGSTORE_ID_TOKEN": c.issuer.Token(t, all)}
}
