package bundle

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
)

// TestNamesInAnotherCase: some readers take a member whose name is in another case for
// the name that they know. Documents with both are refused.
func TestNamesInAnotherCase(t *testing.T) {
	const payload = `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"sha256:` +
		`abababababababababababababababababababababababababababababababab"},"type":"cosign container image signature"}}`
	body := base64.StdEncoding.EncodeToString([]byte(`{"apiVersion":"0.0.1","kind":"hashedrekord"}`))
	entry := `{"SignedEntryTimestamp":"AAAA","Payload":{"body":"` + body + `","integratedTime":1,"logIndex":0,"logID":"` + strings.Repeat("ab", 32) + `"}}`
	bound := string(intoto001Body(t, []byte("envelope"), []byte("payload"), []byte("signer")))
	for name, tt := range map[string]struct {
		good, member string
		parse        func(string) error
	}{
		"simple signing": {payload, "critical", func(s string) error { _, err := parseSimpleSigning([]byte(s)); return err }},
		"log entry":      {entry, "Payload", func(s string) error { _, _, err := parseCosign2Entry([]byte(s)); return err }},
	} {
		says(t, name, tt.parse(tt.good), "")
		other := strings.ToUpper(tt.member)
		says(t, name, tt.parse(strings.Replace(tt.good, `{"`, `{"`+other+`":{},"`, 1)), "case")
	}
	if err := bindIntoto001([]byte(strings.Replace(bound, `"spec"`, `"SPEC":{},"spec"`, 1)), []byte("envelope"), []byte("payload"), nil); err == nil || !strings.Contains(err.Error(), "case") {
		t.Errorf("bound entry: got %v", err)
	}
}

// TestEntryOfAnotherSignature: an entry in the log is compared with the bundle before
// its proof is looked at.
func TestEntryOfAnotherSignature(t *testing.T) {
	s := &sealed{key: newKey(t).Public(), digest: []byte("d"), signature: []byte("s"), algorithm: "sha256"}
	proof := &rekorpb.InclusionProof{Checkpoint: &rekorpb.Checkpoint{Envelope: "log.example.com\n1\n"}}
	e := &rekorpb.TransparencyLogEntry{KindVersion: &rekorpb.KindVersion{Kind: rekor2Kind[0], Version: rekor2Kind[1]}, InclusionProof: proof, CanonicalizedBody: []byte("{}")}
	_, _, err := s.verifyEntry(e, &root.TransparencyLog{}, false)
	says(t, "Rekor v2", err, "log entry: it contains another signature")
	e.KindVersion = &rekorpb.KindVersion{Kind: "hashedrekord", Version: "0.0.1"}
	_, _, err = s.verifyEntry(e, &root.TransparencyLog{}, false)
	if err == nil || !strings.HasPrefix(err.Error(), "log entry: ") {
		t.Errorf("Rekor v1: got %v, want an error about its body", err)
	}
	for isKey, want := range map[bool]string{true: `"publicKey":{"rawBytes":`, false: `"x509Certificate":{"rawBytes":`} {
		if got := string(recordV2("SHA2_256", nil, nil, "PKIX_ECDSA_P256_SHA_256", nil, isKey)); !strings.Contains(got, want) {
			t.Errorf("key: %v: got %s, want %s in it", isKey, got, want)
		}
	}
}

// TestIssuersInAnyOrder: two extensions with different issuers are refused, whichever
// comes last.
func TestIssuersInAnyOrder(t *testing.T) {
	der, err := asn1.MarshalWithParams("y", "utf8")
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 deprecated, but certificates have it
	older, newer := pkix.Extension{Id: certificate.OIDIssuer, Value: []byte("x")}, pkix.Extension{Id: certificate.OIDIssuerV2, Value: der}
	for _, order := range [][]pkix.Extension{{older, newer}, {newer, older}} {
		_, err := identity(certificateFor(t, newKey(t), &x509.Certificate{EmailAddresses: []string{"a@example.com"}, ExtraExtensions: order}))
		if err == nil || !strings.Contains(err.Error(), "want one") {
			t.Errorf("got %v, want a refusal", err)
		}
	}
}

// TestCertifiedEvenIfRefused: the result says when the certificate was issued, whatever
// else is wrong.
func TestCertifiedEvenIfRefused(t *testing.T) {
	from := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	cert := certificateFor(t, newKey(t), &x509.Certificate{EmailAddresses: []string{"a@example.com"}, NotBefore: from, NotAfter: from.Add(time.Minute)})
	r := (&Bundle{Certificate: cert, Proto: goodBundle(t, "0.3")}).Verify(Subject{}, &root.BaseTrustedMaterial{}, from)
	if r.Err() == nil || !r.Certified.Equal(from) || r.Identity.SubjectAlternativeName != "a@example.com" {
		t.Errorf("got %+v, want when it was certified, and for whom", r)
	}
	key := newKey(t).Public().(*ecdsa.PublicKey)
	for want, s := range map[string]Signer{"the key given": {Key: key}, "ada": {Identity: "ada"}} {
		if s.String() != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}

// TestBoundEntryNeedsItsLog: an entry that alone proves the time of an attestation must be
// in a log of the trust root, also where the root has no logs. Others are passed over.
func TestBoundEntryNeedsItsLog(t *testing.T) {
	e := &rekorpb.TransparencyLogEntry{}
	for _, bound := range []*rekorpb.TransparencyLogEntry{e, nil} {
		v := &verification{Result: &Result{}, bundle: &Bundle{Entries: []*rekorpb.TransparencyLogEntry{e}, bound: bound}, sealed: &sealed{}, material: &root.BaseTrustedMaterial{}}
		if v.log(); (v.Log != nil) != (bound != nil) {
			t.Errorf("bound: %v: got %v", bound != nil, v.Log)
		}
	}
}
