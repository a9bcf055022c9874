package kubetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/colophon-build/colophon/platform/registry"
)

// Registry is the address of the cluster's registry, a Colophon registry from which everybody
// pulls. The node, pods and the test itself reach it, by HTTPS.
const Registry = apiAddress + ":5000"

// pusher may push to the registry.
var pusher = authn.Basic{Username: "test", Password: "a token of the test"}

// startRegistry starts the registry. Its certificate is its own authority.
func (c *Cluster) startRegistry(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry of a test"}, IPAddresses: []net.IP{net.ParseIP(apiAddress)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c.CertificateAuthority = c.write(t, "registry.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	hosts := filepath.Join(c.dir, "hosts", Registry)
	if err := os.MkdirAll(hosts, 0o755); err != nil {
		t.Fatal(err)
	}
	c.write(t, "hosts/"+Registry+"/hosts.toml", "server = \"https://"+Registry+"\"\n[host.\"https://"+Registry+"\"]\n  ca = \""+c.CertificateAuthority+"\"\n")
	r, err := registry.New(registry.Config{
		URL: "https://" + Registry, Dir: filepath.Join(c.dir, "registry"), AnonymousPull: true,
		Authorize: func(token string) (string, registry.Role) {
			if token == pusher.Password {
				return pusher.Username, registry.Push
			}
			return "", registry.Nobody
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", Registry, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = (&http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}).Serve(l) }()
	c.write(t, "config.json", `{"auths": {"`+Registry+`": {"username": "`+pusher.Username+`", "password": "`+pusher.Password+`"}}}`)
}

// DockerConfig is a directory whose config.json lets clients push to the registry.
func (c *Cluster) DockerConfig() string { return c.dir }

// Push puts an image into the registry under NAME:TAG, and returns it by digest.
func (c *Cluster) Push(t testing.TB, ref string, image v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(Registry + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(c.CertificateAuthority)
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatalf("authority of the registry: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	if err := remote.Write(tag, image, remote.WithAuth(&pusher), remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.Context().Digest(digest.String()).String()
}
