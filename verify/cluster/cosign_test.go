package cluster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/cluster"
)

// answers is what policy-controller v0.14.0 says: one line for each policy, with the images that
// it accepts. COLOPHON_POLICY_TESTER=PROGRAM writes the file again with its policy-tester.
const answers = "testdata/policy-controller-0.14.0.txt"

// signers are images that stock cosign signed, by the name of the image.
type signers struct {
	t       *testing.T
	bin     string
	home    string
	repo    string
	keys    map[string]string // PEM, by the name of the key
	digests map[string]string
}

func newSigners(t *testing.T) *signers {
	bin, err := filepath.Abs("../../out/bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"crane", "cosign", "cosign2", eval.Program} {
		if _, err := os.Stat(filepath.Join(bin, program)); err != nil {
			needs.Missing(t, "%v", err)
		}
	}
	t.Setenv("PATH", bin)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	s := &signers{t: t, bin: bin, home: t.TempDir(), repo: strings.TrimPrefix(server.URL, "http://") + "/team/app", keys: map[string]string{}, digests: map[string]string{}}
	for _, key := range []string{"ours", "other"} {
		s.run("cosign2", "generate-key-pair", "--output-key-prefix", key)
		pem, err := os.ReadFile(filepath.Join(s.home, key+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		s.keys[key] = string(pem)
	}
	if err := os.WriteFile(filepath.Join(s.home, "predicate.json"), []byte(`{"scanner":"x","high":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	old := []string{"--yes", "--tlog-upload=false"}
	plain := append(old, "--new-bundle-format=false", "--use-signing-config=false")
	s.image("unsigned")
	s.run("cosign2", append([]string{"sign", s.image("signed"), "--key", "ours.key"}, old...)...)
	s.run("cosign", append([]string{"sign", s.image("signed-v3"), "--key", "ours.key"}, plain...)...)
	s.run("cosign2", append([]string{"sign", s.image("stranger"), "--key", "other.key"}, old...)...)
	s.run("cosign2", append([]string{"attest", s.image("attested"), "--key", "ours.key", "--type", scanned, "--predicate", "predicate.json"}, old...)...)
	s.run("cosign", append([]string{"attest", s.image("custom"), "--key", "ours.key", "--type", "custom", "--predicate", "predicate.json"}, plain...)...)
	both := s.image("both")
	s.run("cosign2", append([]string{"sign", both, "--key", "ours.key"}, old...)...)
	s.run("cosign2", append([]string{"sign", both, "--key", "other.key"}, old...)...)
	s.run("cosign2", append([]string{"attest", both, "--key", "other.key", "--type", scanned, "--predicate", "predicate.json"}, old...)...)
	return s
}

func (s *signers) run(program string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir, cmd.Env = s.home, []string{"COSIGN_PASSWORD=", "HOME=" + s.home}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %q: %v: %s", program, args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// image pushes an image of its own, and returns its name with its digest.
func (s *signers) image(name string) string {
	layer := filepath.Join(s.home, "layer.tar")
	if err := os.WriteFile(layer, make([]byte, 1024), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.run("crane", "append", "-f", layer, "-t", s.repo+":"+name)
	s.run("crane", "mutate", s.repo+":"+name, "--label", "name="+name, "-t", s.repo+":"+name)
	s.digests[name] = s.run("crane", "digest", s.repo+":"+name)
	return s.repo + "@" + s.digests[name]
}

// documents are policies by name.
func (s *signers) documents() map[string]string {
	key := func(name, more string) string {
		return "  - name: " + name + "\n    key:\n      data: |\n        " + strings.ReplaceAll(strings.TrimSpace(s.keys[name]), "\n", "\n        ") + "\n" + more
	}
	attested := func(name, predicateType, language, text string) string {
		more := "    attestations:\n    - name: scan\n      predicateType: " + predicateType + "\n"
		if language != "" {
			more += "      policy:\n        type: " + language + "\n        data: |\n          " + strings.ReplaceAll(text, "\n", "\n          ") + "\n"
		}
		return policies("", key(name, more))
	}
	scan := func(language, text string) string { return attested("ours", scanned, language, text) }
	about := func(glob string) string { return strings.Replace(policies("", key("ours", "")), "'**'", glob, 1) }
	overall := func(language, text string) string {
		return policies("  policy:\n    type: "+language+"\n    data: |\n      "+strings.ReplaceAll(text, "\n", "\n      ")+"\n", key("ours", "")+key("other", ""))
	}
	return map[string]string{
		"key": policies("", key("ours", "")), "other-key": policies("", key("other", "")), "either-key": policies("", key("ours", "")+key("other", "")),
		"v1alpha1": strings.Replace(policies("", key("ours", "")), "v1beta1", "v1alpha1", 1),
		"sha512":   policies("", key("ours", "      hashAlgorithm: sha512\n")), "warn": policies("  mode: warn\n", key("ours", "")),
		"pass": policies("", "  - static: {action: pass}\n"), "fail": policies("", "  - static: {action: fail, message: retired}\n"),
		"fail-or-key": policies("", "  - static: {action: fail}\n"+key("ours", "")), "bundle-of-key": policies("", key("ours", format)),
		"glob-registry": about("'" + strings.SplitN(s.repo, "/", 2)[0] + "/**'"), "glob-at": about("'" + s.repo + "@*'"), "glob-star": about("'" + s.repo + "*'"),
		"glob-bare": about("'" + s.repo + "'"), "glob-tag": about("'" + s.repo + ":v1*'"), "glob-other": about("'registry.example.com/**'"), "glob-hub": about("'*'"),
		"attestation": scan("", ""), "attestation-of-other": attested("other", scanned, "", ""), "attestation-custom": attested("ours", "custom", "", ""), "attestation-vuln": attested("ours", "vuln", "", ""),
		"cue": scan("cue", `predicate: {scanner: "x", high: <5}`), "cue-differs": scan("cue", `predicate: scanner: "y"`), "cue-optional": scan("cue", `predicate: o?: 1`),
		"cue-absent": scan("cue", `predicate: missing: "x"`), "cue-required": scan("cue", `predicate: missing!: "x"`), "cue-absent-number": scan("cue", `predicate: n: >3`),
		"rego": scan("rego", "package sigstore\nisCompliant { input.predicate.high < 5 }"), "rego-false": scan("rego", "package sigstore\nisCompliant { input.predicate.high < 1 }"),
		"rego-set":      scan("rego", "package sigstore\nisCompliant[r] { r := {\"result\": input.predicate.high < 5, \"error\": \"\", \"warning\": \"\"} }"),
		"rego-set-fail": scan("rego", "package sigstore\nisCompliant[r] { r := {\"result\": input.predicate.high < 1, \"error\": \"too many\", \"warning\": \"\"} }"),
		"overall-both":  overall("rego", "package sigstore\nisCompliant { count(input.authorityMatches) == 2 }"),
		"overall-ids":   overall("rego", "package sigstore\nisCompliant { input.authorityMatches.ours.signatures[_].id }"),
		"overall-cue":   overall("cue", "authorityMatches: ours: signatures: [...{id: string}]"),
	}
}

// accepted returns the images that satisfy a policy, and those about which it is undecided.
func (s *signers) accepted(document string) (accepted, undecided []string) {
	objects, err := cip.Parse([]byte(document))
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now()
	all := cluster.New(objects, cluster.Options{Evaluate: eval.Run})
	for _, name := range slices.Sorted(maps.Keys(s.digests)) {
		ref, err := oci.ParseReference(s.repo + "@" + s.digests[name])
		if err != nil {
			s.t.Fatal(err)
		}
		src, err := ref.Open(oci.RegistryOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		image, err := policy.ParseImage(ref.String())
		if err != nil {
			s.t.Fatal(err)
		}
		ev := verify.Gather(s.t.Context(), src, image.Digest, now, verify.Options{}, verify.Ask{Queries: all.Queries(image)})
		switch d := ev.DecideWith(nil, image, verify.With{Others: all.Decide(s.t.Context(), ev, image, nil, now)}); d.Outcome {
		case verify.Accepted:
			accepted = append(accepted, name)
		case verify.Undecided:
			s.t.Logf("%s: undecided: %s", name, d.Reason)
			undecided = append(undecided, name)
		}
	}
	return accepted, undecided
}

// differences are the images that we accept where policy-controller accepts others: a member that
// CUE names must be there.
var differences = map[string]string{"cue-absent": "none", "cue-required": "none", "cue-absent-number": "none", "overall-cue": "both signed signed-v3"}

// TestBesidePolicyController signs images with stock cosign, v2 and v3, and compares our answers
// with those of policy-controller.
func TestBesidePolicyController(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: signs images with cosign")
	}
	s := newSigners(t)
	documents := s.documents()
	if tester := os.Getenv("COLOPHON_POLICY_TESTER"); tester != "" {
		s.record(tester, documents)
	}
	raw, err := os.ReadFile(answers)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if name, images, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			theirs[name] = images
		}
	}
	if len(theirs) != len(documents) || len(theirs) < 30 {
		t.Fatalf("got answers about %d policies, want %d", len(theirs), len(documents))
	}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		accepted, undecided := s.accepted(documents[name])
		got := strings.Join(accepted, " ")
		if got == "" {
			got = "none"
		}
		want, differs := differences[name]
		if !differs {
			want = theirs[name]
		}
		if len(undecided) > 0 || got != want || differs && want == theirs[name] {
			t.Errorf("%s: got %s (undecided: %q), want %s; policy-controller accepts %s", name, got, undecided, want, theirs[name])
		}
	}
}

// record writes what policy-tester says.
func (s *signers) record(tester string, documents map[string]string) {
	var out strings.Builder
	fmt.Fprintf(&out, "# Images that policy-tester of github.com/sigstore/policy-controller v0.14.0 accepts, by policy.\n# TestBesidePolicyController has the policies and the images.\n")
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		file := filepath.Join(s.home, "policy.yaml")
		if err := os.WriteFile(file, []byte(documents[name]), 0o600); err != nil {
			s.t.Fatal(err)
		}
		accepted := []string{}
		for _, image := range slices.Sorted(maps.Keys(s.digests)) {
			cmd := exec.Command(tester, "-policy", file, "-image", s.repo+"@"+s.digests[image], "-log-level", "error")
			said, err := cmd.Output()
			var answer struct{ Errors []string }
			switch exit, isExit := err.(*exec.ExitError); {
			case err == nil:
				accepted = append(accepted, image)
			case !isExit || exit.ExitCode() != 1 || json.Unmarshal(said, &answer) != nil && len(said) > 0:
				s.t.Fatalf("%s: %v: %s", name, err, said)
			default:
				s.t.Logf("%s, %s: %s", name, image, strings.TrimSpace(string(said)))
			}
		}
		if len(accepted) == 0 {
			accepted = []string{"none"}
		}
		fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(accepted, " "))
	}
	if err := os.WriteFile(answers, []byte(out.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
}
