package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestSignedPolicies: where authors are named, only policies that one of them signed are used,
// by every command that decides; and no older one than the author allows.
func TestSignedPolicies(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	text := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: p}\nspec:\n  unmatched: deny\n  rules:\n    - name: app\n      images: [{glob: '**'}]\n      accept: [{built: {source: " + prooftest.Source + "}}]\n"
	file := s.file("policy.yaml", []byte(text))
	ops := prooftest.Identity{SAN: s.p.URL + "/users/ops", Issuer: s.p.URL}
	other := ops
	other.SAN = s.p.URL + "/users/eve"
	sign := func(content string, by prooftest.Identity) []byte { return s.p.Sign(by, mustStatement(t, content)) }
	beside := func(bundle []byte) {
		t.Helper()
		if err := os.WriteFile(file+".sigstore.json", bundle, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	commands := map[string][]string{
		"verify":  {"verify", s.image, "--policy", file},
		"test":    {"policy", "test", file, s.image},
		"explain": {"policy", "explain", s.image, "--policy", file},
		"diff":    {"policy", "diff", file, file, s.image},
		"copy":    {"copy", s.image, s.host + "/team/copy", "--policy", file},
		"why":     {"why", s.image, "--policy", file},
	}
	all := func(code int, words ...string) {
		t.Helper()
		for _, args := range commands {
			s.run(code, args, words...)
		}
	}
	all(exitOK) // nobody is named yet
	s.run(exitOK, []string{"policy", "trust", "list"}, "every policy file is used")
	s.run(exitUsage, []string{"policy", "trust", "add", "ops"}, "who signs policies?")
	s.run(exitUsage, []string{"policy", "trust", "add", "ops", "--identity", ops.SAN}, "issuer")
	s.run(exitUsage, []string{"policy", "trust", "add", "Ops!", "--identity", ops.SAN, "--issuer", ops.Issuer}, "name")
	add := func(more ...string) {
		t.Helper()
		s.run(exitOK, append([]string{"policy", "trust", "add", "ops", "--identity", ops.SAN, "--issuer", ops.Issuer}, more...), "policies must be signed now")
	}
	add()
	all(exitUndecided, "no author of policies that this machine trusts signed it", "there is no signature beside it")
	beside(sign(text, other))
	all(exitUndecided, "no author of policies")
	beside(sign(text+"# another file\n", ops))
	all(exitUndecided, "no author of policies")
	beside([]byte("{}"))
	all(exitUndecided, "no author of policies")
	beside(prooftest.New(t).Sign(ops, mustStatement(t, text))) // another platform with the same names
	all(exitUndecided, "no author of policies")
	beside(append(append(sign(text, other), '\n'), sign(text, ops)...))
	all(exitOK)
	s.run(exitUndecided, []string{"verify", s.image, "--policy", s.file("plain.yaml", []byte(text))}, "there is no signature beside it")
	s.run(exitUndecided, []string{"policy", "test", "-", s.image}, "standard input has no signature")
	older := s.file("older.json", []byte(`{"source":"`+prooftest.Source+`"}`))
	layout := filepath.Join(t.TempDir(), "layout")
	s.run(exitOK, []string{"copy", s.image, layout})
	elsewhere := [][]string{
		{"investigate", layout, "--offline", "--policy", older}, {"level", s.image, "--policy", older},
		{"distrust", "add", "--dry-run", "--commit", prooftest.Tree, "--reason", "stolen", s.image, "--policy", older},
	}
	for _, args := range elsewhere {
		s.run(exitUndecided, args, "there is no signature beside it")
	}
	if err := os.WriteFile(older+".sigstore.json", sign(`{"source":"`+prooftest.Source+`"}`, ops), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range elsewhere {
		s.run(exitOK, args)
	}
	s.run(exitOK, []string{"trust", "list"}) // the authors are no trust root

	add("--since", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	all(exitUndecided, "time of the signature")
	add("--max-age", "1ns")
	all(exitUndecided, "want within the last 1ns")
	add("--max-age", "1h")
	all(exitOK)
	s.run(exitOK, []string{"policy", "trust", "list"}, "ops  "+ops.SAN, "at most 1h0m0s ago")
	var listed []listedAuthor
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"policy", "trust", "list", "--json"})), &listed); err != nil || len(listed) != 1 || listed[0].MaxAge != "1h0m0s" {
		t.Errorf("JSON: got %+v, %v", listed, err)
	}

	authors := filepath.Join(os.Getenv("COLOPHON_TRUST"), "policy-authors.json")
	kept, err := os.ReadFile(authors)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"", "{}{}", `{"authors":[{"name":"ops"}]}`, strings.Replace(string(kept), `"authors"`, `"author"`, 1)} {
		if err := os.WriteFile(authors, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, args := range commands {
			cmd := newRootCommand()
			cmd.SetArgs(args)
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			if execute(t.Context(), cmd) == exitOK {
				t.Errorf("%s: accepts with broken authors %q", name, broken)
			}
		}
	}
	if err := os.WriteFile(authors, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitFailure, []string{"policy", "trust", "remove", "eve"}, `there is no author "eve"`)
	s.run(exitOK, []string{"policy", "trust", "remove", "ops"}, "every policy file is used now")
	all(exitOK)
	s.run(exitUsage, []string{"policy", "sign", s.file("no-policy.yaml", []byte("a: b\n")), "--key", "x"}, "no-policy.yaml")
}

// TestPolicyToSign: what is signed are the bytes that were found to be a policy, whatever becomes
// of the file meanwhile, and never an image of the same name.
func TestPolicyToSign(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "apiVersion: colophon.build/v1\nkind: ImagePolicy\nmetadata: {name: p}\nspec: {unmatched: deny}\n"
	const file = "conf.d/policy"
	if err := os.Mkdir("conf.d", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if ref, err := oci.ParseReference(file); err != nil || ref.Dir != "" {
		t.Errorf("got %+v, %v: %s is no name of an image, so that this test tries nothing", ref, err, file)
	}
	p, err := openPolicyToSign(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("not a policy"), 0o600); err != nil {
		t.Fatal(err)
	}
	content, err := p.content()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(content)
	sum := sha256.Sum256([]byte(text))
	if err != nil || string(raw) != text || p.digest().Hex != hex.EncodeToString(sum[:]) {
		t.Errorf("got %q (%s), %v, want what was checked", raw, p.digest(), err)
	}
	if err := os.Symlink("elsewhere", file+".sigstore.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPolicyToSign(file); err == nil {
		t.Error("opens a file whose signatures would go to where a link leads")
	}
}

func mustStatement(t *testing.T, content string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(content))
	statement, err := attest.NewStatement("", hex.EncodeToString(sum[:]), attest.PredicateSign, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return statement
}
