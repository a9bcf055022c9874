package bundle_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/certificate-transparency-go/ctutil"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/google/certificate-transparency-go/x509util"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// issuing returns two certificates of a platform, their issuer, and the trust root.
func issuing(t *testing.T) (a, b, issuer *x509.Certificate, material root.TrustedMaterial) {
	p := prooftest.New(t)
	rel := p.Release(prooftest.NewStore(t))
	leaf := func() *x509.Certificate {
		b, err := bundle.ParsePlatform(p.Sign(rel.Signer(), rel.Statement(attest.PredicateSign)))
		if err != nil {
			t.Fatal(err)
		}
		return b.Certificate
	}
	material = p.Root().Material
	return leaf(), leaf(), trust.Authorities(material)[0].Root, material
}

func sctsOf(c *x509.Certificate) *[]byte {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(bundle.OIDSCTs) {
			return &c.Extensions[i].Value
		}
	}
	return nil
}

// Each case changes one thing about a certificate with a valid SCT.
func TestSCTBent(t *testing.T) {
	for name, tt := range map[string]struct {
		bend   func(a, b, issuer *x509.Certificate, log *root.TransparencyLog)
		reason string
	}{
		"nothing":                {func(_, _, _ *x509.Certificate, _ *root.TransparencyLog) {}, ""},
		"none":                   {func(a, _, _ *x509.Certificate, _ *root.TransparencyLog) { a.Extensions = nil }, "no list"},
		"of another certificate": {func(a, b, _ *x509.Certificate, _ *root.TransparencyLog) { *sctsOf(a) = *sctsOf(b) }, "the log did not sign the SCT"},
		"for another issuer": {func(_, b, issuer *x509.Certificate, _ *root.TransparencyLog) {
			issuer.RawSubjectPublicKeyInfo = b.RawSubjectPublicKeyInfo
		}, "the log did not sign the SCT"},
		"before its log": {func(_, _, _ *x509.Certificate, log *root.TransparencyLog) { log.ValidityPeriodStart = time.Now() }, "is trusted"},
		"after its log": {func(_, _, _ *x509.Certificate, log *root.TransparencyLog) {
			log.ValidityPeriodEnd = time.Now().Add(-time.Hour)
		}, "is trusted"},
		"of a stranger's":   {func(_, b, _ *x509.Certificate, log *root.TransparencyLog) { log.PublicKey = b.PublicKey }, "the log did not sign the SCT"},
		"of an unknown log": {func(a, _, _ *x509.Certificate, _ *root.TransparencyLog) { (*sctsOf(a))[10] ^= 1 }, "no SCT is from a certificate transparency log"},
		"cut short":         {func(a, _, _ *x509.Certificate, _ *root.TransparencyLog) { *sctsOf(a) = (*sctsOf(a))[:40] }, "malformed"},
	} {
		a, b, issuer, material := issuing(t)
		var log *root.TransparencyLog
		for _, log = range material.CTLogs() {
		}
		tt.bend(a, b, issuer, log)
		if err := bundle.CertificateLogged(a, issuer, material); (err == nil) != (tt.reason == "") || err != nil && !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.reason)
		}
		// Every single byte of list and certificate counts.
		if name != "nothing" {
			continue
		}
		list, tbs := *sctsOf(a), a.RawTBSCertificate
		for i := range list {
			bent := *a
			bent.Extensions = slices.Clone(a.Extensions)
			*sctsOf(&bent) = slices.Clone(list)
			(*sctsOf(&bent))[i] ^= 1
			if bundle.CertificateLogged(&bent, issuer, material) == nil {
				t.Errorf("byte %d of the list may change", i)
			}
		}
		inList := bytes.Index(tbs, list)
		for i := range tbs {
			if i >= inList-2 && i < inList+len(list) {
				continue // taken out, with tag and length before it
			}
			bent := *a
			bent.RawTBSCertificate = slices.Clone(tbs)
			bent.RawTBSCertificate[i] ^= 1
			if bundle.CertificateLogged(&bent, issuer, material) == nil {
				t.Errorf("byte %d of the certificate may change", i)
			}
		}
	}
}

// FuzzSCTs: no list of SCTs and no certificate causes a panic. withoutSCTs removes the
// list, and changes nothing if there is none. For real certificates the result equals
// that of certificate-transparency-go. It is not compared for changed certificates:
// that library encodes what it read again, and so repairs malformed encodings.
func FuzzSCTs(f *testing.F) {
	seeds := 0
	for _, raw := range publicCertificates(f) {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			f.Fatal(err)
		}
		scts, err := bundle.ParseSCTs(*sctsOf(cert))
		if err != nil || len(scts) == 0 {
			f.Fatalf("seed: got %d SCTs, %v", len(scts), err)
		}
		got, err1 := bundle.WithoutSCTs(cert.RawTBSCertificate)
		want, err2 := ctx509.RemoveSCTList(cert.RawTBSCertificate)
		if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
			f.Fatalf("seed: got %x, %v, certificate-transparency-go %x, %v", got, err1, want, err2)
		}
		f.Add(*sctsOf(cert), cert.RawTBSCertificate)
		seeds++
	}
	if seeds < 3 {
		f.Fatalf("got %d seeds, want at least 3", seeds)
	}
	oid, err := asn1.Marshal(bundle.OIDSCTs)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, list, tbs []byte) {
		if scts, err := bundle.ParseSCTs(list); err == nil && len(scts) > bundle.MaxSCTs {
			t.Errorf("got %d SCTs, want at most %d", len(scts), bundle.MaxSCTs)
		}
		got, err := bundle.WithoutSCTs(tbs)
		if err != nil {
			return
		}
		again, err := bundle.WithoutSCTs(got)
		if err != nil || !bytes.Equal(again, got) {
			t.Errorf("got %x, and without its list once more %x, %v", got, again, err)
		}
		if len(got) > len(tbs)+8 || bytes.Count(got, oid) > bytes.Count(tbs, oid) {
			t.Errorf("%d bytes became %d", len(tbs), len(got))
		}
	})
}

// publicCertificates returns leaf certificates of the public Sigstore instance.
func publicCertificates(t testing.TB) [][]byte {
	const cases = "../test/conformance/sigstore/testdata/cases/"
	var all [][]byte
	for _, name := range []string{"happy-path-intoto-in-dsse-v3", "happy-path-v0.1", "happy-path-v0.3", "rekor2-happy-path"} {
		raw, err := os.ReadFile(cases + name + "/bundle.sigstore.json")
		if err != nil {
			t.Fatal(err)
		}
		b, err := bundle.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Certificate.Raw)
	}
	return all
}

// BenchmarkSCT is the cost of the one SCT of a certificate: here, by
// certificate-transparency-go, and of the signature that both verify.
func BenchmarkSCT(b *testing.B) {
	raw, err := os.ReadFile("../trust/tuf/sigstore_trusted_root.json")
	if err != nil {
		b.Fatal(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(publicCertificates(b)[0])
	if err != nil {
		b.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, ca := range r.Material.FulcioCertificateAuthorities() {
		if chains, err := ca.Verify(cert, cert.NotBefore); err == nil {
			chain = chains[0]
		}
	}
	if len(chain) < 2 {
		b.Fatal("the certificate has no chain")
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := bundle.CertificateLogged(cert, chain[1], r.Material); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ctutil", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := loggedByCTUtil(chain, r.Material); err != nil {
				b.Fatal(err)
			}
		}
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(raw)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("signature", func(b *testing.B) {
		for b.Loop() {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
				b.Fatal("a good signature does not verify")
			}
		}
	})
}

// loggedByCTUtil verifies one SCT as certificate-transparency-go's documentation
// says to.
func loggedByCTUtil(chain []*x509.Certificate, material root.TrustedMaterial) error {
	var parsed []*ctx509.Certificate
	for _, c := range chain[:2] {
		p, err := ctx509.ParseCertificate(c.Raw)
		if err != nil && ctx509.IsFatal(err) {
			return err
		}
		parsed = append(parsed, p)
	}
	scts, err := x509util.ParseSCTsFromCertificate(chain[0].Raw)
	if err != nil {
		return err
	}
	for _, sct := range scts {
		log := material.CTLogs()[hex.EncodeToString(sct.LogID.KeyID[:])]
		if log == nil {
			continue
		}
		if err = ctutil.VerifySCT(log.PublicKey, parsed, sct, true); err == nil {
			return nil
		}
	}
	return errors.Join(errors.New("no SCT holds"), err)
}
