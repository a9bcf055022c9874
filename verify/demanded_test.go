package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func statement(t *testing.T, digest, predicateType string, predicate any) []byte {
	t.Helper()
	raw, err := json.Marshal(predicate)
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.NewStatement("app", digest, predicateType, json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDemandedAttestations: custom predicates, by whom and with what in them.
func TestDemandedAttestations(t *testing.T) {
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	scan := prooftest.Identity{SAN: "https://ci.example.com/scanner", Issuer: people}
	byScanner := policy.Identity{Name: scan.SAN, Issuer: scan.Issuer}
	predicate := map[string]any{"result": "PASSED", "passed": 12, "configuration": []any{map[string]any{"name": "unit", "a/b": true}}}
	set := func(t *testing.T) (*prooftest.Platform, *prooftest.Release, *prooftest.Store) {
		p, store := prooftest.New(t), prooftest.NewStore(t)
		p.Issuers = []string{people}
		r := p.Release(store)
		r.Attach(prooftest.Kinds...)
		store.Attach(r.Image, p.Sign(scan, statement(t, r.Image.Digest.Hex, kind, predicate)), kind)
		return p, r, store
	}
	judge := func(t *testing.T, p *prooftest.Platform, store *prooftest.Store, demands ...policy.Attestation) *verify.Verdict {
		return verify.Image(context.Background(), store, "v1.2.0", p.Now.Add(time.Minute), verify.Options{Trust: []*trust.Root{p.Root()},
			Policy: policy.Policy{Origin: demanded(t, policy.Document{Source: prooftest.Source}).Origin, Attestations: demands}})
	}
	p, r, store := set(t)
	for name, tt := range map[string]struct {
		demands []policy.Attestation
		want    verify.Outcome
	}{
		"none":              {nil, verify.Accepted},
		"there":             {[]policy.Attestation{{PredicateType: kind, Signer: byScanner}}, verify.Accepted},
		"by the builder":    {[]policy.Attestation{{PredicateType: attest.PredicateSPDX}}, verify.Accepted},
		"not by the signer": {[]policy.Attestation{{PredicateType: kind}}, verify.Rejected},
		"of another kind":   {[]policy.Attestation{{PredicateType: kind + "1", Signer: byScanner}}, verify.Rejected},
		"with values": {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{
			"/result": "PASSED", "/passed": 12.0, "/configuration/0/name": "unit", "/configuration/0/a~1b": true}}}, verify.Accepted},
		"with another value":     {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{"/result": "FAILED"}}}, verify.Rejected},
		"with a number as text":  {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{"/passed": "12"}}}, verify.Rejected},
		"with a value not there": {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{"/results": nil}}}, verify.Rejected},
		"past the end":           {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{"/configuration/1/name": "unit"}}}, verify.Rejected},
		"one of two":             {[]policy.Attestation{{PredicateType: kind + "1", Signer: byScanner}, {PredicateType: kind, Signer: byScanner}}, verify.Rejected},
		"an object":              {[]policy.Attestation{{PredicateType: kind, Signer: byScanner, Equals: map[string]any{"/configuration": []any{}}}}, verify.Undecided},
	} {
		if v := judge(t, p, store, tt.demands...); v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %+v", name, v.Outcome, tt.want, v.Links)
		}
	}
	// The first cannot be had, the second holds: not enough.
	_, manifest := store.Attach(r.Image, []byte("x"), "https://example.com/unread")
	store.Fail[manifest.Digest.String()] = errors.New("the registry is asleep")
	both := []policy.Attestation{{PredicateType: kind + "1", Signer: byScanner}, {PredicateType: kind, Signer: byScanner}}
	if v := judge(t, p, store, both...); v.Outcome != verify.Undecided {
		t.Errorf("got %+v, want it undecided", v)
	}
	// About another image, if well signed.
	p, r, store = set(t)
	store.Attach(r.Image, p.Sign(scan, statement(t, strings.Repeat("ab", 32), kind+"2", predicate)), kind+"2")
	if v := judge(t, p, store, policy.Attestation{PredicateType: kind + "2", Signer: byScanner}); v.Outcome != verify.Rejected {
		t.Errorf("about another image: got %+v", v)
	}
}
