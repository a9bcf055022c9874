package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/internal/remembered"
)

// family is a root, an intermediate and a leaf; tests change the templates before
// make.
type family struct {
	t                          *testing.T
	root, between, leaf        *x509.Certificate
	direct                     *x509.Certificate // the same leaf, signed by the root
	rootKey, betweenKey, owner *ecdsa.PrivateKey
	spoil                      bool // change one byte of the intermediate's signature
}

// noon is now, because the library puts the current time into timestamps.
var noon = time.Now().Truncate(time.Second).UTC()

func newFamily(t *testing.T, usage x509.ExtKeyUsage) *family {
	f := &family{t: t}
	for _, k := range []**ecdsa.PrivateKey{&f.rootKey, &f.betweenKey, &f.owner} {
		var err error
		if *k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca := func(name string, usages ...x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-2 * time.Hour), NotAfter: noon.Add(2 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: usages}
	}
	f.root, f.between = ca("root"), ca("between", usage)
	f.leaf = &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: noon.Add(-2 * time.Hour), NotAfter: noon.Add(2 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"a.example"}}
	if usage == x509.ExtKeyUsageTimeStamping {
		eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			t.Fatal(err)
		}
		f.leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku}}
	} else {
		f.leaf.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	}
	return f
}

// make replaces the templates by certificates.
func (f *family) make() {
	sign := func(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			f.t.Fatal(err)
		}
		if f.spoil && template == f.between {
			der[len(der)-1] ^= 1
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			f.t.Fatal(err)
		}
		return c
	}
	rootTemplate, betweenTemplate := f.root, f.between
	f.root = sign(rootTemplate, rootTemplate, f.rootKey, f.rootKey)
	f.between = sign(betweenTemplate, f.root, f.betweenKey, f.rootKey)
	f.direct = sign(f.leaf, f.root, f.owner, f.rootKey)
	f.leaf = sign(f.leaf, betweenTemplate, f.owner, f.betweenKey)
}

// chains are the ways in which a chain can be wrong above its leaf, or valid
// depending on the leaf.
var chains = map[string]struct {
	bend   func(*family)
	proved bool // the part above the leaf is verified once
	good   bool // the leaf is accepted at noon
}{
	"as it should be":             {func(*family) {}, true, true},
	"one byte of a signature":     {func(f *family) { f.spoil = true }, false, false},
	"intermediate that is no CA":  {func(f *family) { f.between.IsCA = false; f.between.MaxPathLen = 0 }, false, false},
	"root that allows none below": {func(f *family) { f.root.MaxPathLen = 0; f.root.MaxPathLenZero = true }, false, false},
	"root for other names": {func(f *family) {
		f.root.PermittedDNSDomains = []string{"b.example"}
		f.root.PermittedDNSDomainsCritical = true
	}, false, false},
	"root for these names": {func(f *family) {
		f.root.PermittedDNSDomains = []string{"a.example"}
		f.root.PermittedDNSDomainsCritical = true
	}, false, true},
	"root without these addresses": {func(f *family) {
		f.root.ExcludedIPRanges = []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
		f.leaf.IPAddresses = []net.IP{net.IPv4(1, 2, 3, 4)}
	}, false, false},
	"intermediate with the root's name": {func(f *family) { f.between.Subject = f.root.Subject }, false, true},
	"root for another use":              {func(f *family) { f.root.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false, false},
	"intermediate for another use":      {func(f *family) { f.between.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false, false},
	"root that came too late":           {func(f *family) { f.root.NotBefore = noon.Add(time.Minute) }, true, false},
	"intermediate that ended early":     {func(f *family) { f.between.NotAfter = noon.Add(-time.Minute) }, true, false},
	"never valid together":              {func(f *family) { f.between.NotAfter = noon.Add(-time.Minute); f.root.NotBefore = noon }, false, false},
}

// The answers of an authority are those of a verification of the whole chain.
func TestAuthorityAsTheWholeChain(t *testing.T) {
	for name, tt := range chains {
		f := newFamily(t, x509.ExtKeyUsageCodeSigning)
		tt.bend(f)
		f.make()
		whole := &root.FulcioCertificateAuthority{Root: f.root, Intermediates: []*x509.Certificate{f.between}, ValidityPeriodStart: noon.Add(-90 * time.Minute), ValidityPeriodEnd: noon.Add(90 * time.Minute)}
		a := newAuthority(whole)
		if got := a.above() != nil; got != tt.proved {
			t.Errorf("%s: upper part proved: got %v, want %v", name, got, tt.proved)
		}
		if _, err := a.Verify(f.leaf, noon); (err == nil) != tt.good {
			t.Errorf("%s: got %v at noon, want good %v", name, err, tt.good)
		}
		for _, leaf := range []*x509.Certificate{f.leaf, f.direct, f.between, f.root, newLeafOf(f)} {
			for d := -3 * time.Hour; d <= 3*time.Hour; d += 5 * time.Minute {
				got, err1 := a.Verify(leaf, noon.Add(d))
				want, err2 := whole.Verify(leaf, noon.Add(d))
				if (err1 == nil) != (err2 == nil) || len(got) != len(want) || err1 == nil && (len(got[0]) != len(want[0]) || len(got[0]) > 1 && !got[0][1].Equal(want[0][1])) {
					t.Errorf("%s at noon %v: got %d chains, %v, the whole chain %d, %v", name, d, len(got), err1, len(want), err2)
				}
			}
		}
	}
}

// TestAuthorityRemembersOneCertificate: what is remembered of a certificate makes no other valid, nor
// the same one at another time, in another authority, or with an extension that nobody handles.
func TestAuthorityRemembersOneCertificate(t *testing.T) {
	f := newFamily(t, x509.ExtKeyUsageCodeSigning)
	f.leaf.NotAfter = noon.Add(time.Minute)
	f.make()
	bent := func(change func(*x509.Certificate)) *x509.Certificate {
		c, err := x509.ParseCertificate(f.leaf.Raw)
		if err != nil {
			t.Fatal(err)
		}
		change(c)
		return c
	}
	spoiled := slices.Clone(f.leaf.Raw)
	spoiled[len(spoiled)-1] ^= 1
	wrong, err := x509.ParseCertificate(spoiled)
	if err != nil {
		t.Fatal(err)
	}
	between := []*x509.Certificate{f.between}
	a := newAuthority(&root.FulcioCertificateAuthority{Root: f.root, Intermediates: between, ValidityPeriodStart: noon.Add(-time.Hour), ValidityPeriodEnd: noon.Add(time.Hour)})
	ended := newAuthority(&root.FulcioCertificateAuthority{Root: f.root, Intermediates: between, ValidityPeriodEnd: noon.Add(-time.Minute)})
	other := newFamily(t, x509.ExtKeyUsageCodeSigning)
	other.make()
	foreign := newAuthority(&root.FulcioCertificateAuthority{Root: other.root, Intermediates: []*x509.Certificate{other.between}})
	for range 2 { // the second time from memory
		for name, tt := range map[string]struct {
			by   *authority
			cert *x509.Certificate
			at   time.Time
			want bool
		}{
			"as it is":               {a, f.leaf, noon, true},
			"parsed again":           {a, bent(func(*x509.Certificate) {}), noon, true},
			"after its end":          {a, f.leaf, noon.Add(2 * time.Minute), false},
			"before the authority":   {a, f.leaf, noon.Add(-61 * time.Minute), false},
			"one bit":                {a, wrong, noon, false},
			"unhandled extension":    {a, bent(func(c *x509.Certificate) { c.UnhandledCriticalExtensions = []asn1.ObjectIdentifier{{1, 2, 3}} }), noon, false},
			"authority that ended":   {ended, f.leaf, noon, false},
			"before it ended":        {ended, f.leaf, noon.Add(-2 * time.Minute), true},
			"another authority":      {foreign, f.leaf, noon, false},
			"certificate of another": {a, other.leaf, noon, false},
		} {
			chains, err := tt.by.Verify(tt.cert, tt.at)
			if (err == nil) != tt.want {
				t.Errorf("%s: got %v, want valid %v", name, err, tt.want)
			}
			if err == nil && (len(chains) != 1 || len(chains[0]) != 3 || chains[0][0] != tt.cert || !chains[0][1].Equal(f.between) || !chains[0][2].Equal(f.root)) {
				t.Errorf("%s: got %d chains, want the one from this certificate to the root", name, len(chains))
			}
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, f.between, f.root, f.betweenKey.Public(), f.rootKey) // the same authority once more
	if err != nil {
		t.Fatal(err)
	}
	twin, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	twins := newAuthority(&root.FulcioCertificateAuthority{Root: f.root, Intermediates: []*x509.Certificate{f.between, twin}})
	for range 2 {
		if chains, err := twins.Verify(f.leaf, noon); err != nil || len(chains) != 2 {
			t.Errorf("two intermediates: got %d chains, %v, want both", len(chains), err)
		}
	}
	for range 2 * maxLeaves {
		a.leaves.To(remembered.Ask([]byte(rand.Text())), func() *chain { return nil })
	}
	if _, err := a.Verify(f.leaf, noon); err != nil {
		t.Errorf("a certificate that was forgotten: %v", err)
	}
}

// newLeafOf returns a leaf that names the intermediate, but that another key signed.
func newLeafOf(f *family) *x509.Certificate {
	other := newFamily(f.t, x509.ExtKeyUsageCodeSigning)
	other.make()
	return other.leaf
}

// The answers of a timestamp authority are those of a verification of the whole chain.
func TestTimestampsAsTheWholeChain(t *testing.T) {
	signature := []byte("a signature")
	for name, tt := range chains {
		if slices.Contains([]string{"root for these names", "intermediate that is no CA", "root that allows none below", "intermediate with the root's name"}, name) {
			continue // for timestamps, verifyChain starts at the leaf and checks these, too
		}
		f := newFamily(t, x509.ExtKeyUsageTimeStamping)
		tt.bend(f)
		f.make()
		whole := &root.SigstoreTimestampingAuthority{Root: f.root, Intermediates: []*x509.Certificate{f.between}, Leaf: f.leaf, ValidityPeriodStart: noon.Add(-90 * time.Minute), ValidityPeriodEnd: noon.Add(90 * time.Minute)}
		c := newTimestampAuthority(whole)
		if got := c.above() != nil; got != tt.proved {
			t.Errorf("%s: upper part proved: got %v, want %v", name, got, tt.proved)
		}
		for _, by := range []*ecdsa.PrivateKey{f.owner, f.betweenKey} {
			for d := -3 * time.Hour; d <= 3*time.Hour; d += 15 * time.Minute {
				token := stamp(t, f.leaf, by, signature, noon.Add(d))
				_, err1 := c.Verify(token, signature)
				_, err2 := whole.Verify(token, signature)
				if (err1 == nil) != (err2 == nil) {
					t.Errorf("%s at noon %v: got %v, the whole chain %v", name, d, err1, err2)
				}
				if by == f.owner && d == 0 && (err1 == nil) != tt.good {
					t.Errorf("%s: got %v at noon, want good %v", name, err1, tt.good)
				}
			}
		}
		if _, err := c.Verify(stamp(t, f.leaf, f.owner, signature, noon), []byte("another signature")); err == nil {
			t.Errorf("%s: a timestamp of another signature passes", name)
		}
	}
}

func stamp(t *testing.T, cert *x509.Certificate, key crypto.Signer, signature []byte, at time.Time) []byte {
	query, err := timestamp.CreateRequest(bytes.NewReader(signature), &timestamp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	req, err := timestamp.ParseRequest(query)
	if err != nil {
		t.Fatal(err)
	}
	answer := timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: at, Policy: asn1.ObjectIdentifier{1, 2, 3}}
	raw, err := answer.CreateResponseWithOpts(cert, key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// services holds one service of each kind; tests change one.
type services struct {
	ca  root.FulcioCertificateAuthority
	tsa root.SigstoreTimestampingAuthority
	log root.TransparencyLog
	ct  root.TransparencyLog
}

func (s *services) material(t *testing.T) *root.TrustedRoot {
	t.Helper()
	tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{&s.ca}, map[string]*root.TransparencyLog{"ct": &s.ct},
		[]root.TimestampingAuthority{&s.tsa}, map[string]*root.TransparencyLog{"log": &s.log})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestUntilOfEachPart: whatever part of a trust root ends first, Until returns its end.
func TestUntilOfEachPart(t *testing.T) {
	early := noon.Add(10 * time.Minute)
	for name, end := range map[string]func(ca, tsa *family, s *services){
		"authority":                                func(_, _ *family, s *services) { s.ca.ValidityPeriodEnd = early },
		"authority's root certificate":             func(ca, _ *family, _ *services) { ca.root.NotAfter = early },
		"authority's intermediate":                 func(ca, _ *family, _ *services) { ca.between.NotAfter = early },
		"timestamp authority":                      func(_, _ *family, s *services) { s.tsa.ValidityPeriodEnd = early },
		"timestamp authority's root certificate":   func(_, tsa *family, _ *services) { tsa.root.NotAfter = early },
		"timestamp authority's intermediate":       func(_, tsa *family, _ *services) { tsa.between.NotAfter = early },
		"timestamp authority's own certificate":    func(_, tsa *family, _ *services) { tsa.leaf.NotAfter = early },
		"log":                                      func(_, _ *family, s *services) { s.log.ValidityPeriodEnd = early },
		"certificate transparency log":             func(_, _ *family, s *services) { s.ct.ValidityPeriodEnd = early },
		"nothing; the certificates in two hours":   nil,
		"a log that ended at this moment, no more": func(_, _ *family, s *services) { s.log.ValidityPeriodEnd = noon },
	} {
		ca, tsa, s := newFamily(t, x509.ExtKeyUsageCodeSigning), newFamily(t, x509.ExtKeyUsageTimeStamping), &services{}
		want := early
		if end == nil || strings.HasSuffix(name, "no more") {
			want = noon.Add(2 * time.Hour)
		}
		if end != nil {
			end(ca, tsa, s)
		}
		ca.make()
		tsa.make()
		s.ca.Root, s.ca.Intermediates = ca.root, []*x509.Certificate{ca.between}
		s.tsa.Root, s.tsa.Intermediates, s.tsa.Leaf = tsa.root, []*x509.Certificate{tsa.between}, tsa.leaf
		r := &Root{Material: newMaterial(s.material(t), nil)}
		if got := r.Until(noon); !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestExpiredAuthority: an authority that is no longer trusted explains a refusal only if
// the time is the one thing that is wrong.
func TestExpiredAuthority(t *testing.T) {
	f := newFamily(t, x509.ExtKeyUsageCodeSigning)
	f.make()
	s := &services{ca: root.FulcioCertificateAuthority{Root: f.root, Intermediates: []*x509.Certificate{f.between},
		ValidityPeriodStart: noon.Add(-90 * time.Minute), ValidityPeriodEnd: noon.Add(-time.Hour)}}
	m := newMaterial(s.material(t), nil)
	window := Window{noon.Add(-90 * time.Minute), noon.Add(-time.Hour)}
	for name, tt := range map[string]struct {
		cert *x509.Certificate
		at   time.Time
		want bool
	}{
		"after its end":                     {f.leaf, noon, true},
		"before its start":                  {f.leaf, noon.Add(-110 * time.Minute), true},
		"after the end of the certificates": {f.leaf, noon.Add(3 * time.Hour), false},
		"another authority's certificate":   {newLeafOf(f), noon, false},
	} {
		got, ok := ExpiredAuthority(m, tt.cert, tt.at)
		if ok != tt.want || ok && got != window {
			t.Errorf("%s: got %s, %v, want %s, %v", name, got, ok, window, tt.want)
		}
	}
	if _, err := m.FulcioCertificateAuthorities()[0].Verify(f.leaf, noon); err == nil {
		t.Error("the authority is trusted after its end")
	}
	if _, ok := ExpiredAuthority(s.material(t), f.leaf, noon); ok {
		t.Error("material that this package did not parse explains a refusal")
	}
}

// TestMaterialWithoutParts: sigstore-go's parser makes no such authorities today. Code
// that relies on their parts must not meet one tomorrow.
func TestMaterialWithoutParts(t *testing.T) {
	f := newFamily(t, x509.ExtKeyUsageCodeSigning)
	f.make()
	// Kinds that sigstore-go may get one day.
	type otherCA struct{ root.CertificateAuthority }
	type otherTSA struct{ root.TimestampingAuthority }
	ca, tsa := &root.FulcioCertificateAuthority{Root: f.root}, &root.SigstoreTimestampingAuthority{Root: f.root, Leaf: f.leaf}
	for name, tt := range map[string]struct {
		ca   root.CertificateAuthority
		tsa  root.TimestampingAuthority
		ct   map[string]*root.TransparencyLog
		want string
	}{
		"whole":                                    {ca, tsa, nil, ""},
		"authority without root certificate":       {&root.FulcioCertificateAuthority{}, tsa, nil, "a certificate authority has no root"},
		"authority of another kind":                {otherCA{}, tsa, nil, "a certificate authority has no root"},
		"timestamp authority without root":         {ca, &root.SigstoreTimestampingAuthority{Leaf: f.leaf}, nil, "a timestamp authority has no root"},
		"timestamp authority without leaf":         {ca, &root.SigstoreTimestampingAuthority{Root: f.root}, nil, "a timestamp authority has no root"},
		"timestamp authority of another kind":      {ca, otherTSA{}, nil, "a timestamp authority has no root"},
		"certificate transparency log without key": {ca, tsa, map[string]*root.TransparencyLog{"00": {BaseURL: "https://ct.example.com"}}, "certificate transparency log https://ct.example.com: x509"},
	} {
		tr, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{tt.ca}, tt.ct, []root.TimestampingAuthority{tt.tsa}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkMaterial(tr); (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}
