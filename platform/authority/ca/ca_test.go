package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	ct "github.com/google/certificate-transparency-go"
	"github.com/sigstore/sigstore-go/pkg/sign"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
)

// token signs claims as an issuer would.
func token(t testing.TB, key *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"aud": "sigstore", "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix()}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// provider starts an outside OIDC issuer and returns its URL and key.
func provider(t testing.TB, l net.Listener) (url string, key *ecdsa.PrivateKey) {
	t.Helper()
	key = newKey(t)
	mux := http.NewServeMux()
	srv := httptest.NewUnstartedServer(mux)
	if l != nil {
		srv.Listener.Close()
		srv.Listener = l
	}
	srv.Start()
	t.Cleanup(srv.Close)
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
		})
	}
	answer("/.well-known/openid-configuration", map[string]any{
		"issuer": srv.URL, "jwks_uri": srv.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
	})
	answer("/keys", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	return srv.URL, key
}

func someSCT(context.Context, []*x509.Certificate) (*ct.SignedCertificateTimestamp, error) {
	return &ct.SignedCertificateTimestamp{Timestamp: 1, Signature: ct.DigitallySigned{Signature: []byte{1}}}, nil
}

// platform serves a certificate authority; own is the key of the platform's issuer.
func platform(t testing.TB, outside string, change ...func(*Config)) (url string, own *ecdsa.PrivateKey) {
	t.Helper()
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	own = newKey(t)
	cfg := Config{Dir: t.TempDir(), URL: srv.URL, TokenKey: own.Public(), AddPreChain: someSCT,
		Outside: []byte(strings.ReplaceAll(outside, "PLATFORM", srv.URL))}
	for _, c := range change {
		c(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Register(mux)
	return srv.URL, own
}

func certify(t testing.TB, url, jwt string) (*x509.Certificate, error) {
	t.Helper()
	pair, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := sign.NewFulcio(&sign.FulcioOptions{BaseURL: url}).GetCertificate(t.Context(), pair, &sign.CertificateProviderOptions{IDToken: jwt})
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, nil
}

func buildClaims(url string) map[string]any {
	return map[string]any{
		"iss": url, "sub": url + "/builders/buildkit/v1", "builder_id": url + "/builders/buildkit/v1",
		"builder_digest": strings.Repeat("b", 40), "runner_environment": "self-hosted",
		"source_uri": "https://git.example.com/team/app", "source_digest": strings.Repeat("a", 40), "source_ref": "refs/tags/v1.2.0",
		"build_trigger": "release", "invocation_uri": url + "/api/v1/releases/1", "parameters_digest": "sha256:" + strings.Repeat("c", 64),
	}
}

func extensions(t testing.TB, cert *x509.Certificate) map[int]string {
	t.Helper()
	got := map[int]string{}
	for _, e := range cert.Extensions {
		if n := len(e.Id); n == 9 && strings.HasPrefix(e.Id.String(), "1.3.6.1.4.1.57264.1.") && e.Id[n-1] >= 8 {
			var v string
			if rest, err := asn1.UnmarshalWithParams(e.Value, &v, "utf8"); err != nil || len(rest) > 0 {
				t.Fatal(e.Id, err)
			}
			got[e.Id[n-1]] = v
		}
	}
	return got
}

func TestOwnTokenBecomesACertificate(t *testing.T) {
	url, own := platform(t, "")
	cert, err := certify(t, url, token(t, own, buildClaims(url)))
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.URIs) != 1 || cert.URIs[0].String() != url+"/builders/buildkit/v1" {
		t.Errorf("got subject %v", cert.URIs)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != 10*time.Minute {
		t.Errorf("got a life of %s, want 10 minutes", life)
	}
	want := map[int]string{
		8: url, 9: url + "/builders/buildkit/v1", 10: strings.Repeat("b", 40), 11: "self-hosted",
		12: "https://git.example.com/team/app", 13: strings.Repeat("a", 40), 14: "refs/tags/v1.2.0",
		19: "sha256:" + strings.Repeat("c", 64), 20: "release", 21: url + "/api/v1/releases/1", 24: url + "/builders/buildkit/v1",
	}
	if got := extensions(t, cert); !maps.Equal(got, want) {
		t.Errorf("got extensions %v, want %v", got, want)
	}
	if !strings.Contains(oids(cert), "1.3.6.1.4.1.11129.2.4.2") || strings.Contains(oids(cert), "1.3.6.1.4.1.11129.2.4.3") {
		t.Errorf("got extensions %s, want an SCT and no poison", oids(cert))
	}
}

func oids(c *x509.Certificate) string {
	var all []string
	for _, e := range c.Extensions {
		all = append(all, e.Id.String())
	}
	return strings.Join(all, " ")
}

func TestBadOwnTokensAreRefused(t *testing.T) {
	url, own := platform(t, "")
	for name, c := range map[string]struct {
		key   *ecdsa.PrivateKey
		spoil func(map[string]any)
	}{
		"another key":      {newKey(t), func(map[string]any) {}},
		"another audience": {own, func(m map[string]any) { m["aud"] = "elsewhere" }},
		"expired":          {own, func(m map[string]any) { m["exp"] = time.Now().Add(-time.Minute).Unix() }},
		"claim missing":    {own, func(m map[string]any) { delete(m, "source_digest") }},
		"builder missing":  {own, func(m map[string]any) { delete(m, "builder_id") }},
		"builder elsewhere": {own, func(m map[string]any) {
			m["builder_id"] = "https://elsewhere.example/builders/x"
		}},
		"unknown issuer": {own, func(m map[string]any) { m["iss"] = "https://elsewhere.example" }},
	} {
		claims := buildClaims(url)
		c.spoil(claims)
		if _, err := certify(t, url, token(t, c.key, claims)); err == nil {
			t.Errorf("%s: got a certificate", name)
		}
	}
	none := strings.Join([]string{"eyJhbGciOiJub25lIn0", strings.Split(token(t, own, buildClaims(url)), ".")[1], ""}, ".")
	if _, err := certify(t, url, none); err == nil {
		t.Error("an unsigned token got a certificate")
	}
}

// The attack: somebody who controls an accepted outside issuer, or an account
// there, wants a certificate that reads like one of the platform's builders.
func TestOutsideIssuersCannotSpeakForThePlatform(t *testing.T) {
	issuer, key := provider(t, nil)
	outside := func(kind, more, metadata string) string {
		return `{"OIDCIssuers": {"` + issuer + `": {"IssuerURL": "` + issuer + `", "ClientID": "sigstore", "Type": "` + kind + `"` + more + `}}` + metadata + `}`
	}
	uri := outside("uri", `, "SubjectDomain": "http://127.0.0.1"`, "")
	ci := outside("ci-provider", `, "CIProvider": "x"`, `, "CIIssuerMetadata": {"x": {"SubjectAlternativeNameTemplate": "{{ .who }}", "ExtensionTemplates": {"BuildSignerURI": "job"}}}`)
	email := outside("email", `, "IssuerClaim": "$.upstream"`, "")
	for name, c := range map[string]struct {
		config         string
		honest, attack map[string]any
	}{
		"uri subject": {uri,
			map[string]any{"sub": "http://127.0.0.1/somebody"},
			map[string]any{"sub": "PLATFORM/builders/buildkit/v1"}},
		"uri subject, other case": {uri,
			map[string]any{"sub": "http://127.0.0.1/somebody"},
			map[string]any{"sub": "PLATFORM/BUILDERS/buildkit/v1"}},
		"uri subject, escaped": {uri,
			map[string]any{"sub": "http://127.0.0.1/somebody"},
			map[string]any{"sub": "PLATFORM/%62uilders/buildkit/v1"}},
		"template subject": {ci,
			map[string]any{"sub": "a", "who": "https://ci.example/somebody", "job": "https://ci.example/job"},
			map[string]any{"sub": "a", "who": "PLATFORM/builders/buildkit/v1", "job": "https://ci.example/job"}},
		"template build signer": {ci,
			map[string]any{"sub": "a", "who": "https://ci.example/somebody", "job": "https://ci.example/job"},
			map[string]any{"sub": "a", "who": "https://ci.example/somebody", "job": "PLATFORM/builders/buildkit/v1"}},
		"issuer by claim": {email,
			map[string]any{"sub": "a", "email": "a@example.com", "email_verified": true, "upstream": "https://login.example"},
			map[string]any{"sub": "a", "email": "a@example.com", "email_verified": true, "upstream": "PLATFORM"}},
		"issuer by claim, with a slash": {email,
			map[string]any{"sub": "a", "email": "a@example.com", "email_verified": true, "upstream": "https://login.example"},
			map[string]any{"sub": "a", "email": "a@example.com", "email_verified": true, "upstream": "PLATFORM/"}},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := platform(t, c.config)
			sign := func(claims map[string]any) string {
				all := map[string]any{"iss": issuer}
				for k, v := range claims {
					if s, ok := v.(string); ok {
						v = strings.ReplaceAll(s, "PLATFORM", url)
					}
					all[k] = v
				}
				return token(t, key, all)
			}
			// Without this, the attack could fail for another reason than the guard.
			if _, err := certify(t, url, sign(c.honest)); err != nil {
				t.Fatalf("an honest token was refused: %v", err)
			}
			if cert, err := certify(t, url, sign(c.attack)); err == nil {
				t.Errorf("got a certificate for %v %v, extensions %v", cert.URIs, cert.EmailAddresses, extensions(t, cert))
			}
		})
	}
	t.Run("token of the platform from an outside key", func(t *testing.T) {
		url, _ := platform(t, uri)
		if _, err := certify(t, url, token(t, key, buildClaims(url))); err == nil {
			t.Error("got a certificate")
		}
	})
}

func TestOutsideIssuerMayComeUpLater(t *testing.T) {
	address := freeport.Address(t)
	issuer := "http://" + address
	var url string
	var own *ecdsa.PrivateKey
	await.Quick(t, "the start with issuers out of reach", 3*time.Second, func() {
		url, own = platform(t, "oidc-issuers:\n  "+issuer+":\n    issuer-url: "+issuer+"\n    client-id: sigstore\n    type: email\n"+
			// Reserved for documentation (RFC 5737): nothing answers, packets vanish.
			"  https://192.0.2.1:\n    issuer-url: https://192.0.2.1\n    client-id: sigstore\n    type: email\n")
	})
	if _, err := certify(t, url, token(t, own, buildClaims(url))); err != nil {
		t.Errorf("the platform's own builds suffer: %v", err)
	}
	claims := map[string]any{"iss": issuer, "sub": "a", "email": "a@example.com", "email_verified": true}
	if _, err := certify(t, url, token(t, own, claims)); err == nil {
		t.Error("a token of an issuer out of reach got a certificate")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_, key := provider(t, l)
	cert, err := certify(t, url, token(t, key, claims))
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.EmailAddresses) != 1 || cert.EmailAddresses[0] != "a@example.com" {
		t.Errorf("got subject %v", cert.EmailAddresses)
	}
}

func TestBadConfigurationIsRefused(t *testing.T) {
	const own = "http://127.0.0.1:8080"
	issuer := func(url, more string) string {
		return `{"OIDCIssuers": {"` + url + `": {"IssuerURL": "` + url + `", ` + more + `}}}`
	}
	for name, outside := range map[string]string{
		"ourselves":             issuer(own, `"ClientID": "sigstore", "Type": "email"`),
		"ourselves, slash":      issuer(own+"/", `"ClientID": "sigstore", "Type": "email"`),
		"ourselves by pattern":  `{"MetaIssuers": {"http://*.0.0.1:8080": {"ClientID": "sigstore", "Type": "kubernetes"}}}`,
		"plain http":            issuer("http://login.example", `"ClientID": "sigstore", "Type": "email"`),
		"no audience":           issuer("https://login.example", `"Type": "email"`),
		"unknown type":          issuer("https://login.example", `"ClientID": "sigstore", "Type": "emial"`),
		"unknown member":        issuer("https://login.example", `"ClientID": "sigstore", "Type": "email", "Tpye": "x"`),
		"uri of somebody else":  issuer("https://login.example.com", `"ClientID": "sigstore", "Type": "uri", "SubjectDomain": "https://example.org"`),
		"uri under co.uk":       issuer("https://a.co.uk", `"ClientID": "sigstore", "Type": "uri", "SubjectDomain": "https://b.co.uk"`),
		"provider missing":      issuer("https://login.example", `"ClientID": "sigstore", "Type": "ci-provider", "CIProvider": "x"`),
		"our provider":          `{"CIIssuerMetadata": {"colophon": {"SubjectAlternativeNameTemplate": "x"}}}`,
		"template":              `{"CIIssuerMetadata": {"x": {"SubjectAlternativeNameTemplate": "{{ .x"}}}`,
		"url and name disagree": `{"OIDCIssuers": {"https://a.example": {"IssuerURL": "https://b.example", "ClientID": "sigstore", "Type": "email"}}}`,
		"not a configuration":   `{`,
		"yaml, unknown member":  "oidc-isuers: {}",
	} {
		_, err := New(Config{Dir: t.TempDir(), URL: own, TokenKey: newKey(t).Public(), AddPreChain: someSCT, Outside: []byte(outside)})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// A configuration as a platform team would write it.
	if _, err := New(Config{Dir: t.TempDir(), URL: own, TokenKey: newKey(t).Public(), AddPreChain: someSCT, Outside: []byte(`{"OIDCIssuers": {
		"https://token.actions.githubusercontent.com": {"IssuerURL": "https://token.actions.githubusercontent.com", "ClientID": "sigstore", "Type": "github-workflow"},
		"https://gitlab.com": {"IssuerURL": "https://gitlab.com", "ClientID": "sigstore", "Type": "gitlab-pipeline"},
		"https://accounts.google.com": {"IssuerURL": "https://accounts.google.com", "ClientID": "sigstore", "Type": "email"},
		"https://kubernetes.default.svc": {"IssuerURL": "https://kubernetes.default.svc", "ClientID": "sigstore", "Type": "kubernetes"}},
		"MetaIssuers": {"https://oidc.eks.*.amazonaws.com/id/*": {"ClientID": "sigstore", "Type": "kubernetes"}}}`)}); err != nil {
		t.Error(err)
	}
}

func TestNoCertificateWithoutSCT(t *testing.T) {
	url, own := platform(t, "", func(c *Config) {
		c.AddPreChain = func(context.Context, []*x509.Certificate) (*ct.SignedCertificateTimestamp, error) {
			return nil, errors.New("disk full")
		}
	})
	if _, err := certify(t, url, token(t, own, buildClaims(url))); err == nil {
		t.Error("got a certificate")
	}
}

func TestReadsAndRestart(t *testing.T) {
	dir := t.TempDir()
	var bundles []string
	for range 2 {
		url, _ := platform(t, "", func(c *Config) { c.Dir = dir })
		bundles = append(bundles, read(t, url+"/api/v2/trustBundle", 200))
		if cfg := read(t, url+"/api/v2/configuration", 200); !strings.Contains(cfg, url) {
			t.Errorf("got configuration %s without the platform's issuer", cfg)
		}
		read(t, url+"/api/v2/signingCert", 405)
	}
	if bundles[0] != bundles[1] || strings.Count(bundles[0], "BEGIN CERTIFICATE") != 2 {
		t.Errorf("got trust bundles %s", bundles)
	}
	if err := os.Remove(dir + "/root.key"); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir, URL: "http://127.0.0.1:1", TokenKey: newKey(t).Public(), AddPreChain: someSCT}); err == nil {
		t.Error("a lost root was replaced")
	}
}

func read(t testing.TB, url string, want int) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s: got %d, want %d: %s", url, resp.StatusCode, want, body)
	}
	return string(body)
}
