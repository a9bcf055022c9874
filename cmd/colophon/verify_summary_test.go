package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSummaryIsRefusedEarly: a summary that cannot be signed is refused before anything
// is verified. test/interop tests the signing.
func TestSummaryIsRefusedEarly(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	key := s.file("key.pem", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	const id = "https://verifier.example.com/release"
	out := filepath.Join(t.TempDir(), "vsa.json")
	verify := func(args ...string) []string {
		return append([]string{"verify", s.image, "--any-source", "--skip-source"}, args...)
	}
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("COLOPHON_PLATFORM", "")
	s.run(exitUsage, verify("--verifier", id), "need --vsa")
	s.run(exitUsage, verify("--vsa", out, "--verifier", id), "needs a signer")
	s.run(exitUsage, verify("--vsa", out, "--sign-key", key), "--verifier", "expected a URI")
	s.run(exitUsage, verify("--vsa", out, "--sign-key", key, "--verifier", "me"), `expected a URI, found "me"`)
	s.run(exitUsage, verify("--vsa", out, "--sign-key", key, "--identity-token-file", key, "--verifier", id), "exclude each other")
	s.run(exitUsage, verify("--vsa", filepath.Dir(out), "--sign-key", key, "--verifier", id), "not a regular file")
	s.run(exitUsage, append(verify("--vsa", out, "--sign-key", key, "--verifier", id), s.image), "--vsa needs exactly one image")
	s.run(exitUsage, []string{"verify", t.TempDir(), "--any-source", "--vsa", "attach", "--sign-key", key, "--verifier", id}, "--resource")
	s.run(exitFailure, verify("--vsa", out, "--sign-key", key, "--verifier", id), "no platform is configured", "colophon login")

	// The digest of the policy covers all that was demanded.
	asked := []string{"--vsa", out, "--sign-key", key, "--verifier", id}
	loose, strict := s.file("loose.json", []byte(`{"anySource":true}`)), s.file("strict.json", []byte(`{"anySource":true,"contents":true}`))
	s.run(exitUsage, append([]string{"verify", s.image, "--policy", loose, "--contents"}, asked...), "does not demand what --contents does", `"contents": true`)
	s.run(exitFailure, append([]string{"verify", s.image, "--policy", strict, "--contents"}, asked...), "no platform is configured")
	s.run(exitFailure, verify(append(asked, "--contents")...), "no platform is configured") // the policy is made of the flags
	source := []string{"verify", s.image, "--source", "git.example.com/team/app"}
	s.run(exitUsage, append(append(source, "--signers", key), asked...), "cannot say what --signers and --gitsign-identity demand")
	s.run(exitUsage, append(append(source, "--gitsign-identity", "a@example.com", "--gitsign-issuer", "https://accounts.example.com"), asked...), "cannot say what")

	client := func(url string) {
		t.Setenv("COLOPHON_PLATFORM", s.file("client.json", []byte(`{"url":"`+url+`","token":"t","fingerprint":"sha256:00"}`)))
	}
	client("http://127.0.0.1:1")
	s.run(exitFailure, verify("--vsa", out, "--sign-key", key, "--verifier", id), "does not trust the platform", "trust add http://127.0.0.1:1")
	client("http://127.0.0.1:8080")
	s.run(exitUsage, verify("--vsa", out, "--sign-key", key, "--verifier", id), key)
	if _, err := os.Stat(out); err == nil {
		t.Error("a summary was written")
	}
}
