package platform

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/platform/release/scan"
)

// writePair writes a certificate for builds.example.com until end, and its key.
func writePair(t *testing.T, end time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: end, DNSNames: []string{"builds.example.com"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// putScanner puts a program beside this one, where platforms look for the scanner.
func putScanner(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(self), scan.Program)
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
}

// TestCheck: what serve would refuse is an error before it, and nothing is created.
func TestCheck(t *testing.T) {
	cert, key := writePair(t, time.Now().Add(30*24*time.Hour))
	soon, soonKey := writePair(t, time.Now().Add(24*time.Hour))
	ended, endedKey := writePair(t, time.Now().Add(-time.Minute))
	data := filepath.Join(t.TempDir(), "data")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var none bytes.Buffer
	if err := Check(Config{Listen: "127.0.0.1:8080", LogFormat: "text", LogLevel: "info"}, &none); err == nil || !strings.Contains(none.String(), "error  scanner") {
		t.Errorf("without a scanner: got %v and\n%s", err, &none)
	}
	putScanner(t)
	others, renewed := t.TempDir(), t.TempDir() // in renewed, client.json was removed for a new token
	for _, path := range []string{filepath.Join(others, "client.json"), filepath.Join(renewed, "admin.json")} {
		if err := os.WriteFile(path, []byte(`{"url": "http://127.0.0.1:9", "token": "x"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	nonsense := filepath.Join(others, "nonsense.json")
	if err := os.WriteFile(nonsense, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	port443 := func(c *Config) { c.Listen, c.URL = "0.0.0.0:443", "https://builds.example.com" }
	for name, tc := range map[string]struct {
		change func(*Config)
		file   string // content of --config
		want   string // in a line of the output
		ok     bool
	}{
		"defaults":                  {func(*Config) {}, "", "ok     address        http://127.0.0.1:8080", true},
		"data that is not there":    {func(c *Config) { c.Data = data }, "", "ok     data           " + data + " (made at the first start)", true},
		"a certificate":             {func(c *Config) { c.TLSCert, c.TLSKey = cert, key }, "", "ok     certificate    for builds.example.com until ", true},
		"a certificate that ends":   {func(c *Config) { c.TLSCert, c.TLSKey = soon, soonKey }, "", "note   certificate    for builds.example.com until ", true},
		"a certificate that ended":  {func(c *Config) { c.TLSCert, c.TLSKey = ended, endedKey }, "", "the certificate ended on ", false},
		"another certificate's key": {func(c *Config) { c.TLSCert, c.TLSKey = cert, soonKey }, "", "error  certificate", false},
		"another name":              {func(c *Config) { c.TLSCert, c.TLSKey, c.URL = cert, key, "https://other.example.com" }, "", "it is not for other.example.com, but for builds.example.com", false},
		"no certificate":            {func(c *Config) { c.Listen, c.URL = "0.0.0.0:443", "https://builds.example.com" }, "", "error  address", false},
		"a wrong log level":         {func(c *Config) { c.LogLevel = "loud" }, "", "error  configuration", false},
		"no mirror":                 {func(c *Config) { c.Mirror = data }, "", "error  mirror", false},
		"no buildkitd":              {func(c *Config) { c.Buildkitd = data }, "", "error  buildkitd", false},
		"no runtime":                {func(c *Config) { c.Buildkitd = program }, `{"build": {"runtime": "no-such-runtime"}}`, "note   runtime        Dockerfiles cannot be built: ", true},
		"an unknown member":         {func(*Config) {}, `{"registry": {"mutabel": []}}`, "error  configuration", false},
		"a malformed pattern":       {func(*Config) {}, `{"registry": {"mutable": ["["]}}`, `mutable pattern "["`, false},
		"an issuer of no type":      {func(*Config) {}, `{"fulcio": {"OIDCIssuers": {"https://a.example.com": {"Type": "nonsense"}}}}`, "error  fulcio", false},
		"no trusted root":           {func(*Config) {}, `{"trustedRoot": "` + nonsense + `", "signingConfig": "` + nonsense + `"}`, "error  trustedRoot", false},
		"an ACME server":            {port443, `{"tls": {"acme": {"directory": "https://acme.example.com/dir", "acceptTerms": true}}}`, "ok     acme           https://acme.example.com/dir", true},
		"a plain ACME server":       {port443, `{"tls": {"acme": {"directory": "http://acme.example.com/dir", "acceptTerms": true}}}`, "tls.acme: directory: expected the https URL", false},
		"terms that nobody accepts": {port443, `{"tls": {"acme": {"directory": "https://acme.example.com/dir", "acceptTerms": false}}}`, "tls.acme: acceptTerms: ", false},
		"no name":                   {func(c *Config) { c.Listen, c.URL = "10.0.0.1:443", "" }, `{"tls": {"acme": {"directory": "https://acme.example.com/dir", "acceptTerms": true}}}`, "a certificate is for a host name", false},
		"no such authorities":       {port443, `{"tls": {"acme": {"directory": "https://acme.example.com/dir", "acceptTerms": true, "caFile": "/nonexistent"}}}`, "tls.acme: caFile: ", false},
		"two certificates":          {func(c *Config) { c.TLSCert, c.TLSKey = cert, key }, `{"tls": {"acme": {"directory": "https://acme.example.com/dir", "acceptTerms": true}}}`, "the port has one certificate", false},
		"no mirror in the file":     {func(*Config) {}, `{"mirror": "/nonexistent"}`, "error  mirror         ", false},
		"no such port":              {func(c *Config) { c.Listen = "127.0.0.1:99999" }, "", "a port from 0 to 65535", false},
		"no processors":             {func(*Config) {}, `{"build": {"cpus": -1}}`, "build: cpus: expected 0, for the default, or more, found -1", false},
		"a small disk":              {func(*Config) {}, `{"build": {"disk": 1}}`, "build: disk: expected at least 33554432 bytes, found 1", false},
		"another platform's data":   {func(c *Config) { c.Data = others }, "", "is the directory of the platform http://127.0.0.1:9, and a platform cannot change its URL", false},
		"another's, a new token":    {func(c *Config) { c.Data = renewed }, "", "is the directory of the platform http://127.0.0.1:9, and", false},
		"everybody may make data":   {func(c *Config) { c.Data = filepath.Join(open, "data") }, "", "error  data           other users may write " + open, false},
		"data of a long path":       {func(c *Config) { c.Data = filepath.Join(data, strings.Repeat("x", 100)) }, "", "the kernel allows no longer socket paths", false},
		"a port below zero":         {func(c *Config) { c.Listen, c.URL = "127.0.0.1:-1", "http://127.0.0.1" }, "", "--listen 127.0.0.1:-1: expected a port from 0 to 65535, found \"-1\"", false},
		"no such port in --url":     {func(c *Config) { c.URL = "http://127.0.0.1:99999" }, "", "--url http://127.0.0.1:99999: expected a port from 1 to 65535", false},
		"no limits":                 {func(*Config) {}, `{"build": {"cpus": -1, "memory": -5, "pids": -3, "disk": -1}}`, "build: cpus: expected 0", false},
		"roles that are builds":     {func(*Config) {}, `{"roles": {"uidBase": 1879048192}}`, "a build would be a role", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Listen: "127.0.0.1:8080", URL: "", LogFormat: "text", LogLevel: "info"}
			tc.change(&c)
			if c.TLSCert != "" && c.URL == "" {
				c.URL = "https://builds.example.com"
			}
			if tc.file != "" {
				c.File = filepath.Join(t.TempDir(), "config.json")
				if err := os.WriteFile(c.File, []byte(tc.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			if err := Check(c, &out); (err == nil) != tc.ok || !strings.Contains(out.String(), tc.want) {
				t.Errorf("got %v and\n%s\nwant %q", err, &out, tc.want)
			}
		})
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("check made the data directory")
	}
}

// TestWarnings: what the role api hears from serve, operators see at /readyz.
func TestWarnings(t *testing.T) {
	end := time.Now().Add(20 * 24 * time.Hour).Truncate(time.Second)
	cert, key := writePair(t, end)
	pair, _, err := readKeyPair(cert, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		told string
		now  time.Time
		want []string
	}{
		"without TLS":            {`{}`, end, nil},
		"a clock":                {`{"clock": "it is wrong"}`, end, []string{"it is wrong"}},
		"fifteen days are left":  {"pair", end.Add(-15 * 24 * time.Hour), nil},
		"thirteen days are left": {"pair", end.Add(-13 * 24 * time.Hour), []string{"the certificate of the port ends in 312 hours"}},
	} {
		var h heard
		told := []byte(tc.told)
		if tc.told == "pair" {
			if told, err = json.Marshal(news{Pair: &pair}); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.take(told); err != nil {
			t.Fatal(err)
		}
		if got := h.warnings(tc.now); strings.Join(got, "; ") != strings.Join(tc.want, "; ") {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if (h.tls() != nil) != (tc.told == "pair") {
			t.Errorf("%s: got TLS %v", name, h.tls() != nil)
		}
		if tc.told == "pair" {
			h.renewal.Store(&acme.State{Failures: 1, Fault: "the authority is down"})
			line := "the certificate of the port, which ends on " + end.UTC().Format(time.RFC3339) + ", was not renewed: the authority is down"
			if got := h.warnings(tc.now); !slices.Contains(got, line) {
				t.Errorf("%s, and a fault: got %q, want %q", name, got, line)
			}
		}
	}
}
