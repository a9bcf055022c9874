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
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/durable"
	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/owned"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/strict"
)

// enrolmentLife is how long an enrolment is valid.
const enrolmentLife = 365 * 24 * time.Hour

// certify issues credentials from the enrolment authority in dir, and creates the
// authority at first use. If hosts (names or addresses) are given, the credentials are
// a server's: a door that leads to the roles. Otherwise they are a client's: a role
// that sends requests to roles of other hosts.
func certify(dir string, roles, hosts []string) (*peer.Credentials, error) {
	dir, err := owned.Dir(dir)
	if err != nil {
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
	if err := keys.Seal(dir); err != nil {
		return nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := x509.Certificate{
		Subject:   pkix.Name{CommonName: "Colophon " + roles[0]},
		NotBefore: time.Now().Add(-5 * time.Minute), NotAfter: time.Now().Add(enrolmentLife),
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
	der, err := x509.CreateCertificate(rand.Reader, &leaf, authority.Cert, leafKey.Public(), key.PrivateKey)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, err
	}
	block := func(kind string, b []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}) }
	return &peer.Credentials{
		CA: block("CERTIFICATE", authority.Cert.Raw), Cert: block("CERTIFICATE", der), Key: block("PRIVATE KEY", raw),
	}, nil
}

// enrolment is the file that Enrol writes and ServeHost reads.
type enrolment struct {
	Role     string            `json:"role"`
	Platform string            `json:"platform"`        // the platform's origin
	Door     *peer.Credentials `json:"door,omitempty"`  // server credentials, if other roles send requests to this role
	Asker    *peer.Credentials `json:"asker,omitempty"` // client credentials, if this role sends requests to others
	Known    tokens            `json:"known,omitempty"` // hashes of the tokens, if the role checks tokens
	Push     string            `json:"push,omitempty"`  // the attestor's token, if the role is the attestor
}

// EnrolConfig says which role gets a host of its own.
type EnrolConfig struct {
	Role   string   // a role with Role.Listen; required
	Data   string   // the platform's data directory; required
	URL    string   // the platform's public origin; required if the platform was never started
	Output string   // path of the file that Enrol writes; required
	Hosts  []string // names or addresses by which other roles reach the role's host; required if other roles send requests to this role
}

// Enrol writes the file that ServeHost reads on the other host: JSON. The file holds
// private keys, so its mode is 0600 whatever the umask is. Enrol replaces no file. The record of the enrolment is
// on the disk before the file is, and the platform sends it to its audit ledger.
func Enrol(c EnrolConfig) error {
	if _, err := os.Lstat(c.Output); err == nil {
		return fmt.Errorf("--output: %s exists; remove it, or choose another name", c.Output)
	}
	e, err := newEnrolment(c)
	if err != nil {
		return err
	}
	out, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	// The record first: nobody gets an enrolment that is not recorded.
	ledger, err := leaver(c.Data)
	if err != nil {
		return fmt.Errorf("recording the enrolment: %w", err)
	}
	act := enrolled(c, e)
	if err := ledger.Leave(act); err != nil {
		return fmt.Errorf("recording the enrolment: %w", err)
	}
	if err := durable.CreateFile(c.Output, append(out, '\n'), 0o600); err != nil {
		act.Outcome, act.Reason = audit.Failed, audit.Shown("the file could not be written")
		return errors.Join(err, ledger.Leave(act))
	}
	return nil
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
		return nil, fmt.Errorf("role for another host: expected one of %s, found %q", strings.Join(want, ", "), c.Role)
	}
	if c.Data, err = owned.Dir(c.Data); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	e := &enrolment{Role: r.name}
	if e.Platform, err = enrolledPlatform(c.Data, c.URL); err != nil {
		return nil, err
	}
	known, push, err := openTokens(c.Data)
	if err != nil {
		return nil, err
	}
	// Roles that run beside it use its enrolment.
	var askers []string
	for _, other := range roles() {
		if other.name != r.name && other.beside != r.name {
			continue
		}
		if other.checks {
			e.Known = known
		}
		if other.asks != nil {
			askers = append(askers, other.name)
		}
	}
	if r.pushes {
		e.Push = push
	}
	dir := filepath.Join(c.Data, "enrolment")
	if len(askers) > 0 {
		if e.Asker, err = certify(dir, askers, nil); err != nil {
			return nil, err
		}
	}
	if isAsked(r.name) {
		if len(c.Hosts) == 0 {
			return nil, errors.New("--host is required: by which name do other hosts reach the host of this role?")
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

// enrolledPlatform returns the origin of the platform whose data directory is data.
// If that platform was never started, the origin is url.
func enrolledPlatform(data, url string) (string, error) {
	client, err := readClient(filepath.Join(data, "client.json"))
	if err != nil {
		return "", err
	}
	switch {
	case client.URL == "" && url == "":
		return "", fmt.Errorf("%s has no client.json: start the platform there first, or give its future origin with --url", data)
	case client.URL == "":
		return parseOrigin(url)
	case url != "" && url != client.URL:
		return "", fmt.Errorf("--url: expected %s, the origin of the platform in %s, found %s", client.URL, data, url)
	}
	return client.URL, nil
}

func readEnrolment(path string) (*enrolment, error) {
	data, err := owned.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--enrolment: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s holds private keys, but other users can read it; chmod 600 %s", path, path)
	}
	var e enrolment
	if err := strict.UnmarshalKnown(data, limits.Request, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &e, nil
}
