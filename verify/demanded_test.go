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

// TestLastAttestationCounts: what a signer attested before is overtaken by what it
// attests now, in whatever order the two are found.
func TestLastAttestationCounts(t *testing.T) {
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	scan := prooftest.Identity{SAN: "https://ci.example.com/scanner", Issuer: people}
	stranger := prooftest.Identity{SAN: "https://ci.example.com/stranger", Issuer: people}
	type word struct {
		by     prooftest.Identity
		result string
		at     time.Duration // when it is signed
	}
	passed, failed := word{scan, "PASSED", 0}, word{scan, "FAILED", 0}
	after := func(w word, d time.Duration) word { w.at = d; return w }
	for name, tt := range map[string]struct {
		words []word // in the order in which they are attached
		want  verify.Outcome
	}{
		"passed":                              {[]word{passed}, verify.Accepted},
		"failed after it passed":              {[]word{passed, after(failed, time.Minute)}, verify.Rejected},
		"failed after it passed, found first": {[]word{after(failed, time.Minute), passed}, verify.Rejected},
		"passed after it failed":              {[]word{failed, after(passed, time.Minute)}, verify.Accepted},
		"passed after it failed, found first": {[]word{after(passed, time.Minute), failed}, verify.Accepted},
		"both at the same time":               {[]word{passed, failed}, verify.Rejected},
		"both at the same time, found first":  {[]word{failed, passed}, verify.Rejected},
		"a stranger failed after it passed":   {[]word{passed, {stranger, "FAILED", time.Minute}}, verify.Accepted},
		"a stranger passed after it failed":   {[]word{failed, {stranger, "PASSED", time.Minute}}, verify.Rejected},
		"failed in between two that passed":   {[]word{passed, after(failed, time.Minute), after(passed, 2*time.Minute)}, verify.Accepted},
	} {
		p, store := prooftest.New(t), prooftest.NewStore(t)
		p.Issuers = []string{people}
		r := p.Release(store)
		r.Attach(prooftest.Kinds...)
		start := p.Clock
		for _, w := range tt.words {
			p.Clock = start.Add(w.at)
			store.Attach(r.Image, p.Sign(w.by, statement(t, r.Image.Digest.Hex, kind, map[string]any{"result": w.result})), kind)
		}
		opts := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: policy.Policy{Origin: demanded(t, policy.Document{Source: prooftest.Source}).Origin,
			Attestations: []policy.Attestation{{PredicateType: kind, Signer: policy.Identity{Name: scan.SAN, Issuer: scan.Issuer}, Equals: map[string]any{"/result": "PASSED"}}}}}
		judge := func() *verify.Verdict {
			return verify.Image(context.Background(), store, "v1.2.0", p.Now.Add(time.Hour), opts)
		}
		if v := judge(); v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %s", name, v.Outcome, tt.want, v.Why())
		}
		// One that cannot be read may be the last word.
		_, manifest := store.Attach(r.Image, []byte("x"), kind)
		store.Fail[manifest.Digest.String()] = errors.New("the registry is asleep")
		if v := judge(); v.Outcome != verify.Undecided {
			t.Errorf("%s, and one that cannot be read: got %s, want it undecided: %s", name, v.Outcome, v.Why())
		}
	}
}
