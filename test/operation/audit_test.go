package operation

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/audit"
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
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		out := a.run("client.json", 0, args...)
		if !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(out, s) }) {
			return out
		}
		if time.Now().After(end) {
			a.T.Fatalf("%v: got no %q\n%s", args, want, out)
		}
	}
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
	record := func(key ed25519.PrivateKey, role string) []byte {
		s, err := audit.NewSigner(key, role, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Seal(audit.Record{Kind: audit.KindRelease, Outcome: audit.Accepted, Effect: audit.Allowed}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return e.Marshal()
	}
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
	// Not even from here: where all roles run as one user, the port looks like a role to the ledger.
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
