package operation

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/trust"
)

// TestTLS: a platform with a certificate uses only TLS, also between its roles, and takes a
// new certificate without a restart.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	harness.WriteCertificate(t, certFile, keyFile, 1)
	roots := filepath.Join(dir, "roots.pem")
	first, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(roots, first, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots) // for the platform and the CLI
	p := harness.Reserve(t)
	p.URL = "https://" + p.Addr
	p.Args = []string{"--tls-cert", certFile, "--tls-key", keyFile, "--config", harness.Config(t, nil)}
	p.Up()
	release(t, p, harness.GoRepo(t), "app")

	serial := func() int64 {
		conn, err := tls.Dial("tcp", p.Addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	api := p.Role("api")
	old, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteCertificate(t, certFile, filepath.Join(dir, "other.pem"), 2)
	eventually(t, "a warning about the pair", func() bool {
		return strings.Contains(p.Log.String(), "the certificate of the port cannot be read again")
	})
	if got := serial(); got != 1 {
		t.Errorf("certificate without its key: got serial number %d, want 1", got)
	}
	if err := os.Rename(filepath.Join(dir, "other.pem"), keyFile); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate", func() bool { return serial() == 2 })
	if p.Role("api") != api {
		t.Error("the role api restarted")
	}
	if now, err := os.ReadFile(keyFile); err != nil || bytes.Equal(now, old) {
		t.Errorf("the key did not change: %v", err)
	}
}

// notices is a service manager, as far as sd_notify(3) goes.
type notices struct {
	t    *testing.T
	conn *net.UnixConn
}

func listenNotices(t *testing.T) *notices {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &notices{t, conn}
}

// next is the next notice.
func (n *notices) next(want string) {
	n.t.Helper()
	n.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 4096)
	size, err := n.conn.Read(buf)
	if err != nil {
		n.t.Fatalf("notice %s: %v", want, err)
	}
	if got := string(buf[:size]); !strings.HasPrefix(got, want) {
		n.t.Fatalf("notice: got %q, want %s", got, want)
	}
}

// TestService: what a service manager and an operator see of a platform that starts, reads
// its configuration again, and stops.
func TestService(t *testing.T) {
	needsRoot(t)
	manager := listenNotices(t)
	p := harness.Reserve(t)
	config := harness.Config(t, nil)
	p.Args = []string{"--config", config, "--log-format", "json", "--log-level", "debug"}
	p.Up()
	manager.next("READY=1")

	pids := func() map[string]int {
		all := map[string]int{}
		for _, role := range []string{"trust", "registry", "rooms", "builder", "attestor", "api"} {
			all[role] = p.Role(role)
		}
		return all
	}
	before := pids()
	reload := func(content string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p.Signal(syscall.SIGHUP)
		manager.next("RELOADING=1\nMONOTONIC_USEC=")
		manager.next("READY=1")
	}
	same, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	restarted := func(want ...string) {
		t.Helper()
		var after map[string]int
		eventually(t, "all roles run", func() bool {
			after = pids()
			return !slices.Contains(slices.Collect(maps.Values(after)), 0)
		})
		var got []string
		for role, pid := range after {
			if pid != before[role] {
				got = append(got, role)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("restarted roles: got %q, want %q", got, want)
		}
		before = after
	}
	reload(string(same))
	restarted()
	if tag(t, p, "one") != 201 || tag(t, p, "two") != 409 {
		t.Error("tags move before the reload")
	}
	var c map[string]any
	if err := json.Unmarshal(same, &c); err != nil {
		t.Fatal(err)
	}
	c["registry"] = map[string]any{"mutable": []string{"*"}}
	with := func(members map[string]any) string {
		maps.Copy(c, members)
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	reload(with(nil))
	restarted("registry")
	if got := tag(t, p, "two"); got != 201 {
		t.Errorf("a tag that may move now: got %d, want 201", got)
	}
	for _, bad := range []string{`{"registry": {"mutabel": []}}`, `{"registry": {"mutable": ["["]}}`, `{"fulcio": {"OIDCIssuers": {"x": {"Type": "nonsense"}}}}`} {
		reload(bad)
		restarted()
	}
	reload(with(map[string]any{"roles": map[string]any{"uidBase": 64000}}))
	restarted()
	delete(c, "roles")
	build := c["build"]
	reload(with(map[string]any{"build": map[string]any{"concurrent": 1000}}))
	restarted()
	reload(with(map[string]any{"build": map[string]any{"stdCache": filepath.Join(config, "no-directory")}}))
	restarted()
	moved := filepath.Join(t.TempDir(), "std")
	reload(with(map[string]any{"build": map[string]any{"stdCache": moved}}))
	eventually(t, "the platform is ready with the new directory", func() bool { return ready(p) })
	restarted("builder")
	reload(with(map[string]any{"build": build}))
	restarted("builder")
	nonsense := filepath.Join(t.TempDir(), "nonsense.json")
	if err := os.WriteFile(nonsense, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(with(map[string]any{"trustedRoot": nonsense, "signingConfig": nonsense}))
	restarted()
	if err := p.Stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	manager.next("STOPPING=1")
	checkLog(t, p.Log.String(), []string{"mutabel", "mutable pattern", "fulcio", "build.uidBase cannot change", "build.concurrent: expected at most", "build.stdCache", "trustedRoot"})
}

// checkLog checks that each line of a log in JSON has its members, that those about a push
// say whose it was, and that nothing else failed.
func checkLog(t *testing.T, log string, errors []string) {
	t.Helper()
	lines := map[string][]string{} // messages of a request
	for text := range strings.Lines(log) {
		var line struct {
			Time                                      time.Time
			Level, Msg, Method, Request, Actor, Error string
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Time.IsZero() || line.Level == "" || line.Msg == "" {
			t.Errorf("line of the log: got %s (%v), want time, level and msg", text, err)
		}
		if strings.Contains(text, "{}") {
			t.Errorf("a value that JSON does not show: %s", text)
		}
		if line.Level == "ERROR" && !slices.ContainsFunc(errors, func(e string) bool { return strings.Contains(line.Error, e) }) {
			t.Errorf("an error: %s", text)
		}
		if line.Msg == "registry: manifest pushed" || line.Msg == "request" && line.Method == http.MethodPut {
			if lines[line.Request] = append(lines[line.Request], line.Msg); line.Actor != "client" || len(line.Request) < 16 {
				t.Errorf("a line about a push: got %s, want request and actor client", text)
			}
		}
	}
	both := 0
	for id, of := range lines {
		switch len(of) {
		case 2:
			both++
		case 1:
			if of[0] != "request" {
				t.Errorf("request %s: got only %q", id, of)
			}
		default:
			t.Errorf("request %s: got %q", id, of)
		}
	}
	if both != 2 {
		t.Errorf("pushes with a line of the port and one of the registry: got %d, want 2", both)
	}
}

// tag pushes a manifest with a tag, and returns the status of the answer.
func tag(t *testing.T, p *harness.Platform, note string) int {
	t.Helper()
	const index = "application/vnd.oci.image.index.v1+json"
	req, err := http.NewRequest(http.MethodPut, p.URL+"/v2/tagged/manifests/v1", strings.NewReader(`{"schemaVersion": 2, "mediaType": "`+index+`", "manifests": [], "annotations": {"note": "`+note+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", index)
	req.Header.Set("Authorization", "Bearer "+p.Token("client.json"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestUnreachable: a platform that does not reach itself at its URL says so, and why.
func TestUnreachable(t *testing.T) {
	p := harness.Reserve(t)
	p.URL = "https://colophon.invalid"
	p.Args = []string{"--url", p.URL, "--config", harness.Config(t, nil)}
	p.Up()
	resp, err := http.Get("http://" + p.Addr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if want := "attestor: does not reach the platform at " + p.URL + ", so releases fail"; err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), want) {
		t.Errorf("/readyz: got %s: %s, want 503 with %q", resp.Status, body, want)
	}
	if !strings.Contains(p.Log.String(), "the role does not reach the platform at "+p.URL) {
		t.Error("the log does not say that the platform does not reach itself")
	}
}

// TestReloadTrust: a trust document that changes at SIGHUP is the one that everything of the platform knows.
func TestReloadTrust(t *testing.T) {
	needsRoot(t)
	manager := listenNotices(t)
	p := harness.Reserve(t)
	issuer := harness.NewIssuer(t)
	config := harness.Config(t, nil)
	p.Args = []string{"--config", config}
	p.Up()
	manager.next("READY=1")
	before := p.Get("/.well-known/colophon.json")
	content, err := os.ReadFile(harness.Config(t, issuer.ForPeople()))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, content, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	manager.next("RELOADING=1\nMONOTONIC_USEC=")
	manager.next("READY=1")
	now := p.Get("/.well-known/colophon.json")
	if bytes.Equal(before, now) {
		t.Fatal("the trust document did not change")
	}
	root, err := trust.Parse(now)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // longer than an answer of /readyz counts
	if got := string(p.Get("/readyz")); !strings.HasPrefix(got, "ok") {
		t.Errorf("/readyz: got %s", got)
	}
	if page := string(p.Get("/")); !strings.Contains(page, root.Fingerprint) {
		t.Errorf("the first page does not have the fingerprint %s:\n%s", root.Fingerprint, page)
	}
	var client api.ClientConfig
	raw, err := os.ReadFile(filepath.Join(p.Data, "client.json"))
	if err == nil {
		err = json.Unmarshal(raw, &client)
	}
	if err != nil || client.Fingerprint != root.Fingerprint {
		t.Errorf("client.json: got fingerprint %s (%v), want %s", client.Fingerprint, err, root.Fingerprint)
	}
	release(t, p, harness.GoRepo(t), "app")
}

// TestReloadOutside: the platform's own trust services, and the roles around them, neither appear nor go while it runs.
func TestReloadOutside(t *testing.T) {
	needsRoot(t)
	p := harness.Start(t)
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	outside := map[string]any{
		"trustedRoot":   write("trusted_root.json", p.Get("/trusted_root.json")),
		"signingConfig": write("signing_config.json", p.Get("/signing_config.json")),
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	manager := listenNotices(t)
	config := harness.Config(t, outside)
	p.Args = []string{"--config", config}
	p.Up()
	manager.next("READY=1")
	own, err := os.ReadFile(harness.Config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, own, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	manager.next("RELOADING=1\nMONOTONIC_USEC=")
	manager.next("READY=1")
	if log := p.Log.String(); !strings.Contains(log, "the configuration was not read again") {
		t.Error("the log does not say that the platform must be restarted for that")
	}
	if got := string(p.Get("/readyz")); !strings.HasPrefix(got, "ok") {
		t.Errorf("/readyz: got %s", got)
	}
}
