package operation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/platform/witness"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// auditor asks the ledger of a platform with the CLI.
type auditor struct {
	*harness.Platform
	key string
}

func newAuditor(p *harness.Platform) *auditor {
	p.T.Helper()
	raw, err := os.ReadFile(filepath.Join(p.Data, "audit.vkey"))
	if err != nil {
		p.T.Fatal(err)
	}
	return &auditor{p, strings.TrimSpace(string(raw))}
}

// run runs a command with the login in a file of the data directory.
func (a *auditor) run(account string, code int, args ...string) string {
	a.T.Helper()
	cmd := a.Colophon(a.T.Context(), args...)
	cmd.Env = append(slices.DeleteFunc(cmd.Env, func(v string) bool { return strings.HasPrefix(v, "COLOPHON_PLATFORM=") }),
		"COLOPHON_PLATFORM="+filepath.Join(a.Data, account), "XDG_DATA_HOME="+filepath.Join(a.Data, "..", "share"))
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		a.T.Fatalf("%s: %v: got exit code %d, want %d\n%s", account, args, got, code, out)
	}
	return string(out)
}

// list lists records until one matches all of want: roles send what they spooled a moment later.
func (a *auditor) list(want []string, args ...string) string {
	a.T.Helper()
	args = append([]string{"audit", "list", "--key", a.key}, args...)
	var out string
	defer func() {
		if a.T.Failed() {
			a.T.Logf("%v: got\n%s", args, out)
		}
	}()
	await.True(a.T, fmt.Sprintf("%v: %q", args, want), func() bool {
		out = a.run("client.json", 0, args...)
		return !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(out, s) })
	})
	return out
}

// newAuditWriter returns a key that claims to sign for a role.
func newAuditWriter(t *testing.T, role string) (audit.Writer, ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Writer{Role: role, Key: spki}, key
}

func auditSigner(t *testing.T, key ed25519.PrivateKey, role string) *audit.Signer {
	t.Helper()
	s, err := audit.NewSigner(key, role, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// auditRecord returns a small signed record.
func auditRecord(t *testing.T, s *audit.Signer) []byte {
	t.Helper()
	e, err := s.Seal(audit.Record{Kind: audit.KindRelease, Outcome: audit.Accepted, Effect: audit.Allowed}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e.Marshal()
}

func post(t *testing.T, client *http.Client, url, token string, body []byte) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestAuditRole: the platform keeps an audit ledger without configuration. Who may only pull reads nothing of
// it, nobody enrols a key at the port, and a role enrols and records only as itself.
func TestAuditRole(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	a := newAuditor(p)
	for token, want := range map[string]int{"": 401, p.Token("pull.json"): 401, p.Token("client.json"): 200} {
		r, err := http.NewRequest(http.MethodGet, p.URL+"/audit/v1/checkpoint", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("reading with a token of %d bytes: got status %d, want %d", len(token), resp.StatusCode, want)
		}
	}
	record := func(key ed25519.PrivateKey, role string) []byte { return auditRecord(t, auditSigner(t, key, role)) }
	mine, key := newAuditWriter(t, "attestor")
	wanted, err := json.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/audit/v1/writers", "/audit/v1//writers", "/audit/v1/./writers", "/audit/v1/x/../writers", "/audit/v1/%77riters"} {
		if code := post(t, http.DefaultClient, p.URL+path, p.Token("admin.json"), wanted); code == http.StatusOK {
			t.Errorf("%s: enrolled at the port", path)
		}
	}
	// The port does not even pass that on.
	if code := post(t, http.DefaultClient, p.URL+"/audit/v1/writers", p.Token("admin.json"), wanted); code != http.StatusNotFound {
		t.Errorf("enrolling at the port: got status %d, want 404", code)
	}
	for _, role := range []string{"api", "registry", "trust", "search", "builder", "attestor"} {
		want := http.StatusForbidden
		if role == "attestor" {
			want = http.StatusOK
		}
		if want == 200 { // before, nobody enrolled the key
			if code := post(t, http.DefaultClient, p.URL+"/audit/v1/records", p.Token("admin.json"), record(key, "attestor")); code != 400 {
				t.Errorf("a record by a stranger: got status %d, want 400", code)
			}
		}
		if code := post(t, p.As(role, "ledger"), "http://ledger/audit/v1/writers", "", wanted); code != want {
			t.Errorf("%s enrols a key of the attestor: got status %d, want %d", role, code, want)
		}
		if want != 200 {
			continue
		}
		if code := post(t, http.DefaultClient, p.URL+"/audit/v1/records", "", record(key, "registry")); code != 400 {
			t.Errorf("the attestor records as the registry: got status %d, want 400", code)
		}
		if code := post(t, http.DefaultClient, p.URL+"/audit/v1/records", "", record(key, "attestor")); code != 200 {
			t.Errorf("the attestor records as itself: got status %d, want 200", code)
		}
	}
	a.list([]string{"release", "attestor"})
	metrics := string(p.Get("/metrics"))
	for _, line := range []string{`colophon_audit_spool_bytes{role="attestor"} 0`, `colophon_audit_spool_bytes{role="trust"} 0`, "colophon_audit_entries "} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.run("client.json", 0, "audit", "verify", filepath.Join(p.Data, "audit", "ledger"), "--key", a.key)
	p.Up() // with the same key, whatever a crash left
	if got := newAuditor(p).key; got != a.key {
		t.Errorf("the key changed: got %s, want %s", got, a.key)
	}
	for _, path := range []string{"/key", "/audit/key"} {
		resp, err := http.Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Errorf("the port serves the ledger's key at %s", path)
		}
	}
}

// TestAuditRequired: with audit.required, a release and a change of the distrust list are in the ledger, or have no
// effect. When the full disk of the ledger has room again, they work.
func TestAuditRequired(t *testing.T) {
	needs.Root(t, "mounting a small disk")
	p := harness.Reserve(t)
	disk := filepath.Join(p.Data, "audit")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	p.Args = []string{"--config", harness.Config(t, map[string]any{"audit": map[string]any{"required": true}})}
	p.Up()
	p.Trust()
	a := newAuditor(p)
	repo := harness.GoRepo(t)
	commit := gittest.Git(t, repo, "rev-parse", "HEAD")
	release(t, p, repo, "one")
	a.list([]string{"release", "accepted", "allowed", p.Addr + "/one:v1.0.0"}, "--kind", "release", "--commit", commit)
	add := []string{"distrust", "add", "--commit", strings.Repeat("ab", 20), "--reason", "pushed with a stolen token"}
	a.run("admin.json", 0, add...)
	a.list([]string{"distrust", "done"}, "--kind", "distrust", "--commit", strings.Repeat("ab", 20))
	told := p.Get("/distrust")

	other, key := newAuditWriter(t, "attestor")
	wanted, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	if code := post(t, p.As("attestor", "ledger"), "http://ledger/audit/v1/writers", "", wanted); code != http.StatusOK {
		t.Fatalf("enrolling: got status %d", code)
	}
	waste, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer waste.Close()
	signer := auditSigner(t, key, "attestor")
	for n, refused := 0, 0; refused < 5; n++ { // the journal may have a little room in a page that it has
		for err = nil; err == nil; {
			_, err = waste.Write(make([]byte, 1<<12))
		}
		if code := post(t, http.DefaultClient, p.URL+"/audit/v1/records", "", auditRecord(t, signer)); code != http.StatusOK {
			refused++
		}
		if n == 200 {
			t.Fatal("the ledger takes records on a full disk")
		}
	}
	again := []string{"release", repo, "--ref", "v1.0.0", "--image", p.Addr + "/two"}
	if out := a.run("client.json", 1, again...); !strings.Contains(out, "the audit ledger did not record the release") {
		t.Errorf("a release on a full disk of the ledger:\n%s", out)
	}
	r, err := http.NewRequest(http.MethodGet, p.URL+"/v2/two/manifests/v1.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(r); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("the tag of the release that was not recorded: got %v, %v", resp, err)
	}
	if out := a.run("admin.json", 1, add...); !strings.Contains(out, "the list did not change") {
		t.Errorf("a change of the list on a full disk of the ledger:\n%s", out)
	}
	entries := func(raw []byte) int { return bytes.Count(raw, []byte("\n")) }
	if now := p.Get("/distrust"); entries(now) != entries(told) {
		t.Errorf("the list changed:\n%s", now)
	}

	if err := waste.Truncate(0); err != nil {
		t.Fatal(err)
	}
	a.list([]string{"refused", p.Addr + "/two:v1.0.0"}, "--kind", "release", "--effect", "refused") // what became of the first attempt
	release(t, p, repo, "two")
	a.list([]string{"allowed", p.Addr + "/two:v1.0.0"}, "--kind", "release", "--effect", "allowed", "--image", p.Addr+"/two:v1.0.0")
	a.run("admin.json", 0, add...)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.run("client.json", 0, "audit", "verify", filepath.Join(disk, "ledger"), "--key", a.key)
}

// TestAuditSpooled: without audit.required, a ledger that does not answer stops nothing. What was decided meanwhile is
// recorded later, also if the platform was killed in between.
func TestAuditSpooled(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	p.Trust()
	a := newAuditor(p)
	ledger := p.Role("ledger")
	if err := syscall.Kill(ledger, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	repo := harness.GoRepo(t)
	release(t, p, repo, "one")
	a.run("admin.json", 0, "distrust", "add", "--commit", strings.Repeat("ab", 20), "--reason", "pushed with a stolen token")
	p.Kill()
	p.Up()
	a.list([]string{p.Addr + "/one:v1.0.0", "allowed"}, "--kind", "release")
	a.list([]string{"done"}, "--kind", "distrust", "--commit", strings.Repeat("ab", 20))
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if out := a.run("client.json", 0, "audit", "verify", filepath.Join(p.Data, "audit", "ledger"), "--key", a.key); strings.Contains(out, "missing") {
		t.Errorf("got %s", out)
	}
}

// TestAuditVerified: who may release records verdicts with verify --record, and who may only pull does not, so that nothing
// is accepted. The records of release, gate and verify name the proofs, which the registry has.
func TestAuditVerified(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	p.Trust()
	a := newAuditor(p)
	release(t, p, harness.GoRepo(t), "one")
	image := p.Addr + "/one:v1.0.0"
	verify := func(account string, want int) string {
		t.Helper()
		cmd := p.Colophon(t.Context(), "verify", image, "--any-source", "--skip-source", "--record")
		cmd.Env = append(cmd.Env, "COLOPHON_PLATFORM="+filepath.Join(p.Data, account))
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("with the token of %s: got exit code %d, want %d\n%s", account, got, want, out)
		}
		return string(out)
	}
	verify("client.json", 0)
	if out := verify("pull.json", 4); !strings.Contains(out, "may not record verdicts") {
		t.Errorf("got %s", out)
	}
	a.list([]string{"verify  accepted/allowed", image, "by client"}, "--kind", "verify", "--open")
	var answer struct {
		Records []struct {
			Record audit.Record `json:"record"`
		} `json:"records"`
	}
	a.list([]string{"release  accepted"}, "--kind", "release")
	out := a.run("client.json", 0, "audit", "list", "--key", a.key, "--digest", digestOf(t, p, "one"), "--json")
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &answer); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(answer.Records) != 2 {
		t.Fatalf("got %d records about the image, want those of release and verify:\n%s", len(answer.Records), out)
	}
	for _, r := range answer.Records {
		if len(r.Record.Evidence) < 3 {
			t.Errorf("%s: got the proofs %v, want signature, provenance and SBOM", r.Record.Kind, r.Record.Evidence)
		}
		for _, digest := range r.Record.Evidence {
			p.Get("/v2/one/manifests/" + digest)
		}
	}
}

// digestOf returns the digest of the tag v1.0.0.
func digestOf(t *testing.T, p *harness.Platform, name string) string {
	t.Helper()
	resp, err := http.Get(p.URL + "/v2/" + name + "/manifests/v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}

// TestAuditWitnessed: witnesses that the configuration names at SIGHUP cosign the platform's audit ledger.
func TestAuditWitnessed(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Reserve(t)
	config := harness.Config(t, nil)
	p.Args = []string{"--config", config}
	p.Up()
	a := newAuditor(p)
	key, err := note.NewVerifier(a.key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Config{Dir: filepath.Join(t.TempDir(), "w"), Name: "witness.example/w", Logs: []note.Verifier{key}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Handler())
	t.Cleanup(func() { server.Close(); _ = w.Close() })
	file := filepath.Join(t.TempDir(), "witnesses")
	if err := os.WriteFile(file, fmt.Appendf(nil, "witness w %s %s\nquorum w\n", w.Keys()[0], server.URL), 0o644); err != nil {
		t.Fatal(err)
	}
	list := []string{"audit", "verify", p.URL, "--key", a.key, "--witnesses", "1", "--witness-key", w.Keys()[0].String()}
	a.run("client.json", 3, list...)
	raw, err := os.ReadFile(harness.Config(t, map[string]any{"audit": map[string]any{"witnesses": file}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	a.list([]string{"changed: audit"}, "--kind", "configuration", "--open")
	await.True(t, "a witness has cosigned the ledger", func() bool {
		cmd := p.Colophon(t.Context(), list...)
		cmd.Env = append(cmd.Env, "COLOPHON_PLATFORM="+filepath.Join(p.Data, "client.json"))
		return cmd.Run() == nil
	})
}
