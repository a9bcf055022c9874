package policy_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/policy"
)

const publicKey = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
`

func parseKey(t *testing.T, pem string) policy.Key {
	t.Helper()
	k, err := policy.ParseKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDangers(t *testing.T) {
	unlogged := parseKey(t, publicKey)
	unlogged.InsecureNoLog = true
	app := from(t, "git.example.com/team/app")
	for name, tt := range map[string]struct {
		p    policy.Policy
		want int
	}{
		"none":                    {policy.Policy{Origin: policy.SignerProvenance{Provenance: app, Signer: parseKey(t, publicKey)}}, 0},
		"nothing":                 {policy.Policy{}, 0},
		"any source":              {policy.Policy{Origin: policy.BuilderProvenance{Provenance: anySource()}}, 1},
		"both":                    {policy.Policy{Origin: policy.SignerProvenance{Provenance: anySource(), Signer: unlogged}}, 2},
		"verifier without a log":  {policy.Policy{Origin: policy.SummaryOnly{}, Verifiers: []policy.Verifier{{Signer: unlogged}}}, 1},
		"statement without a log": {policy.Policy{Origin: policy.BuilderProvenance{Provenance: app}, Attestations: []policy.Attestation{{Signer: unlogged}}}, 1},
	} {
		if got := tt.p.Dangers(); len(got) != tt.want {
			t.Errorf("%s: got %q, want %d", name, got, tt.want)
		}
	}
}

// TestDangersAreNamed: each member that the specification of policies calls dangerous is in
// that of verdicts, no other is, and a policy with it has a line for people.
func TestDangersAreNamed(t *testing.T) {
	read := func(name string) string {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	documents := map[string]string{
		"anySource":     `{"anySource":true}`,
		"anyRecipe":     `{"source":"https://git.example.com/team/app","anyRecipe":true}`,
		"insecureNoLog": string(must(json.Marshal(map[string]any{"signer": map[string]any{"key": publicKey, "insecureNoLog": true}}))),
	}
	var want []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|[^|]*\\| dangerous|Dangerous[^\"]*`\"(\\w+)\"").FindAllStringSubmatch(read("../spec/policy/README.md"), -1) {
		want = append(want, m[1]+m[2])
	}
	row := regexp.MustCompile("(?m)^\\| `dangers` \\|.*$").FindString(read("../spec/verdict/README.md"))
	var got []string
	for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row, -1) {
		if m[1] != "dangers" {
			got = append(got, m[1])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || len(want) != len(documents) {
		t.Errorf("spec/verdict names the dangers %q, spec/policy %q, this test %d", got, want, len(documents))
	}
	for _, name := range want {
		p, err := policy.Parse([]byte(documents[name]))
		if err != nil || len(p.Dangers()) != 1 {
			t.Errorf("%s: got %v, dangers %q, want one", name, err, p.Dangers())
		}
	}
}

func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

// TestWithoutRoots: only a key of which no log is demanded needs no trust root.
func TestWithoutRoots(t *testing.T) {
	logged := parseKey(t, publicKey)
	unlogged := logged
	unlogged.InsecureNoLog = true
	by := func(signers ...policy.Signer) (out []policy.Verifier) {
		for _, s := range signers {
			out = append(out, policy.Verifier{Signer: s})
		}
		return out
	}
	for name, tt := range map[string]struct {
		p    policy.Policy
		want bool
	}{
		"nothing":             {policy.Policy{}, false},
		"a builder":           {policy.Policy{Origin: policy.BuilderProvenance{Provenance: anySource()}}, false},
		"a key":               {policy.Policy{Origin: policy.SignatureOnly{Signer: logged}}, false},
		"a key without a log": {policy.Policy{Origin: policy.SignatureOnly{Signer: unlogged}}, true},
		"provenance by it":    {policy.Policy{Origin: policy.SignerProvenance{Provenance: anySource(), Signer: unlogged}}, true},
		"verifier":            {policy.Policy{Origin: policy.SummaryOnly{}, Verifiers: by(unlogged)}, true},
		"one of two":          {policy.Policy{Origin: policy.SummaryOnly{}, Verifiers: by(unlogged, logged)}, false},
		"both":                {policy.Policy{Origin: policy.SignatureOnly{Signer: unlogged}, Verifiers: by(logged)}, false},
	} {
		if got := tt.p.WithoutRoots(); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

// TestPatternIsAnchored: whatever a pattern says, all of the name must match.
func TestPatternIsAnchored(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		match         bool
	}{
		{`.*@example\.com`, "ada@example.com", true}, {`.*@example\.com`, "ada@example.com.evil", false}, {`ada@example\.com`, "eve+ada@example.com", false},
		{`ada@example\.com|bob@example\.com`, "bob@example.com", true}, {`ada@example\.com|bob@example\.com`, "ada@example.com.evil", false},
		{`(?m)^ada@example\.com$`, "ada@example.com\nevil", false}, {`(?m)^ada@example\.com$`, "evil\nada@example.com", false}, {`ada@example\.com$`, "ada@example.com\n", false},
		{`(?i)ada@example\.com`, "ADA@example.com", true}, {`ada@example.com`, "ada@exampleXcom", true},
	} {
		p, err := policy.ParsePattern(tt.pattern, "https://idp.example.com")
		if err != nil || p.Name().MatchString(tt.name) != tt.match {
			t.Errorf("%q against %q: want match %v, %v", tt.name, tt.pattern, tt.match, err)
		}
	}
	for name, s := range map[string][2]string{
		"closes the group":  {`a)|(?:b`, "https://idp.example.com"},
		"no pattern":        {`[`, "https://idp.example.com"},
		"nothing":           {``, "https://idp.example.com"},
		"without an issuer": {`a`, ""},
	} {
		if _, err := policy.ParsePattern(s[0], s[1]); err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

// TestKeysInOurWords: what is no public key is named, and a private key is told from others.
func TestKeysInOurWords(t *testing.T) {
	block := func(kind string) string {
		return "-----BEGIN " + kind + "-----\nAAAA\n-----END " + kind + "-----\n"
	}
	for given, want := range map[string]string{
		"":                      "policy: key: expected a public key in PEM, found none",
		"nonsense":              "policy: key: expected a public key in PEM, found none",
		block("PRIVATE KEY"):    "policy: key: expected a public key, found a private one: colophon sign --public-key --key FILE prints the public one",
		block("EC PRIVATE KEY"): "policy: key: expected a public key, found a private one: colophon sign --public-key --key FILE prints the public one",
		block("CERTIFICATE"):    `policy: key: expected a public key in PEM, found "CERTIFICATE"`,
		block("PUBLIC KEY"):     "policy: key: the public key cannot be read: ",
	} {
		if _, err := policy.ParseKey(given); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "Are you") {
			t.Errorf("%q: got %v, want %s", given, err, want)
		}
	}
}
