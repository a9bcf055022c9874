package clusterimagepolicy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestParseWhole reads documents with every member, in both versions, beside one of ours, and
// writes them again with the same meaning.
func TestParseWhole(t *testing.T) {
	raw := string(read(t, "whole.yaml"))
	for _, version := range []string{clusterimagepolicy.APIVersion, clusterimagepolicy.OldAPIVersion} {
		got, err := clusterimagepolicy.Parse([]byte(strings.ReplaceAll(raw, clusterimagepolicy.APIVersion, version)))
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Policies) != 1 || len(got.TrustRoots) != 3 {
			t.Fatalf("got %d policies and %d trust roots, want 1 and 3", len(got.Policies), len(got.TrustRoots))
		}
		c := got.Policies[0]
		if n := len(c.Spec.Authorities); n != 6 || c.Spec.AuthorityName(0) != "builder" || c.Spec.AuthorityName(5) != "authority-5" {
			t.Errorf("got %d authorities, %q and %q", n, c.Spec.AuthorityName(0), c.Spec.AuthorityName(5))
		}
		var again strings.Builder
		for i, write := range []func() ([]byte, error){c.YAML, got.TrustRoots[0].YAML, got.TrustRoots[1].YAML, got.TrustRoots[2].YAML} {
			text, err := write()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "---\n%s", text)
			if i == 0 && !strings.Contains(string(text), "attestations:") {
				t.Errorf("got %s", text)
			}
		}
		second, err := clusterimagepolicy.Parse([]byte(again.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, again.String())
		}
		if a, b := fmt.Sprintf("%#v", *second.Policies[0].Spec.Authorities[0].Keyless), fmt.Sprintf("%#v", *c.Spec.Authorities[0].Keyless); a != b {
			t.Errorf("got %s, want %s", a, b)
		}
	}
}

const minimal = `apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: demo
spec:
  images:
  - glob: registry.example.com/**
  authorities:
  - keyless:
      identities:
      - issuer: https://issuer.example.com
        subjectRegExp: ^https://example\.com/
`

// TestParseRefuses: each fault is found, and the error has its line and names the field.
func TestParseRefuses(t *testing.T) {
	if _, err := clusterimagepolicy.Parse([]byte(minimal)); err != nil {
		t.Fatal(err)
	}
	static := strings.Split(minimal, "  - keyless:")[0] + "  - static:\n      action: pass\n"
	for name, c := range map[string]struct {
		base, old, new string
		line           int
		want           string
	}{
		"unknown member":         {minimal, "  images:", "  imagess: []\n  images:", 6, `did you mean "images"?`},
		"unknown member within":  {minimal, "issuer:", "isuer:", 11, `did you mean "issuer"?`},
		"duplicate member":       {minimal, "  images:", "  mode: warn\n  mode: warn\n  images:", 7, "duplicate"},
		"no name":                {minimal, "name: demo", "name: ''", 4, "name: expected"},
		"a namespace":            {minimal, "name: demo", "name: demo\n  namespace: x", 5, "namespace: expected none"},
		"version":                {minimal, "/v1beta1", "/v1", 1, "apiVersion: expected policy.sigstore.dev/v1beta1 or policy.sigstore.dev/v1alpha1, found"},
		"kind":                   {minimal, "kind: ClusterImagePolicy", "kind: ClusterPolicy", 2, "kind: expected"},
		"no images":              {minimal, "images:\n  - glob: registry.example.com/**", "images: []", 6, "images: expected 1 to 256"},
		"glob":                   {minimal, "registry.example.com/**", "registry.example.com/[ab]", 7, "glob: expected"},
		"mode":                   {minimal, "  images:", "  mode: audit\n  images:", 6, "mode: expected enforce or warn"},
		"null":                   {minimal, "  images:", "  policy: null\n  images:", 6, "expected a value, found null"},
		"two kinds of authority": {minimal, "  - keyless:", "  - static: {action: pass}\n    keyless:", 9, "exactly one of key, keyless, static"},
		"no kind of authority":   {minimal, "  - keyless:", "  - name: a\n  - keyless:", 9, "found none"},
		"no identity":            {minimal, "identities:\n      - issuer: https://issuer.example.com\n        subjectRegExp: ^https://example\\.com/", "identities: []", 10, "identities: expected 1 to 64"},
		"no subject":             {minimal, "subjectRegExp: ^https://example\\.com/", "issuerRegExp: x", 11, "exactly one of issuer, issuerRegExp"},
		"expression":             {minimal, "^https://example\\.com/", "(", 12, "subjectRegExp: expected a regular expression"},
		"exploding expression":   {minimal, "^https://example\\.com/", "((((a{900}){900}){900}){900})", 12, "subjectRegExp: expected a regular expression"},
		"long expression":        {minimal, "^https://example\\.com/", strings.Repeat("a", 1025), 12, "at most 1024 bytes"},
		"static and source":      {static, "action: pass\n", "action: pass\n    source:\n    - oci: registry.example.com/x\n", 10, "static: expected no attestations"},
		"static action":          {static, "action: pass", "action: maybe", 10, "action: expected pass or fail"},
		"two sources":            {minimal, "  - keyless:", "  - source: [{oci: a.example.com/x}, {oci: b.example.com/x}]\n    keyless:", 9, "source: expected at most 1"},
		"tag prefix":             {minimal, "  - keyless:", "  - source: [{tagPrefix: ../x}]\n    keyless:", 9, "tagPrefix: expected"},
		"format":                 {minimal, "  - keyless:", "  - signatureFormat: new\n    keyless:", 9, "signatureFormat: expected legacy or bundle"},
		"no key":                 {minimal, "keyless:\n", "key: {data: hello}\n  - keyless:\n", 9, "data: expected a public key in PEM"},
		"two keys":               {minimal, "keyless:\n", "key: {kms: 'awskms:///x', secretRef: {name: b}}\n  - keyless:\n", 9, "exactly one of data, kms, secretRef"},
		"kms":                    {minimal, "keyless:\n", "key: {kms: 'file:///etc/passwd'}\n  - keyless:\n", 9, "kms: expected"},
		"hash":                   {minimal, "keyless:\n", "key: {kms: 'awskms:///x', hashAlgorithm: md5}\n  - keyless:\n", 9, "hashAlgorithm: expected"},
		"remote over http":       {minimal, "  images:", "  policy: {type: cue, remote: {url: 'http://x', sha256sum: " + strings.Repeat("a", 64) + "}}\n  images:", 6, "url: expected an https URL"},
		"remote without sum":     {minimal, "  images:", "  policy: {type: cue, remote: {url: 'https://x.example.com'}}\n  images:", 6, "sha256sum"},
		"policy of two":          {minimal, "  images:", "  policy: {type: cue, data: x, configMapRef: {name: a, key: b}}\n  images:", 6, "exactly one of configMapRef, data, remote"},
		"language":               {minimal, "  images:", "  policy: {type: js, data: x}\n  images:", 6, "type: expected cue or rego"},
		"attestation's policy":   {minimal, "  - keyless:", "  - attestations: [{name: a, predicateType: custom, policy: {type: cue, data: x, includeSpec: true}}]\n    keyless:", 9, "in the policy of the spec only"},
		"same attestation name":  {minimal, "  - keyless:", "  - attestations: [{name: a, predicateType: custom}, {name: a, predicateType: vuln}]\n    keyless:", 9, `found "a" twice`},
		"selector alone":         {minimal, "  images:", "  match: [{selector: {matchLabels: {a: b}}}]\n  images:", 6, "selector: expected a resource"},
		"operator":               {minimal, "  images:", "  match: [{resource: pods, selector: {matchExpressions: [{key: a, operator: Is}]}}]\n  images:", 6, "operator: expected"},
		"same name twice":        {minimal, "apiVersion", minimal + "---\napiVersion", 17, `found two of kind ClusterImagePolicy`},
		"same authority twice":   {minimal, "  - keyless:", "  - {name: authority-1, static: {action: fail}}\n  - keyless:", 10, `found "authority-1" twice`},
		"anchors":                {minimal, "name: demo", "name: &a demo", 4, "anchor"},
	} {
		text := strings.Replace(c.base, c.old, c.new, 1)
		_, err := clusterimagepolicy.Parse([]byte(text))
		fault, ok := errors.AsType[*strict.Fault](err)
		if !ok || fault.Line != c.line || !strings.Contains(fault.What, c.want) {
			t.Errorf("%s: got %v, want line %d: %s", name, err, c.line, c.want)
		}
	}
}

// TestParseTrustRootRefuses is the same for trust roots.
func TestParseTrustRootRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		"{}": "exactly one of remote, repository, sigstoreKeys",
		"{remote: {root: e30=, mirror: 'http://x'}}":   "mirror: expected an https URL",
		"{remote: {root: '', mirror: 'https://x'}}":    "root: expected",
		"{repository: {root: e30=, mirrorFS: e30=}}":   "targets: expected",
		"{repository: {root: '}', targets: x}}":        "root:",
		"{sigstoreKeys: {}}":                           "certificateAuthorities or timestampAuthorities",
		"{sigstoreKeys: {certificateAuthorities: []}}": "certificateAuthorities or timestampAuthorities",
		"{sigstoreKeys: {certificateAuthorities: [{subject: {organization: a, commonName: b}, uri: x, certChain: ''}]}}":                                                                 "expected uri and certChain",
		"{sigstoreKeys: {certificateAuthorities: [{subject: {organization: a, commonName: b}, uri: x, certChain: e30=}], tLogs: [{baseURL: x, hashAlgorithm: sha-256, publicKey: ''}]}}": "tLogs: expected",
		"{sigstoreKeys: {certificateAuthorities: [{subject: {organization: a, commonName: b}, uri: x, certChain: e30=}], tlogs: []}}":                                                    `did you mean "tLogs"?`,
		"{sigstoreKeys: {certificateAuthorities: [{subject: {organization: a}, uri: x, certChain: e30=}]}}":                                                                              "subject: expected",
	} {
		_, err := clusterimagepolicy.Parse([]byte("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: a}\nspec: " + spec + "\n"))
		if fault, ok := errors.AsType[*strict.Fault](err); !ok || fault.Line != 4 || !strings.Contains(fault.What, want) {
			t.Errorf("%s: got %v, want %s", spec, err, want)
		}
	}
	_, err := clusterimagepolicy.Parse([]byte("apiVersion: policy.sigstore.dev/v1beta1\nkind: TrustRoot\nmetadata: {name: a}\nspec: {sigstoreKeys: {}}\n"))
	if err == nil || !strings.Contains(err.Error(), "apiVersion: expected policy.sigstore.dev/v1alpha1") {
		t.Errorf("got %v", err)
	}
}

// TestBounds: a document past a limit is refused whole.
func TestBounds(t *testing.T) {
	many := func(what string, n int) string { return strings.Repeat(what, n) }
	for name, text := range map[string]string{
		"images":       strings.Replace(minimal, "  - glob: registry.example.com/**", many("  - glob: x.example.com/**\n", 257), 1),
		"glob":         strings.Replace(minimal, "registry.example.com/**", strings.Repeat("a", 513), 1),
		"authorities":  strings.Replace(minimal, "  - keyless:", many("  - static: {action: fail}\n", 32)+"  - keyless:", 1),
		"match":        strings.Replace(minimal, "  images:", "  match:\n"+many("  - resource: pods\n", 65)+"  images:", 1),
		"identities":   strings.Replace(minimal, "      - issuer:", many("      - {issuer: a, subject: b}\n", 64)+"      - issuer:", 1),
		"documents":    many(minimal+"---\n", 65),
		"attestations": strings.Replace(minimal, "  - keyless:", "  - attestations:\n"+many("    - {name: a, predicateType: custom}\n", 33)+"    keyless:", 1),
		"bytes":        minimal + "#" + strings.Repeat("x", 1<<20),
	} {
		if _, err := clusterimagepolicy.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "expected") && !strings.Contains(err.Error(), "got") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzParse: what is accepted passes Check and can be written and read again.
func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("testdata/whole.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := clusterimagepolicy.Parse(raw)
		if err != nil {
			return
		}
		for _, c := range got.Policies {
			text, err := c.YAML()
			if err != nil || c.Check() != nil {
				t.Fatal(err, c.Check())
			}
			if _, err := clusterimagepolicy.Parse(text); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
	})
}

// TestBoundsOfTrustRoot is TestBounds for trust roots.
func TestBoundsOfTrustRoot(t *testing.T) {
	const ca = "{subject: {organization: a, commonName: b}, uri: x, certChain: e30=}, "
	const log = "{baseURL: x, hashAlgorithm: sha-256, publicKey: e30=}, "
	for keys, want := range map[string]string{
		"certificateAuthorities: [" + strings.Repeat(ca, 17) + "]":                        "certificateAuthorities: expected at most 16",
		"timestampAuthorities: [" + strings.Repeat(ca, 17) + "]":                          "timestampAuthorities: expected at most 16",
		"certificateAuthorities: [" + ca + "], tLogs: [" + strings.Repeat(log, 33) + "]":  "tLogs: expected at most 32",
		"certificateAuthorities: [" + ca + "], ctLogs: [" + strings.Repeat(log, 33) + "]": "ctLogs: expected at most 32",
	} {
		_, err := clusterimagepolicy.Parse([]byte("apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: a}\nspec: {sigstoreKeys: {" + keys + "}}\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
