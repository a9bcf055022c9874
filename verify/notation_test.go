package verify_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "github.com/notaryproject/notation-core-go/signature"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/verify"
)

// byNotary returns the policy that demands a signature under an authority.
func byNotary(n *prooftest.Notary) policy.Policy {
	return policy.Policy{Origin: policy.NotationSignature{Trust: notation.TrustPolicy{
		CA: []*x509.Certificate{n.Root}, Subjects: []notation.Subject{{Country: "US", Province: "WA", Organization: "acme"}},
	}}}
}

// TestNotation: an image needs one signature of notation that holds, and no trust root.
func TestNotation(t *testing.T) {
	n, stranger := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "acme root")
	named := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example.com"} }
	for _, tt := range []struct {
		what   string
		attach func(s *prooftest.Store, image v1.Descriptor)
		want   verify.Outcome
		says   string
	}{
		{"signed, JWS", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, n.Signer().Sign(notation.JWS, d), notation.JWS)
		}, verify.Accepted, ""},
		{"signed, COSE, among others", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, stranger.Signer().Sign(notation.JWS, d), notation.JWS)
			s.AttachNotation(d, n.Signer().Sign(notation.COSE, d), notation.COSE)
			s.AttachNotation(d, []byte("{}"), notation.JWS)
			s.AttachFile(d, []byte("x"), "text/plain")
		}, verify.Accepted, ""},
		{"nothing", func(*prooftest.Store, v1.Descriptor) {}, verify.Rejected, "carries no signature of notation"},
		{"a stranger", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, stranger.Signer().Sign(notation.JWS, d), notation.JWS)
		}, verify.Rejected, "neither is in a trust store"},
		{"of another image", func(s *prooftest.Store, d v1.Descriptor) {
			other := d
			other.Digest.Hex = strings.Repeat("ab", 32)
			s.AttachNotation(d, n.Signer().Sign(notation.JWS, other), notation.JWS)
		}, verify.Rejected, "signed image: got sha256:abab"},
		{"of another size", func(s *prooftest.Store, d v1.Descriptor) {
			other := d
			other.Size++
			s.AttachNotation(d, n.Signer().Sign(notation.JWS, other), notation.JWS)
		}, verify.Rejected, "size of the signed image"},
		{"expired", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, n.Signer().Sign(notation.JWS, d, func(r *core.SignRequest) {
				r.SigningTime, r.Expiry = n.Now.Add(-time.Hour), n.Now.Add(-time.Minute)
			}), notation.JWS)
		}, verify.Rejected, "the signature expired"},
		{"another subject", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, n.Signer(func(c *x509.Certificate) { c.Subject.Organization = []string{"evil"} }).Sign(notation.JWS, d), notation.JWS)
		}, verify.Rejected, "got O=evil, want O=acme"},
		{"may be revoked", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachNotation(d, n.Signer(named).Sign(notation.JWS, d), notation.JWS)
			s.AttachNotation(d, stranger.Signer().Sign(notation.JWS, d), notation.JWS)
		}, verify.Undecided, "it is not known whether it was revoked"},
		{"no answer for the envelope", func(s *prooftest.Store, d v1.Descriptor) {
			raw := n.Signer().Sign(notation.JWS, d)
			s.AttachNotation(d, raw, notation.JWS)
			s.Fail[s.Put(raw, notation.JWS).Digest.String()] = errors.New("timeout")
		}, verify.Undecided, "timeout"},
		{"no answer for the manifest", func(s *prooftest.Store, d v1.Descriptor) {
			s.Fail[s.AttachNotation(d, n.Signer().Sign(notation.JWS, d), notation.JWS).Digest.String()] = errors.New("timeout")
		}, verify.Undecided, "timeout"},
		{"no list", func(s *prooftest.Store, d v1.Descriptor) { s.FailListing = errors.New("timeout") }, verify.Undecided, "timeout"},
		{"the same under another type", func(s *prooftest.Store, d v1.Descriptor) {
			s.AttachFile(d, n.Signer().Sign(notation.JWS, d), notation.JWS)
		}, verify.Rejected, "carries no signature of notation"},
	} {
		s := prooftest.NewStore(t)
		image, _ := s.Image("v1")
		tt.attach(s, image)
		v := verify.Image(context.Background(), s, "v1", n.Now, verify.Options{Policy: byNotary(n)})
		if v.Outcome != tt.want || !strings.Contains(v.Why(), tt.says) {
			t.Fatalf("%s: got %s: %s, want %s: %s", tt.what, v.Outcome, v.Why(), tt.want, tt.says)
		}
		if (v.Facts != nil) != (tt.want == verify.Accepted) {
			t.Errorf("%s: facts: got %+v", tt.what, v.Facts)
		}
	}
}

// TestNotationOfOneManifest: an index that wraps a signed manifest, and adds nothing.
func TestNotationOfOneManifest(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	s := prooftest.NewStore(t)
	index := s.IndexOf(&v1.Platform{OS: "linux", Architecture: "amd64"}, "linux", "amd64")
	s.Tag("v1", index)
	inner := s.OnlyManifest(index)
	s.AttachNotation(inner, n.Signer().Sign(notation.JWS, inner), notation.JWS)
	v := verify.Image(context.Background(), s, "v1", n.Now, verify.Options{Policy: byNotary(n)})
	if v.Outcome != verify.Accepted || v.Digest != inner.Digest.String() || v.Index != index.Digest.String() {
		t.Errorf("got %s (%s) of %s in %s", v.Outcome, v.Why(), v.Digest, v.Index)
	}
}

// TestNotationAsked: who asks only after the evidence was gathered learns nothing wrong.
func TestNotationAsked(t *testing.T) {
	n, other := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "other root")
	s := prooftest.NewStore(t)
	image, _ := s.Image("v1")
	s.AttachNotation(image, n.Signer().Sign(notation.JWS, image), notation.JWS)
	s.AttachNotation(image, other.Signer().Sign(notation.JWS, image), notation.JWS)
	ev := verify.Gather(context.Background(), s, "v1", n.Now, verify.Options{}, verify.Ask{Policies: []policy.Policy{byNotary(n)}})
	for _, tt := range []struct {
		by   *prooftest.Notary
		want verify.Outcome
	}{{n, verify.Accepted}, {other, verify.Undecided}} {
		if v := ev.Verdict(byNotary(tt.by)); v.Outcome != tt.want {
			t.Errorf("%s: got %s, want %s", v.Why(), v.Outcome, tt.want)
		}
	}
	without := verify.Gather(context.Background(), s, "v1", n.Now, verify.Options{}, verify.Ask{})
	if got := ev.Size() - without.Size(); got < 4<<10 {
		t.Errorf("size of a signature: got %d bytes more than without, want at least %d", got, 4<<10)
	}
	f := verify.File{Name: "x", Digest: image.Digest, Content: strings.NewReader("")}
	if v := verify.Bundled(context.Background(), f, nil, n.Now, verify.Options{Policy: byNotary(n)}); v.Outcome != verify.Undecided {
		t.Errorf("file: got %s, want undecided", v.Outcome)
	}
}

// TestNotationFacts: conditions see who signed.
func TestNotationFacts(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	s := prooftest.NewStore(t)
	image, _ := s.Image("v1")
	s.AttachNotation(image, n.Signer().Sign(notation.JWS, image), notation.JWS)
	for expression, want := range map[string]verify.Outcome{
		`signers.exists(s, s.type == "application/vnd.cncf.notary.signature" && s.identity == "CN=release,O=acme,ST=WA,C=US" && !s.logged)`: verify.Accepted,
		`signers.exists(s, s.issuer == "CN=other")`: verify.Rejected,
		`signers.all(s, s.time < now)`:              verify.Undecided, // nobody vouches for a time
		`source.repository == "x"`:                  verify.Undecided,
	} {
		c, err := policy.ParseCondition(expression, "sorry")
		if err != nil {
			t.Fatal(err)
		}
		set := policy.Every(byNotary(n))
		set.Rules[0].Conditions = []policy.Condition{c}
		asked := policy.Image{Name: "reg.example.com/app", Digest: image.Digest.String()}
		ev := verify.Gather(context.Background(), s, "v1", n.Now, verify.Options{}, verify.AskFor([]*policy.Set{set}, asked))
		if d := ev.Decide([]*policy.Set{set}, asked); d.Outcome != want {
			t.Errorf("%s: got %s (%s), want %s", expression, d.Outcome, d.Reason, want)
		}
	}
}

// TestManyNotations: hundreds of copies of a signature hide none, and are not all kept.
func TestManyNotations(t *testing.T) {
	n, stranger := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "stranger")
	s := prooftest.NewStore(t)
	image, _ := s.Image("v1")
	for range 400 {
		s.AttachNotation(image, stranger.Signer().Sign(notation.JWS, image), notation.JWS)
	}
	s.AttachNotation(image, n.Signer().Sign(notation.JWS, image), notation.JWS)
	v := verify.Image(context.Background(), s, "v1", n.Now, verify.Options{Policy: byNotary(n)})
	if v.Outcome != verify.Accepted {
		t.Errorf("among strangers: got %s: %s", v.Outcome, v.Why())
	}
	evil := n.Signer(func(c *x509.Certificate) { c.Subject.Organization = []string{"evil"} })
	other := prooftest.NewStore(t)
	image, _ = other.Image("v1")
	for range 300 {
		other.AttachNotation(image, evil.Sign(notation.JWS, image), notation.JWS)
	}
	v = verify.Image(context.Background(), other, "v1", n.Now, verify.Options{Policy: byNotary(n)})
	if v.Outcome != verify.Undecided || !strings.Contains(v.Why(), "more than 256") {
		t.Errorf("more than are verified: got %s: %s", v.Outcome, v.Why())
	}
}

// TestNotationDistrusted: the keys of the certificates can be in a list. What else can be in one is not
// known of such an image.
func TestNotationDistrusted(t *testing.T) {
	n, s := prooftest.NewNotary(t, "acme root"), prooftest.NewStore(t)
	image, _ := s.Image("v1")
	signer := n.Signer()
	s.AttachNotation(image, signer.Sign(notation.JWS, image), notation.JWS)
	key := func(c *x509.Certificate) distrust.Scope {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		return distrust.Scope{Key: "sha256:" + hex.EncodeToString(sum[:])}
	}
	for name, tt := range map[string]struct {
		scope  distrust.Scope
		maxAge time.Duration
		want   verify.Outcome
	}{
		"the signer's key":        {key(signer.Chain[0]), 0, verify.Rejected},
		"an authority's key":      {key(signer.Chain[len(signer.Chain)-1]), time.Hour, verify.Rejected},
		"another key":             {distrust.Scope{Key: "sha256:" + strings.Repeat("ab", 32)}, time.Hour, verify.Accepted},
		"a package":               {distrust.Scope{Package: "log4j-core@2.14.1"}, time.Hour, verify.Undecided},
		"a package, not demanded": {distrust.Scope{Package: "log4j-core@2.14.1"}, 0, verify.Accepted},
	} {
		i := distrusttest.New(t)
		i.Add(tt.scope)
		set := policy.Every(byNotary(n))
		set.Rules[0].DistrustMaxAge = tt.maxAge
		asked := policy.Image{Name: "reg.example.com/app", Digest: image.Digest.String()}
		ev := verify.Gather(t.Context(), s, "v1", n.Now, verify.Options{}, verify.AskFor([]*policy.Set{set}, asked))
		if d := ev.DecideWith([]*policy.Set{set}, asked, verify.With{Lists: distrust.Lists{i.Known("shop")}}); d.Outcome != tt.want {
			t.Errorf("%s: got %s, %s, want %s", name, d.Outcome, d.Reason, tt.want)
		}
	}
}
