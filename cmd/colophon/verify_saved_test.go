package main

import (
	"path/filepath"
	"testing"
)

// TestVerifyCosignSave verifies layouts that stock `cosign save` wrote of images with
// signatures and attestations in the forms of cosign v2 and v3 (testdata/cosign-save).
func TestVerifyCosignSave(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	const dir = "testdata/cosign-save/"
	policy := s.file("policy.json", []byte(`{"signer":{"key":`+quoted(t, string(read(t, dir+"cosign.pub")))+`,"insecureNoLog":true},"attestations":[{"predicateType":"https://example.com/test/v1"}]}`))
	for _, name := range []string{"v2-image", "v3-image", "v2-index", "v3-index"} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			key := []string{"--key", dir + "cosign.pub", "--insecure-no-log"}
			s.run(exitOK, append([]string{"verify", dir + name}, key...), "by the key that the policy names", "accepted")
			s.run(exitRejected, []string{"verify", dir + name, "--key", s.file("other.pub", s.p.KeyHolder().PublicKey()), "--insecure-no-log"}, "✗ signature")
			s.run(exitRejected, []string{"verify", dir + name, "--key", dir + "cosign.pub"}, "✗ log")
			s.run(exitOK, []string{"inspect", dir + name}, "attached: 2")
			copied := filepath.Join(t.TempDir(), "copy")
			s.run(exitOK, []string{"copy", dir + name, copied}, "@sha256:")
			s.run(exitOK, append([]string{"verify", copied}, key...), "accepted")
			s.run(exitOK, []string{"verify", dir + name, "--policy", policy}, "✓ attestation", "accepted")
		})
	}
	s.t = t
}
