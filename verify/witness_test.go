package verify_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/logtest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// mldsaWitness returns a witness with a key of ML-DSA-44.
func mldsaWitness(t *testing.T, name string) *tlog.Cosigner {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	c, err := tlog.NewMLDSA44Cosigner(name, seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWitnesses: a policy demands that witnesses which it names have cosigned the log's checkpoints.
func TestWitnesses(t *testing.T) {
	a, b, stranger := logtest.Cosigner(t, "a.example/w"), mldsaWitness(t, "b.example/w"), logtest.Cosigner(t, "c.example/w")
	second := mldsaWitness(t, "a.example/w") // another key of the first witness
	keys := []string{a.Key.String(), b.Key.String(), second.Key.String()}
	for name, test := range map[string]struct {
		by      []*tlog.Cosigner
		at      time.Duration // after the timestamps
		atLeast int
		outcome verify.Outcome
		status  verify.Status
		says    string
	}{
		"two of two":                         {[]*tlog.Cosigner{a, b}, 0, 2, verify.Accepted, verify.Holds, "cosigned by a.example/w, b.example/w"},
		"one of two is enough":               {[]*tlog.Cosigner{b}, 0, 1, verify.Accepted, verify.Holds, "cosigned by b.example/w"},
		"one, and two are demanded":          {[]*tlog.Cosigner{a}, 0, 2, verify.Rejected, verify.Broken, "only a.example/w has cosigned"},
		"one witness with two keys":          {[]*tlog.Cosigner{a, second}, 0, 2, verify.Rejected, verify.Broken, "only a.example/w has cosigned"},
		"witnesses that the policy does not": {[]*tlog.Cosigner{stranger, a}, 0, 2, verify.Rejected, verify.Broken, "only a.example/w has cosigned"},
		"nobody":                             {nil, 0, 1, verify.Rejected, verify.Broken, "no witness has cosigned"},
		"in the future":                      {[]*tlog.Cosigner{a, b}, 3 * time.Hour, 2, verify.Rejected, verify.Broken, "in the future"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.p.Witnesses, c.p.CosignedAt = test.by, c.p.Clock.Add(test.at)
			c.r.Attach(attest.PredicateSLSA1, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
			c.also = func(p *policy.Policy) { p.Witnesses = policy.Witnesses{AtLeast: test.atLeast, Keys: keys} }
			v := c.verdict()
			if v.Outcome != test.outcome {
				t.Fatalf("outcome: got %v, want %v", v.Outcome, test.outcome)
			}
			for _, l := range v.Links {
				if l.Name == verify.LinkLog && (l.Status != test.status || !strings.Contains(l.Claim+l.Reason, test.says)) {
					t.Errorf("got %v %s%s, want %v %q", l.Status, l.Claim, l.Reason, test.status, test.says)
				}
			}
			// Without the demand, the cosignatures change nothing.
			c.also = nil
			if v := c.verdict(); v.Outcome != verify.Accepted {
				t.Errorf("without the demand: got %v", v.Outcome)
			}
		})
	}
}

// TestEveryProofIsWitnessed: one proof without witnesses could be in a history that only the victim
// was shown.
func TestEveryProofIsWitnessed(t *testing.T) {
	w := logtest.Cosigner(t, "a.example/w")
	all := []string{attest.PredicateSLSA1, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX}
	for _, without := range all {
		t.Run(without, func(t *testing.T) {
			c := newScene(t)
			for _, kind := range all {
				c.p.Witnesses = []*tlog.Cosigner{w}
				if kind == without {
					c.p.Witnesses = nil
				}
				c.r.Attach(kind)
			}
			c.also = func(p *policy.Policy) {
				p.Witnesses = policy.Witnesses{AtLeast: 1, Keys: []string{w.Key.String()}}
			}
			c.want(verify.Rejected, verify.LinkLog, verify.Broken, "no witness has cosigned")
			// A second, witnessed one of the same is as good as the first.
			c.p.Witnesses = []*tlog.Cosigner{w}
			c.r.Attach(all...)
			c.want(verify.Accepted, verify.LinkLog, verify.Holds, "cosigned by a.example/w")
		})
	}
}

// TestWitnessesOfAllProofs: only who cosigned the checkpoints of all proofs is said to have done so.
func TestWitnessesOfAllProofs(t *testing.T) {
	a, b := logtest.Cosigner(t, "a.example/w"), logtest.Cosigner(t, "b.example/w")
	for says, of := range map[string][]*tlog.Cosigner{
		"cosigned by a.example/w":                                 {a, b},
		"cosigned by 1 of the witnesses a.example/w, b.example/w": {b},
	} {
		c := newScene(t)
		c.p.Witnesses = of
		c.r.Attach(attest.PredicateSLSA1)
		c.p.Witnesses = []*tlog.Cosigner{a}
		c.r.Attach(attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
		c.also = func(p *policy.Policy) {
			p.Witnesses = policy.Witnesses{AtLeast: 1, Keys: []string{a.Key.String(), b.Key.String()}}
		}
		for _, l := range c.verdict().Links {
			if l.Name == verify.LinkLog && (l.Status != verify.Holds || !strings.HasSuffix(l.Claim, says)) {
				t.Errorf("got %v %s%s, want %s", l.Status, l.Claim, l.Reason, says)
			}
		}
	}
}

// TestDemandedProofsAreWitnessed: an attestation or a verification summary that the policy demands
// speaks for the image, too.
func TestDemandedProofsAreWitnessed(t *testing.T) {
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	w := logtest.Cosigner(t, "a.example/w")
	by := prooftest.Identity{SAN: "https://ci.example.com/checker", Issuer: people}
	signer := policy.Identity{Name: by.SAN, Issuer: by.Issuer}
	const resource = "pkg:oci/app"
	summary := func(result string) map[string]any {
		return map[string]any{"verifier": map[string]any{"id": "https://v.example.com"}, "timeVerified": "2024-01-01T00:00:00Z", "resourceUri": resource,
			"policy": map[string]any{"uri": "https://v.example.com/policy"}, "verificationResult": result, "verifiedLevels": []any{"SLSA_BUILD_LEVEL_3"}, "slsaVersion": "1.2"}
	}
	for name, tt := range map[string]struct {
		kind      string
		predicate map[string]any
		link      string
		demand    func(*policy.Policy)
	}{
		"attestation": {kind, map[string]any{"result": "PASSED"}, verify.LinkAttestation, func(p *policy.Policy) {
			p.Attestations = []policy.Attestation{{PredicateType: kind, Signer: signer, Equals: map[string]any{"/result": "PASSED"}}}
		}},
		"summary": {attest.PredicateVSA, summary("PASSED"), verify.LinkSummary, func(p *policy.Policy) {
			p.Verifiers = []policy.Verifier{{ID: "https://v.example.com", Signer: signer, Resource: resource}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.p.Issuers = []string{people}
			c.p.Witnesses = []*tlog.Cosigner{w}
			c.r.Attach(attest.PredicateSLSA1, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
			attach := func() {
				c.s.Attach(c.r.Image, c.p.Sign(by, statement(t, c.r.Image.Digest.Hex, tt.kind, tt.predicate)), tt.kind)
			}
			c.also = tt.demand
			c.p.Witnesses = nil
			attach()
			if v := c.verdict(); v.Outcome != verify.Accepted {
				t.Fatalf("without witnesses in the policy: got %v", v.Outcome)
			}
			c.also = func(p *policy.Policy) {
				tt.demand(p)
				p.Witnesses = policy.Witnesses{AtLeast: 1, Keys: []string{w.Key.String()}}
			}
			c.want(verify.Rejected, tt.link, verify.Broken, "no witness has cosigned")
			c.p.Witnesses = []*tlog.Cosigner{w}
			attach()
			if v := c.verdict(); v.Outcome != verify.Accepted {
				t.Errorf("with a witnessed one: got %v", v.Outcome)
			}
		})
	}
}

// TestLogAsWitness: the key of a log says nothing about what the log shows to others.
func TestLogAsWitness(t *testing.T) {
	key := logtest.Key("a log that witnesses itself")
	self, err := tlog.NewEd25519Cosigner("witness.example/w", key)
	if err != nil {
		t.Fatal(err)
	}
	c := newScene(t)
	c.p.Witnesses = []*tlog.Cosigner{self}
	c.r.Attach(attest.PredicateSLSA1, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
	c.also = func(p *policy.Policy) {
		p.Witnesses = policy.Witnesses{AtLeast: 1, Keys: []string{self.Key.String()}}
	}
	c.want(verify.Accepted, verify.LinkLog, verify.Holds, "cosigned by witness.example/w")
	var doc trust.Document
	var trusted map[string]any
	if err := json.Unmarshal(c.p.Document(), &doc); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(doc.TrustedRoot, &trusted); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id, err := tlog.LogID("127.0.0.1", key.Public())
	if err != nil {
		t.Fatal(err)
	}
	trusted["tlogs"] = append(trusted["tlogs"].([]any), map[string]any{
		"baseUrl": c.p.URL, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": id[:]},
		"publicKey": map[string]any{"rawBytes": spki, "keyDetails": "PKIX_ED25519", "validFor": map[string]any{"start": "2020-01-01T00:00:00Z"}},
	})
	if doc.TrustedRoot, err = json.Marshal(trusted); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	root, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	c.opts.Trust = []*trust.Root{root}
	c.want(verify.Rejected, verify.LinkLog, verify.Broken, "log's own key")
}

// TestFactsAreWitnessed: conditions read no attestation that lacks the witnesses which the policy
// demands, and none before it if that may be the last.
func TestFactsAreWitnessed(t *testing.T) {
	const kind = "https://in-toto.io/attestation/test-result/v0.1"
	w := logtest.Cosigner(t, "a.example/w")
	by := prooftest.Identity{SAN: "https://ci.example.com/checker", Issuer: people}
	sets := setsOf(t, setHead+`  - name: scanned
    images: [{glob: "**"}]
    log: {witnesses: 1, keys: ["`+w.Key.String()+`"]}
    accept:
    - built:
        source: `+prooftest.Source+`
        attestations: [{predicateType: "`+kind+`", signer: {certificate: {issuer: "`+people+`", identity: {is: "`+by.SAN+`"}}}}]
    conditions: [{expression: 'attestations.exists(a, a.flag("/passed"))', message: no scan passed}]
`)
	type scan struct{ passed, seen bool }
	for name, tt := range map[string]struct {
		scans []scan
		want  verify.Outcome
		says  string
	}{
		"passed":                         {[]scan{{true, true}}, verify.Accepted, ""},
		"failed":                         {[]scan{{false, true}}, verify.Rejected, "no scan passed"},
		"failed, then passed and unseen": {[]scan{{false, true}, {true, false}}, verify.Undecided, "no scan passed"},
		"passed and unseen, then failed": {[]scan{{true, false}, {false, true}}, verify.Rejected, "no scan passed"},
		"unseen, then passed":            {[]scan{{false, false}, {true, true}}, verify.Accepted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.p.Issuers, c.p.Witnesses = []string{people}, []*tlog.Cosigner{w}
			c.r.Attach(prooftest.Kinds...)
			for _, s := range tt.scans {
				c.p.Witnesses, c.p.Clock = nil, c.p.Clock.Add(10*time.Second)
				if s.seen {
					c.p.Witnesses = []*tlog.Cosigner{w}
				}
				c.s.Attach(c.r.Image, c.p.Sign(by, statement(t, c.r.Image.Digest.Hex, kind, map[string]any{"passed": s.passed})), kind)
			}
			image := policy.Image{Name: "reg.example.com/app", Digest: c.r.Image.Digest.String()}
			d := verify.Gather(t.Context(), c.s, image.Digest, c.now.Add(time.Minute), verify.Options{Trust: []*trust.Root{c.p.Root()}}, verify.AskFor(sets, image)).Decide(sets, image)
			if d.Outcome != tt.want || !strings.Contains(d.Reason, tt.says) {
				t.Errorf("got %v, %s, want %v, %q", d.Outcome, d.Reason, tt.want, tt.says)
			}
		})
	}
}
