package kube

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	records "github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/audit"
	"github.com/colophon-build/colophon/test/kubetest"
)

// ledger starts an audit ledger beside the cluster, and makes admission require it. The key and the spool are in
// /dev/shm: a volume emptyDir has the mode 0777, which is no place for a key.
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
	s.install(t, "config.audit.ledger="+server.URL, "config.audit.key=/dev/shm/audit.pem", "config.audit.spool=/dev/shm/audit", "config.audit.instance=prod-a", "config.audit.required=true")
	t.Cleanup(func() {
		s.install(t, "config.audit=null")
		s.settled(t)
	})
	s.Eventually(t, "both replicas have said their key, and the ledger has what counts", func() bool {
		out, _ := s.Try("logs", "-n", helmNamespace, "-l", "app.kubernetes.io/component=admission", "--tail=-1")
		for line := range strings.Lines(out) {
			var said struct {
				Writer string `json:"audit.writers"`
			}
			var w records.Writer
			if json.Unmarshal([]byte(line), &said) != nil || json.Unmarshal([]byte(said.Writer), &w) != nil {
				continue
			}
			if err := l.Enrol(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Try("rollout", "status", "-n", helmNamespace, "deployment/colophon-admission", "--timeout=2s")
		return err == nil
	})
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
