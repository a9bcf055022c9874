// Package prooftest simulates a platform in memory for tests: a certificate authority
// with a certificate log, a Rekor v2 log, a timestamp authority (RFC 3161), and a store
// of images (an oci.Source). Its proofs verify, and a test can change any part of them
// to see that verification notices.
package prooftest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"maps"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/digitorus/timestamp"
	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	ctx509util "github.com/google/certificate-transparency-go/x509util"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	prototrust "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	rekortiles "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	f_log "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
)

// The URL of a Platform and the id of its builder, unless a test changes Platform.URL.
const (
	URL     = "http://127.0.0.1:8080"
	Builder = URL + "/builders/buildkit/v1"
)

// Platform holds the keys. Tests may change its fields between signatures.
type Platform struct {
	t                       testing.TB
	caKey, ctKey, logKey    *ecdsa.PrivateKey
	tsaKey                  *ecdsa.PrivateKey
	ca, tsaRoot, tsaLeaf    *x509.Certificate
	Now                     time.Time // start of the certificates' validity
	Clock                   time.Time // time in the timestamps and the log's promises
	CAFrom, CAUntil         time.Time // validity of the CA in the trust root
	LogFrom                 time.Time // start of the log's validity in the trust root; zero means CAFrom
	LogUntil                time.Time // end of the log's validity in the trust root; zero means no end
	Origin                  string    // origin line of the log's checkpoints
	NoSCT, ForeignLog, NoTS bool      // omit a part, or use a stranger's log
	Level                   int       // SLSA Build level of Builder in the trust document
	URL                     string    // the platform's origin and issuer
	Issuers                 []string  // other issuers that the trust document lists

	Witnesses  []*tlog.Cosigner // who cosigns the log's checkpoints
	CosignedAt time.Time        // when; zero means Clock
}

// New returns a platform with new keys.
func New(t testing.TB) *Platform {
	t.Helper()
	now := time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	p := &Platform{t: t, caKey: key(t), ctKey: key(t), logKey: key(t), tsaKey: key(t),
		URL: URL, Origin: "127.0.0.1", Level: 2, Now: now, Clock: now.Add(2 * time.Second), CAFrom: now.Add(-time.Hour), CAUntil: now.Add(time.Hour)}
	tsaRootKey := key(t)
	p.ca = p.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "test ca"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, p.caKey, p.caKey)
	p.tsaRoot = p.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "test timestamp root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, tsaRootKey, tsaRootKey)
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	must(t, err)
	p.tsaLeaf = p.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "test timestamp authority"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: eku}}}, p.tsaRoot, p.tsaKey, tsaRootKey)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func key(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func (p *Platform) certificate(template, parent *x509.Certificate, subjectKey, issuerKey *ecdsa.PrivateKey) *x509.Certificate {
	p.t.Helper()
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
	}
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = p.Now.Add(-24*time.Hour), p.Now.Add(96*time.Hour)
	}
	template.BasicConstraintsValid = template.IsCA
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, subjectKey.Public(), issuerKey)
	must(p.t, err)
	cert, err := x509.ParseCertificate(der)
	must(p.t, err)
	return cert
}

// Identity holds what a certificate states about its holder and the build.
type Identity struct {
	SAN, Issuer, SourceURI, Commit, Ref, Invocation string

	Parameters string         // digest of the external parameters; see attest.ParametersDigest
	More       []string       // further subject alternative names, URIs
	OldIssuer  string         // issuer in Fulcio's old extension, 1.3.6.1.4.1.57264.1.1
	Extensions map[int]string // further Fulcio extensions (1.3.6.1.4.1.57264.1.N), by N
}

// Sign returns a JSON bundle with a signed statement. The functions bend, if any, change
// the bundle before it is marshalled.
func (p *Platform) Sign(id Identity, statement []byte, bend ...func(*protobundle.Bundle)) []byte {
	p.t.Helper()
	return p.Session(id).Sign(statement, bend...)
}

// Session is a key with its certificate. A platform signs all statements of a release in one.
type Session struct {
	p    *Platform
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Session returns a session with a new key.
func (p *Platform) Session(id Identity) *Session {
	p.t.Helper()
	k := key(p.t)
	return &Session{p, k, p.leaf(id, k)}
}

// Sign is like the method of Platform.
func (s *Session) Sign(statement []byte, bend ...func(*protobundle.Bundle)) []byte {
	p := s.p
	p.t.Helper()
	pae := sha256.Sum256(dsse.PAE(attest.PayloadType, statement))
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, pae[:])
	must(p.t, err)
	pb := p.bundle(s.cert, pae[:], sig)
	pb.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
		Payload: statement, PayloadType: attest.PayloadType, Signatures: []*protodsse.Signature{{Sig: sig}}}}
	for _, b := range bend {
		b(pb)
	}
	raw, err := protojson.Marshal(pb)
	must(p.t, err)
	return raw
}

// SignFile returns a JSON bundle with the signature of a file.
func (p *Platform) SignFile(id Identity, content []byte) []byte {
	p.t.Helper()
	signingKey := key(p.t)
	digest := sha256.Sum256(content)
	sig, err := ecdsa.SignASN1(rand.Reader, signingKey, digest[:])
	must(p.t, err)
	pb := p.bundle(p.leaf(id, signingKey), digest[:], sig)
	pb.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
		MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: sig}}
	raw, err := protojson.Marshal(pb)
	must(p.t, err)
	return raw
}

// bundle returns a bundle without content, whose signature over a digest is logged and timestamped.
func (p *Platform) bundle(cert *x509.Certificate, digest, sig []byte) *protobundle.Bundle {
	pb := &protobundle.Bundle{
		MediaType: attest.BundleMediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: cert.Raw}},
			TlogEntries:               []*protorekor.TransparencyLogEntry{p.entry(digest, sig, cert)},
			TimestampVerificationData: &protobundle.TimestampVerificationData{},
		},
	}
	if !p.NoTS {
		pb.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps = []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: p.timestamp(sig)}}
	}
	return pb
}

// leaf issues a certificate. It first makes one without an SCT for the certificate log
// to sign, and then the same with the SCT.
func (p *Platform) leaf(id Identity, subjectKey *ecdsa.PrivateKey) *x509.Certificate {
	san, err := url.Parse(id.SAN)
	must(p.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), URIs: []*url.URL{san}, NotBefore: p.Now, NotAfter: p.Now.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	for _, more := range id.More {
		uri, err := url.Parse(more)
		must(p.t, err)
		template.URIs = append(template.URIs, uri)
	}
	if id.OldIssuer != "" {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(id.OldIssuer)})
	}
	extensions := map[int]string{8: id.Issuer, 12: id.SourceURI, 13: id.Commit, 14: id.Ref, 19: id.Parameters, 21: id.Invocation}
	maps.Copy(extensions, id.Extensions)
	for n, value := range extensions {
		if value != "" {
			der, err := asn1.MarshalWithParams(value, "utf8")
			must(p.t, err)
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: der})
		}
	}
	pre := p.certificate(template, p.ca, subjectKey, p.caKey)
	if p.NoSCT {
		return pre
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: p.sct(pre)})
	return p.certificate(template, p.ca, subjectKey, p.caKey)
}

func (p *Platform) sct(pre *x509.Certificate) []byte {
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: keyID(p.t, p.ctKey)}, Timestamp: uint64(p.Now.UnixMilli())}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{Version: ct.V1, LeafType: ct.TimestampedEntryLeafType,
		TimestampedEntry: &ct.TimestampedEntry{EntryType: ct.PrecertLogEntryType, Timestamp: sct.Timestamp,
			PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(p.ca.RawSubjectPublicKeyInfo), TBSCertificate: pre.RawTBSCertificate}}}})
	must(p.t, err)
	sum := sha256.Sum256(input)
	sig, err := ecdsa.SignASN1(rand.Reader, p.ctKey, sum[:])
	must(p.t, err)
	sct.Signature = ct.DigitallySigned{Algorithm: cttls.SignatureAndHashAlgorithm{Hash: cttls.SHA256, Signature: cttls.ECDSA}, Signature: sig}
	list, err := ctx509util.MarshalSCTsIntoSCTList([]*ct.SignedCertificateTimestamp{&sct})
	must(p.t, err)
	raw, err := cttls.Marshal(*list)
	must(p.t, err)
	der, err := asn1.Marshal(raw)
	must(p.t, err)
	return der
}

func keyID(t testing.TB, k *ecdsa.PrivateKey) [32]byte {
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	must(t, err)
	return sha256.Sum256(spki)
}

// entry returns the log entry of a signature, in a log whose first of two leaves it is.
func (p *Platform) entry(digest, sig []byte, cert *x509.Certificate) *protorekor.TransparencyLogEntry {
	logKey := p.logKey
	if p.ForeignLog {
		logKey = key(p.t)
	}
	content := &rekortiles.Signature{Content: sig, Verifier: &rekortiles.Verifier{
		KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		Verifier:   &rekortiles.Verifier_X509Certificate{X509Certificate: &protocommon.X509Certificate{RawBytes: cert.Raw}}}}
	leaf, err := hashedrekord.ToEntryHash(digest, content)
	must(p.t, err)
	body, err := protojson.Marshal(&rekortiles.Entry{Kind: "hashedrekord", ApiVersion: "0.0.2", Spec: &rekortiles.Spec{Spec: &rekortiles.Spec_HashedRekordV002{
		HashedRekordV002: &rekortiles.HashedRekordLogEntryV002{Data: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: digest}, Signature: content}}}})
	must(p.t, err)
	body, err = jsoncanonicalizer.Transform(body)
	must(p.t, err)
	other := sha256.Sum256([]byte("another leaf"))
	top := rfc6962.DefaultHasher.HashChildren(leaf, other[:])
	signer, err := signature.LoadECDSASignerVerifier(logKey, crypto.SHA256)
	must(p.t, err)
	noteSigner, err := rekornote.NewNoteSigner(context.Background(), "127.0.0.1", signer)
	must(p.t, err)
	checkpoint, err := note.Sign(&note.Note{Text: string(f_log.Checkpoint{Origin: p.Origin, Size: 2, Hash: top}.Marshal())}, noteSigner)
	must(p.t, err)
	checkpoint = append(checkpoint, p.cosignatures(tlog.Checkpoint{Origin: p.Origin, Size: 2, Root: tlog.Hash(top)})...)
	id := keyID(p.t, logKey)
	return &protorekor.TransparencyLogEntry{
		LogId: &protocommon.LogId{KeyId: id[:]}, KindVersion: &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"}, CanonicalizedBody: body,
		InclusionProof: &protorekor.InclusionProof{TreeSize: 2, RootHash: top, Hashes: [][]byte{other[:]}, Checkpoint: &protorekor.Checkpoint{Envelope: string(checkpoint)}},
	}
}

// cosignatures returns the signature lines of the witnesses.
func (p *Platform) cosignatures(cp tlog.Checkpoint) (lines string) {
	at := p.CosignedAt
	if at.IsZero() {
		at = p.Clock
	}
	for _, w := range p.Witnesses {
		line, err := w.Cosign(cp, at)
		must(p.t, err)
		lines += line
	}
	return lines
}

func (p *Platform) timestamp(sig []byte) []byte {
	query, err := timestamp.CreateRequest(bytes.NewReader(sig), &timestamp.RequestOptions{Hash: crypto.SHA256})
	must(p.t, err)
	req, err := timestamp.ParseRequest(query)
	must(p.t, err)
	answer := timestamp.Timestamp{HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: p.Clock, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}}
	raw, err := answer.CreateResponseWithOpts(p.tsaLeaf, p.tsaKey, crypto.SHA256)
	must(p.t, err)
	return raw
}

// TrustedRoot returns the platform's Sigstore trusted root as JSON.
func (p *Platform) TrustedRoot() []byte {
	logWindow := &protocommon.TimeRange{Start: timestamppb.New(p.CAFrom)}
	if !p.LogFrom.IsZero() {
		logWindow.Start = timestamppb.New(p.LogFrom)
	}
	if !p.LogUntil.IsZero() {
		logWindow.End = timestamppb.New(p.LogUntil)
	}
	log := func(k *ecdsa.PrivateKey, window *protocommon.TimeRange) []*prototrust.TransparencyLogInstance {
		spki, err := x509.MarshalPKIXPublicKey(k.Public())
		must(p.t, err)
		id := keyID(p.t, k)
		return []*prototrust.TransparencyLogInstance{{BaseUrl: URL, HashAlgorithm: protocommon.HashAlgorithm_SHA2_256, LogId: &protocommon.LogId{KeyId: id[:]},
			PublicKey: &protocommon.PublicKey{RawBytes: spki, KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, ValidFor: window}}}
	}
	authority := func(chain ...*x509.Certificate) []*prototrust.CertificateAuthority {
		a := &prototrust.CertificateAuthority{Uri: URL, CertChain: &protocommon.X509CertificateChain{},
			ValidFor: &protocommon.TimeRange{Start: timestamppb.New(p.CAFrom), End: timestamppb.New(p.CAUntil)}}
		for _, c := range chain {
			a.CertChain.Certificates = append(a.CertChain.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
		}
		return []*prototrust.CertificateAuthority{a}
	}
	timestampAuthorities := authority(p.tsaLeaf, p.tsaRoot)
	timestampAuthorities[0].ValidFor = nil
	raw, err := protojson.Marshal(&prototrust.TrustedRoot{
		MediaType: root.TrustedRootMediaType01, CertificateAuthorities: authority(p.ca), TimestampAuthorities: timestampAuthorities,
		Ctlogs: log(p.ctKey, &protocommon.TimeRange{Start: timestamppb.New(p.CAFrom)}), Tlogs: log(p.logKey, logWindow),
	})
	must(p.t, err)
	return raw
}

// Document returns the platform's trust document as JSON.
func (p *Platform) Document() []byte {
	raw, err := json.Marshal(trust.Document{URL: p.URL, Issuer: p.URL, Issuers: p.Issuers,
		Builders: []trust.Builder{{ID: p.URL + "/builders/buildkit/v1", Level: p.Level}}, TrustedRoot: p.TrustedRoot()})
	must(p.t, err)
	return raw
}

// PlainRoot returns the parsed TrustedRoot, which vouches for the given issuers.
func (p *Platform) PlainRoot(issuers ...string) *trust.Root {
	p.t.Helper()
	r, err := trust.Parse(p.TrustedRoot())
	must(p.t, err)
	if len(issuers) > 0 {
		r, err = r.ForIssuers(issuers)
		must(p.t, err)
	}
	return r
}

// With returns a platform that is like p, but uses one service of another: its "ca",
// "ct", "log" or "tsa".
func (p *Platform) With(service string, other *Platform) *Platform {
	p.t.Helper()
	mixed := *p
	switch service {
	case "ca":
		mixed.caKey, mixed.ca = other.caKey, other.ca
	case "ct":
		mixed.ctKey = other.ctKey
	case "log":
		mixed.logKey = other.logKey
	case "tsa":
		mixed.tsaKey, mixed.tsaRoot, mixed.tsaLeaf = other.tsaKey, other.tsaRoot, other.tsaLeaf
	default:
		p.t.Fatalf("service: got %q", service)
	}
	return &mixed
}

// Root returns the parsed Document.
func (p *Platform) Root() *trust.Root {
	r, err := trust.Parse(p.Document())
	must(p.t, err)
	return r
}
