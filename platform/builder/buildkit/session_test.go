package buildkit

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/builder/gateway"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// A module proxy outside of the room, over TLS, is recorded; then it goes away
// and the build is made from the lock. What is not in the lock fails by name.
func TestRecordLockReplay(t *testing.T) {
	needs.Long(t)
	b := realBuilder(t)
	proxy, roots := moduleProxy(t)
	b.rooms.cfg.Network = gateway.Settings{
		Mirror: b.rooms.cfg.Network.Mirror, Store: filepath.Join(t.TempDir(), "store"), Roots: roots,
	}
	dir := tree(t, `FROM golang:1.26 AS build
WORKDIR /src
COPY . .
ARG GOPROXY
ENV GOFLAGS=-mod=mod GONOSUMDB=* GOTOOLCHAIN=local CGO_ENABLED=0
RUN go mod download && go build -trimpath -ldflags=-buildid= -o /app .
FROM scratch
COPY --from=build /app /app
`)
	for name, text := range map[string]string{
		"go.mod":  "module example.com/app\n\ngo 1.26\n\nrequire (\n\texample.org/one v1.0.0\n\texample.org/two v1.0.0\n)\n",
		"main.go": "package main\n\nimport (\n\t\"example.org/one\"\n\t\"example.org/two\"\n)\n\nfunc main() { println(one.Name, two.Name) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recipe := attest.Recipe{BuildArgs: map[string]string{"GOPROXY": proxy.URL}}
	first, record, log, err := runSession(t, b, builder.Session{Record: true}, builder.Request{Tree: dir, Recipe: recipe})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	lock, err := builder.LockOf(record.Exchanges)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{proxy.URL + "/example.org/one/@v/v1.0.0.zip", proxy.URL + "/example.org/two/@v/v1.0.0.mod", "http://" + gateway.MirrorHost + "/v2/library/golang/manifests/1.26?ns=docker.io"} {
		if !bytes.Contains(raw, []byte(`"`+want+`"`)) {
			t.Errorf("%s is not in the lock:\n%s", want, raw)
		}
	}
	proxy.Close()
	second, record, log, err := runSession(t, b, builder.Session{Lock: lock, Sealed: true}, builder.Request{Tree: dir, Recipe: recipe})
	if err != nil {
		t.Fatalf("the replay: %v\n%s", err, log)
	}
	if first.Digest != second.Digest {
		t.Errorf("recorded and replayed: %s and %s", first.Digest, second.Digest)
	}
	again, err := builder.LockOf(record.Exchanges)
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := again.Marshal(); !bytes.Equal(other, raw) {
		t.Errorf("the replay fetched other things than the first run: got\n%s\nwant\n%s", other, raw)
	}

	mod := "module example.com/app\n\ngo 1.26\n\nrequire example.org/three v1.0.0\n"
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644); err != nil {
		t.Fatal(err)
	}
	_, record, log, err = runSession(t, b, builder.Session{Lock: lock, Sealed: true}, builder.Request{Tree: dir, Recipe: recipe})
	want := "not in the lock: GET " + proxy.URL + "/example.org/three/@v/v1.0.0.mod"
	if err == nil || !strings.Contains(log, want) {
		t.Errorf("a fetch outside of the lock: got %v, want %q in the step's output\n%s", err, want, log)
	}
	if !strings.Contains(fmt.Sprint(record.Exchanges), want) {
		t.Errorf("it is not recorded: %+v", record.Exchanges)
	}
}

// A step posts, as git clone does, and asks for a part of a file: BuildKit hashes neither answer, and
// must list both where dependencies looks.
func TestRequestsThatAreNotHashed(t *testing.T) {
	b := realBuilder(t)
	l, err := harness.Beyond(proxyHost)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0000 the pack"))
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	url := "http://" + l.Addr().(*net.TCPAddr).IP.String()
	dir := tree(t, `FROM debian:bookworm-slim
ARG URL
RUN perl -MIO::Socket::INET -e ' \
  for my $ask ("POST $ENV{URL}/git-upload-pack HTTP/1.1\r\nContent-Length: 4\r\n", "GET $ENV{URL}/part HTTP/1.1\r\nRange: bytes=0-3\r\n") { \
    $ENV{http_proxy} =~ m{//([^/]+)} or die "no proxy"; \
    my $c = IO::Socket::INET->new($1) or die; \
    print $c "${ask}Host: x\r\nConnection: close\r\n\r\n" . ($ask =~ /^POST/ ? "0000" : ""); \
    my $answer = join "", <$c>; $answer =~ /^HTTP.1.1 20[06].*0000/s or die $answer; \
  }'
`)
	r, _, log, err := runSession(t, b, builder.Session{}, builder.Request{Tree: dir, Recipe: attest.Recipe{BuildArgs: map[string]string{"URL": url}}})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	got := r.Config["network.incomplete"]
	for _, want := range []string{`{"url":"` + url + `/git-upload-pack","method":"POST","reason":"method_not_materializable"}`, `{"url":"` + url + `/part","method":"GET","reason":"partial_response"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("got the requests %q, want %s among them", got, want)
		}
	}
}

func runSession(t *testing.T, b *halves, s builder.Session, req builder.Request) (*builder.Result, *builder.Record, string, error) {
	t.Helper()
	var log lines
	req.Epoch, req.Layout, req.Log = epoch, t.TempDir(), log.add
	var err error
	if req.Session, err = b.rooms.Begin(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	r, err := b.Build(t.Context(), req)
	b.Wait()
	record, rerr := b.rooms.End(t.Context(), req.Session)
	if rerr != nil {
		t.Fatalf("the room's record: %v, of a build that ended with %v", rerr, err)
	}
	return r, record, log.String(), err
}

// proxyHost is the first host behind a veth pair. The gateway reaches only public addresses,
// and none of this host's.
var proxyHost = netip.MustParsePrefix("203.0.114.10/32")

// moduleProxy serves a few modules on such a host.
func moduleProxy(t *testing.T) (srv *httptest.Server, roots string) {
	t.Helper()
	l, err := harness.Beyond(proxyHost)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{l.Addr().(*net.TCPAddr).IP}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, file, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/@v/v1.0.0.")
		mod := "module " + name + "\n\ngo 1.26\n"
		switch {
		case !ok:
			http.NotFound(w, r)
		case file == "mod":
			fmt.Fprint(w, mod)
		case file == "info":
			fmt.Fprint(w, `{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}`)
		case file == "zip":
			z := zip.NewWriter(w)
			defer z.Close()
			for n, text := range map[string]string{"go.mod": mod, "x.go": fmt.Sprintf("package %s\n\nconst Name = %q\n", name[strings.LastIndex(name, "/")+1:], name)} {
				if f, err := z.Create(name + "@v1.0.0/" + n); err == nil {
					fmt.Fprint(f, text)
				}
			}
		}
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, roots
}
