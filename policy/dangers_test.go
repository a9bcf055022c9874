package policy_test

import (
	"testing"

	"github.com/colophon-build/colophon/policy"
)

func TestDangers(t *testing.T) {
	unlogged := policy.Signer{InsecureNoLog: true}
	for name, tt := range map[string]struct {
		p    policy.Policy
		want int
	}{
		"none":                    {policy.Policy{Source: "git.example.com/team/app", Signer: &policy.Signer{}}, 0},
		"any source":              {policy.Policy{AnySource: true}, 1},
		"both":                    {policy.Policy{AnySource: true, Signer: &unlogged}, 2},
		"verifier without a log":  {policy.Policy{Verifiers: []policy.Verifier{{Signer: unlogged}}}, 1},
		"statement without a log": {policy.Policy{Source: "git.example.com/team/app", Attestations: []policy.Attestation{{Signer: &unlogged}}}, 1},
	} {
		if got := tt.p.Dangers(); len(got) != tt.want {
			t.Errorf("%s: got %q, want %d", name, got, tt.want)
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
		re, err := policy.Signer{IdentityRegexp: tt.pattern}.Pattern()
		if err != nil || re.MatchString(tt.name) != tt.match {
			t.Errorf("%q against %q: want match %v, %v", tt.name, tt.pattern, tt.match, err)
		}
	}
	for name, s := range map[string]policy.Signer{
		"closes the group":    {IdentityRegexp: `a)|(?:b`, Issuer: "https://idp.example.com"},
		"no pattern":          {IdentityRegexp: `[`, Issuer: "https://idp.example.com"},
		"both":                {IdentityRegexp: `a`, Identity: "a", Issuer: "https://idp.example.com"},
		"without an issuer":   {IdentityRegexp: `a`},
		"a pattern and a key": {IdentityRegexp: `a`, Key: "x"},
	} {
		if (policy.Policy{Signer: &s}).Check() == nil {
			t.Errorf("%s: passes", name)
		}
	}
}
