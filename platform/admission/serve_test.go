package admission_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/admission"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/freeport"
)

// served is colophond admission with policies, trust and certificate in files.
type served struct {
	*scene
	dir            string
	listen, health string
	stop           func() error
	roots          *x509.CertPool
}

func newServed(t *testing.T) *served {
	s := &served{scene: newScene(t), dir: t.TempDir(), listen: freeport.Address(t), health: freeport.Address(t)}
	for _, d := range []string{"policies", "trust"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.write("trust/root.json", string(s.p.Document()))
	s.write("policies/a.yaml", strings.ReplaceAll(rules, "HOST", s.host))
	s.certify("first")
	s.write("admission.yaml", `
listen: `+s.listen+`
health: `+s.health+`
policies: `+s.dir+`/policies
trust: `+s.dir+`/trust
tls: {certificate: `+s.dir+`/tls.crt, key: `+s.dir+`/tls.key}
loopbackRegistries: true
`)
	settings, err := admission.ReadSettings(filepath.Join(s.dir, "admission.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.stop = await.Background(t, func(ctx context.Context) error {
		return admission.Serve(ctx, settings, slog.New(slog.NewJSONHandler(io.Discard, nil)))
	})
	return s
}

func (s *served) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// certify writes a new certificate, and trusts it.
func (s *served) certify(name string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	s.write("tls.crt", string(chain))
	s.write("tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM(chain)
}

// call posts an object to the webhook over TLS, and returns the answer's text; or the error.
func (s *served) call(object string) string {
	client := &http.Client{Timeout: await.Patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: s.roots}}}
	resp, err := client.Post("https://"+s.listen+admission.PathValidate+"?timeout=30s", "application/json", bytes.NewReader(s.body(object)))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (s *served) get(path string) string {
	resp, err := http.Get("http://" + s.health + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.Status + " " + string(text)
}

// eventually waits until do returns a text with the words.
func (s *served) eventually(what string, do func() string, words string) {
	s.t.Helper()
	text := ""
	defer func() {
		if s.t.Failed() {
			s.t.Logf("%s: got %s, want %q", what, text, words)
		}
	}()
	await.True(s.t, what, func() bool {
		text = do()
		return strings.Contains(text, words)
	})
}

// TestServe: from files, over TLS: what counts changes with the files; what is broken changes
// nothing, and readiness says so; the certificate changes; the end is announced first.
func TestServe(t *testing.T) {
	t.Parallel() // it waits until files are read again, and for the end
	s := newServed(t)
	ready := func() string { return s.get("/readyz") }
	good := func() string { return s.call(s.goodPod()) }
	bad := func() string { return s.call(s.badPod()) }
	s.eventually("ready", ready, "200 OK ok\n")
	s.eventually("good", good, `"allowed":true`)
	s.eventually("bad", bad, `"allowed":false`)

	policy := strings.ReplaceAll(rules, "HOST", s.host)
	s.write("policies/a.yaml", strings.Replace(policy, "glob:", "globb:", 1))
	s.eventually("a broken policy", ready, `a.yaml: policy: line 8, column`)
	if text := ready(); !strings.HasPrefix(text, "200") || !strings.Contains(text, "did you mean") {
		t.Errorf("got %s, want ready with the place of the fault", text)
	}
	s.eventually("the last good policy accepts", good, `"allowed":true`)
	s.eventually("and refuses", bad, `"allowed":false`)
	s.write("policies/a.yaml", strings.Replace(policy, "team/app}", "team/lib}", 1))
	s.eventually("another source", good, `"allowed":false`)
	s.write("policies/a.yaml", policy)
	s.eventually("mended", good, `"allowed":true`)
	s.write("trust/root.json", "{}")
	s.eventually("a broken trust root", ready, "root.json")
	s.eventually("the last good trust root", good, `"allowed":true`)
	s.write("trust/root.json", string(s.p.Document()))
	s.eventually("mended", ready, "200 OK ok\n")
	if err := os.Remove(filepath.Join(s.dir, "policies/a.yaml")); err != nil {
		t.Fatal(err)
	}
	s.eventually("no policy any more", ready, "there is no policy")
	s.eventually("the last one counts", bad, `"allowed":false`)
	s.write("policies/a.yaml", policy)

	old := s.roots
	s.certify("second")
	s.eventually("the new certificate", good, `"allowed":true`)
	s.roots = old
	s.eventually("the old certificate", good, "certificate")
	for _, metric := range []string{"colophon_admission_requests_total", "colophon_verdicts_reads_total", "colophon_admission_seconds"} {
		if !strings.Contains(s.get("/metrics"), metric) {
			t.Errorf("no metric %s", metric)
		}
	}
	s.roots.AppendCertsFromPEM([]byte(s.read("tls.crt")))
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	s.eventually("it ends", ready, "503")
	if text := good(); !strings.Contains(text, `"allowed":true`) {
		t.Errorf("it ends: got %s, want answers until nobody asks", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestConnectionsEnd: when it ends, the answer to a request says that the connection is closed after
// it. A connection that a server closes by itself loses the request that is on its way.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	s := newServed(t)
	s.eventually("good", func() string { return s.call(s.goodPod()) }, `"allowed":true`)
	client := &http.Client{Timeout: await.Patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}}} // HTTP/1.1, as the API server
	closes := func() bool {
		t.Helper()
		resp, err := client.Post("https://"+s.listen+admission.PathValidate+"?timeout=30s", "application/json", bytes.NewReader(s.body(s.goodPod())))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || !bytes.Contains(text, []byte(`"allowed":true`)) {
			t.Errorf("got %s, %v", text, err)
		}
		return resp.Close
	}
	if closes() {
		t.Error("a connection is closed after one request")
	}
	go s.stop()
	s.eventually("it ends", func() string { return s.get("/readyz") }, "503")
	if !closes() {
		t.Error("it ends, and keeps a connection open")
	}
}

func (s *served) read(name string) string {
	raw, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

// TestSettings: what the file must not say is refused, with the place.
func TestSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	for content, want := range map[string]string{
		"":                          "",
		"{}":                        "",
		"dryRun: true":              "",
		"listen: 8443":              "listen",
		"listen: localhost":         "expected [HOST]:PORT",
		"lisen: \":1\"":             `did you mean "listen"?`,
		"tls: {certificate: x}":     "both certificate and key",
		"memory: -1":                "memory",
		"eviction: {percent: 101}":  "expected 1 to 100",
		"eviction: {perMinute: -1}": "expected 1 to 600",
		"list: {from: x}":           "from and authors",
		"list: {from: \"http://example.com/l\", authors: a}": "https",
		"platform: a.json\neviction: {enabled: true}":        "",
		"images: {Engine: [spec.image]}":                     "expected KIND.GROUP=PATH",
		"images: {A.b: [\"x y\"]}":                           "expected a path",
		"api: {server: \"https://x\"}":                       "api: expected",
		"dryRun: yes":                                        ":1:9",
		"dryRun: true\ndryRun: false":                        "dryRun",
		"dryRun: true\n---\ndryRun: false":                   "documents",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := admission.ReadSettings(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
	if _, err := admission.ReadSettings(path + "none"); err == nil {
		t.Error("a file that is not there gave no error")
	}
}
