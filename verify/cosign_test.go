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

func (s *signedStage) roots() []*trust.Root {
	return []*trust.Root{s.p.PlainRoot(people, trust.GitHubIssuer, trust.GitLabIssuer, "https://kubernetes.default.svc")}
}

func (s *signedStage) verdict(p policy.Document) *verify.Verdict {
	return verify.Image(context.Background(), s.store, "v1", s.p.Now.Add(time.Minute), verify.Options{Trust: s.roots(), Policy: demanded(s.t, p)})
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

var adasCertificate = prooftest.Identity{SAN: ada, Issuer: people}

// rejects fails unless a signature by anybody in who is refused.
func (s *signedStage) rejects(who map[string]policy.DocumentSigner) {
	s.t.Helper()
	for name, signer := range who {
		if v := s.verdict(named(signer)); v.Outcome != verify.Rejected {
			s.t.Errorf("%s: got %s, want it rejected", name, v.Outcome)
		}
	}
}

// TestCosign2Certificate: simple signing under the tag sha256-HEX.sig, by the
// holder of a certificate.
func TestCosign2Certificate(t *testing.T) {
	s := newSignedStage(t)
	s.sign(s.payload("", ""), s.p.Certified(adasCertificate).Simple(s.payload("", "")))
	v := s.verdict(named(byAda))
	if v.Outcome != verify.Accepted || !strings.HasPrefix(link(t, v, verify.LinkSignature).Claim, ada+", certified ") || !strings.Contains(link(t, v, verify.LinkLog).Claim, "entry 7") {
		t.Errorf("got %+v", v)
	}
	if got := link(t, v, verify.LinkProvenance).Status; got != verify.NotAsked {
		t.Errorf("provenance: got %s, want it not asked", got)
	}
	s.rejects(map[string]policy.DocumentSigner{
		"another name": {Identity: ada + "x", Issuer: people}, "a prefix of the name": {Identity: ada[:len(ada)-1], Issuer: people},
		"another issuer": {Identity: ada, Issuer: people + "/"}, "a key": {Key: string(s.p.KeyHolder().PublicKey())},
	})
	if v := s.verdict(policy.Document{Signer: &byAda, AnySource: true}); v.Outcome != verify.Rejected || link(t, v, verify.LinkSignature).Status != verify.Absent {
		t.Errorf("a signature was taken for provenance: %+v", v)
	}
	// A timestamp does not replace the log where the trust root has one.
	s = newSignedStage(t)
	h := s.p.Certified(adasCertificate)
	h.Unlogged, h.Timestamped = true, true
	s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
	if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
		t.Errorf("a timestamp and no log entry: got %s, want it rejected", v.Outcome)
	}
}

// TestCosign2Key: the same by the holder of a key.
func TestCosign2Key(t *testing.T) {
	s := newSignedStage(t)
	h := s.p.KeyHolder()
	s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
	if v := s.verdict(named(policy.DocumentSigner{Key: string(h.PublicKey())})); v.Outcome != verify.Accepted {
		t.Errorf("got %+v", v)
	}
	s.rejects(map[string]policy.DocumentSigner{
		"another key": {Key: string(s.p.KeyHolder().PublicKey())}, "an identity": byAda,
		"another key without a log": {Key: string(s.p.KeyHolder().PublicKey()), InsecureNoLog: true},
	})
}

// TestCosign2KeyWithoutLog: a signature that no log has is accepted only where
// the policy says so, and the verdict names the danger.
func TestCosign2KeyWithoutLog(t *testing.T) {
	s := newSignedStage(t)
	h := s.p.KeyHolder()
	h.Unlogged = true
	s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
	s.rejects(map[string]policy.DocumentSigner{"the policy wants a log": {Key: string(h.PublicKey())}})
	// A trust root of the machine that has no log does not waive what the policy wants.
	var logless map[string]any
	if err := json.Unmarshal(s.p.TrustedRoot(), &logless); err != nil {
		t.Fatal(err)
	}
	delete(logless, "tlogs")
	raw, err := json.Marshal(logless)
	if err != nil {
		t.Fatal(err)
	}
	other, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	wanted := named(policy.DocumentSigner{Key: string(h.PublicKey())})
	for _, roots := range [][]*trust.Root{{other}, {s.p.Root(), other}} {
		if v := verify.Image(context.Background(), s.store, "v1", s.p.Now, verify.Options{Policy: demanded(t, wanted), Trust: roots}); v.Outcome != verify.Rejected {
			t.Errorf("with a trust root without logs, one of %d: got %s, want it rejected", len(roots), v.Outcome)
		}
	}
	danger := named(policy.DocumentSigner{Key: string(h.PublicKey()), InsecureNoLog: true})
	v := s.verdict(danger)
	if l := link(t, v, verify.LinkLog); v.Outcome != verify.Accepted || l.Status != verify.NotAsked || !strings.Contains(l.Reason, "dangerous") {
		t.Errorf("got %+v, want the danger shown", v)
	}
	// Such a key needs no trust root.
	withoutRoot := func() *verify.Verdict {
		return verify.Image(context.Background(), s.store, "v1", s.p.Now, verify.Options{Policy: demanded(t, danger)})
	}
	if v := withoutRoot(); v.Outcome != verify.Accepted {
		t.Errorf("without a trust root: got %+v", v)
	}
	h.Timestamped = true
	s.sign(s.payload("", ""), h.Simple(s.payload("", "")))
	if v := withoutRoot(); v.Outcome != verify.Accepted {
		t.Errorf("with a timestamp that no trust root can judge: got %+v", v)
	}
}

var otherImage = "sha256:" + strings.Repeat("ab", 32)

// TestCosign2Payload: a well signed payload that is not about this image, or is
// not what cosign signs.
func TestCosign2Payload(t *testing.T) {
	for name, replace := range map[string][2]string{
		"another image":             {`"docker-manifest-digest":"sha256:`, `"docker-manifest-digest":"` + otherImage + `","x":"`},
		"another image's digest":    {`app"},"image":{"docker-manifest-digest":"sha256:`, `app"},"image":{"docker-manifest-digest":"sha512:`},
		"another type":              {"cosign container image signature", "atomic container signature"},
		"a member that is critical": {`"critical":{`, `"critical":{"until":"2020-01-01",`},
		"the image named twice":     {`"image":{`, `"image":{"docker-manifest-digest":"` + otherImage + `"},"image":{`},
		"no image":                  {`"image"`, `"picture"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignedStage(t)
			payload := s.payload(replace[0], replace[1])
			s.sign(payload, s.p.Certified(adasCertificate).Simple(payload))
			if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
				t.Errorf("got %+v, want it rejected", v)
			}
		})
	}
}

// TestCosign2Moved: a good signature, moved beside something that it is not about.
func TestCosign2Moved(t *testing.T) {
	// ofAnother takes one annotation from another signature by the same name.
	ofAnother := func(annotation string) func(*signedStage, map[string]string) []byte {
		return func(s *signedStage, a map[string]string) []byte {
			a[annotation] = s.p.Certified(adasCertificate).Simple(s.payload("", ""))[annotation]
			return s.payload("", "")
		}
	}
	without := func(annotation string) func(*signedStage, map[string]string) []byte {
		return func(s *signedStage, a map[string]string) []byte {
			delete(a, annotation)
			return s.payload("", "")
		}
	}
	for name, bend := range map[string]func(s *signedStage, a map[string]string) (payload []byte){
		"payload of another": func(s *signedStage, _ map[string]string) []byte { return s.payload("team/app", "team/other") },
		"image of another": func(s *signedStage, a map[string]string) []byte {
			payload := s.payload(s.image.Digest.Hex, otherImage[7:])
			maps.Copy(a, s.p.Certified(adasCertificate).Simple(payload))
			return payload
		},
		"entry of another":       ofAnother(attest.Cosign2Bundle),
		"certificate of another": ofAnother(attest.Cosign2Certificate),
		"signature of another":   ofAnother(attest.Cosign2Signature),
		"no signature":           without(attest.Cosign2Signature),
		"no certificate":         without(attest.Cosign2Certificate),
		"no entry":               without(attest.Cosign2Bundle),
		"time of the promise": func(s *signedStage, a map[string]string) []byte {
			a[attest.Cosign2Bundle] = strings.Replace(a[attest.Cosign2Bundle], `"logIndex":7`, `"logIndex":8`, 1)
			return s.payload("", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignedStage(t)
			a := s.p.Certified(adasCertificate).Simple(s.payload("", ""))
			s.sign(bend(s, a), a)
			if v := s.verdict(named(byAda)); v.Outcome != verify.Rejected {
				t.Errorf("got %+v, want it rejected", v)
			}
		})
	}
}

// TestCosign2Services: a certificate or log entry that the trust root does not
// cover, or not at that time.
func TestCosign2Services(t *testing.T) {
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
			s.sign(s.payload("", ""), s.p.Certified(adasCertificate).Simple(s.payload("", "")))
			if v := verify.Image(context.Background(), s.store, "v1", now, verify.Options{Trust: s.roots(), Policy: demanded(t, named(byAda))}); v.Outcome != verify.Rejected {
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

// TestPromiseOutsideTheKeysWindow: the log's promise counts only at a time at which the
// trust root trusts the log's key, which whoever stole an old key cannot choose.
func TestPromiseOutsideTheKeysWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		bend func(*prooftest.Platform)
		want verify.Outcome
	}{
		"within":         {func(*prooftest.Platform) {}, verify.Accepted},
		"the last time":  {func(p *prooftest.Platform) { p.LogUntil = p.Clock }, verify.Accepted},
		"after the end":  {func(p *prooftest.Platform) { p.LogUntil = p.Clock.Add(-time.Second) }, verify.Rejected},
		"the first time": {func(p *prooftest.Platform) { p.LogFrom = p.Clock }, verify.Accepted},
		"too early":      {func(p *prooftest.Platform) { p.LogFrom = p.Clock.Add(time.Second) }, verify.Rejected},
	} {
		s := newSignedStage(t)
		tt.bend(s.p)
		s.sign(s.payload("", ""), s.p.Certified(adasCertificate).Simple(s.payload("", "")))
		if v := s.verdict(named(byAda)); v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s: %+v", name, v.Outcome, tt.want, v.Links)
		}
	}
}
