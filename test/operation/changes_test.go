package operation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/audit"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

// TestAuditTokens: the ledger says which tokens were made, and which was replaced by a person who removed its
// file; and nothing of a token.
func TestAuditTokens(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	a := newAuditor(p)
	out := a.list([]string{"admin", "attestor", "client", "pull"}, "--kind", "user", "--open")
	if n := strings.Count(out, "was made"); n != 4 {
		t.Errorf("got %d tokens that were made, want 4:\n%s", n, out)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	p.Up() // nothing changed
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	old := p.Token("pull.json")
	if err := os.Remove(filepath.Join(p.Data, "pull.json")); err != nil {
		t.Fatal(err)
	}
	p.Up()
	out = a.list([]string{"the token was replaced; it may pull"}, "--kind", "user", "--open")
	if n := strings.Count(out, "the token was"); n != 5 {
		t.Errorf("got %d records of tokens, want 5:\n%s", n, out)
	}
	whole := a.run("client.json", 0, "audit", "list", "--key", a.key, "--open", "--limit", "1000", "--json")
	if strings.Count(whole, `"kind": "user"`) != 5 {
		t.Errorf("the list of all records does not have those of the tokens:\n%s", whole)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	a.run("client.json", 0, "audit", "verify", filepath.Join(p.Data, "audit", "ledger"), "--key", a.key)
	for _, token := range []string{old, p.Token("pull.json"), p.Token("client.json"), p.Token("admin.json")} {
		sum := sha256.Sum256([]byte(token))
		forms := []string{token, hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:]), base64.RawURLEncoding.EncodeToString(sum[:])}
		for role := range 8 { // what serve keeps in its own directory, to see that a token changed
			forms = append(forms, fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%x %d", sum, role))))
		}
		for _, form := range forms {
			if strings.Contains(whole, form) {
				t.Error("a record has a token, or its digest")
			}
			// Records are in the files as base64, so this finds what stands beside them: openings. counts.json is what serve keeps.
			if found, _ := exec.Command("grep", "-rlF", "--exclude=counts.json", "-e", form, filepath.Join(p.Data, "audit"), filepath.Join(p.Data, "changes", "spool"), filepath.Join(p.Data, "changes", "left")).Output(); len(found) > 0 {
				t.Errorf("a token, or its digest, is in %s", found)
			}
		}
	}
}

// TestAuditEnrolment: an enrolment is recorded, while the platform runs and while it does not. Who enrolled
// it is hidden, as the configuration says. Without its record there is no enrolment.
func TestAuditEnrolment(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Start(t)
	a := newAuditor(p)
	enrol := func(role, name string, want int) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		cmd := exec.CommandContext(t.Context(), harness.Bin(t, "colophond"), "enrol", role, "--data", p.Data, "--output", file, "--host", name+".example.com")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Fatalf("enrol %s: got exit code %d, want %d: %s", role, got, want, out)
		}
		if _, err := os.Stat(file); (err == nil) != (want == 0) {
			t.Errorf("enrol %s: exit code %d, and the file: %v", role, want, err)
		}
		return string(out)
	}
	enrol("builder", "build1", 0)
	if out := a.list([]string{"enrolment  done", "serve", "role builder"}, "--kind", "enrolment"); strings.Contains(out, "build1.example.com") {
		t.Errorf("the host is not hidden:\n%s", out)
	}
	a.list([]string{"for the host build1.example.com", "by "}, "--kind", "enrolment", "--open")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	enrol("registry", "store", 0)
	p.Up()
	a.list([]string{"role registry"}, "--kind", "enrolment")

	left := filepath.Join(p.Data, "changes", "left")
	if err := os.RemoveAll(left); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, nil, 0o600); err != nil { // nothing can be left
		t.Fatal(err)
	}
	if out := enrol("attestor", "forge", 1); !strings.Contains(out, "recording the enrolment") {
		t.Errorf("got %s", out)
	}
}

// TestReloadWhileStarting: a SIGHUP before the platform is ready does not end it, nor one before its first role starts.
// The configuration is read again then.
func TestReloadWhileStarting(t *testing.T) {
	p := harness.Reserve(t)
	p.Args = []string{"--config", harness.Config(t, nil)}
	run := filepath.Join(p.Data, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	asks, err := dirlock.Take(run) // as colophon status does for a moment
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- p.TryUp(await.Patience) }()
	await.True(t, "serve takes the directory", func() bool { _, err := os.Stat(filepath.Join(p.Data, "lock")); return err == nil })
	p.Signal(syscall.SIGHUP)
	if err := asks.Release(); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the ledger starts", func() bool { return strings.Contains(p.Log.String(), "role=ledger") })
	p.Signal(syscall.SIGHUP)
	if err := <-started; err != nil {
		t.Fatalf("%v\n%s", err, p.Log)
	}
	await.True(t, "the configuration is read again", func() bool { return strings.Contains(p.Log.String(), "the configuration was read again") })
}

// TestAuditConfiguration: other configurations are recorded, at SIGHUP before they count. audit.private and
// audit.required can change that way.
func TestAuditConfiguration(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Reserve(t)
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(c map[string]any) {
		t.Helper()
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]any{"registry": map[string]any{"mutable": []string{"scratch/*"}}})
	p.Args = []string{"--config", file}
	p.Up()
	a := newAuditor(p)
	a.list([]string{"the platform starts"}, "--kind", "configuration", "--open")

	write(map[string]any{"audit": map[string]any{"required": true, "private": []string{"user"}}})
	p.Signal(syscall.SIGHUP)
	a.list([]string{"changed: audit, registry"}, "--kind", "configuration", "--open")
	write(map[string]any{"audit": map[string]any{"required": true, "private": []string{"user"}}, "registry": map[string]any{"privatePull": true}})
	p.Signal(syscall.SIGHUP)
	a.list([]string{"changed: registry"}, "--kind", "configuration") // the reason is private no more

	// The ledger must have it: a configuration that it cannot record does not count.
	ledger := p.Role("ledger")
	if err := syscall.Kill(ledger, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	write(map[string]any{"audit": map[string]any{"required": false}})
	p.Signal(syscall.SIGHUP)
	await.True(t, "the configuration does not count without its record", func() bool { return strings.Contains(p.Log.String(), "the configuration was not read again") })
	if err := syscall.Kill(ledger, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	a.list([]string{"configuration  failed"}, "--kind", "configuration")
	p.Signal(syscall.SIGHUP)
	a.list([]string{"changed: audit, registry"}, "--kind", "configuration", "--open", "--limit", "1")
}

// TestAuditPolicies: other policies and trust roots of the registry's gate, and another trust document of the platform,
// are recorded. The digest is the one that the verdicts name.
func TestAuditPolicies(t *testing.T) {
	needs.Root(t, "running roles as separate users")
	p := harness.Reserve(t)
	file := filepath.Join(t.TempDir(), "policies.yaml")
	write := func(name string) {
		t.Helper()
		text := "apiVersion: " + policy.APIVersion + "\nkind: " + policy.KindPolicy + "\nmetadata: {name: " + name + "}\nspec:\n  unmatched: allow\n  rules: []\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	p.Args = []string{"--config", harness.Config(t, map[string]any{"audit": map[string]any{"required": true}, "registry": map[string]any{"gate": map[string]any{"policies": file}}})}
	p.Up()
	p.Trust()
	a := newAuditor(p)
	acts := func(kind, role string, want int) (found []audit.Record) {
		t.Helper()
		await.True(t, fmt.Sprintf("%d records of the kind %s by %s", want, kind, role), func() bool {
			var answer struct {
				Records []struct {
					Record audit.Record `json:"record"`
				} `json:"records"`
			}
			out := a.run("client.json", 0, "audit", "list", "--key", a.key, "--kind", kind, "--role", role, "--json")
			if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &answer); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if found = nil; len(answer.Records) >= want {
				for _, r := range answer.Records { // the newest first
					found = append(found, r.Record)
				}
			}
			return found != nil
		})
		return found
	}
	first := acts("policy", "registry", 1)[0].Basis.Policy
	acts("trust", "registry", 1)
	if document := acts("trust", "trust", 1)[0].Basis.Trust; document != fmt.Sprintf("sha256:%x", sha256.Sum256(p.Get("/.well-known/colophon.json"))) {
		t.Errorf("the trust document: got %s", document)
	}
	write("second")
	second := acts("policy", "registry", 2)[0].Basis
	if second.Before != first || second.Policy == first {
		t.Errorf("got %+v, want another digest than %s before", second, first)
	}
	release(t, p, harness.GoRepo(t), "one")
	if tagged := acts("tag", "registry", 1)[0]; tagged.Basis.Policy != second.Policy {
		t.Errorf("a tag was decided by %s, want %s", tagged.Basis.Policy, second.Policy)
	}
}
