package verify_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestAttestationsOnly: what the signers attested is enough, and nothing else is.
func TestAttestationsOnly(t *testing.T) {
	const kind, other = "https://example.com/review/v1", "https://example.com/scan/v1"
	type signed struct {
		by     prooftest.Identity
		kind   string // empty: a signature of the image
		digest string // empty: that of the image
	}
	ada, eve := prooftest.Identity{SAN: "ada@example.com", Issuer: people}, prooftest.Identity{SAN: "eve@example.com", Issuer: people}
	byAda, byEve := policy.Identity{Name: ada.SAN, Issuer: people}, policy.Identity{Name: eve.SAN, Issuer: people}
	review := []policy.Attestation{{PredicateType: kind, Signer: byAda}}
	for name, tt := range map[string]struct {
		has   []signed
		wants []policy.Attestation
		want  verify.Outcome
	}{
		"attested":                        {[]signed{{ada, kind, ""}}, review, verify.Accepted},
		"nothing":                         {nil, review, verify.Rejected},
		"by somebody else":                {[]signed{{eve, kind, ""}}, review, verify.Rejected},
		"something else":                  {[]signed{{ada, other, ""}}, review, verify.Rejected},
		"of another image":                {[]signed{{ada, kind, strings.Repeat("ab", 32)}}, review, verify.Rejected},
		"a signature":                     {[]signed{{ada, attest.PredicateSign, ""}}, review, verify.Rejected},
		"with another value":              {[]signed{{ada, kind, ""}}, []policy.Attestation{{PredicateType: kind, Signer: byAda, Equals: map[string]any{"/result": "FAILED"}}}, verify.Rejected},
		"one of two":                      {[]signed{{ada, kind, ""}}, append(review, policy.Attestation{PredicateType: other, Signer: byEve}), verify.Rejected},
		"two, by two":                     {[]signed{{ada, kind, ""}, {eve, other, ""}}, append(review, policy.Attestation{PredicateType: other, Signer: byEve}), verify.Accepted},
		"two, of which each by the other": {[]signed{{eve, kind, ""}, {ada, other, ""}}, append(review, policy.Attestation{PredicateType: other, Signer: byEve}), verify.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			p, store := prooftest.New(t), prooftest.NewStore(t)
			p.Issuers = []string{people}
			r := p.Release(store)
			f := fileOf([]byte("app"))
			var beside [][]byte
			for _, s := range tt.has {
				predicate := map[string]any{"result": "PASSED"}
				if s.digest == "" {
					s.digest = r.Image.Digest.Hex
					beside = append(beside, p.Sign(s.by, statement(t, f.Digest.Hex, s.kind, predicate)))
				} else {
					beside = append(beside, p.Sign(s.by, statement(t, s.digest, s.kind, predicate)))
				}
				store.Attach(r.Image, p.Sign(s.by, statement(t, s.digest, s.kind, predicate)), s.kind)
			}
			demand := policy.Policy{Origin: policy.AttestationsOnly{}, Attestations: tt.wants}
			if err := demand.Check(); err != nil {
				t.Fatal(err)
			}
			list := distrusttest.New(t)
			list.Add(distrust.Scope{Identity: ada.SAN, Issuer: people})
			for what, judge := range map[string]func(verify.Options) *verify.Verdict{
				"image": func(o verify.Options) *verify.Verdict {
					return verify.Image(context.Background(), store, "v1.2.0", p.Now.Add(time.Minute), o)
				},
				"file": func(o verify.Options) *verify.Verdict {
					return verify.Bundled(context.Background(), f, beside, p.Now.Add(time.Minute), o)
				},
			} {
				opts := verify.Options{Trust: []*trust.Root{p.PlainRoot(people)}, Policy: demand}
				if v := judge(opts); v.Outcome != tt.want {
					t.Errorf("%s: got %s, want %s: %+v", what, v.Outcome, tt.want, v.Links)
				}
				opts.Distrust.Lists = distrust.Lists{list.Known("team")}
				if v := judge(opts); v.Outcome != verify.Rejected {
					t.Errorf("%s: got %s, want it rejected: ada is not trusted any longer: %+v", what, v.Outcome, v.Links)
				}
			}
		})
	}
}
