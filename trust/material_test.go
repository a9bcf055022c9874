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
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// family is a root, an intermediate and a leaf; tests change the templates before
// make.
type family struct {
	t                          *testing.T
	root, between, leaf        *x509.Certificate
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
	"root for another use":          {func(f *family) { f.root.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false, false},
	"intermediate for another use":  {func(f *family) { f.between.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, false, false},
	"root that came too late":       {func(f *family) { f.root.NotBefore = noon.Add(time.Minute) }, true, false},
	"intermediate that ended early": {func(f *family) { f.between.NotAfter = noon.Add(-time.Minute) }, true, false},
	"never valid together":          {func(f *family) { f.between.NotAfter = noon.Add(-time.Minute); f.root.NotBefore = noon }, false, false},
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
		for _, leaf := range []*x509.Certificate{f.leaf, f.between, f.root, newLeafOf(f)} {
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
		if name == "root for these names" || name == "intermediate that is no CA" || name == "root that allows none below" {
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
