package kube

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/test/kubetest"
)

// ledger starts an audit ledger beside the cluster, and makes admission require it, with a key from a Secret.
func (s *shop) ledger(t *testing.T) *audit.Ledger {
	t.Helper()
	l, err := audit.Open(t.Context(), audit.Config{Dir: t.TempDir(), Origin: "audit.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	l.Register(mux, func(*http.Request) audit.Access { return audit.Access{} })
	server := s.serve(t, mux)
	t.Cleanup(func() {
		server.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Enrol(t.Context(), records.Writer{Role: "admission", Instance: "prod-a", Key: public}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Kubectl(t, "create", "secret", "generic", "colophon-audit", "-n", helmNamespace, "--from-file="+file)
	s.install(t, "audit.ledger="+server.URL, "audit.keySecret=colophon-audit", "audit.instance=prod-a", "audit.required=true")
	t.Cleanup(func() {
		s.install(t, "audit.ledger=")
		s.settled(t)
		s.Eventually(t, "the replicas that asked the ledger are gone", func() bool { // until they are, they answer
			out, err := s.Try("get", "pods", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "-o", "name")
			return err == nil && len(strings.Fields(out)) == 2
		})
		s.Kubectl(t, "delete", "secret", "colophon-audit", "-n", helmNamespace)
	})
	s.settled(t)
	return l
}

// serve serves over TLS, by the certificate authority that the cluster trusts.
func (s *shop) serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(s.CertificateAuthority, filepath.Join(filepath.Dir(s.CertificateAuthority), "registry.key"))
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(kubetest.Registry)
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: httptest.NewUnstartedServer(h).Config, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}}
	server.StartTLS()
	server.URL = "https://" + listener.Addr().String()
	return server
}

// recorded returns the records of admission about running pods, oldest first.
func recorded(t *testing.T, l *audit.Ledger) (all []*records.Record) {
	t.Helper()
	a, err := l.Answer(t.Context(), records.Filter{Kinds: []records.Kind{records.KindRunning, records.KindEvict}}, 1<<53, records.MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Records {
		_, _, r, err := records.ParseLeaf(a.Records[len(a.Records)-1-i].Leaf)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}
