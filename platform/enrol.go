package platform

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// enrolled is how long an enrolment is good for.
const enrolled = 365 * 24 * time.Hour

// certify makes credentials by the enrolment authority in dir, which is made at first
// use. With hosts (names or addresses) they are those of a door that leads to the
// roles, without those of a role that asks others.
func certify(dir string, roles, hosts []string) (*peer.Credentials, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := keys.Open(dir, "authority")
	if err != nil {
		return nil, err
	}
	authority, err := key.Certify(x509.Certificate{
		Subject: pkix.Name{CommonName: "Colophon enrolment"}, NotAfter: key.Created.AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	if err != nil {
		return nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := x509.Certificate{
		Subject:   pkix.Name{CommonName: "Colophon " + roles[0]},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(enrolled),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, role := range roles {
		leaf.URIs = append(leaf.URIs, peer.RoleURI(role))
	}
	for _, h := range hosts {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, authority.Cert, own.Public(), key.PrivateKey)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, err
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return &peer.Credentials{
		CA: block("CERTIFICATE", authority.Cert.Raw), Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", raw),
	}, nil
}

// enrolment is the file that a host needs to run a role of a platform.
type enrolment struct {
	Role     string            `json:"role"`
	Platform string            `json:"platform"`        // its origin
	Door     *peer.Credentials `json:"door,omitempty"`  // of a role that others ask
	Asker    *peer.Credentials `json:"asker,omitempty"` // of a role that asks others
	Known    tokens            `json:"known,omitempty"` // hashes of the tokens, for the roles that check them
	Push     string            `json:"push,omitempty"`  // the attestor's token
}

// EnrolConfig says which role gets a host of its own.
type EnrolConfig struct {
	Role  string   // a role with Role.Listen; required
	Data  string   // the platform's data directory; required
	URL   string   // the platform's public origin; needed where it was never started
	Hosts []string // names or addresses by which roles reach the other host; required for roles that others ask
}

// Enrol writes to w the file that ServeHost takes on the other host. It holds
// private keys.
func Enrol(c EnrolConfig, w io.Writer) error {
	e, err := newEnrolment(c)
	if err != nil {
		return err
	}
	out, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", out)
	return err
}

func newEnrolment(c EnrolConfig) (*enrolment, error) {
	r, err := findRole(c.Role)
	if err != nil || r.listen == "" {
		var want []string
		for _, r := range roles() {
			if r.listen != "" {
				want = append(want, r.name)
			}
		}
		return nil, fmt.Errorf("role that runs on another host: got %q, want one of %s", c.Role, strings.Join(want, ", "))
	}
	e := &enrolment{Role: r.name}
	if e.Platform, err = enrolledPlatform(c.Data, c.URL); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, err
	}
	known, push, err := openTokens(c.Data)
	if err != nil {
		return nil, err
	}
	if r.checks {
		e.Known = known
	}
	if r.pushes {
		e.Push = push
	}
	dir := filepath.Join(c.Data, "enrolment")
	if r.asks != nil {
		if e.Asker, err = certify(dir, []string{r.name}, nil); err != nil {
			return nil, err
		}
	}
	if isAsked(r.name) {
		if len(c.Hosts) == 0 {
			return nil, errors.New("--host is required: the name by which the other host is reached")
		}
		behind := []string{r.name}
		for _, other := range roles() {
			if other.beside == r.name && isAsked(other.name) {
				behind = append(behind, other.name)
			}
		}
		if e.Door, err = certify(dir, behind, c.Hosts); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// enrolledPlatform is the origin of the platform in data, or url where it was never started.
func enrolledPlatform(data, url string) (string, error) {
	client, err := readClient(filepath.Join(data, "client.json"))
	if err != nil {
		return "", err
	}
	switch {
	case client.URL == "" && url == "":
		return "", fmt.Errorf("%s is no platform's data directory, or was never started: it has no client.json; --url says which platform it will be", data)
	case client.URL == "":
		return parseOrigin(url)
	case url != "" && url != client.URL:
		return "", fmt.Errorf("--url: got %s, but %s is %s", url, data, client.URL)
	}
	return client.URL, nil
}

func readEnrolment(path string) (*enrolment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds a key and can be read by others (chmod 600)", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var e enrolment
	if err := strict.UnmarshalKnown(data, limits.Request, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &e, nil
}
