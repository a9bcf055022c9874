package verify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestLastWordUnderStaleRoot: a policy that drops stale trust roots does not forget with them what
// their signers said against the image later. Then it is not known whether that is the last word.
func TestLastWordUnderStaleRoot(t *testing.T) {
	now := time.Now()
	by := policy.Identity{Name: ada, Issuer: people}
	for name, tt := range map[string]struct {
		fresh, stale string        // predicates of a scan, or results of a summary; empty: there is none
		later        time.Duration // how much later the one under the stale root was signed
		want         verify.Outcome
	}{
		"nothing stale":         {"good", "", 0, verify.Accepted},
		"said before":           {"good", "bad", -time.Second, verify.Accepted},
		"said at the same time": {"good", "bad", 0, verify.Undecided},
		"said later":            {"good", "bad", time.Second, verify.Undecided},
		"nothing against it":    {"good", "good", time.Second, verify.Accepted},
		"only good and stale":   {"", "good", 0, verify.Rejected},
		"bad and fresh":         {"bad", "good", time.Second, verify.Rejected},
	} {
		for _, kind := range []string{scanned, attest.PredicateVSA} {
			c := newWithdrawn(t)
			other := prooftest.New(t)
			refreshed := func(r *trust.Root, ago time.Duration) *trust.Root {
				r.Repository = &trust.Repository{URL: "https://r.example.com", Refreshed: now.Add(-ago)}
				return r
			}
			c.opts.Trust = []*trust.Root{refreshed(c.p.Root(), time.Minute), refreshed(c.p.PlainRoot(people), time.Minute), refreshed(other.PlainRoot(people), 2*time.Hour)}
			other.Clock = c.p.Clock.Add(tt.later)
			for p, says := range map[*prooftest.Platform]string{c.p: tt.fresh, other: tt.stale} {
				if says == "" {
					continue
				}
				var predicate any = map[string]any{"passed": says == "good"}
				if kind == attest.PredicateVSA {
					at := p.Clock
					vsa := attest.VSA{
						Verifier: attest.VSAVerifier{ID: verifierID}, TimeVerified: &at, ResourceURI: attest.ImageURI(c.s.Name()), Policy: attest.ResourceDescriptor{URI: "https://v.example.com/p"},
						VerificationResult: attest.VSAPassed, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_3"},
					}
					if says != "good" {
						vsa.VerificationResult, vsa.VerifiedLevels = attest.VSAFailed, []string{attest.VSAFailed}
					}
					predicate = vsa
				}
				st, err := attest.NewStatement("app", c.r.Image.Digest.Hex, kind, predicate)
				if err != nil {
					t.Fatal(err)
				}
				c.s.Attach(c.r.Image, p.Sign(adasCertificate, st), kind)
			}
			c.opts.Policy = demanded(t, c.wants)
			c.opts.Policy.MaxTrustAge = time.Hour
			if kind == scanned {
				c.opts.Policy.Attestations = []policy.Attestation{{PredicateType: scanned, Signer: by, Equals: map[string]any{"/passed": true}}}
			} else {
				c.opts.Policy.Verifiers = []policy.Verifier{{ID: verifierID, Signer: by}}
			}
			v := verify.Image(t.Context(), c.s, c.r.Image.Digest.String(), now, c.opts)
			if kind == scanned {
				want := tt.want
				if tt.fresh != "" && tt.stale != "" && tt.later >= 0 {
					want = verify.Undecided // what it says is not read
				}
				if got := c.byCondition(now); got != want {
					t.Errorf("%s, by a condition: got %s, want %s", name, got, want)
				}
			}
			if v.Outcome != tt.want || tt.want == verify.Undecided && !strings.Contains(v.Why(), "its trust root is stale") {
				t.Errorf("%s, %s: got %s: %s, want %s", name, kind, v.Outcome, v.Why(), tt.want)
			}
		}
	}
}

// byCondition returns what a rule decides whose condition reads the last scan by ada.
func (c *withdrawn) byCondition(now time.Time) verify.Outcome {
	c.t.Helper()
	sets := setsOf(c.t, setHead+`  - name: scanned
    images: [{glob: "**"}]
    trust: {maxAge: 1h}
    accept:
    - built:
        source: `+prooftest.Source+`
        attestations: [{predicateType: "`+scanned+`", signer: {certificate: {issuer: "`+people+`", identity: {is: "`+ada+`"}}}}]
    conditions: [{expression: 'attestations.all(a, a.flag("/passed"))', message: no scan passed}]
`)
	image := policy.Image{Name: "reg.example.com/app", Digest: c.r.Image.Digest.String()}
	return verify.Gather(c.t.Context(), c.s, image.Digest, now, c.opts, verify.AskFor(sets, image)).Decide(sets, image).Outcome
}
