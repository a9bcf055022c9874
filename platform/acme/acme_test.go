package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	protocol "golang.org/x/crypto/acme"

	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/pebble"
)

const name = "builds.example.com"

// port is a listener that answers challenges as the role api does.
func port(t *testing.T, keeper *atomic.Pointer[Keeper]) int {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{protocol.ALPNProto}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		w := httptest.NewRecorder()
		keeper.Load().Handler().ServeHTTP(w, httptest.NewRequest("GET", PathChallenge+"?name="+url.QueryEscape(hello.ServerName), nil))
		var p Pair
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			return nil, err
		}
		both, err := tls.X509KeyPair(p.Cert, p.Key)
		return &both, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func open(t *testing.T, c Config) *Keeper {
	t.Helper()
	c.AcceptTerms, c.Log = true, slog.New(slog.DiscardHandler)
	if c.Origin == "" {
		c.Origin = "https://" + name + ":8443"
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.CAFile != "" {
		var err error
		if c.Roots, err = os.ReadFile(c.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	k, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestPebble: a real ACME server gives a certificate for the platform's name, which outlives
// a restart and is renewed in time; while the server is down, the old one stays.
func TestPebble(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short starts no programs")
	}
	var current atomic.Pointer[Keeper]
	server := pebble.Start(t, filepath.Dir(harness.Bin(t, "pebble")), port(t, &current), 90*time.Second)
	c := Config{Settings: Settings{Directory: server.Directory, CAFile: server.CAFile, Email: "ops@example.com"}, Dir: t.TempDir()}
	k := open(t, c)
	current.Store(k)
	stop := await.Background(t, func(ctx context.Context) error { k.Run(ctx); return nil })
	await.True(t, "a certificate", func() bool {
		s := k.state()
		if s.Fault != "" {
			t.Fatalf("no certificate: got %+v", s)
		}
		return s.Pair != nil
	})
	stop()
	first := k.state()
	if k.leaf.DNSNames[0] != name || first.Failures != 0 || first.Fault != "" {
		t.Errorf("got a certificate for %q and %+v", k.leaf.DNSNames, first)
	}
	if _, err := k.leaf.Verify(x509.VerifyOptions{Roots: server.Roots, Intermediates: intermediates(first.Pair.Cert), DNSName: name}); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"account.key", fileCertificate, fileAttempts} {
		if info, err := os.Stat(filepath.Join(c.Dir, file)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: got %v, %v, want mode 0600", file, info, err)
		}
	}
	if due := k.due(time.Now()); (due.Sub(k.leaf.NotBefore) - 60*time.Second).Abs() > 2*time.Second {
		t.Errorf("renewal of a certificate of 90 s: got after %s, want 60 s", due.Sub(k.leaf.NotBefore))
	}

	again := open(t, c)
	if got := again.state(); got.Pair == nil || !bytes.Equal(got.Pair.Cert, first.Pair.Cert) || again.due(time.Now()).Before(time.Now()) {
		t.Error("after a restart there is another certificate, or an attempt at once")
	}
	current.Store(again)
	if err := again.attempt(t.Context(), again.obtain); err != nil { // with the account that exists
		t.Fatal(err)
	}
	second := again.state()
	if bytes.Equal(second.Pair.Cert, first.Pair.Cert) || bytes.Equal(second.Pair.Key, first.Pair.Key) {
		t.Error("a renewed certificate has the key or the bytes of the old one")
	}

	server.Stop()
	err := again.attempt(t.Context(), again.obtain)
	down := again.state()
	if err == nil || !bytes.Equal(down.Pair.Cert, second.Pair.Cert) || down.Failures != 1 || !strings.Contains(down.Fault, "connection refused") {
		t.Errorf("without the server: got %v, %d failures, fault %q", err, down.Failures, down.Fault)
	}
	leaf, fault, err := Stored(c.Dir)
	if err != nil || !leaf.Equal(again.leaf) || fault != down.Fault {
		t.Errorf("stored: got %v, %q, %v", leaf, fault, err)
	}
	if due := open(t, c).due(time.Now()); time.Until(due) < time.Minute {
		t.Errorf("after a restart the next attempt is in %s, want the %s after a failure", time.Until(due), firstWait)
	}
}

func intermediates(chain []byte) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(chain)
	return pool
}

// TestWrongPort: if the name does not lead to this platform, there is no certificate.
func TestWrongPort(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short starts no programs")
	}
	var other atomic.Pointer[Keeper]
	server := pebble.Start(t, filepath.Dir(harness.Bin(t, "pebble")), port(t, &other), time.Hour)
	c := Config{Settings: Settings{Directory: server.Directory, CAFile: server.CAFile}}
	other.Store(open(t, c)) // holds no challenge
	k := open(t, c)
	err := k.attempt(t.Context(), k.obtain)
	if err == nil || !strings.Contains(err.Error(), "authorization of "+name) || k.state().Pair != nil {
		t.Errorf("got %v", err)
	}
}

// hostile is an ACME server that answers as it likes. Its handlers are by path; without one it
// does what an honest server does.
type hostile struct {
	*httptest.Server
	asked  atomic.Int32
	answer map[string]http.HandlerFunc
	issue  func(*x509.CertificateRequest) [][]byte
	csr    *x509.CertificateRequest
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{answer: map[string]http.HandlerFunc{}}
	h.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		w.Header().Set("Replay-Nonce", "bm9uY2U")
		w.Header().Set("Location", h.URL+r.URL.Path)
		if special := h.answer[r.URL.Path]; special != nil {
			special(w, r)
			return
		}
		h.honest(w, r)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hostile) honest(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/dir":
		fmt.Fprintf(w, `{"newNonce": "%[1]s/nonce", "newAccount": "%[1]s/account", "newOrder": "%[1]s/order", "meta": {"termsOfService": "%[1]s/terms"}}`, h.URL)
	case "/account":
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"status": "valid"}`)
	case "/order":
		w.Header().Set("Location", h.URL+"/ordered")
		w.WriteHeader(http.StatusCreated)
		fallthrough
	case "/ordered":
		fmt.Fprintf(w, `{"status": "ready", "authorizations": ["%[1]s/authorization"], "finalize": "%[1]s/finalize"}`, h.URL)
	case "/authorization":
		fmt.Fprintf(w, `{"status": "valid", "identifier": {"type": "dns", "value": %q}}`, name)
	case "/finalize":
		h.csr = request(r)
		fmt.Fprintf(w, `{"status": "valid", "certificate": "%s/certificate"}`, h.URL)
	case "/certificate":
		for _, der := range h.issue(h.csr) {
			w.Write(encode(der))
		}
	}
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// request returns the certificate request in a request to finalize an order.
func request(r *http.Request) *x509.CertificateRequest {
	var signed struct{ Payload string }
	var payload struct{ CSR string }
	if json.NewDecoder(r.Body).Decode(&signed) != nil {
		return nil
	}
	raw, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
	if json.Unmarshal(raw, &payload) != nil {
		return nil
	}
	der, _ := base64.RawURLEncoding.DecodeString(payload.CSR)
	csr, _ := x509.ParseCertificateRequest(der)
	return csr
}

// authority returns a certificate authority, and a function that issues a certificate.
func authority(t *testing.T) (root []byte, issue func(public any, change func(*x509.Certificate)) [][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	root, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return root, func(public any, change func(*x509.Certificate)) [][]byte {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		change(leaf)
		der, err := x509.CreateCertificate(rand.Reader, leaf, template, public, key)
		if err != nil {
			t.Error(err)
		}
		return [][]byte{der}
	}
}

// TestHostileServer: what a hostile ACME server answers gives it no certificate in use, no
// request to another host, and no more than a bounded number of bytes and requests.
func TestHostileServer(t *testing.T) {
	root, issue := authority(t)
	_, strangers := authority(t)
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request reached another host") }))
	defer elsewhere.Close()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	honest := func(*x509.Certificate) {}
	say := func(format string, args ...any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, format, args...) }
	}
	for _, tc := range []struct {
		what   string
		change func(*hostile)
		want   string
	}{
		{"honest", func(*hostile) {}, ""},
		{"another name", func(h *hostile) {
			h.issue = func(r *x509.CertificateRequest) [][]byte {
				return issue(r.PublicKey, func(c *x509.Certificate) { c.DNSNames = []string{"www.example.org"} })
			}
		}, `it is for ["www.example.org"]`},
		{"a further name", func(h *hostile) {
			h.issue = func(r *x509.CertificateRequest) [][]byte {
				return issue(r.PublicKey, func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "www.example.org") })
			}
		}, `it is for ["builds.example.com" "www.example.org"]`},
		{"an address", func(h *hostile) {
			h.issue = func(r *x509.CertificateRequest) [][]byte {
				return issue(r.PublicKey, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} })
			}
		}, `"10.0.0.1"`},
		{"another key", func(h *hostile) {
			h.issue = func(*x509.CertificateRequest) [][]byte { return issue(other.Public(), honest) }
		}, "another key"},
		{"an authority that nobody trusts", func(h *hostile) {
			h.issue = func(r *x509.CertificateRequest) [][]byte { return strangers(r.PublicKey, honest) }
		}, "this host does not trust it"},
		{"a certificate that ended", func(h *hostile) {
			h.issue = func(r *x509.CertificateRequest) [][]byte {
				return issue(r.PublicKey, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
			}
		}, "expired"},
		{"no certificate", func(h *hostile) { h.answer["/certificate"] = say("") }, "chain is empty"},
		{"a directory that leads elsewhere", func(h *hostile) {
			h.answer["/dir"] = say(`{"newNonce": "%[1]s/nonce", "newAccount": "%[1]s/account", "newOrder": "%[2]s/order"}`, h.URL, elsewhere.URL)
		}, "want " + "https://127.0.0.1"},
		{"an order that leads elsewhere", func(h *hostile) {
			h.answer["/ordered"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/x", http.StatusTemporaryRedirect)
			}
		}, "307"},
		{"plain HTTP", func(h *hostile) {
			h.answer["/order"] = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprintf(w, `{"status": "ready", "authorizations": ["%s/authorization"]}`, strings.Replace(h.URL, "https", "http", 1))
			}
		}, "the ACME server leads to http://"},
		{"an authorization of another name", func(h *hostile) {
			h.answer["/authorization"] = say(`{"status": "pending", "identifier": {"type": "dns", "value": "www.example.org"}, "challenges": [{"type": "tls-alpn-01", "url": "%s/challenge", "token": "t"}]}`, h.URL)
		}, `asks about "www.example.org"`},
		{"two authorizations", func(h *hostile) {
			h.answer["/order"] = func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusCreated)
				fmt.Fprintf(w, `{"status": "pending", "authorizations": ["%[1]s/a", "%[1]s/b"]}`, h.URL)
			}
		}, "asks for 2 authorizations"},
		{"no end of bytes", func(h *hostile) {
			h.answer["/dir"] = func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, `{"newNonce": "`)
				for _, err := w.Write(bytes.Repeat([]byte("a"), 1<<16)); err == nil; _, err = w.Write(bytes.Repeat([]byte("a"), 1<<16)) {
				}
			}
		}, "request body too large"},
		{"no end of waiting", func(h *hostile) {
			h.answer["/authorization"] = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "-1")
				fmt.Fprintf(w, `{"status": "pending", "identifier": {"type": "dns", "value": %q}, "challenges": [{"type": "tls-alpn-01", "url": "%s/challenge", "token": "t"}]}`, name, h.URL)
			}
			h.answer["/challenge"] = say(`{}`)
		}, fmt.Sprintf("was asked %d times", maxAsked)},
		{"an error", func(h *hostile) {
			h.answer["/order"] = func(w http.ResponseWriter, r *http.Request) {
				http.Error(w, "\x1b[2Jno\nsecond line", http.StatusBadGateway)
			}
		}, "no; second line"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			h := newHostile(t)
			h.issue = func(r *x509.CertificateRequest) [][]byte { return issue(r.PublicKey, honest) }
			tc.change(h)
			dir := t.TempDir()
			c := Config{Settings: Settings{Directory: h.URL + "/dir", CAFile: filepath.Join(dir, "roots.pem")}}
			if err := os.WriteFile(c.CAFile, append(encode(h.Certificate().Raw), encode(root)...), 0o600); err != nil {
				t.Fatal(err)
			}
			k := open(t, c)
			err := k.attempt(t.Context(), k.obtain)
			if tc.want == "" {
				if err != nil || k.state().Pair == nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.ContainsAny(k.state().Fault, "\x1b\n") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if k.state().Pair != nil || k.due(time.Now()).Before(time.Now().Add(time.Minute)) {
				t.Error("a certificate is in use, or the next attempt is at once")
			}
			if got := h.asked.Load(); got > maxAsked || tc.what == "an error" && got > 5 {
				t.Errorf("it was asked %d times", got)
			}
		})
	}
}

// TestHangs: a server that does not answer ends an attempt when its time is over.
func TestHangs(t *testing.T) {
	h := newHostile(t)
	h.answer["/order"] = func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	c := Config{Settings: Settings{Directory: h.URL + "/dir", CAFile: filepath.Join(t.TempDir(), "roots.pem")}}
	if err := os.WriteFile(c.CAFile, encode(h.Certificate().Raw), 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := k.attempt(ctx, k.obtain); err == nil {
		t.Error("got no error")
	}
	if a, err := readAttempts(k.config.Dir); err != nil || a.Failures != 1 || a.Fault != "it was interrupted" {
		t.Errorf("on disk: got %+v, %v", a, err)
	}
}

// TestAttempts: how often the server is asked depends on neither its answers nor restarts.
func TestAttempts(t *testing.T) {
	dir := t.TempDir()
	c := Config{Settings: Settings{Directory: "https://acme.example.com/dir"}, Dir: dir}
	fails := func(err error) func(context.Context) (*Pair, error) {
		return func(context.Context) (*Pair, error) { return nil, err }
	}
	limited := func(after string) error {
		return fmt.Errorf("order: %w", &protocol.Error{StatusCode: 503, Header: http.Header{"Retry-After": {after}}})
	}
	began := time.Now()
	for i, tc := range []struct {
		err      error
		min, max time.Duration
	}{
		{errors.New("no"), 2 * time.Minute, 3 * time.Minute},
		{errors.New("no"), 4 * time.Minute, 5 * time.Minute},
		{limited("259200"), 72 * time.Hour, 73 * time.Hour},
		{limited("999999999"), 7 * 24 * time.Hour, 7*24*time.Hour + time.Minute},
		{limited("-5"), 32 * time.Minute, 36 * time.Minute},
	} {
		k := open(t, c) // as after a restart
		if err := k.attempt(t.Context(), fails(tc.err)); err == nil {
			t.Fatal("got no error")
		}
		for _, k := range []*Keeper{k, open(t, c)} {
			if wait := time.Until(k.due(time.Now())); wait < tc.min-time.Since(began) || wait > tc.max {
				t.Errorf("failure %d: the next attempt is in %s, want %s to %s", i+1, wait, tc.min, tc.max)
			}
		}
	}
	// A process that is killed during its attempt has counted it.
	k := open(t, c)
	k.attempt(t.Context(), func(context.Context) (*Pair, error) {
		if a, err := readAttempts(dir); err != nil || a.Failures != 6 || time.Until(a.Next) < time.Hour {
			t.Errorf("during an attempt, on disk: got %+v, %v", a, err)
		}
		return nil, errors.New("no")
	})
	// Another authority, or name, is another matter; and a wrong clock does not stop all attempts.
	if err := os.WriteFile(filepath.Join(dir, fileAttempts), []byte(`{"directory": "x", "name": "x", "failures": 1, "last": "2090-01-01T00:00:00Z", "next": "2090-01-01T00:00:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if due := open(t, c).due(time.Now()); time.Until(due) > 0 {
		t.Errorf("after a clock in the future the next attempt is on %s", due)
	}
}

// TestSettings: settings that cannot work are refused.
func TestSettings(t *testing.T) {
	good := Settings{Directory: "https://acme.example.com/dir", AcceptTerms: true}
	for what, tc := range map[string]struct {
		change func(*Settings)
		origin string
		want   string
	}{
		"good":               {func(*Settings) {}, "https://builds.example.com", ""},
		"plain HTTP":         {func(s *Settings) { s.Directory = "http://acme.example.com/dir" }, "https://builds.example.com", "expected the https URL"},
		"no directory":       {func(s *Settings) { s.Directory = "" }, "https://builds.example.com", "expected the https URL"},
		"terms not accepted": {func(s *Settings) { s.AcceptTerms = false }, "https://builds.example.com", `set "acceptTerms": true`},
		"two addresses":      {func(s *Settings) { s.Email = "a@example.com,b@example.com" }, "https://builds.example.com", "expected one address"},
		"an address":         {func(*Settings) {}, "https://10.0.0.1", "give --url https://NAME"},
		"a plain platform":   {func(*Settings) {}, "http://localhost:8080", "give --url https://NAME"},
	} {
		s := good
		tc.change(&s)
		if err := s.Check(tc.origin); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", what, err, tc.want)
		}
	}
}
