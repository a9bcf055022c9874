package interop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"github.com/colophon-build/colophon/platform/authority/tsa"
	"github.com/colophon-build/colophon/test/harness"
)

// Where the services and the registry answer.
const (
	atCA       = "/api/v2/signingCert"
	atLog      = "/api/v2/log/entries"
	atTSA      = "/api/v1/timestamp"
	atManifest = "PUT /v2/hostile/" // manifests that are attached
	atUpload   = "POST /v2/hostile/"
	atList     = "GET /v2/hostile/" // referrers
)

// meddle answers the nth request (from 1) to a service. forward gets the service's own answer
// to a request.
type meddle func(w http.ResponseWriter, r *http.Request, n int, forward func(*http.Request) *httptest.ResponseRecorder)

// meddler stands between colophon and a platform, and answers for one of its services.
type meddler struct {
	*httptest.Server
	mu      sync.Mutex
	active  meddle // nil: all requests are forwarded
	at      string
	asked   int
	entries map[string]bool // indices in the log that it gave to this client
}

var logIndex = regexp.MustCompile(`^{"logIndex": ?"([0-9]+)"`)

func newMeddler(t *testing.T, p *harness.Platform, at string, active meddle) *meddler {
	t.Helper()
	back, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := &meddler{at: at, active: active, entries: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(back)
			r.Out.Host = back.Host
		},
		ModifyResponse: func(r *http.Response) error {
			for _, name := range []string{"Location", "Www-Authenticate"} {
				if v := r.Header.Get(name); v != "" {
					r.Header.Set(name, strings.Replace(v, p.URL, m.URL, 1))
				}
			}
			if r.Request.URL.Path == atLog && r.StatusCode == http.StatusCreated {
				raw, err := io.ReadAll(r.Body)
				if err != nil {
					return err
				}
				r.Body = io.NopCloser(bytes.NewReader(raw))
				if index := logIndex.FindSubmatch(raw); index != nil {
					m.mu.Lock()
					m.entries[string(index[1])] = true
					m.mu.Unlock()
				}
			}
			return nil
		},
	}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method, prefix, ofRegistry := strings.Cut(m.at, " ")
		hit := r.URL.Path == m.at
		if ofRegistry {
			hit = r.Method == method && strings.HasPrefix(r.URL.Path, prefix) && (m.at != atManifest && m.at != atList || strings.Contains(r.URL.Path, "/manifests/") || strings.Contains(r.URL.Path, "/referrers/"))
		}
		m.mu.Lock()
		active := m.active
		if hit {
			m.asked++
		}
		n := m.asked
		m.mu.Unlock()
		if !hit || active == nil {
			proxy.ServeHTTP(w, r)
			return
		}
		active(w, r, n, func(r *http.Request) *httptest.ResponseRecorder {
			answer := httptest.NewRecorder()
			proxy.ServeHTTP(answer, r)
			return answer
		})
	}))
	t.Cleanup(m.Close)
	return m
}

// honest ends the meddling.
func (m *meddler) honest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.active = nil
}

// status answers the first times requests, or all if times is 0, with a status and a header
// Retry-After.
func status(code, times int, after string) meddle {
	return func(w http.ResponseWriter, r *http.Request, n int, forward func(*http.Request) *httptest.ResponseRecorder) {
		if times > 0 && n > times {
			pass(w, forward(r))
			return
		}
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(code)
	}
}

func pass(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

// says answers with a text, and forwards nothing.
func says(text string) meddle {
	return func(w http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusCreated)
		}
		io.WriteString(w, text)
	}
}

// changes answers what the service does, after a change.
func changes(change func(raw []byte) []byte) meddle {
	return func(w http.ResponseWriter, r *http.Request, _ int, forward func(*http.Request) *httptest.ResponseRecorder) {
		answer := forward(r)
		answer.Body = bytes.NewBuffer(change(answer.Body.Bytes()))
		answer.Header().Del("Content-Length")
		pass(w, answer)
	}
}

// breaksOff forwards the request, and sends the first part of the answer: 0 bytes of it if
// part is 0, else 1/part.
func breaksOff(times, part int) meddle {
	return func(w http.ResponseWriter, r *http.Request, n int, forward func(*http.Request) *httptest.ResponseRecorder) {
		answer := forward(r)
		if times > 0 && n > times {
			pass(w, answer)
			return
		}
		if part > 0 {
			w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			w.Write(answer.Body.Bytes()[:answer.Body.Len()/part])
			w.(http.Flusher).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

func hangs(_ http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
	io.Copy(io.Discard, r.Body) // the server then notices that the client is gone
	<-r.Context().Done()
}

func endless(w http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusCreated)
	}
	for junk := bytes.Repeat([]byte(" "), 64<<10); ; {
		if _, err := w.Write(junk); err != nil {
			return
		}
	}
}

// hostile is one way in which a service or registry misbehaves.
type hostile struct {
	name    string
	at      string
	meddle  meddle
	want    string // in the error; empty: sign succeeds all the same
	entries int    // entries in the log once the same command has finished; 0: 1
	timeout string
}

// everywhere are ways in which each of the three services may misbehave. elsewhere is the URL
// of a server that nobody may ask.
func everywhere(at, elsewhere string) []hostile {
	return []hostile{
		{name: "busy twice", meddle: status(429, 2, "")},
		{name: "busy and says when", meddle: status(429, 4, "1")},
		{name: "busy and says a date", meddle: status(503, 1, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))},
		{name: "busy for an hour", meddle: status(429, 0, "3600"), want: "asks to wait 1h0m0s, which is too long"},
		{name: "busy and says nonsense", meddle: status(429, 0, "99999999999999999999"), want: "got status 429"},
		{name: "fails once", meddle: status(503, 1, "")},
		{name: "fails", meddle: status(503, 0, ""), want: "got status 503"},
		{name: "hangs", meddle: hangs, want: "timeout", timeout: "2s"},
		{name: "closes once", meddle: breaksOff(1, 0)},
		{name: "breaks off once", meddle: breaksOff(1, 2)},
		{name: "breaks off", meddle: breaksOff(0, 2), want: "ended early", entries: map[bool]int{true: 2}[at == atLog]},
		{name: "never ends", meddle: endless, want: "more than 1048576 bytes"},
		{name: "a page", meddle: says("<html>Welcome</html>"), want: at},
		{name: "nothing", meddle: says(""), want: at},
		{name: "an empty object", meddle: says("{}"), want: ""},
		{name: "redirects", meddle: func(w http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
			http.Redirect(w, r, elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
		}, want: "got status 307"},
	}
}

// TestHostileServices signs an image while one of the services, or the registry, misbehaves.
// Either the command succeeds, or it says what is wrong and nothing is attached. The same
// command then finishes, and the log has no entry more than it must.
func TestHostileServices(t *testing.T) {
	p := startPieces(t)
	var strayed sync.Map
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A registry may have its uploads taken elsewhere, but nobody's token.
		if r.Header.Get("Authorization") != "" || r.Method != http.MethodPut {
			strayed.Store(r.Method+" "+r.URL.Path, true)
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(elsewhere.Close)
	var rows []hostile
	for name, at := range map[string]string{"CA": atCA, "log": atLog, "TSA": atTSA} {
		for _, h := range everywhere(at, elsewhere.URL) {
			h.name, h.at = name+" "+h.name, at
			if strings.HasSuffix(h.name, "an empty object") {
				h.want = map[string]string{"CA": "got no certificate", "log": "log entry", "TSA": "got no timestamp"}[name]
			}
			rows = append(rows, h)
		}
	}
	rows = append(rows, p.hostileCA(t)...)
	rows = append(rows, p.hostileTSA(t)...)
	rows = append(rows, p.hostileLog(t)...)
	rows = append(rows, hostileRegistry(elsewhere.URL)...)
	t.Run("rows", func(t *testing.T) {
		for i, h := range rows {
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				p.suffers(t, fmt.Sprintf("hostile/%d", i), h)
			})
		}
	})
	strayed.Range(func(request, _ any) bool {
		t.Errorf("another server got the request %s", request)
		return true
	})
}

// suffers signs one image while h happens, and again when all is well.
func (p *pieces) suffers(t *testing.T, name string, h hostile) {
	digest := p.push(t, name+":v1")
	m := newMeddler(t, p.Platform, h.at, h.meddle)
	host := strings.TrimPrefix(m.URL, "http://")
	dir := t.TempDir()
	harness.Write(t, dir, map[string]string{
		"signing.json": strings.ReplaceAll(string(p.Get("/signing_config.json")), p.URL, m.URL),
		"config.json":  fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("x:"+p.Platform.Token("client.json")))),
	})
	token, err := os.ReadFile(p.staff.token(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	harness.Write(t, dir, map[string]string{"token": string(token)})
	sign := func(timeout string) (string, error) {
		cmd := p.Colophon(t.Context(), "sign", host+"/"+name+":v1", "--identity-token-file", filepath.Join(dir, "token"), "--signing-config", filepath.Join(dir, "signing.json"), "--timeout", timeout)
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+dir, "COLOPHON_PLATFORM=")
		out, err := cmd.CombinedOutput()
		for _, part := range append(strings.Split(string(token), "."), p.Platform.Token("client.json")) {
			if bytes.Contains(out, []byte(part)) {
				t.Errorf("the output has a part of a token:\n%s", out)
			}
		}
		return string(out), err
	}
	attached := func(want int) {
		t.Helper()
		n := 0
		for _, count := range p.Referrers(name, digest) {
			n += count
		}
		if n != want {
			t.Errorf("%d signatures are attached, want %d", n, want)
		}
	}
	timeout := "1m"
	if h.timeout != "" {
		timeout = h.timeout
	}
	out, err := sign(timeout)
	exit, _ := errors.AsType[*exec.ExitError](err)
	switch {
	case h.want == "" && err != nil:
		t.Errorf("got %v, want that it succeeds:\n%s", err, out)
	case h.want != "" && (exit == nil || exit.ExitCode() != 1 || !strings.Contains(out, h.want)):
		t.Errorf("got %v, want exit code 1 and %q:\n%s", err, h.want, out)
	}
	m.honest()
	if h.want != "" {
		attached(0)
	}
	if out, err := sign("1m"); err != nil {
		t.Errorf("the same command again: %v\n%s", err, out)
	} else if (h.want == "") != strings.Contains(out, "signed already") {
		t.Errorf("the same command again: got\n%s", out)
	}
	attached(1)
	if out, err := p.Colophon(t.Context(), "verify", p.Addr+"/"+name+":v1", "--identity", "ada@example.com", "--issuer", p.staff.URL).CombinedOutput(); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if want := max(h.entries, 1); len(m.entries) != want {
		t.Errorf("the log has %d entries, want %d", len(m.entries), want)
	}
}

// answered returns what a service answers to another client's request.
func (p *pieces) answered(t *testing.T, at string) []byte {
	t.Helper()
	var heard []byte
	var mu sync.Mutex
	m := newMeddler(t, p.Platform, at, changes(func(raw []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		heard = slices.Clone(raw)
		return raw
	}))
	dir := t.TempDir()
	harness.Write(t, dir, map[string]string{"file": "another's", "signing.json": strings.ReplaceAll(string(p.Get("/signing_config.json")), p.URL, m.URL)})
	p.colophon(t, "sign", filepath.Join(dir, "file"), "--identity-token-file", p.staff.token(t, nil), "--signing-config", filepath.Join(dir, "signing.json"))
	mu.Lock()
	defer mu.Unlock()
	if len(heard) == 0 {
		t.Fatalf("%s was not asked", at)
	}
	return heard
}

// ofChain changes the certificate in an answer of Fulcio.
func ofChain(t *testing.T, change func(*x509.Certificate) []byte) meddle {
	return changes(func(raw []byte) []byte {
		var answer struct {
			Embedded struct {
				Chain struct {
					Certificates []string `json:"certificates"`
				} `json:"chain"`
			} `json:"signedCertificateEmbeddedSct"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Embedded.Chain.Certificates) == 0 {
			t.Errorf("got no certificate: %s", raw)
			return raw
		}
		block, _ := pem.Decode([]byte(answer.Embedded.Chain.Certificates[0]))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Error(err)
			return raw
		}
		answer.Embedded.Chain.Certificates[0] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: change(cert)}))
		changed, err := json.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		return changed
	})
}

// issue issues a certificate again, without its SCT.
func issue(t *testing.T, cert, issuer *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	again := *cert
	again.ExtraExtensions = nil
	for _, e := range cert.Extensions {
		if !e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}) {
			again.ExtraExtensions = append(again.ExtraExtensions, e)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &again, issuer, cert.PublicKey, key)
	if err != nil {
		t.Error(err)
	}
	return der
}

func readPEM(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s: no PEM", path)
	}
	return block.Bytes
}

func (p *pieces) hostileCA(t *testing.T) []hostile {
	key, err := x509.ParsePKCS8PrivateKey(readPEM(t, filepath.Join(p.Data, "trust", "intermediate.key")))
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(readPEM(t, filepath.Join(p.Data, "trust", "intermediate.crt")))
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return []hostile{
		{name: "CA gives another's certificate", at: atCA, meddle: says(string(p.answered(t, atCA))), want: "it is for another key"},
		{name: "CA gives no SCT", at: atCA, want: "the certificate has no SCT of a trusted certificate transparency log",
			meddle: ofChain(t, func(c *x509.Certificate) []byte { return issue(t, c, issuer, key.(*ecdsa.PrivateKey)) })},
		{name: "CA is another's", at: atCA, want: "is not of a trusted authority", meddle: ofChain(t, func(c *x509.Certificate) []byte { return issue(t, c, stranger, own) })},
		{name: "CA gives no certificate", at: atCA, want: "certificate: malformed", meddle: ofChain(t, func(*x509.Certificate) []byte { return []byte("none") })},
	}
}

func (p *pieces) hostileTSA(t *testing.T) []hostile {
	other, err := tsa.New(tsa.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	other.Register(mux)
	const want = "got no timestamp of this signature by a timestamp authority of the trust root"
	return []hostile{
		{name: "TSA stamps other bytes", at: atTSA, want: want, meddle: func(w http.ResponseWriter, r *http.Request, _ int, forward func(*http.Request) *httptest.ResponseRecorder) {
			sum := sha256.Sum256([]byte("other bytes"))
			query, err := (&timestamp.Request{HashAlgorithm: 5, HashedMessage: sum[:]}).Marshal()
			if err != nil {
				t.Error(err)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(query)), int64(len(query))
			pass(w, forward(r))
		}},
		{name: "TSA is another's", at: atTSA, want: want, meddle: func(w http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
			mux.ServeHTTP(w, r)
		}},
		{name: "TSA gives an old answer", at: atTSA, want: want, meddle: says(string(p.answered(t, atTSA)))},
	}
}

func (p *pieces) hostileLog(t *testing.T) []hostile {
	without := func(member string) meddle {
		return changes(func(raw []byte) []byte {
			var entry map[string]any
			if err := json.Unmarshal(raw, &entry); err != nil || entry[member] == nil {
				t.Errorf("no %s in %s: %v", member, raw, err)
			}
			delete(entry, member)
			raw, _ = json.Marshal(entry)
			return raw
		})
	}
	return []hostile{
		{name: "log gives another's entry", at: atLog, meddle: says(string(p.answered(t, atLog))), want: "log entry"},
		{name: "log gives no proof", at: atLog, meddle: without("inclusionProof"), want: "no inclusion proof", entries: 2},
		{name: "log gives no entry", at: atLog, meddle: without("canonicalizedBody"), want: "log entry", entries: 2},
		{name: "log has it and says not where", at: atLog, meddle: status(409, 0, ""), want: "does not say where"},
		{name: "log has it once", at: atLog, meddle: status(409, 1, "")},
	}
}

func hostileRegistry(elsewhere string) []hostile {
	return []hostile{
		{name: "registry busy twice", at: atManifest, meddle: status(429, 2, "")},
		{name: "registry busy and says when", at: atManifest, meddle: status(429, 4, "1")},
		{name: "registry busy for an hour", at: atManifest, meddle: status(429, 0, "3600"), want: "asks to wait 1h0m0s, which is too long", entries: 2},
		{name: "registry fails", at: atManifest, meddle: status(503, 0, ""), want: "503", entries: 2},
		{name: "registry hangs", at: atManifest, meddle: hangs, want: "timeout", entries: 2, timeout: "3s"},
		{name: "registry closes once", at: atManifest, meddle: breaksOff(1, 0)},
		{name: "registry refuses", at: atManifest, meddle: status(409, 0, ""), want: "409", entries: 2},
		{name: "registry loses the manifest", at: atManifest, meddle: says(""), want: "and does not list it", entries: 2},
		{name: "registry answers another digest", at: atManifest, meddle: func(w http.ResponseWriter, r *http.Request, _ int, forward func(*http.Request) *httptest.ResponseRecorder) {
			answer := forward(r)
			answer.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			pass(w, answer)
		}},
		{name: "registry redirects the manifest", at: atManifest, entries: 2, want: "404 Not Found", meddle: func(w http.ResponseWriter, r *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
			http.Redirect(w, r, elsewhere+r.URL.Path, http.StatusTemporaryRedirect)
		}},
		{name: "registry takes no upload", at: atUpload, meddle: status(403, 0, ""), want: "403"},
		{name: "registry sends the upload elsewhere", at: atUpload, want: "404 Not Found", meddle: func(w http.ResponseWriter, _ *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
			w.Header().Set("Location", elsewhere+"/upload")
			w.WriteHeader(http.StatusAccepted)
		}},
		{name: "registry loses the upload", at: atUpload, entries: 2, want: "MANIFEST_BLOB_UNKNOWN", meddle: func(w http.ResponseWriter, _ *http.Request, _ int, _ func(*http.Request) *httptest.ResponseRecorder) {
			w.WriteHeader(http.StatusCreated)
		}},
		{name: "registry gives other bytes", at: atList, want: "sha256:", meddle: changes(func(raw []byte) []byte { return append(slices.Clone(raw), ' ') })},
		{name: "registry never ends", at: atList, want: "more than", meddle: endless},
		{name: "registry gives a page", at: atList, want: "hostile/", meddle: says("<html>")},
	}
}
