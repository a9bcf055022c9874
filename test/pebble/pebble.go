// Package pebble runs Pebble, the ACME server that Let's Encrypt made for tests.
package pebble

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
)

// Server is a running Pebble. It certifies every name whose TLS-ALPN-01 challenge is answered
// on loopback.
type Server struct {
	Directory string         // URL
	CAFile    string         // authorities to trust: of the server's own certificate, and of those that it issues
	Roots     *x509.CertPool // the same

	cancel context.CancelFunc
	done   chan struct{}
}

// Start starts the programs pebble and pebble-challtestsrv (a name server that answers every
// question with a loopback address), which are in the directory bin. Pebble looks at port for
// challenges, and its certificates last for validity.
func Start(t testing.TB, bin string, port int, validity time.Duration) *Server {
	t.Helper()
	dir := t.TempDir()
	address, management, dns := freeport.Address(t), freeport.Address(t), freeport.Address(t)
	authority := writeCertificate(t, dir)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": management,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": 1, "tlsPort": port, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "of a test", "validityPeriod": int(validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Directory: "https://" + address + "/dir", CAFile: filepath.Join(dir, "authorities.pem"), cancel: cancel, done: make(chan struct{})}
	names := run(ctx, t, filepath.Join(bin, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-management", freeport.Address(t), "-dnsserver", dns, "-defaultIPv6", "")
	server := run(ctx, t, filepath.Join(bin, "pebble"), "-config", file, "-dnsserver", dns)
	go func() {
		<-names
		<-server
		close(s.done)
	}()
	t.Cleanup(s.Stop)

	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(authority)
	issuing := get(t, s.Roots, "https://"+management+"/roots/0")
	if !s.Roots.AppendCertsFromPEM(issuing) {
		t.Fatalf("pebble's root: got %q", issuing)
	}
	if err := os.WriteFile(s.CAFile, append(authority, issuing...), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Stop ends the server. Nobody listens at its address then.
func (s *Server) Stop() {
	s.cancel()
	<-s.done
}

// run starts a program, and returns a channel that is closed when it has ended.
func run(ctx context.Context, t testing.TB, program string, args ...string) <-chan struct{} {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run make tools", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	return ended
}

// get returns what a server answers that may have just started.
func get(t testing.TB, roots *x509.CertPool, url string) []byte {
	t.Helper()
	client := &http.Client{Timeout: await.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	var body []byte
	await.True(t, url+" is answered", func() bool {
		answer, err := client.Get(url)
		if err != nil && strings.Contains(err.Error(), "x509") {
			t.Fatal(err)
		} else if err != nil {
			return false
		}
		defer answer.Body.Close()
		if body, err = io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", url, answer.Status, err)
		}
		return true
	})
	return body
}

// writeCertificate writes cert.pem, which signed itself and is for 127.0.0.1, and key.pem into
// dir. It returns the certificate.
func writeCertificate(t testing.TB, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	for name, data := range map[string][]byte{"cert.pem": block, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", name, err))
		}
	}
	return block
}
