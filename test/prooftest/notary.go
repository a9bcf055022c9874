package prooftest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	core "github.com/notaryproject/notation-core-go/signature"

	"github.com/colophon-build/colophon/bundle/notation"
)

// Notary is an authority under which somebody signs in the formats of the Notary Project.
type Notary struct {
	Root *x509.Certificate
	Now  time.Time

	t   testing.TB
	key *ecdsa.PrivateKey
}

// NotarySubject is the subject that signers of a Notary have.
var NotarySubject = pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"acme"}, CommonName: "release"}

// NewNotary makes an authority. The functions bend, if any, change the template of its
// certificate.
func NewNotary(t testing.TB, name string, bend ...func(*x509.Certificate)) *Notary {
	n := &Notary{t: t, key: key(t), Now: time.Now().Truncate(time.Second)}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	n.Root = n.certificate(template, nil, n.key, n.key, bend)
	return n
}

func (n *Notary) certificate(template, parent *x509.Certificate, subjectKey, issuerKey *ecdsa.PrivateKey, bend []func(*x509.Certificate)) *x509.Certificate {
	n.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	must(n.t, err)
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	template.NotBefore, template.NotAfter = n.Now.Add(-24*time.Hour), n.Now.Add(24*time.Hour)
	template.BasicConstraintsValid = template.IsCA
	for _, b := range bend {
		b(template)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, subjectKey.Public(), issuerKey)
	must(n.t, err)
	cert, err := x509.ParseCertificate(der)
	must(n.t, err)
	return cert
}

// PEM returns certificates as PEM.
func PEM(certs ...*x509.Certificate) string {
	var out bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return out.String()
}

// NotarySigner is somebody whom a Notary certified.
type NotarySigner struct {
	Chain []*x509.Certificate
	n     *Notary
	key   *ecdsa.PrivateKey
}

// Signer certifies somebody with NotarySubject. The functions bend, if any, change the template.
func (n *Notary) Signer(bend ...func(*x509.Certificate)) *NotarySigner {
	k := key(n.t)
	leaf := n.certificate(&x509.Certificate{Subject: NotarySubject, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, n.Root, k, n.key, bend)
	return &NotarySigner{[]*x509.Certificate{leaf, n.Root}, n, k}
}

// Sub certifies another authority.
func (n *Notary) Sub(name string, bend ...func(*x509.Certificate)) *Notary {
	sub := &Notary{t: n.t, key: key(n.t), Now: n.Now}
	sub.Root = n.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, n.Root, sub.key, n.key, bend)
	return sub
}

// PrivateKey returns the signer's key, PEM (PKCS #8).
func (s *NotarySigner) PrivateKey() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	must(s.n.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Sign returns an envelope of a media type that the library of notation made. The functions
// bend, if any, change what it is asked for.
func (s *NotarySigner) Sign(mediaType string, target v1.Descriptor, bend ...func(*core.SignRequest)) []byte {
	s.n.t.Helper()
	signer, err := core.NewLocalSigner(s.Chain, s.key)
	must(s.n.t, err)
	payload, err := json.Marshal(map[string]any{"targetArtifact": target})
	must(s.n.t, err)
	req := &core.SignRequest{
		Payload: core.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: payload}, Signer: signer,
		SigningTime: s.n.Now, SigningScheme: core.SigningSchemeX509, SigningAgent: "test",
	}
	for _, b := range bend {
		b(req)
	}
	envelope, err := core.NewEnvelope(mediaType)
	must(s.n.t, err)
	raw, err := envelope.Sign(req)
	must(s.n.t, err)
	return raw
}

// JWS returns an envelope with the given protected header and payload, signed: one that the
// library of notation refuses to make.
func (s *NotarySigner) JWS(protected, payload []byte) []byte {
	b64 := base64.RawURLEncoding.EncodeToString
	content := b64(protected) + "." + b64(payload)
	digest := sha256.Sum256([]byte(content))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	must(s.n.t, err)
	sig := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	var chain [][]byte
	for _, c := range s.Chain {
		chain = append(chain, c.Raw)
	}
	raw, err := json.Marshal(map[string]any{"payload": b64(payload), "protected": b64(protected), "signature": b64(sig), "header": map[string]any{"x5c": chain}})
	must(s.n.t, err)
	return raw
}

// Stamp returns a JWS envelope with a timestamp by the signer over its signature.
func (s *NotarySigner) Stamp(envelope []byte, at time.Time) []byte {
	s.n.t.Helper()
	var e map[string]any
	must(s.n.t, json.Unmarshal(envelope, &e))
	sig, err := base64.RawURLEncoding.DecodeString(e["signature"].(string))
	must(s.n.t, err)
	digest := sha256.Sum256(sig)
	raw, err := s.answer(crypto.SHA256, digest[:], at, nil)
	must(s.n.t, err)
	parsed, err := timestamp.ParseResponse(raw)
	must(s.n.t, err)
	e["header"].(map[string]any)["io.cncf.notary.timestampSignature"] = parsed.RawToken
	raw, err = json.Marshal(e)
	must(s.n.t, err)
	return raw
}

func (s *NotarySigner) answer(hash crypto.Hash, digest []byte, at time.Time, nonce *big.Int) ([]byte, error) {
	answer := timestamp.Timestamp{
		HashAlgorithm: hash, HashedMessage: digest, Time: at, Nonce: nonce, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, Accuracy: time.Second,
		AddTSACertificate: true, Certificates: s.Chain[1:],
	}
	return answer.CreateResponseWithOpts(s.Chain[0], s.key, crypto.SHA256)
}

// Answer answers a query for a timestamp (RFC 3161).
func (s *NotarySigner) Answer(query *timestamp.Request) ([]byte, error) {
	return s.answer(query.HashAlgorithm, query.HashedMessage, time.Now(), query.Nonce)
}

// Stamper certifies a timestamp authority.
func (n *Notary) Stamper(bend ...func(*x509.Certificate)) *NotarySigner {
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	must(n.t, err)
	critical := func(c *x509.Certificate) {
		c.ExtKeyUsage = nil
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}
	}
	return n.Signer(append([]func(*x509.Certificate){critical}, bend...)...)
}

// CRL returns a list of revoked certificates, PEM, valid for an hour from a time.
func (n *Notary) CRL(from time.Time, revoked ...*x509.Certificate) string {
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.Add(time.Hour)}
	for _, c := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, n.Root, n.key)
	must(n.t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// AttachNotation adds a signature of notation as a referrer of subject, and returns its
// manifest.
func (s *Store) AttachNotation(subject v1.Descriptor, envelope []byte, mediaType string) (manifest v1.Descriptor) {
	layer := s.Put(envelope, types.MediaType(mediaType))
	config := s.Put([]byte("{}"), notation.ArtifactType)
	manifest = s.putJSON(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "config": config, "layers": []v1.Descriptor{layer}, "subject": subject,
	}, types.OCIManifestSchema1)
	manifest.ArtifactType = notation.ArtifactType
	s.referrers = append([]v1.Descriptor{manifest}, s.referrers...)
	return manifest
}

// Self returns the authority as a signer of its own, with a self-signed certificate.
func (n *Notary) Self() *NotarySigner {
	return &NotarySigner{[]*x509.Certificate{n.Root}, n, n.key}
}
