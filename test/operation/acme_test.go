package operation

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/acme"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/pebble"
)

// certified reserves a platform that gets its certificate from an ACME server.
func certified(t *testing.T, validity time.Duration) (*harness.Platform, *pebble.Server) {
	t.Helper()
	p := harness.Reserve(t)
	_, port, _ := strings.Cut(p.Addr, ":")
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	server := pebble.Start(t, filepath.Dir(harness.Bin(t, "pebble")), number, validity)
	t.Setenv("SSL_CERT_FILE", server.CAFile) // the attestor is a client of the port
	p.URL = "https://localhost:" + port
	settings := acme.Settings{Directory: server.Directory, Email: "ops@example.com", AcceptTerms: true, CAFile: server.CAFile}
	p.Args = []string{"--url", p.URL, "--config", harness.Config(t, map[string]any{"tls": map[string]any{"acme": settings}})}
	return p, server
}

// TestACME: a platform gets its certificate from an ACME server and renews it while it runs.
// Without the server the old one stays in use, and operators see that.
func TestACME(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p, server := certified(t, 15*time.Second)
	p.Up()
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.Roots}, DisableKeepAlives: true}}
	get := func(client *http.Client, path string) string {
		t.Helper()
		answer, err := client.Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if got := get(trusting, "/readyz"); !strings.HasPrefix(got, "ok\n") || strings.Contains(got, "not renewed") {
		t.Errorf("/readyz: got %q", got)
	}
	anybody := &tls.Config{InsecureSkipVerify: true}
	serial := func() string {
		conn, err := tls.Dial("tcp", p.Addr, anybody)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}

	// Account key and network are the role acme's alone, and what it has is for the port.
	api, user := p.Role("api"), p.UserOf("api")
	for _, file := range []string{"account.key", "certificate.pem"} {
		info, err := os.Stat(filepath.Join(p.Data, "acme", file))
		if err != nil {
			t.Fatal(err)
		}
		if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != p.UserOf("acme") || uid == user || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is of user %d with mode %o", file, uid, info.Mode().Perm())
		}
		if out, err := as(user, "cat", filepath.Join(p.Data, "acme", file)); err == nil {
			t.Errorf("the role api can read %s: %s", file, out)
		}
	}
	for role, want := range map[string]int{"registry": http.StatusForbidden, "attestor": http.StatusForbidden, "api": http.StatusOK} {
		answer, err := p.As(role, "acme").Get("http://acme/certificate")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s asks for the key of the port: got %d, want %d", role, answer.StatusCode, want)
		}
	}
	// Nobody else than the authority, while it is expected, gets a certificate for its question.
	if conn, err := tls.Dial("tcp", p.Addr, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: []string{"acme-tls/1"}}); err == nil {
		conn.Close()
		t.Error("a stranger got a challenge's certificate")
	}

	first := serial()
	eventually(t, "the second certificate", func() bool { return serial() != first })
	if p.Role("api") != api {
		t.Error("the role api restarted")
	}
	server.Stop()
	eventually(t, "a line of /readyz", func() bool {
		return strings.Contains(get(&http.Client{Transport: &http.Transport{TLSClientConfig: anybody}}, "/readyz"), ", was not renewed: no new certificate for localhost on ")
	})
	last := serial()
	metrics := get(&http.Client{Transport: &http.Transport{TLSClientConfig: anybody}}, "/metrics")
	if !strings.Contains(metrics, "\ncolophon_acme_failures 1\n") || !regexp.MustCompile(`(?m)^colophon_certificate_end_timestamp_seconds{certificate="port"} 1\.`).MatchString(metrics) {
		t.Error("the metrics do not tell of the failure")
	}
	out, err := exec.Command(harness.Bin(t, "colophond"), append([]string{"check", "--data", p.Data, "--listen", p.Addr}, p.Args...)...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "certificate    for localhost until ") || !strings.Contains(string(out), "note   acme           no new certificate for localhost on ") {
		t.Errorf("colophond check: %v\n%s", err, out)
	}

	// After a restart the old certificate is there at once, and the server is not asked again.
	var before, after struct{ Failures int }
	attempts := func(into any) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(p.Data, "acme", "attempts.json"))
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	attempts(&before)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Up()
	if got := serial(); got != last {
		t.Errorf("after a restart: got certificate %s, want %s", got, last)
	}
	if attempts(&after); after != before {
		t.Errorf("a restart asks again: got %+v, want %+v", after, before)
	}
}

// TestACMEWithoutServer: a platform whose ACME server is down starts, and gets no certificate
// of its own making.
func TestACMEWithoutServer(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	needs.Long(t)
	p, server := certified(t, time.Hour)
	server.Stop()
	p.Up()
	if conn, err := tls.Dial("tcp", p.Addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
		conn.Close()
		t.Error("the port has a certificate, want none")
	}
	for _, want := range []string{"the certificate of the port was not renewed", "the port has no certificate yet"} {
		if !strings.Contains(p.Log.String(), want) {
			t.Errorf("log: got no %q", want)
		}
	}
}
