// Package issuer is the OpenID Connect issuer of the platform's own workloads. It serves
// discovery and keys over HTTP (OpenID Connect Discovery 1.0, RFC 7517). It issues tokens
// (RFC 7519, ES256) only to the attestor (package peer), never to the public.
package issuer

import (
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/colophon-build/colophon/internal/keys"
)

// Audience is the audience (aud) of the tokens: the certificate authority.
const Audience = "sigstore"

// Life is how long a token is valid: long enough for one request to the certificate
// authority.
const Life = 5 * time.Minute

const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/.well-known/jwks.json"
)

// Config of a Service.
type Config struct {
	Dir string // directory of the key; created at first start
	URL string // the platform's origin, without a trailing slash; the iss of every token
}

// Service issues tokens and publishes the key that verifies them. Safe for concurrent use.
type Service struct {
	url       string
	key       *keys.Key
	signer    jose.Signer
	discovery []byte
	jwks      []byte
}

// New opens the issuer's key, and creates it at the first start.
func New(cfg Config) (*Service, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("issuer URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.Scheme+"://"+u.Host != cfg.URL {
		return nil, fmt.Errorf("issuer URL: got %q, want an origin such as https://colophon.example.com", cfg.URL)
	}
	key, err := keys.Open(cfg.Dir, "issuer")
	if err != nil {
		return nil, err
	}
	s := &Service{url: cfg.URL, key: key}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(jose.ES256), Use: "sig"}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	s.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key.PrivateKey, KeyID: public.KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	if s.jwks, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}); err != nil {
		return nil, err
	}
	s.discovery, err = json.Marshal(map[string]any{
		"issuer":                                cfg.URL,
		"jwks_uri":                              cfg.URL + keysPath,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		"claims_supported":                      []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti"},
		"scopes_supported":                      []string{"openid"},
		"grant_types_supported":                 []string{},
	})
	return s, err
}

// PublicKey returns the key that verifies tokens, for the certificate authority in the
// same process: it need not fetch the key from the platform's URL.
func (s *Service) PublicKey() crypto.PublicKey { return s.key.Public() }

// Register serves discovery and keys.
func (s *Service) Register(mux *http.ServeMux) {
	for path, body := range map[string][]byte{discoveryPath: s.discovery, keysPath: s.jwks} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "max-age=300")
			w.Write(body)
		})
	}
}

// Mint signs a token with claims that the caller knows to be true. It returns an error
// for malformed claims and for claims about another platform.
func (s *Service) Mint(c Claims) (string, error) {
	if err := c.check(s.url); err != nil {
		return "", fmt.Errorf("token refused: %w", err)
	}
	now := time.Now()
	payload, err := json.Marshal(struct {
		Issuer   string `json:"iss"`
		Subject  string `json:"sub"`
		Audience string `json:"aud"`
		Issued   int64  `json:"iat"`
		From     int64  `json:"nbf"`
		Expires  int64  `json:"exp"`
		ID       string `json:"jti"`
		Claims
	}{s.url, c.BuilderID, Audience, now.Unix(), now.Unix(), now.Add(Life).Unix(), rand.Text(), c})
	if err != nil {
		return "", err
	}
	signed, err := s.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// BuilderPrefix returns the prefix of every builder id of the platform at url.
func BuilderPrefix(url string) string { return strings.TrimSuffix(url, "/") + "/builders/" }
