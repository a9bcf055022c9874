package kubetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/colophon-build/colophon/platform/registry"
)

// Registries of the cluster, which are Colophon's. The node, pods and the test itself reach them by
// HTTPS. They are one process, the part RegistryServer.
const (
	Registry        = apiAddress + ":5000" // everybody may pull
	PrivateRegistry = apiAddress + ":5001" // only who logs in with PullSecret may pull
)

// PullSecret is the content of a Secret (.dockerconfigjson) with which PrivateRegistry lets pull.
const PullSecret = `{"auths": {"` + PrivateRegistry + `": {"username": "puller", "password": "` + pullToken + `"}}}`

const pullToken = "a token to pull"

// pusher may push to the registries.
var pusher = authn.Basic{Username: "test", Password: "a token of the test"}

// serving says to a process of the test binary that it is the registries: the cluster's directory.
const serving = "COLOPHON_KUBETEST_REGISTRY"

// control is where the test tells the registries what to do, and asks what they were asked.
const control = "127.0.0.1:5009"

// startRegistry starts the registries. Their certificate is its own authority.
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
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c.CertificateAuthority = c.write(t, "registry.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	c.write(t, "registry.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
	for _, address := range []string{Registry, PrivateRegistry} {
		hosts := filepath.Join(c.dir, "hosts", address)
		if err := os.MkdirAll(hosts, 0o755); err != nil {
			t.Fatal(err)
		}
		c.write(t, "hosts/"+address+"/hosts.toml", "server = \"https://"+address+"\"\n[host.\"https://"+address+"\"]\n  ca = \""+c.CertificateAuthority+"\"\n")
	}
	login := `": {"username": "` + pusher.Username + `", "password": "` + pusher.Password + `"}`
	c.write(t, "config.json", `{"auths": {"`+Registry+login+`, "`+PrivateRegistry+login+`}}`)
	p := &process{name: RegistryServer, args: []string{"/proc/self/exe"}, env: []string{serving + "=" + c.dir}, log: filepath.Join(c.dir, "registry.log")}
	c.parts[p.name] = p
	p.start(t)
	c.waitRegistry(t)
}

// waitRegistry waits until the registries answer.
func (c *Cluster) waitRegistry(t testing.TB) {
	t.Helper()
	c.Eventually(t, "the registries answer", func() bool {
		_, err := c.tellRegistry("requests", "")
		return err == nil
	})
}

// RegistryDelay makes the registries wait before each answer.
func (c *Cluster) RegistryDelay(t testing.TB, d time.Duration) {
	t.Helper()
	if _, err := c.tellRegistry("delay", d.String()); err != nil {
		t.Fatal(err)
	}
}

// RegistryRequests returns the requests to the registries since they started, each as METHOD PATH.
func (c *Cluster) RegistryRequests(t testing.TB) []string {
	t.Helper()
	text, err := c.tellRegistry("requests", "")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(text, "\n")
}

func (c *Cluster) tellRegistry(what, value string) (string, error) {
	resp, err := http.PostForm("http://"+control+"/"+what, url.Values{"value": {value}})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}

// door is in front of the registries: it counts requests and lets them wait.
type door struct {
	mu       sync.Mutex
	delay    time.Duration
	requests bytes.Buffer
}

func (d *door) to(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		fmt.Fprintf(&d.requests, "%s %s\n", r.Method, r.URL.Path)
		delay := d.delay
		d.mu.Unlock()
		time.Sleep(delay)
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP obeys the test.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.URL.Path {
	case "/delay":
		d.delay, _ = time.ParseDuration(r.FormValue("value"))
	case "/requests":
		_, _ = w.Write(d.requests.Bytes())
	}
}

// serveRegistries is the part RegistryServer. It returns when a registry cannot serve.
func serveRegistries(dir string) error {
	d, failed := &door{}, make(chan error, 3)
	for address, anonymous := range map[string]bool{Registry: true, PrivateRegistry: false} {
		r, err := registry.New(registry.Config{
			URL: "https://" + address, Dir: filepath.Join(dir, "registry", address), AnonymousPull: anonymous, Mutable: []string{"mutable/*"},
			Authorize: func(token string) (string, registry.Role) {
				switch token {
				case pusher.Password:
					return pusher.Username, registry.Push
				case pullToken:
					return "puller", registry.Pull
				}
				return "", registry.Nobody
			},
		})
		if err != nil {
			return err
		}
		go func() {
			srv := &http.Server{Addr: address, Handler: d.to(r), ReadHeaderTimeout: 10 * time.Second}
			failed <- srv.ListenAndServeTLS(filepath.Join(dir, "registry.pem"), filepath.Join(dir, "registry.key"))
		}()
	}
	go func() {
		failed <- (&http.Server{Addr: control, Handler: d, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe()
	}()
	return <-failed
}

// DockerConfig is a directory whose config.json lets clients push to the registry.
func (c *Cluster) DockerConfig() string { return c.dir }

// Push puts an image into the registry under NAME:TAG, and returns it by digest.
func (c *Cluster) Push(t testing.TB, ref string, image v1.Image) string {
	t.Helper()
	return c.PushTo(t, Registry, ref, image)
}

// PushTo puts an image into a registry under NAME:TAG, and returns it by digest.
func (c *Cluster) PushTo(t testing.TB, registry, ref string, image v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(registry + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image, remote.WithAuth(&pusher), remote.WithTransport(c.transport(t))); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.Context().Digest(digest.String()).String()
}

// transport returns one that trusts the registries, for all calls of a test process.
func (c *Cluster) transport(t testing.TB) http.RoundTripper {
	t.Helper()
	c.pushing.Do(func() {
		pool := x509.NewCertPool()
		if raw, err := os.ReadFile(c.CertificateAuthority); err == nil && pool.AppendCertsFromPEM(raw) {
			c.toRegistry = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16}
		}
	})
	if c.toRegistry == nil {
		t.Fatal("the authority of the registries cannot be read")
	}
	return c.toRegistry
}
