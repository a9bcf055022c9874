package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	sigstoreTests = "../../test/conformance/sigstore/testdata/"
	attested      = "testdata/github-attestation/MODULE"
)

// trustSigstore returns a stage that trusts the public Sigstore instance.
func trustSigstore(t *testing.T) *stage {
	t.Setenv("COLOPHON_TRUST", filepath.Join(t.TempDir(), "trust"))
	s := &stage{t: t}
	s.run(exitOK, []string{"trust", "add", "../../trust/tuf/sigstore_trusted_root.json", "--yes"}, "trusted")
	return s
}

func TestVerifyFile(t *testing.T) {
	s := trustSigstore(t)
	file := func(name string, args ...string) []string {
		return append([]string{"verify", name, "--skip-source"}, args...)
	}
	good := func(args ...string) []string {
		return file(attested+".bazel", append([]string{"--bundle", attested + ".bazel.intoto.jsonl"}, args...)...)
	}
	const builder = "https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml"
	right := good("--source", "github.com/aspect-build/rules_lint")
	s.run(exitOK, right, "✓ file", "✓ signature   "+builder+"@refs/tags/v0.0.1", "github.com/aspect-build/rules_lint@8f70009", "accepted")
	s.run(exitOK, append(right, "--builder", builder, "--branch", "publish-to-bcr"), "accepted")
	s.run(exitOK, append(right, "--json"), `"outcome": "accepted"`)
	s.run(exitRejected, append(right, "--tag", "publish-to-bcr"), "✗ provenance")
	s.run(exitRejected, append(right, "--builder", strings.Replace(builder, "publish.yaml", "publish.yml", 1)), "✗ signature")
	s.run(exitRejected, good("--source", "github.com/aspect-build/rules_lint2"), "✗ provenance")
	s.run(exitRejected, good("--source", "github.com/aspect-build/rules_lin"), "✗ provenance")
	s.run(exitRejected, file(attested+"-wrong-signer.bazel", "--bundle", attested+"-wrong-signer.bazel.intoto.jsonl", "--source", "github.com/aspect-build/rules_lint"), "malicious_attestation", "rejected")
	s.run(exitRejected, file("verify.go", "--bundle", attested+".bazel.intoto.jsonl", "--source", "github.com/aspect-build/rules_lint"), "subject of the statement")
	s.run(exitUsage, good(), "which repository")
	s.run(exitUsage, file(attested+".bazel", "--bundle", "no-such-file", "--any-source"), "no-such-file")
	s.run(exitRejected, file(attested+".bazel", "--bundle", s.file("empty", nil), "--any-source"), "there is no bundle")

	// In a file of several bundles, one good bundle is enough at any position.
	bad, err := os.ReadFile(attested + "-wrong-signer.bazel.intoto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	well, err := os.ReadFile(attested + ".bazel.intoto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	both := s.file("both.jsonl", []byte(string(bad)+"\n"+string(well)))
	s.run(exitOK, file(attested+".bazel", "--bundle", both, "--source", "github.com/aspect-build/rules_lint"), "accepted")

	// Answers that contain bundles. What contains none, or is malformed, proves nothing.
	one := strings.TrimSpace(string(well))
	for name, tt := range map[string]struct {
		code    int
		content string
		want    string
	}{
		"GitHub's answer":      {exitOK, `{"attestations":[{"repository_id":1,"bundle":` + one + `,"bundle_url":"https://x.example"}]}`, "accepted"},
		"npm's answer":         {exitOK, `{"attestations":[{"predicateType":"https://github.com/npm/attestation/tree/main/specs/publish/v0.1","bundle":{"mediaType":"x"}},{"predicateType":"https://slsa.dev/provenance/v1","bundle":` + one + `}]}`, "accepted"},
		"gh's output":          {exitOK, `[{"attestation":{"bundle":` + one + `,"bundle_url":""},"verificationResult":{}}]`, "accepted"},
		"no attestations":      {exitRejected, `{"attestations":[]}`, "there is no bundle"},
		"an address alone":     {exitFailure, `{"attestations":[{"bundle":null,"bundle_url":"https://x.example"}]}`, "gh attestation download"},
		"malformed":            {exitRejected, `{"mediaType":`, "rejected"},
		"malformed at the end": {exitOK, one + "\n{", "accepted"},
		"a number":             {exitRejected, "1", "rejected"},
		"too many":             {exitFailure, strings.Repeat("{}", 65), "more than 64 bundles"},
	} {
		t.Run(name, func(t *testing.T) {
			s.run(tt.code, file(attested+".bazel", "--bundle", s.file("wrapped", []byte(tt.content)), "--source", "github.com/aspect-build/rules_lint"), tt.want)
		})
	}
}

func TestVerifySignedFile(t *testing.T) {
	s := trustSigstore(t)
	const dir = sigstoreTests + "cases/"
	const identity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	verify := func(bundle string, args ...string) []string {
		return append([]string{"verify", dir + "a.txt", "--bundle", dir + bundle + "/bundle.sigstore.json"}, args...)
	}
	who := []string{"--identity", identity, "--issuer", "https://token.actions.githubusercontent.com"}
	s.run(exitOK, verify("happy-path-v0.3", who...), "✓ signature   "+identity, "· provenance", "accepted")
	s.run(exitOK, verify("happy-path-v0.1", who...), "accepted")
	s.run(exitRejected, verify("happy-path-v0.3", "--identity", identity+"x", "--issuer", "https://token.actions.githubusercontent.com"), "✗ signature", "rejected")
	s.run(exitRejected, verify("signature-mismatch_fail", who...), "✗ signature", "rejected")
	s.run(exitUsage, verify("happy-path-v0.3", "--identity", identity), "want identity and issuer")
	s.run(exitRejected, verify("happy-path-v0.3", append(who, "--source", "github.com/a/b")...), "there is no provenance")
	s.run(exitUsage, verify("happy-path-v0.3", append(who, "--ref", "v1")...), "name a source")
	s.run(exitUsage, verify("happy-path-v0.3", append(who, "--insecure-no-log")...), "only a key")
	s.run(exitRejected, verify("happy-path-v0.3", "--any-source"), "say which one to accept")
	s.run(exitOK, verify("managed-key-happy-path", "--key", dir+"managed-key-happy-path/key.pub"), "by the key that the policy names", "accepted")
	s.run(exitRejected, verify("happy-path-v0.3", "--key", dir+"managed-key-happy-path/key.pub"), "a key was expected")
	s.run(exitRejected, verify("managed-key-happy-path", who...), "a certificate was expected")
	s.run(exitUsage, verify("managed-key-happy-path", append(who, "--key", dir+"managed-key-happy-path/key.pub")...), "key")
	s.run(exitUndecided, []string{"verify", "./no-such-layout", "--identity", "x", "--issuer", "y"}, "no-such-layout")
}

// TestVerifySavedByCosign verifies layouts that `cosign save` wrote. Their images have
// provenance signed by slsa-github-generator.
func TestVerifySavedByCosign(t *testing.T) {
	const data = "../../../shared/data/github-container/"
	if _, err := os.Stat(data); err != nil {
		t.Skipf("NOT ASKED FOR: the layouts are not beside this checkout: %v", err)
	}
	s := trustSigstore(t)
	for version, ref := range map[string][]string{"v1.7.0": {"--branch", "main"}, "v2.0.0": {"--tag", "v13.0.30"}} {
		layout := data + version + "/container_workflow_dispatch"
		digest, err := os.ReadFile(layout + ".digest")
		if err != nil {
			t.Fatal(err)
		}
		verify := func(args ...string) []string {
			return append([]string{"verify", layout, "--skip-source"}, args...)
		}
		right := verify("--source", "github.com/slsa-framework/example-package")
		s.run(exitOK, append(right, ref...), strings.TrimSpace(string(digest)), "Build L3", "accepted")
		s.run(exitRejected, append(right, ref[0], ref[1]+"x"), "✗ provenance")
		s.run(exitRejected, verify("--source", "github.com/slsa-framework/example-packages"), "✗ provenance")
		s.run(exitRejected, append(right, "--builder", "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/generator_generic_slsa3.yml"), "✗ signature")
	}
}

// TestVerifyPublicFiles asks of real files what slsa-verifier's regression tests and gh's
// documentation of attestations ask: the right source, branch, tag, builder and file, and
// each of them wrong.
func TestVerifyPublicFiles(t *testing.T) {
	const data = "../../../shared/data/"
	if _, err := os.Stat(data); err != nil {
		t.Skipf("NOT ASKED FOR: the files are not beside this checkout: %v", err)
	}
	s := trustSigstore(t)
	const (
		based     = data + "github-container-based/v1.9.0/binary-linux-amd64-"
		npm       = data + "npm/sigstore-js-2.1.0"
		workflows = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/"
	)
	for _, f := range []struct {
		file, bundle, source string
		right                []string   // also accepted with these flags
		wrong                [][]string // rejected with each of these
	}{
		{based + "push-v14.2", based + "push-v14.2.intoto.build.slsa", "github.com/slsa-framework/example-package",
			[]string{"--tag", "v14.2", "--builder", workflows + "builder_container-based_slsa3.yml", "--min-level", "3"},
			[][]string{{"--tag", "v14"}, {"--tag", "v14.3"}, {"--branch", "main"}, {"--builder", workflows + "builder_go_slsa3.yml"}}},
		{based + "workflow_dispatch", based + "workflow_dispatch.intoto.build.slsa", "github.com/slsa-framework/example-package",
			[]string{"--branch", "main", "--min-level", "3"}, [][]string{{"--tag", "v14.2"}, {"--branch", "mai"}}},
		{npm + ".tgz", npm + "-bundle.json", "github.com/sigstore/sigstore-js", []string{"--branch", "main"},
			[][]string{{"--branch", "main2"}, {"--tag", "v2.1.0"}, {"--min-level", "3"}}},
		{npm + ".tgz", npm + "_with_2_bundles.jsonl", "github.com/sigstore/sigstore-js", []string{"--branch", "main"}, nil},
		{data + "github-attestation/MODULE.bazel", data + "github-attestation/MODULE.bazel.intoto.jsonl", "github.com/aspect-build/rules_lint",
			[]string{"--branch", "publish-to-bcr"}, [][]string{{"--branch", "main"}}},
	} {
		verify := func(file, source string, flags ...string) []string {
			return append([]string{"verify", file, "--bundle", f.bundle, "--skip-source", "--source", source}, flags...)
		}
		s.run(exitOK, verify(f.file, f.source), "accepted")
		s.run(exitOK, verify(f.file, f.source, f.right...), "accepted")
		for _, flags := range f.wrong {
			s.run(exitRejected, verify(f.file, f.source, flags...), "rejected")
		}
		s.run(exitRejected, verify(f.file, f.source+"s"), "rejected")
		s.run(exitRejected, verify(f.file, strings.Replace(f.source, "/", "/x", 1)), "rejected")
		s.run(exitRejected, verify("verify.go", f.source), "rejected")
	}
	s.run(exitRejected, []string{"verify", data + "github-attestation/MODULE-wrong-signer.bazel", "--bundle", data + "github-attestation/MODULE-wrong-signer.bazel.intoto.jsonl",
		"--skip-source", "--source", "github.com/aspect-build/rules_lint"}, "rejected")
}
