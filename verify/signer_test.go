package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

const (
	ada    = "https://accounts.example.com/ada"
	people = "https://accounts.example.com"
)

// signedStage is an image that somebody signs in one of cosign's ways.
type signedStage struct {
	t     *testing.T
	p     *prooftest.Platform
	store *prooftest.Store
	image v1.Descriptor
}

func newSignedStage(t *testing.T) *signedStage {
	s := &signedStage{t: t, p: prooftest.New(t), store: prooftest.NewStore(t)}
	s.image, _ = s.store.Image("v1")
	return s
}

func (s *signedStage) roots() []*trust.Root { return rootOf(s.t, s.p.TrustedRoot()) }

func (s *signedStage) verdict(p policy.Document) *verify.Verdict {
	return verify.Image(context.Background(), s.store, "v1", verify.Options{Trust: s.roots(), Policy: demanded(s.t, p), Now: s.p.Now.Add(time.Minute)})
}

// payload is what cosign signs of the image.
func (s *signedStage) payload(from, to string) []byte {
	doc := `{"critical":{"identity":{"docker-reference":"127.0.0.1:8080/team/app"},"image":{"docker-manifest-digest":"` + s.image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`
	if from == "" {
		return []byte(doc)
	}
	bent := strings.Replace(doc, from, to, 1)
	if bent == doc {
		s.t.Fatalf("%q is not in the payload", from)
	}
	return []byte(bent)
}

// sign puts a signature of cosign v2 under the image's tag.
func (s *signedStage) sign(payload []byte, annotations map[string]string) {
	s.store.Tagged(s.image, "sig", s.store.Layer(payload, attest.SimpleSigningMediaType, annotations))
}

func named(s policy.DocumentSigner) policy.Document { return policy.Document{Signer: &s} }

var byAda = policy.DocumentSigner{Identity: ada, Issuer: people}

// TestCosign2Signatures: simple signing under the tag sha256-HEX.sig, by
// certificate and by key, and each way to have it wrong.
func TestCosign2Signatures(t *testing.T) {
	id := prooftest.Identity{SAN: ada, Issuer: people}
	t.Run("certificate", func(t *testing.T) {
		s := newSignedStage(t)
		s.sign(s.payload("", ""), s.p.Certified(id).Simple(s.payload("", "")))
		v := s.verdict(named(byAda))
		if v.Outcome != verify.Accepted || !strings.HasPrefix(link(t, v, verify.LinkSignature).Claim, ada+", certified ") || !strings.Contains(link(t, v, verify.LinkLog).Claim, "entry 7") {
			t.Errorf("got %+v", v)
		}
		if got := link(t, v, verify.LinkProvenance).Status; got != verify.NotAsked {
			t.Errorf("provenance: got %s, want it not asked", got)
		}
		for name, who := range map[string]policy.DocumentSigner{
			"another name": {Identity: ada + "x", Issuer: people}, "a prefix of the name": {Identity: ada[:len(ada)-1], Issuer: people},
			"another issuer": {Identity: ada, Issuer: people + "/"}, "a key": {Key: string(s.p.KeyHolder().PublicKey())},
		} {
			if v := s.verdict(named(who)); v.Outcome != verify.Rejected {
				t.Errorf("%s: got %s, want it rejected", name, v.Outcome)
			}
		}
		if v := s.verdict(policy.Document{Signer: &byAda, AnySource: true}); v.Outcome != verify.Rejected || link(t, v, verify.LinkSignature).Status != verify.Absent {
			t.Errorf("a signature was taken for provenance: %+v", v)
		}
	})
	t.Run("certificate and timestamp, no log", func(t *testing.T) {
		s := newSignedStage(t)
		h := s.p.Certified(id)
		h.Unlogged, h.Timestamped = true, true
		s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
		if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
			t.Errorf("got %s, want it rejected: the root has a log, and the signature is in none", v.Outcome)
		}
	})
	t.Run("key", func(t *testing.T) {
		s := newSignedStage(t)
		h := s.p.KeyHolder()
		s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
		if v := s.verdict(named(policy.DocumentSigner{Key: string(h.PublicKey())})); v.Outcome != verify.Accepted {
			t.Errorf("got %+v", v)
		}
		for name, who := range map[string]policy.DocumentSigner{"another key": {Key: string(s.p.KeyHolder().PublicKey())}, "an identity": byAda,
			"another key without a log": {Key: string(s.p.KeyHolder().PublicKey()), InsecureNoLog: true}} {
			if v := s.verdict(named(who)); v.Outcome != verify.Rejected {
				t.Errorf("%s: got %s, want it rejected", name, v.Outcome)
			}
		}
	})
	t.Run("key without a log", func(t *testing.T) {
		s := newSignedStage(t)
		h := s.p.KeyHolder()
		h.Unlogged = true
		s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
		if v := s.verdict(named(policy.DocumentSigner{Key: string(h.PublicKey())})); v.Outcome != verify.Rejected {
			t.Errorf("got %s, want it rejected: nobody said that no log will do", v.Outcome)
		}
		danger := named(policy.DocumentSigner{Key: string(h.PublicKey()), InsecureNoLog: true})
		v := s.verdict(danger)
		if l := link(t, v, verify.LinkLog); v.Outcome != verify.Accepted || l.Status != verify.NotAsked || !strings.Contains(l.Reason, "dangerous") {
			t.Errorf("got %+v, want the danger shown", v)
		}
		// Nobody has to be believed for a key at hand.
		v = verify.Image(context.Background(), s.store, "v1", verify.Options{Policy: demanded(t, danger), Now: s.p.Now})
		if v.Outcome != verify.Accepted {
			t.Errorf("without a trust root: got %+v", v)
		}
		h.Timestamped = true
		s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
		if v = verify.Image(context.Background(), s.store, "v1", verify.Options{Policy: demanded(t, danger), Now: s.p.Now}); v.Outcome != verify.Accepted {
			t.Errorf("with a timestamp that nobody here can judge: got %+v", v)
		}
	})
	other := "sha256:" + strings.Repeat("ab", 32)
	for name, replace := range map[string][2]string{
		"another image":             {`"docker-manifest-digest":"sha256:`, `"docker-manifest-digest":"` + other + `","x":"`},
		"another image's digest":    {`app"},"image":{"docker-manifest-digest":"sha256:`, `app"},"image":{"docker-manifest-digest":"sha512:`},
		"another type":              {"cosign container image signature", "atomic container signature"},
		"a member that is critical": {`"critical":{`, `"critical":{"until":"2020-01-01",`},
		"the image named twice":     {`"image":{`, `"image":{"docker-manifest-digest":"` + other + `"},"image":{`},
		"no image":                  {`"image"`, `"picture"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignedStage(t)
			payload := s.payload(replace[0], replace[1])
			s.sign(payload, s.p.Certified(id).Simple(payload))
			if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
				t.Errorf("got %+v, want it rejected", v)
			}
		})
	}
	// A good signature, moved beside something that it is not about.
	for name, bend := range map[string]func(s *signedStage, a map[string]string) (payload []byte){
		"payload of another": func(s *signedStage, _ map[string]string) []byte { return s.payload("team/app", "team/other") },
		"image of another": func(s *signedStage, a map[string]string) []byte {
			payload := s.payload(s.image.Digest.Hex, other[7:])
			maps.Copy(a, s.p.Certified(id).Simple(payload))
			return payload
		},
		"entry of another": func(s *signedStage, a map[string]string) []byte {
			a[attest.Cosign2Bundle] = s.p.Certified(id).Simple(s.payload("", ""))[attest.Cosign2Bundle]
			return s.payload("", "")
		},
		"certificate of another": func(s *signedStage, a map[string]string) []byte {
			a[attest.Cosign2Certificate] = s.p.Certified(id).Simple(s.payload("", ""))[attest.Cosign2Certificate]
			return s.payload("", "")
		},
		"signature of another": func(s *signedStage, a map[string]string) []byte {
			a[attest.Cosign2Signature] = s.p.Certified(id).Simple(s.payload("", ""))[attest.Cosign2Signature]
			return s.payload("", "")
		},
		"no signature": func(s *signedStage, a map[string]string) []byte {
			delete(a, attest.Cosign2Signature)
			return s.payload("", "")
		},
		"no certificate": func(s *signedStage, a map[string]string) []byte {
			delete(a, attest.Cosign2Certificate)
			return s.payload("", "")
		},
		"no entry": func(s *signedStage, a map[string]string) []byte {
			delete(a, attest.Cosign2Bundle)
			return s.payload("", "")
		},
		"time of the promise": func(s *signedStage, a map[string]string) []byte {
			a[attest.Cosign2Bundle] = strings.Replace(a[attest.Cosign2Bundle], `"logIndex":7`, `"logIndex":8`, 1)
			return s.payload("", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignedStage(t)
			a := s.p.Certified(id).Simple(s.payload("", ""))
			s.sign(bend(s, a), a)
			if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
				t.Errorf("got %+v, want it rejected", v)
			}
		})
	}
	for name, bend := range map[string]func(*prooftest.Platform){
		"foreign log": func(p *prooftest.Platform) { p.ForeignLog = true }, "no SCT": func(p *prooftest.Platform) { p.NoSCT = true },
		"logged after the certificate": func(p *prooftest.Platform) { p.Clock = p.Now.Add(11 * time.Minute) },
		"logged in the future": func(p *prooftest.Platform) {
			p.Now = p.Now.Add(3 * time.Hour)
			p.Clock = p.Now
			p.CAUntil = p.Now.Add(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignedStage(t)
			now := s.p.Now.Add(time.Minute)
			bend(s.p)
			s.sign(s.payload("", ""), s.p.Certified(id).Simple(s.payload("", "")))
			if v := verify.Image(context.Background(), s.store, "v1", verify.Options{Trust: s.roots(), Policy: demanded(t, named(byAda)), Now: now}); v.Outcome != verify.Rejected {
				t.Errorf("got %+v, want it rejected", v)
			}
		})
	}
}

// TestAttestationIsNoSignature: cosign's own trap.
func TestAttestationIsNoSignature(t *testing.T) {
	s := newSignedStage(t)
	raw, err := attest.NewStatement("app", s.image.Digest.Hex, "https://example.com/t/v1", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	envelope, annotations := s.p.Certified(prooftest.Identity{SAN: ada, Issuer: people}).Envelope(raw)
	s.store.Tagged(s.image, "att", s.store.Layer(envelope, attest.EnvelopeMediaType, annotations))
	s.store.Attach(s.image, s.p.Sign(prooftest.Identity{SAN: ada, Issuer: people}, raw), "https://example.com/t/v1")
	if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected || link(t, v, verify.LinkSignature).Status != verify.Absent {
		t.Errorf("got %+v, want the signature absent", v)
	}
	// What could not be had might have been it.
	s.store.Fail["sha256-"+s.image.Digest.Hex+".att"] = errors.New("the registry is asleep")
	if v := s.verdict(named(byAda)); v.Outcome != verify.Undecided {
		t.Errorf("got %+v, want it undecided", v)
	}
}

// TestCosign3Signature: the same image signed as cosign v3 does.
func TestCosign3Signature(t *testing.T) {
	s := newSignedStage(t)
	raw, err := attest.NewStatement("app", s.image.Digest.Hex, attest.PredicateSign, map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	// The listing lies about what it lists; the content counts.
	s.store.ListedAs = "application/vnd.example.nothing"
	s.store.Attach(s.image, s.p.Sign(prooftest.Identity{SAN: ada, Issuer: people}, raw), "https://example.com/a-lie")
	if v := s.verdict(named(byAda)); v.Outcome != verify.Accepted {
		t.Errorf("got %+v", v)
	}
	if v := s.verdict(named(policy.DocumentSigner{Identity: ada, Issuer: prooftest.URL})); v.Outcome != verify.Rejected {
		t.Errorf("another issuer: got %s", v.Outcome)
	}
}

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
		r := p.Release(store)
		r.Attach(prooftest.Kinds...)
		store.Attach(r.Image, p.Sign(scan, statement(t, r.Image.Digest.Hex, kind, predicate)), kind)
		return p, r, store
	}
	judge := func(t *testing.T, p *prooftest.Platform, store *prooftest.Store, demands ...policy.Attestation) *verify.Verdict {
		return verify.Image(context.Background(), store, "v1.2.0", verify.Options{Trust: []*trust.Root{p.Root()}, Now: p.Now.Add(time.Minute),
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
