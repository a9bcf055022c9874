package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/colophon-build/colophon/test/freeport"
	"github.com/colophon-build/colophon/test/needs"
)

// A login and a push by skopeo, the first and again, cost no more requests here than at the
// distribution registry.
func TestRequestsOfSkopeo(t *testing.T) {
	if os.Getenv("COLOPHON_CLIENTS") == "" {
		t.Skip("NOT ASKED FOR: it needs skopeo, umoci and docker-registry, which make clients installs")
	}
	needs.Root(t, "umoci")
	ours, theirs := newShelf(t, true), newShelf(t, true)
	theirs.distribution()
	counts := map[*shelf]map[string]int{}
	for _, s := range []*shelf{ours, theirs} {
		counts[s] = map[string]int{}
		s.ok("umoci init --layout image")
		s.ok("umoci new --image image:v1")
		s.requests.since()
		for _, step := range []struct{ what, line string }{
			{"login", "skopeo login --tls-verify=false $R -u any --password-stdin"},
			{"push", "skopeo copy --dest-tls-verify=false oci:image:v1 docker://$R/team/app:v1"},
			{"push again", "skopeo copy --dest-tls-verify=false oci:image:v1 docker://$R/team/app:v1"},
			{"pull", "skopeo copy --src-tls-verify=false docker://$R/team/app:v1 oci:pulled:v1"},
		} {
			s.ok(step.line)
			requests := s.requests.since()
			counts[s][step.what] = len(requests)
			t.Logf("%s, %s: %d requests\n  %s", s.name, step.what, len(requests), strings.Join(requests, "\n  "))
		}
	}
	for what, n := range counts[ours] {
		if limit := counts[theirs][what]; n > limit {
			t.Errorf("%s: got %d requests, want at most the %d of %s", what, n, limit, theirs.name)
		}
	}
}

// counted is a handler that counts its requests before it passes them on.
type counted struct {
	http.Handler
	mu   sync.Mutex
	seen []string
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.seen = append(c.seen, r.Method+" "+r.URL.Path)
	c.mu.Unlock()
	c.Handler.ServeHTTP(w, r)
}

// since returns the requests since the last call.
func (c *counted) since() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

// distribution replaces the registry by the distribution registry of Debian, which takes
// bearer tokens too. Its issuer gives each login all that it asks for.
func (s *shelf) distribution() {
	address := freeport.Address(s.t)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	issuer := newIssuer(s.t)
	s.requests = &counted{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			issuer.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	srv := httptest.NewServer(s.requests)
	s.t.Cleanup(srv.Close)
	s.host, s.name = strings.TrimPrefix(srv.URL, "http://"), "distribution"
	s.file("issuer.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.certificate})))
	s.file("registry.yml", fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q, relativeurls: true}\nauth: {token: {realm: %q, service: x, issuer: x, rootcertbundle: %s/issuer.pem}}\n",
		s.dir, address, srv.URL+"/token", s.dir))
	// The server would take skopeo's REGISTRY_AUTH_FILE for a setting of its own.
	s.daemonOf("curl -s http://"+address+"/", "env", "-u", "REGISTRY_AUTH_FILE", s.find("docker-registry"), "serve", s.dir+"/registry.yml")
}

// issuer answers requests for tokens (distribution, docs/content/spec/auth/token.md).
type issuer struct {
	t           *testing.T
	signer      jose.Signer
	certificate []byte // DER
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	i := &issuer{t: t}
	if i.certificate, err = x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	chain := []string{base64.StdEncoding.EncodeToString(i.certificate)}
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", chain)); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	claims := struct {
		jwt.Claims
		Access []access `json:"access"`
	}{Claims: jwt.Claims{
		Issuer: "x", Subject: "any", Audience: jwt.Audience{"x"}, ID: "1",
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Minute)), NotBefore: jwt.NewNumericDate(time.Now().Add(-time.Minute)), IssuedAt: jwt.NewNumericDate(time.Now()),
	}, Access: []access{}}
	for _, scope := range r.URL.Query()["scope"] {
		if part := strings.Split(scope, ":"); len(part) == 3 {
			claims.Access = append(claims.Access, access{part[0], part[1], strings.Split(part[2], ",")})
		}
	}
	token, err := jwt.Signed(i.signer).Claims(claims).Serialize()
	if err != nil {
		i.t.Error(err)
	}
	fmt.Fprintf(w, `{"token":%q}`, token)
}
