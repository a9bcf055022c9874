package notation_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	core "github.com/notaryproject/notation-core-go/signature"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/test/prooftest"
)

// image is what the tests sign.
var image = v1.Descriptor{MediaType: types.OCIImageIndex, Size: 1234, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}}

var acme = []notation.Subject{{Country: "US", Province: "WA", Organization: "acme"}}

// under returns a trust policy with the authority in the store ca.
func under(n *prooftest.Notary) *notation.TrustPolicy {
	return &notation.TrustPolicy{CA: []*x509.Certificate{n.Root}, Subjects: acme}
}

func verify(mediaType string, raw []byte, t *notation.TrustPolicy, now time.Time) (*notation.Result, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	s, err := notation.Parse(mediaType, raw)
	if err != nil {
		return nil, err
	}
	return s.Verify(image, t, now)
}

// wantError fails unless err says it, or is nil if says is empty.
func wantError(t *testing.T, err error, says string) {
	t.Helper()
	if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("got %v, want %q", err, says)
	}
}

// TestVerify: both envelopes, both schemes, under a root and under an intermediate.
func TestVerify(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	s := n.Signer()
	authority := func(r *core.SignRequest) { r.SigningScheme = core.SigningSchemeX509SigningAuthority }
	for _, mediaType := range []string{notation.JWS, notation.COSE} {
		r, err := verify(mediaType, s.Sign(mediaType, image), under(n), n.Now)
		wantError(t, err, "")
		if err == nil && (r.Signer != "CN=release,O=acme,ST=WA,C=US" || r.Root != "CN=acme root" || !r.At.IsZero()) {
			t.Errorf("%s: got %+v", mediaType, r)
		}
		_, err = verify(mediaType, s.Sign(mediaType, image, authority), under(n), n.Now)
		wantError(t, err, "trust store of the type signingAuthority")
		byAuthority := &notation.TrustPolicy{SigningAuthority: []*x509.Certificate{n.Root}, Anybody: true}
		r, err = verify(mediaType, s.Sign(mediaType, image, authority), byAuthority, n.Now.Add(1000*time.Hour)) // the certificate expired
		wantError(t, err, "")
		if err == nil && !r.At.Equal(n.Now) {
			t.Errorf("%s: signed: got %s, want %s", mediaType, r.At, n.Now)
		}
		_, err = verify(mediaType, s.Sign(mediaType, image), byAuthority, n.Now)
		wantError(t, err, "trust store of the type ca")
		_, err = verify(mediaType, s.Sign(mediaType, image, authority), byAuthority, n.Now.Add(-time.Hour))
		wantError(t, err, "time of signing")
	}
	sub := n.Sub("acme builds")
	below := sub.Signer()
	below.Chain = append(below.Chain, n.Root)
	for _, anchor := range []*prooftest.Notary{n, sub} {
		_, err := verify(notation.JWS, below.Sign(notation.JWS, image), under(anchor), n.Now)
		wantError(t, err, "")
	}
	alone := prooftest.NewNotary(t, "alone", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.Subject = false, false, x509.KeyUsageDigitalSignature, prooftest.NotarySubject
	})
	_, err := verify(notation.COSE, alone.Self().Sign(notation.COSE, image), under(alone), n.Now)
	wantError(t, err, "")
}

// TestWrongSignatures: what a signature that is intact must not be.
func TestWrongSignatures(t *testing.T) {
	n, stranger := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "acme root") // of the same name
	s := n.Signer()
	other := image
	for _, tt := range []struct {
		what string
		raw  []byte
		says string
	}{
		{"another CA of the same name", stranger.Signer().Sign(notation.JWS, image), "neither is in the trust store"},
		{"another digest", func() []byte {
			other.Digest.Hex = strings.Repeat("cd", 32)
			return s.Sign(notation.JWS, other)
		}(), "signed image: got sha256:cdcd"},
		{"another size", func() []byte {
			other := image
			other.Size++
			return s.Sign(notation.COSE, other)
		}(), "size of the signed image"},
		{"another media type", func() []byte {
			other := image
			other.MediaType = types.OCIManifestSchema1
			return s.Sign(notation.COSE, other)
		}(), "media type of the signed image"},
		{"expired signature", s.Sign(notation.COSE, image, func(r *core.SignRequest) {
			r.SigningTime, r.Expiry = n.Now.Add(-2*time.Hour), n.Now.Add(-time.Hour)
		}), "the signature expired"},
		{"expires now", s.Sign(notation.JWS, image, func(r *core.SignRequest) {
			r.SigningTime, r.Expiry = n.Now.Add(-2*time.Hour), n.Now
		}), "the signature expired"},
		{"expired certificate", n.Signer(func(c *x509.Certificate) { c.NotAfter = n.Now.Add(-time.Hour) }).Sign(notation.JWS, image, func(r *core.SignRequest) {
			r.SigningTime = n.Now.Add(-2 * time.Hour)
		}), "want valid at"},
		{"another usage of the key", n.Signer(func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
			c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}}
		}).Sign(notation.JWS, image), "incompatible key usage"},
		{"any usage of the key", n.Signer(func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }).Sign(notation.JWS, image), "extended key usage: got any"},
		{"authority for something else", func() []byte {
			sub := n.Sub("tls", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
			below := sub.Signer()
			below.Chain = append(below.Chain, n.Root)
			return below.Sign(notation.JWS, image)
		}(), "incompatible key usage"},
		{"critical extension", n.Signer(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}).Sign(notation.JWS, image), "critical extension 1.2.3.4"},
	} {
		mediaType := notation.JWS
		if tt.raw[0] != '{' {
			mediaType = notation.COSE
		}
		_, err := verify(mediaType, tt.raw, under(n), n.Now)
		if wantError(t, err, tt.says); t.Failed() {
			t.Fatal(tt.what)
		}
	}
}

// TestWrongEnvelopes refuses broken envelopes, and envelopes that two readers understand differently.
func TestWrongEnvelopes(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	s := n.Signer()
	payload, err := json.Marshal(map[string]any{"targetArtifact": image})
	if err != nil {
		t.Fatal(err)
	}
	const scheme = `"io.cncf.notary.signingScheme":"notary.x509"`
	signed := `"io.cncf.notary.signingTime":"` + n.Now.UTC().Format(time.RFC3339) + `"`
	const head = `"cty":"application/vnd.cncf.notary.payload.v1+json",` + scheme + `,"crit":["io.cncf.notary.signingScheme"`
	jws := func(protected string) []byte { return s.JWS([]byte(protected), payload) }
	honest := jws(`{"alg":"ES256",` + head + `],` + signed + `}`)
	timestamping := n.Stamper()
	other := prooftest.NewNotary(t, "another")
	for _, tt := range []struct {
		what, says string
		raw        []byte
	}{
		{"honest", "", honest},
		{"honest, with an attribute that is not critical", "", jws(`{"alg":"ES256",` + head + `],"team":"x",` + signed + `}`)},
		{"alg none", "signing method none", jws(`{"alg":"none",` + head + `],` + signed + `}`)},
		{"alg of a shared key", "signing method HS256", jws(`{"alg":"HS256",` + head + `],` + signed + `}`)},
		{"no crit", `"crit"`, jws(`{"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json",` + scheme + `,` + signed + `}`)},
		{"critical header that is not there", "not present", jws(`{"alg":"ES256",` + head + `,"b64"],` + signed + `}`)},
		{"critical header that is unknown", `critical attribute: got "b64"`, jws(`{"alg":"ES256",` + head + `,"b64"],"b64":false,` + signed + `}`)},
		{"plugin", "plugins are not supported", jws(`{"alg":"ES256",` + head + `,"io.cncf.notary.verificationPlugin"],"io.cncf.notary.verificationPlugin":"x",` + signed + `}`)},
		{"expiry that is not critical", "not marked as critical", jws(`{"alg":"ES256",` + head + `],"io.cncf.notary.expiry":"2027-01-01T00:00:00Z",` + signed + `}`)},
		{"another content type", "content type", jws(strings.Replace(`{"alg":"ES256",`+head+`],`+signed+`}`, "payload.v1", "payload.v2", 1))},
		{"another scheme", "SigningScheme", jws(strings.Replace(`{"alg":"ES256",`+head+`],`+signed+`}`, `:"notary.x509"`, `:"notary.x509.other"`, 1))},
		{"header twice", "duplicate", jws(`{"alg":"ES256",` + head + `],` + signed + `,` + signed + `}`)},
		{"header in another case", "another case", jws(`{"alg":"ES256",` + head + `],` + signed + `,"CTY":"x"}`)},
		{"payload member that is unknown", "payload", s.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), bytes.Replace(payload, []byte(`{"targetArtifact"`), []byte(`{"more":1,"targetArtifact"`), 1))},
		{"payload twice", "payload", s.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), bytes.Replace(payload, []byte(`{"targetArtifact"`), []byte(`{"targetArtifact":{},"targetArtifact"`), 1))},
		{"member twice", "duplicate", bytes.Replace(honest, []byte(`{"header"`), []byte(`{"payload":"e30","header"`), 1)},
		{"member that is unknown", "signatures", bytes.Replace(honest, []byte(`{"header"`), []byte(`{"signatures":[],"header"`), 1)},
		{"another payload", "verification error", bytes.Replace(honest, []byte(base64.RawURLEncoding.EncodeToString(payload)), []byte(base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte("abab"), []byte("cdcd"), 1))), 1)},
		{"another signer", "", nil},
		{"certificate of a timestamp authority", "extended key usage must not contain", timestamping.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload)},
		{"chain of another authority", "not issued by", func() []byte {
			forged := *s
			forged.Chain = []*x509.Certificate{s.Chain[0], other.Root}
			return forged.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload)
		}()},
		{"chain of many", "got 11, want 1 to 10", func() []byte {
			long := *s
			for len(long.Chain) < 11 {
				long.Chain = append(long.Chain, n.Root)
			}
			return long.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload)
		}()},
		{"chain without a root", "not self-signed", func() []byte {
			short := n.Sub("sub").Signer()
			return short.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload)
		}()},
		{"no chain", "got 0, want 1 to 10", func() []byte {
			none := *s
			none.Chain = nil
			return none.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload)
		}()},
		{"huge", "want at most", bytes.Repeat([]byte(" "), notation.MaxEnvelope+1)},
		{"empty", "JWS", nil},
	} {
		if tt.what == "another signer" {
			forged := *n.Signer()
			forged.Chain = s.Chain
			tt.raw, tt.says = forged.JWS([]byte(`{"alg":"ES256",`+head+`],`+signed+`}`), payload), "verification error"
		}
		_, err := verify(notation.JWS, tt.raw, under(n), n.Now)
		if wantError(t, err, tt.says); t.Failed() {
			t.Fatal(tt.what)
		}
	}
	_, err = notation.Parse("application/json", honest)
	wantError(t, err, "want application/jose+json or application/cose")
	_, err = notation.Parse(notation.COSE, honest)
	wantError(t, err, "COSE")
}

// TestWrongCOSE: labels twice, in both maps; critical attributes; nothing after the message.
func TestWrongCOSE(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	raw := n.Signer().Sign(notation.COSE, image)
	_, err := verify(notation.COSE, n.Signer().Sign(notation.COSE, image, func(r *core.SignRequest) {
		r.ExtendedSignedAttributes = []core.Attribute{{Key: "team", Value: "x", Critical: true}}
	}), under(n), n.Now)
	wantError(t, err, `critical attribute: got "team"`)
	_, err = verify(notation.COSE, n.Signer().Sign(notation.COSE, image, func(r *core.SignRequest) {
		r.Payload.ContentType = "application/vnd.cncf.notary.payload.v2+json"
	}), under(n), n.Now)
	wantError(t, err, "content type")
	_, err = verify(notation.COSE, append(bytes.Clone(raw), 0), under(n), n.Now)
	wantError(t, err, "COSE")
	// The unprotected header is a map of two: the chain (33) and the agent.
	head := []byte{0xa2, 0x18, 33}
	at := bytes.Index(raw, head)
	if at < 0 {
		t.Fatalf("no map of two in the envelope: %x", raw)
	}
	agent := append([]byte{0x78, 28}, "io.cncf.notary.signingAgent"...)
	agent[1] = byte(len(agent) - 2)
	twice := append(bytes.Clone(raw[:at]), 0xa3)
	twice = append(twice, agent...)
	twice = append(twice, 0x60) // an empty text
	twice = append(twice, raw[at+1:]...)
	_, err = verify(notation.COSE, twice, under(n), n.Now)
	wantError(t, err, "duplicate")
}

// TestSubjects: how a certificate may seem to have the subject that is trusted.
func TestSubjects(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	for _, tt := range []struct {
		what    string
		subject pkix.Name
		says    string
	}{
		{"exact", prooftest.NotarySubject, ""},
		{"more", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme"}, OrganizationalUnit: []string{"a", "b"}}, ""},
		{"less", pkix.Name{Country: []string{"US"}, Organization: []string{"acme"}}, "got 0 values of ST"},
		{"in another attribute", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, CommonName: "x, O=acme"}, "got 0 values of O"},
		{"escaped", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme, CN=x"}}, "got O=acme, CN=x"},
		{"longer", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme evil"}}, "got O=acme evil"},
		{"case", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme"}}, "got O=Acme"},
		{"with a NUL", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme\x00"}}, "got O=acme"},
		{"twice", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme", "evil"}}, "got 2 values of O"},
		{"twice, in two sets", pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme"}, ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "evil"}}}, "O"},
	} {
		s := n.Signer(func(c *x509.Certificate) { c.Subject = tt.subject })
		_, err := verify(notation.JWS, s.Sign(notation.JWS, image), under(n), n.Now)
		if wantError(t, err, tt.says); t.Failed() {
			t.Fatal(tt.what)
		}
	}
	for _, s := range []notation.Subject{{}, {Organization: "acme"}, {Country: "US", Organization: "acme"}, {Country: "US", Province: "WA", CommonName: "x"}} {
		if err := (&notation.TrustPolicy{CA: []*x509.Certificate{n.Root}, Subjects: []notation.Subject{s}}).Check(); err == nil {
			t.Errorf("%v: want an error", s)
		}
	}
}

// TestTimestamp: with timestamp authorities, a signature needs a timestamp, and the certificate
// must have been valid then.
func TestTimestamp(t *testing.T) {
	n, clock := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "clock")
	s, stamper := n.Signer(), clock.Stamper()
	trust := under(n)
	trust.TSA = []*x509.Certificate{clock.Root}
	raw := s.Sign(notation.JWS, image)
	later := n.Now.Add(1000 * time.Hour) // all certificates have expired
	r, err := verify(notation.JWS, stamper.Stamp(raw, n.Now), trust, later)
	wantError(t, err, "")
	if err == nil && r.At.IsZero() {
		t.Error("got no time of signing")
	}
	_, err = verify(notation.JWS, stamper.Stamp(raw, n.Now), under(n), later)
	wantError(t, err, "want valid at") // without a store, a timestamp proves nothing
	other := s.Sign(notation.JWS, image)
	var e map[string]any
	if err := json.Unmarshal(stamper.Stamp(other, n.Now), &e); err != nil {
		t.Fatal(err)
	}
	var moved map[string]any
	if err := json.Unmarshal(raw, &moved); err != nil {
		t.Fatal(err)
	}
	moved["header"] = e["header"]
	ofAnother, err := json.Marshal(moved)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, says string
		raw        []byte
		now        time.Time
	}{
		{"none", "has no timestamp", raw, n.Now},
		{"of another signature", "mismatched message", ofAnother, n.Now},
		{"by a stranger", "timestamp", prooftest.NewNotary(t, "clock").Stamper().Stamp(raw, n.Now), n.Now},
		{"by a signer of images", "timestamp", clock.Signer().Stamp(raw, n.Now), n.Now},
		{"after the certificate", "want valid at", clock.Stamper(func(c *x509.Certificate) { c.NotAfter = n.Now.Add(20 * time.Hour) }).Stamp(n.Signer(func(c *x509.Certificate) {
			c.NotAfter = n.Now.Add(time.Hour)
		}).Sign(notation.JWS, image), n.Now.Add(2*time.Hour)), later},
		{"in the future", "time of signing", stamper.Stamp(raw, n.Now.Add(time.Hour)), n.Now},
		{"by an authority that may be revoked", notation.ErrRevocationUnknown.Error(), clock.Stamper(func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.example.com"} }).Stamp(raw, n.Now), n.Now},
	} {
		_, err := verify(notation.JWS, tt.raw, trust, tt.now)
		if wantError(t, err, tt.says); t.Failed() {
			t.Fatal(tt.what)
		}
	}
}

// TestRevocation: a certificate that names a server to ask needs a list that is valid now.
func TestRevocation(t *testing.T) {
	n, other := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "acme root")
	named := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example.com"} }
	s, plain := n.Signer(named), n.Signer()
	list := func(text string) []*x509.RevocationList {
		block, _ := pem.Decode([]byte(text))
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return []*x509.RevocationList{l}
	}
	unknown := notation.ErrRevocationUnknown.Error()
	for _, tt := range []struct {
		what   string
		signer *prooftest.NotarySigner
		lists  []*x509.RevocationList
		skip   bool
		says   string
	}{
		{"nothing to ask", plain, nil, false, ""},
		{"nobody was asked", s, nil, false, unknown},
		{"dangerous", s, nil, true, ""},
		{"valid list", s, list(n.CRL(n.Now)), false, ""},
		{"list with others", s, list(n.CRL(n.Now, plain.Chain[0])), false, ""},
		{"revoked", s, list(n.CRL(n.Now, s.Chain[0])), false, "revoked at"},
		{"revoked, says an old list", s, list(n.CRL(n.Now.Add(-5*time.Hour), s.Chain[0])), false, "revoked at"},
		{"revoked, without a server", plain, list(n.CRL(n.Now, plain.Chain[0])), false, "revoked at"},
		{"old list", s, list(n.CRL(n.Now.Add(-time.Hour))), false, unknown},
		{"list of the future", s, list(n.CRL(n.Now.Add(time.Hour))), false, unknown},
		{"list of another authority", s, list(other.CRL(n.Now)), false, unknown},
	} {
		trust := under(n)
		trust.CRLs, trust.WithoutRevocation = tt.lists, tt.skip
		_, err := verify(notation.COSE, tt.signer.Sign(notation.COSE, image), trust, n.Now)
		wantError(t, err, tt.says)
		if (tt.says == unknown) != errors.Is(err, notation.ErrRevocationUnknown) || t.Failed() {
			t.Fatal(tt.what, err)
		}
	}
}

// TestTrustPolicyRefused: the trust policies that trust nobody, or everybody by mistake.
func TestTrustPolicyRefused(t *testing.T) {
	n := prooftest.NewNotary(t, "acme root")
	many := make([]notation.Subject, 65)
	for i := range many {
		many[i] = acme[0]
	}
	for says, policy := range map[string]*notation.TrustPolicy{
		"trust stores":            {},
		"want subjects":           {CA: []*x509.Certificate{n.Root}},
		"or anybody":              {CA: []*x509.Certificate{n.Root}, Subjects: acme, Anybody: true},
		"that of an authority":    {CA: []*x509.Certificate{n.Signer().Chain[0]}, Anybody: true},
		"got 65 subjects":         {CA: []*x509.Certificate{n.Root}, Subjects: many},
		"got 65 certificates":     {CA: manyOf(n.Root, 65), Anybody: true},
		"got 33 lists":            {CA: []*x509.Certificate{n.Root}, Anybody: true, CRLs: make([]*x509.RevocationList, 33)},
		"and that none is needed": {CA: []*x509.Certificate{n.Root}, Anybody: true, CRLs: make([]*x509.RevocationList, 1), WithoutRevocation: true},
		"critical extension": {CA: []*x509.Certificate{n.Root}, Anybody: true, CRLs: []*x509.RevocationList{{
			Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true}},
		}}},
	} {
		wantError(t, policy.Check(), says)
	}
}

func manyOf(c *x509.Certificate, n int) (out []*x509.Certificate) {
	for range n {
		out = append(out, c)
	}
	return out
}

// TestSubjectOf: what policy init writes is met by the certificate.
func TestSubjectOf(t *testing.T) {
	c := prooftest.NewNotary(t, "acme root").Signer().Chain[0]
	s := notation.SubjectOf(c)
	if err := s.Match(c); err != nil || fmt.Sprint(s) != "C=US, ST=WA, O=acme, CN=release" {
		t.Errorf("got %v, %v", s, err)
	}
}

func FuzzParse(f *testing.F) {
	n := prooftest.NewNotary(f, "acme root")
	for _, mediaType := range []string{notation.JWS, notation.COSE} {
		f.Add(mediaType == notation.JWS, n.Signer().Sign(mediaType, image))
	}
	stranger := &notation.TrustPolicy{CA: []*x509.Certificate{prooftest.NewNotary(f, "stranger").Root}, Anybody: true}
	f.Fuzz(func(t *testing.T, isJWS bool, raw []byte) {
		mediaType := notation.COSE
		if isJWS {
			mediaType = notation.JWS
		}
		s, err := notation.Parse(mediaType, raw)
		if err != nil {
			return
		}
		if _, err := s.Verify(image, stranger, n.Now); err == nil {
			t.Error("a stranger's signature was accepted")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	n := prooftest.NewNotary(b, "acme root")
	for _, mediaType := range []string{notation.JWS, notation.COSE} {
		raw := n.Signer().Sign(mediaType, image)
		b.Run(strings.TrimPrefix(mediaType, "application/"), func(b *testing.B) {
			for b.Loop() {
				if _, err := verify(mediaType, raw, under(n), n.Now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
