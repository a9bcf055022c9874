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
	severe := policy.Absent{PredicateType: "a:b", Equals: map[string]any{"/severity": float64(9)}}
	for number, want := range map[string]bool{"9": true, "9.0": true, " 9e0": true, "0.9E+1": true, "9.00000000000000000001": true, "-9": false, "8.9": false, "90": false, "1e999": false, `"9"`: false, "true": false} {
		if got, err := severe.Match([]byte(`{"severity":` + number + `}`)); got != want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", number, got, err, want)
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
