package harness

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is an OIDC issuer that signs whatever a test claims, with RS256.
type Issuer struct {
	URL    string
	signer jose.Signer
	keys   jose.JSONWebKeySet
}

// NewIssuer runs an issuer on a free loopback port.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := newIssuer(t)
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	i.URL = srv.URL
	return i
}

func newIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{keys: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}}}
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, (&jose.SignerOptions{}).WithType("JWT")); err != nil {
		t.Fatal(err)
	}
	return i
}

// ServeHTTP answers what a certificate authority asks an issuer for. An issuer without a URL
// answers under each name by which it is asked.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	url := i.URL
	if url == "" {
		url = "https://" + r.Host
	}
	switch r.URL.Path {
	case "/keys":
		json.NewEncoder(w).Encode(i.keys)
	case "/.well-known/openid-configuration":
		json.NewEncoder(w).Encode(map[string]any{"issuer": url, "jwks_uri": url + "/keys", "authorization_endpoint": url + "/auth", "token_endpoint": url + "/token",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"}})
	default:
		http.NotFound(w, r)
	}
}

// Token returns a token for the audience "sigstore" that is valid for five minutes from now,
// unless the claims say otherwise.
func (i *Issuer) Token(t testing.TB, claims map[string]any) string {
	t.Helper()
	now := time.Now()
	all := map[string]any{"iss": i.URL, "aud": "sigstore", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(all, claims)
	payload, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := i.signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

// ForPeople is the configuration of a platform whose certificate authority takes the tokens
// of an issuer that names people by their mail addresses.
func (i *Issuer) ForPeople() map[string]any {
	return map[string]any{"fulcio": map[string]any{"OIDCIssuers": map[string]any{
		i.URL: map[string]any{"IssuerURL": i.URL, "ClientID": "sigstore", "Type": "email"},
	}}}
}
