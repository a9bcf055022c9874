package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/await"
)

// authority makes credentials as a platform does.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.make(x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) make(c x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = &c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, &c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) credentials(c x509.Certificate, role string) *Credentials {
	a.t.Helper()
	c.URIs = []*url.URL{RoleURI(role)}
	cert, key := a.make(c)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return &Credentials{CA: block("CERTIFICATE", a.cert.Raw), Cert: block("CERTIFICATE", cert.Raw), Key: block("PRIVATE KEY", raw)}
}

var (
	server = x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	client = x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
)

// open starts a door that leads the attestor to the role builder.
func open(t *testing.T, c *Credentials) (address string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	behind, err := Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	go func() {
		done <- Serve(ctx, behind, Users{"attestor": Elsewhere, "api": Elsewhere, RoleDoor: os.Getuid()}, Allow(h, "attestor"))
	}()
	go func() {
		done <- Door{Credentials: c, From: []string{"attestor", "api"}, To: map[string]string{"builder": socket}, Log: slog.New(slog.DiscardHandler)}.Serve(ctx, l)
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return l.Addr().String()
}

func TestDoor(t *testing.T) {
	platform, stranger := newAuthority(t), newAuthority(t)
	door := open(t, platform.credentials(server, "builder"))
	past := client
	past.NotAfter = time.Now().Add(-time.Minute)
	for name, test := range map[string]struct {
		at   Endpoint
		good bool
	}{
		"the attestor":               {Endpoint{Address: door, Role: "builder", Credentials: platform.credentials(client, "attestor")}, true},
		"one that may not ask":       {Endpoint{Address: door, Role: "builder", Credentials: platform.credentials(client, "api")}, false},
		"one that may not come in":   {Endpoint{Address: door, Role: "builder", Credentials: platform.credentials(client, "registry")}, false},
		"another platform":           {Endpoint{Address: door, Role: "builder", Credentials: stranger.credentials(client, "attestor")}, false},
		"a name without credentials": {Endpoint{Address: door, Role: "builder"}, false},
		"a certificate of the past":  {Endpoint{Address: door, Role: "builder", Credentials: platform.credentials(past, "attestor")}, false},
		"a server's certificate":     {Endpoint{Address: door, Role: "builder", Credentials: platform.credentials(server, "attestor")}, false},
		"a role that is not there":   {Endpoint{Address: door, Role: "trust", Credentials: platform.credentials(client, "attestor")}, false},
	} {
		c := test.at.Client()
		resp, err := c.Get("http://builder/")
		if (err == nil && resp.StatusCode == 200) != test.good {
			t.Errorf("%s: got %v, %v", name, resp, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		c.CloseIdleConnections()
	}
	// The server must be the wanted role, not just any role of the platform.
	impostor := open(t, platform.credentials(server, "registry"))
	at := Endpoint{Address: impostor, Role: "builder", Credentials: platform.credentials(client, "attestor")}
	if _, err := at.Dial(t.Context()); err == nil {
		t.Error("another role of the platform was taken for the builder")
	}
}

// The door can connect only on behalf of roles on other hosts.
func TestDoorSpeaksForOthers(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") })
	users := Users{"attestor": Elsewhere, "api": 12345, "builder": 0, RoleDoor: os.Getuid()}
	await.Background(t, func(ctx context.Context) error { return Serve(ctx, l, users, h) })
	for line, good := range map[string]bool{
		"attestor\n": true, "api\n": false, "builder\n": false, "door\n": false, "nobody\n": false, "\n": false, "": false,
		"attestor attestor attestor attestor attestor\n": false, "attestor\nattestor\n": false,
	} {
		conn, err := At(socket).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(await.Patience))
		io.WriteString(conn, line+"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if got := strings.HasPrefix(string(answer), "HTTP/1.1 200 "); got != good {
			t.Errorf("the door says %q: got %q", line, answer)
		}
	}
}
