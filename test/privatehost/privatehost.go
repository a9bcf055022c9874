// Package privatehost is a host on another network that serves private things to who logs in:
// git repositories, Go modules, packages of npm, PyPI, Maven and Debian, and images. Each kind has a
// secret of its own. It also has what a build would try to make it tell: an echo, and redirects.
package privatehost

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/harness"
)

// Alias is a name that the host's certificate has too; no resolver knows it.
const Alias = "private.test"

// Mark is in every secret, and nowhere else.
const Mark = "s3cr3t-of-"

// Secret returns the secret of a kind.
func Secret(kind string) string { return Mark + kind + "-0123456789" }

// Host is the host. It has two addresses, so that one can send clients to the other.
type Host struct {
	Name, Other string // addresses, with which URLs are made: https://NAME/…
	CA          []byte // certificate authority of both, in PEM

	dir     string
	mu      sync.Mutex
	asked   []string // METHOD HOST PATH SECRET, for each request
	invalid map[string]bool
	images  http.Handler
}

// Start serves the directory dir, which has the subdirectories
//
//	git, bearer, gitlab, github   bare repositories or working directories
//	go                            a module proxy's files
//	npm, pypi, apt, maven         a registry's files
//
// at https://NAME/KIND/…, to who has Secret(KIND), and images at https://NAME/v2/.
func Start(t interface {
	Fatalf(format string, args ...any)
}, dir string) *Host {
	h := &Host{dir: dir, invalid: map[string]bool{}, images: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	both, err := harness.BeyondAt(443, netip.MustParsePrefix("203.0.115.0/31"), 2)
	if err != nil {
		t.Fatalf("a host on another network: %v", err)
	}
	h.Name, h.Other = address(both[0]), address(both[1])
	cert, err := h.certificate()
	if err != nil {
		t.Fatalf("%v", err)
	}
	srv := &http.Server{Handler: h.handler(t), ErrorLog: log.New(io.Discard, "", 0), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}}
	for _, l := range both {
		go srv.ServeTLS(l, "", "")
	}
	return h
}

func address(l net.Listener) string { return l.Addr().(*net.TCPAddr).AddrPort().Addr().String() }

func (h *Host) certificate() (cert tls.Certificate, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, err
	}
	made := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private host"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{Alias}, IPAddresses: []net.IP{net.ParseIP(h.Name), net.ParseIP(h.Other)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	h.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (h *Host) handler(t interface {
	Fatalf(format string, args ...any)
}) http.Handler {
	files := http.FileServer(http.Dir(h.dir))
	mux := http.NewServeMux()
	for _, kind := range []string{"git", "bearer", "gitlab", "github"} {
		mux.Handle("/"+kind+"/", h.login(kind, http.StripPrefix("/"+kind, githttp.Handler(t, filepath.Join(h.dir, kind)))))
	}
	for _, kind := range []string{"go", "pypi", "apt", "maven"} {
		mux.Handle("/"+kind+"/", h.login(kind, files))
	}
	mux.Handle("/npm/", h.login("npm", http.HandlerFunc(h.npm)))
	mux.Handle("/echo/", h.login("echo", http.HandlerFunc(h.echo)))
	mux.HandleFunc("POST /github/api/app/installations/2/access_tokens", func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"token": Secret("github"), "expires_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
	})
	mux.HandleFunc("/token", h.token)
	mux.HandleFunc("/v2/", h.registry)
	mux.HandleFunc("/public/", func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		io.WriteString(w, "public")
	})
	return mux
}

// Revoke makes a secret invalid: kind of Start, or "echo".
func (h *Host) Revoke(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.invalid[kind] = true
}

// note keeps what was asked, and with the secret of what kind.
func (h *Host) note(r *http.Request) (kind string) {
	auth := r.Header.Get("Authorization")
	_, password, _ := r.BasicAuth()
	_, rest, _ := strings.Cut(auth+password, Mark)
	kind, _, _ = strings.Cut(rest, "-")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, fmt.Sprintf("%s %s %s %s", r.Method, r.Host, r.URL.EscapedPath(), kind))
	if h.invalid[kind] {
		return ""
	}
	return kind
}

// Asked returns the requests since it was last called, one a line: method, host, path, and the
// kind of the secret that it had.
func (h *Host) Asked() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.asked
	h.asked = nil
	return strings.Join(list, "\n") + "\n"
}

// login serves only who has the secret of a kind.
func (h *Host) login(kind string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.note(r) != kind {
			w.Header().Set("Www-Authenticate", `Basic realm="`+kind+`"`)
			http.Error(w, "log in", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// npm serves npm/NAME.json with the address of this host, and other files.
func (h *Host) npm(w http.ResponseWriter, r *http.Request) {
	name := filepath.Join(h.dir, filepath.FromSlash(filepath.Clean("/"+r.URL.Path)))
	if raw, err := os.ReadFile(name + ".json"); err == nil {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, strings.ReplaceAll(string(raw), "HOST", "https://"+r.Host+"/npm"))
		return
	}
	http.ServeFile(w, r, name)
}

// echo tells what it was asked, as servers that help to debug do, or leads elsewhere.
func (h *Host) echo(w http.ResponseWriter, r *http.Request) {
	what := strings.TrimPrefix(r.URL.Path, "/echo/")
	switch {
	case what == "header":
		w.Header().Set("Etag", `"`+r.Header.Get("Authorization")+`"`)
	case what == "other":
		http.Redirect(w, r, "https://"+h.Other+"/public/stolen", http.StatusTemporaryRedirect)
	case what == "path":
		http.Redirect(w, r, "/public/moved", http.StatusFound)
	case what == "bytes":
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	default:
		r.Write(w)
	}
}

// token is the realm of the registry: it gives a token for a login.
func (h *Host) token(w http.ResponseWriter, r *http.Request) {
	if h.note(r) != "realm" {
		http.Error(w, "log in", http.StatusUnauthorized)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"token": Secret("token"), "expires_in": 300})
}

// registry serves images to who has a token.
func (h *Host) registry(w http.ResponseWriter, r *http.Request) {
	if h.note(r) != "token" {
		w.Header().Set("Www-Authenticate", `Bearer realm="https://`+r.Host+`/token",service="private"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	h.images.ServeHTTP(w, r)
}
