package policy_test

import (
	"slices"
	"testing"

	"github.com/colophon-build/colophon/policy"
)

// TestAbsent: what must be absent, and what is nothing of the kind. A predicate that cannot be
// read is neither.
func TestAbsent(t *testing.T) {
	a := policy.Absent{PredicateType: "a:b", Equals: map[string]any{"/verdict": "bad", "/cve/0": nil}}
	for predicate, want := range map[string]bool{
		`{"verdict":"bad","cve":[null]}`: true, `{"cve":[null,1],"verdict":"b\u0061d","x":{}}`: true,
		`{"verdict":"good","cve":[null]}`: false, `{"verdict":"bad","cve":[]}`: false, `{"verdict":"bad"}`: false, `{}`: false, `{"verdict":"bad","cve":null}`: false, `"bad"`: false,
	} {
		if got, err := a.Match([]byte(predicate)); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", predicate, got, err, want)
		}
	}
	verdict := policy.Absent{PredicateType: "a:b", Equals: map[string]any{"/verdict": "bad"}}
	for _, predicate := range []string{`{"verdict":"good","verdict":"bad"}`, `{"verdict":`} {
		if got, err := verdict.Match([]byte(predicate)); got || err == nil {
			t.Errorf("%s: got %v, %v, want an error", predicate, got, err)
		}
	}
	if got, err := (policy.Absent{PredicateType: "a:b"}).Match(nil); !got || err != nil {
		t.Errorf("without values: got %v, %v, want a match", got, err)
	}
	ada := policy.Identity{Name: "ada", Issuer: "https://idp.example.com", Root: "https://a.example"}
	of := func(absent ...policy.Absent) policy.Policy {
		return policy.Policy{Origin: policy.SignatureOnly{Signer: policy.Identity{Name: "bob", Issuer: "i"}}, Absent: absent}
	}
	if p := of(policy.Absent{PredicateType: "a:b", Signer: ada}); p.Check() != nil || !slices.Equal(p.Roots(), []string{"https://a.example"}) {
		t.Errorf("got %v, and the roots %q", p.Check(), p.Roots())
	}
	old := of()
	old.MaxTrustAge = -1
	for what, p := range map[string]policy.Policy{
		"no type": of(policy.Absent{}), "no issuer": of(policy.Absent{PredicateType: "a:b", Signer: policy.Identity{Name: "ada"}}),
		"no pointer": of(policy.Absent{PredicateType: "a:b", Equals: map[string]any{"x": "y"}}), "too many": of(slices.Repeat([]policy.Absent{{PredicateType: "a:b"}}, 33)...), "an age": old,
	} {
		if p.Check() == nil {
			t.Errorf("%s: got no error", what)
		}
	}
}
