// Package bundle reads and verifies one signed thing about one subject: a
// Sigstore bundle, or one of the forms in which cosign v2 attached signatures.
//
//   - Parse and its sisters read the form, strictly, and verify nothing.
//   - Verify checks every part of it against a trust root: signature,
//     certificate, log entries and time. Its Result says what is wrong with
//     which part.
//   - Signer says who should have signed.
//
// The order of the checks, and what is demanded of each part, are those of
// Sigstore's client specification. The checks are written here, without
// sigstore-go's verifier: they take less than half its time, they cover forms that
// it does not read, and each one says what failed. Fuzz tests hold them to it:
// what is accepted here, sigstore-go accepts.
package bundle

import (
	"crypto/x509"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Caps on what a bundle may hold.
const (
	maxCertificate   = 16 << 10 // bytes of DER; an honest one has 1 KiB
	maxChain         = 10       // certificates of a bundle v0.1 or v0.2; only the first is used
	maxTimestamp     = 16 << 10 // bytes of one RFC 3161 response
	maxProofHashes   = 64       // a log of 2^64 entries needs no more
	maxCanonicalBody = 64 << 10 // bytes of a log entry: a digest, a signature, a certificate

	maxEntries            = 32
	maxTimestamps         = 32
	maxPlatformTimestamps = 4 // of the form that ParsePlatform reads
)

// Bundle is one signed thing: an in-toto statement in a DSSE envelope, or the
// signature of a file or an image; by a certificate or by a key kept elsewhere;
// logged in Rekor v1 or v2 or nowhere, with or without timestamps. It was parsed
// strictly. Nothing in it is verified yet.
type Bundle struct {
	Proto       *protobundle.Bundle             // all parts
	Certificate *x509.Certificate               // nil where a key signed
	KeyHint     string                          // the signer's name of that key; nobody vouches for it
	Statement   *attest.Statement               // nil where there is only the signature of a file or an image
	Entries     []*rekorpb.TransparencyLogEntry // of Rekor v1 or v2; may be empty
	Payload     []byte                          // only from ParseCosign2Signature: what was signed
	Image       string                          // only from ParseCosign2Signature: digest of the image that Payload names

	platform bool                          // read by ParsePlatform: Verify demands all parts
	bound    *rekorpb.TransparencyLogEntry // of kind intoto 0.0.1; the parser has compared it with envelope and certificate
}

// Parse reads the JSON form of a Sigstore bundle v0.1 to v0.3 as anybody makes
// them. It refuses what two readers could understand differently.
func Parse(raw []byte) (*Bundle, error) {
	pb, err := unmarshal(raw)
	if err != nil {
		return nil, err
	}
	return newBundle(pb)
}

// ParsePlatform reads the narrow form of bundle that Colophon's platforms make:
// a bundle v0.3 with an in-toto statement v1, one certificate, and one entry of
// a Rekor v2 log with its proof. Verify then also demands an SCT, and a time by
// a timestamp authority. Whatever ParsePlatform takes, Parse takes, too.
func ParsePlatform(raw []byte) (*Bundle, error) {
	pb, err := unmarshal(raw)
	if err != nil {
		return nil, err
	}
	if got := pb.GetMediaType(); got != attest.BundleMediaType {
		return nil, fmt.Errorf("bundle media type: got %q, want %q", got, attest.BundleMediaType)
	}
	entries := pb.GetVerificationMaterial().GetTlogEntries()
	if len(entries) != 1 {
		return nil, fmt.Errorf("bundle has %d log entries, want 1", len(entries))
	}
	if err := checkPlatformEntry(entries[0]); err != nil {
		return nil, fmt.Errorf("log entry of the bundle: %w", err)
	}
	b, err := newBundle(pb)
	switch {
	case err != nil:
		return nil, err
	case b.Statement == nil:
		return nil, errors.New("bundle holds no DSSE envelope")
	case b.Statement.Type != attest.StatementType:
		return nil, fmt.Errorf("statement type: got %q, want %q", b.Statement.Type, attest.StatementType)
	case b.Certificate == nil:
		return nil, errors.New("bundle holds no certificate")
	}
	if n := len(b.timestamps()); n > maxPlatformTimestamps {
		return nil, fmt.Errorf("bundle has %d timestamps, at most %d are taken", n, maxPlatformTimestamps)
	}
	b.platform = true
	return b, nil
}

func checkPlatformEntry(e *rekorpb.TransparencyLogEntry) error {
	if e.GetInclusionProof().GetCheckpoint().GetEnvelope() == "" {
		return errors.New("no inclusion proof with a checkpoint")
	}
	if e.GetInclusionPromise() != nil {
		return errors.New("not an entry of a Rekor v2 log")
	}
	if kind := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()}; kind != rekor2Kind {
		return fmt.Errorf("kind: got %q, want %q", kind, rekor2Kind)
	}
	return nil
}

func unmarshal(raw []byte) (*protobundle.Bundle, error) {
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := strict.Unmarshal(raw, limits.Bundle, &head); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if !attest.IsBundleMediaType(head.MediaType) {
		return nil, fmt.Errorf("bundle media type: got %q, want a Sigstore bundle v0.1 to v0.3", head.MediaType)
	}
	pb := new(protobundle.Bundle)
	if err := protojson.Unmarshal(raw, pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return pb, nil
}

func newBundle(pb *protobundle.Bundle) (*Bundle, error) {
	b := &Bundle{Proto: pb}
	if err := b.parseContent(); err != nil {
		return nil, err
	}
	if err := b.parseSigner(); err != nil {
		return nil, err
	}
	b.Entries = pb.GetVerificationMaterial().GetTlogEntries()
	if n := len(b.Entries); n > maxEntries {
		return nil, fmt.Errorf("bundle has %d log entries, at most %d are taken", n, maxEntries)
	}
	for i, e := range b.Entries {
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("log entry %d of the bundle: %w", i, err)
		}
	}
	if err := checkVersion(pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

// checkVersion holds a bundle to what its version may and must have
// (protobuf-specs, sigstore_bundle.proto).
func checkVersion(pb *protobundle.Bundle) error {
	material := pb.GetVerificationMaterial()
	promised, proved := false, false
	for _, e := range material.GetTlogEntries() {
		promised = promised || len(e.GetInclusionPromise().GetSignedEntryTimestamp()) > 0
		proved = proved || e.GetInclusionProof() != nil
	}
	version := attest.BundleVersion(pb.GetMediaType())
	switch {
	case len(material.GetTlogEntries()) > 0 && version == 1 && !promised:
		return errors.New("of version 0.1, and its log entry has no promise")
	case len(material.GetTlogEntries()) > 0 && version != 1 && !proved:
		return errors.New("of a version after 0.1, and its log entry has no proof of inclusion")
	case version == 3 && material.GetX509CertificateChain() != nil:
		return errors.New("of a version after 0.2, and it has a chain of certificates")
	}
	return nil
}

// parseContent reads what was signed.
func (b *Bundle) parseContent() error {
	if m := b.Proto.GetMessageSignature(); m != nil {
		if len(m.GetSignature()) == 0 || len(m.GetMessageDigest().GetDigest()) == 0 {
			return errors.New("message signature is without a signature or a digest")
		}
		return nil
	}
	env := b.Proto.GetDsseEnvelope()
	if env == nil {
		return errors.New("bundle holds no DSSE envelope")
	}
	if env.GetPayloadType() != attest.PayloadType {
		return fmt.Errorf("envelope payload type: got %q, want %q", env.GetPayloadType(), attest.PayloadType)
	}
	sigs := env.GetSignatures()
	if len(sigs) != 1 || len(sigs[0].GetSig()) == 0 {
		return fmt.Errorf("envelope has %d signatures, want 1 that is not empty", len(sigs))
	}
	var err error
	b.Statement, err = attest.ParseAnyStatement(env.GetPayload())
	return err
}

// parseSigner reads who signed, and the sizes of the timestamps.
func (b *Bundle) parseSigner() error {
	m := b.Proto.GetVerificationMaterial()
	var der []byte
	switch {
	case m.GetPublicKey() != nil:
		b.KeyHint = m.GetPublicKey().GetHint()
	case m.GetCertificate() != nil:
		der = m.GetCertificate().GetRawBytes()
	case m.GetX509CertificateChain() != nil:
		chain := m.GetX509CertificateChain().GetCertificates()
		if n := len(chain); n == 0 || n > maxChain {
			return fmt.Errorf("bundle has a chain of %d certificates, want 1 to %d", n, maxChain)
		}
		// The sender chose the rest of the chain; trust roots have their own.
		der = chain[0].GetRawBytes()
	default:
		return errors.New("bundle holds neither a certificate nor a key's name")
	}
	if m.GetPublicKey() == nil {
		if n := len(der); n == 0 || n > maxCertificate {
			return fmt.Errorf("certificate of %d bytes, want 1 to %d", n, maxCertificate)
		}
		var err error
		if b.Certificate, err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("certificate of the bundle: %w", err)
		}
	}
	stamps := b.timestamps()
	if len(stamps) > maxTimestamps {
		return fmt.Errorf("bundle has %d timestamps, at most %d are taken", len(stamps), maxTimestamps)
	}
	for _, stamp := range stamps {
		if n := len(stamp); n == 0 || n > maxTimestamp {
			return fmt.Errorf("timestamp of %d bytes, want 1 to %d", n, maxTimestamp)
		}
	}
	return nil
}

// timestamps are the RFC 3161 responses of the bundle.
func (b *Bundle) timestamps() [][]byte {
	var all [][]byte
	for _, s := range b.Proto.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps() {
		all = append(all, s.GetSignedTimestamp())
	}
	return all
}

// rekor2Kind is the one kind of entry that logs of Rekor v2 have.
var rekor2Kind = [2]string{"hashedrekord", "0.0.2"}

// entryKinds are the kinds of log entry that bind digest, signature and signer.
var entryKinds = map[[2]string]bool{
	{"hashedrekord", "0.0.1"}: true,
	{"dsse", "0.0.1"}:         true,
	{"intoto", "0.0.2"}:       true,
	rekor2Kind:                true,
}

// checkEntry refuses an entry whose parts belong to different kinds of log.
func checkEntry(e *rekorpb.TransparencyLogEntry) error {
	if len(e.GetLogId().GetKeyId()) == 0 || e.GetLogIndex() < 0 || e.GetIntegratedTime() < 0 {
		return errors.New("no log, or a negative index or time")
	}
	kind, err := bodyKind(e.GetCanonicalizedBody())
	if err != nil {
		return err
	}
	if beside := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()}; beside != kind {
		return fmt.Errorf("kind: the body says %q, the bundle %q", kind, beside)
	}
	if !entryKinds[kind] {
		return fmt.Errorf("kind: got %q, want one that binds digest, signature and signer", kind)
	}
	v2 := kind == rekor2Kind
	proof := e.GetInclusionProof()
	if proof == nil && (v2 || len(e.GetInclusionPromise().GetSignedEntryTimestamp()) == 0) {
		return errors.New("no inclusion proof")
	}
	if v2 && e.GetInclusionPromise() != nil {
		return errors.New("an entry of Rekor v2 with a promise of Rekor v1")
	}
	if n := len(proof.GetHashes()); n > maxProofHashes {
		return fmt.Errorf("inclusion proof of %d hashes, at most %d are taken", n, maxProofHashes)
	}
	return nil
}

// bodyKind reads what a log entry says that it is. The body, not the kind
// beside it, decides how the entry is checked.
func bodyKind(raw []byte) ([2]string, error) {
	var body struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	err := strict.Unmarshal(raw, maxCanonicalBody, &body)
	return [2]string{body.Kind, body.APIVersion}, err
}
