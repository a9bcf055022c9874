// Package bundle reads and verifies one signed statement or signature about one
// subject: a Sigstore bundle v0.1 to v0.3 (protobuf-specs, sigstore_bundle.proto),
// an annotated envelope or signature of cosign v2, or a plain DSSE envelope.
//
//   - Parse, ParsePlatform, ParseCosign2, ParseCosign2Signature and ParseEnvelope
//     read one form each. They check its structure and verify no signature.
//   - Bundle.Verify verifies all parts against a trust root: signature, certificate,
//     log entries and time. Its Result says which part failed, and why.
//   - Bundle.VerifyBy also compares the signer with a Signer. Artifact parses and
//     does the same, in one call.
//
// The checks and their order follow Sigstore's client specification. They do not
// use the verifier of sigstore-go: they take less than half of its time, support
// forms that it cannot read, and report each failure. Fuzz tests compare both:
// sigstore-go accepts what this package accepts.
package bundle

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Size limits of the parts of a bundle.
const (
	maxCertificate   = 16 << 10 // bytes of DER; usual is 1 KiB
	maxChain         = 10       // certificates in a bundle v0.1 or v0.2; only the first is used
	maxTimestamp     = 16 << 10 // bytes of one RFC 3161 response
	maxProofHashes   = 64       // enough for a log of 2^64 entries
	maxCanonicalBody = 64 << 10 // bytes of a log entry: a digest, a signature, a certificate

	maxEntries            = 32
	maxTimestamps         = 32
	maxPlatformTimestamps = 4 // in a bundle that ParsePlatform reads
)

// Bundle is a parsed bundle: an in-toto statement in a DSSE envelope, or the
// signature of a file or an image. The signer used a certificate, or a key that the
// verifier must have. The bundle may have entries of Rekor v1 or v2 logs, and RFC
// 3161 timestamps. Nothing in it is trusted before Verify.
type Bundle struct {
	Proto       *protobundle.Bundle             // all parts
	Certificate *x509.Certificate               // nil if a key signed
	Statement   *attest.Statement               // nil for the signature of a file or an image
	Entries     []*rekorpb.TransparencyLogEntry // of Rekor v1 or v2 logs; may be empty
	Payload     []byte                          // from ParseCosign2Signature: the signed bytes
	Image       string                          // from ParseCosign2Signature: digest of the image that Payload names, sha256:hex

	platform bool                          // from ParsePlatform: Verify requires all parts
	bound    *rekorpb.TransparencyLogEntry // of kind intoto 0.0.1; the parser compared it with envelope and certificate
}

// Parse reads the JSON form of a Sigstore bundle v0.1 to v0.3 of any origin. It
// refuses JSON that two parsers could read differently, such as duplicate members.
func Parse(raw []byte) (*Bundle, error) {
	pb, err := unmarshal(raw)
	if err != nil {
		return nil, err
	}
	return newBundle(pb)
}

// ParsePlatform reads a bundle of a Colophon platform: a bundle v0.3 with an in-toto
// statement v1, a certificate, and one entry of a Rekor v2 log with its inclusion
// proof. Verify then also requires an SCT, and the time of a timestamp authority.
// Parse accepts all that ParsePlatform accepts.
func ParsePlatform(raw []byte) (*Bundle, error) {
	b, err := Parse(raw)
	if err != nil {
		return nil, err
	}
	return b.Platform()
}

// Platform returns b as ParsePlatform does: it fails if b does not have the form that
// platforms write, and Verify of the result requires all parts of that form.
func (b *Bundle) Platform() (*Bundle, error) {
	if got := b.Proto.GetMediaType(); got != attest.BundleMediaType {
		return nil, fmt.Errorf("bundle media type: got %q, want %q", got, attest.BundleMediaType)
	}
	if len(b.Entries) != 1 {
		return nil, fmt.Errorf("bundle: got %d log entries, want 1", len(b.Entries))
	}
	if err := checkPlatformEntry(b.Entries[0]); err != nil {
		return nil, fmt.Errorf("bundle: log entry: %w", err)
	}
	switch {
	case b.Statement == nil:
		return nil, errors.New("bundle has no DSSE envelope")
	case b.Statement.Type != attest.StatementType:
		return nil, fmt.Errorf("statement type: got %q, want %q", b.Statement.Type, attest.StatementType)
	case b.Certificate == nil:
		return nil, errors.New("bundle has no certificate")
	}
	if n := len(b.timestamps()); n > maxPlatformTimestamps {
		return nil, fmt.Errorf("bundle: got %d timestamps, want at most %d", n, maxPlatformTimestamps)
	}
	p := *b
	p.platform = true
	return &p, nil
}

func checkPlatformEntry(e *rekorpb.TransparencyLogEntry) error {
	if e.GetInclusionProof().GetCheckpoint().GetEnvelope() == "" {
		return errors.New("no inclusion proof with a checkpoint")
	}
	if e.GetInclusionPromise() != nil {
		return errors.New("it has an inclusion promise, which a Rekor v2 log does not make")
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
		if name := unknownMember(raw, pb.ProtoReflect().Descriptor()); name != "" {
			return nil, fmt.Errorf("bundle: a Sigstore bundle has no member %q", name)
		}
		return nil, errors.New("bundle: the value of a member is not what a Sigstore bundle has there")
	}
	return pb, nil
}

// unknownMember returns the first member of a JSON object, and of the objects in it, that a
// message does not have, or "".
func unknownMember(raw []byte, of protoreflect.MessageDescriptor) string {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		f := of.Fields().ByJSONName(name)
		if f == nil {
			f = of.Fields().ByTextName(name)
		}
		if f == nil {
			return name
		}
		if f.Message() == nil || f.Message().FullName().Parent() == "google.protobuf" {
			continue
		}
		values := []json.RawMessage{object[name]}
		if f.IsList() && json.Unmarshal(object[name], &values) != nil {
			continue
		}
		for _, value := range values {
			if below := unknownMember(value, f.Message()); below != "" {
				return below
			}
		}
	}
	return ""
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
		return nil, fmt.Errorf("bundle: got %d log entries, want at most %d", n, maxEntries)
	}
	for i, e := range b.Entries {
		if err := checkEntry(e); err != nil {
			return nil, fmt.Errorf("bundle: log entry %d: %w", i, err)
		}
	}
	if err := checkVersion(pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

// checkVersion fails if the bundle lacks a part that its version requires, or has one
// that its version forbids (protobuf-specs, sigstore_bundle.proto).
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
		return errors.New("version 0.1 requires an inclusion promise in the log entry")
	case len(material.GetTlogEntries()) > 0 && version != 1 && !proved:
		return errors.New("versions after 0.1 require an inclusion proof in the log entry")
	case version == 3 && material.GetX509CertificateChain() != nil:
		return errors.New("versions after 0.2 forbid a certificate chain")
	}
	return nil
}

// parseContent reads what was signed.
func (b *Bundle) parseContent() error {
	if m := b.Proto.GetMessageSignature(); m != nil {
		if len(m.GetSignature()) == 0 || len(m.GetMessageDigest().GetDigest()) == 0 {
			return errors.New("message signature has no signature or no digest")
		}
		return nil
	}
	env := b.Proto.GetDsseEnvelope()
	if env == nil {
		return errors.New("bundle has neither a DSSE envelope nor a message signature")
	}
	if env.GetPayloadType() != attest.PayloadType {
		return fmt.Errorf("envelope payload type: got %q, want %q", env.GetPayloadType(), attest.PayloadType)
	}
	sigs := env.GetSignatures()
	if len(sigs) != 1 || len(sigs[0].GetSig()) == 0 {
		return fmt.Errorf("envelope: got %d signatures, want 1 that is not empty", len(sigs))
	}
	var err error
	b.Statement, err = attest.ParseAnyStatement(env.GetPayload())
	return err
}

// parseSigner reads the signer's certificate, and checks the sizes of the timestamps.
func (b *Bundle) parseSigner() error {
	m := b.Proto.GetVerificationMaterial()
	var der []byte
	switch {
	case m.GetPublicKey() != nil:
		// The hint does not identify the key: the verifier chooses it.
	case m.GetCertificate() != nil:
		der = m.GetCertificate().GetRawBytes()
	case m.GetX509CertificateChain() != nil:
		chain := m.GetX509CertificateChain().GetCertificates()
		if n := len(chain); n == 0 || n > maxChain {
			return fmt.Errorf("bundle: certificate chain: got %d certificates, want 1 to %d", n, maxChain)
		}
		// The rest of the chain is not used: trust roots have their own.
		der = chain[0].GetRawBytes()
	default:
		return errors.New("bundle has neither a certificate nor a public key identifier")
	}
	if m.GetPublicKey() == nil {
		if n := len(der); n == 0 || n > maxCertificate {
			return fmt.Errorf("bundle: certificate: got %d bytes, want 1 to %d", n, maxCertificate)
		}
		var err error
		if b.Certificate, err = parseOnce(der); err != nil {
			return errors.New("bundle: certificate: malformed")
		}
	}
	stamps := b.timestamps()
	if len(stamps) > maxTimestamps {
		return fmt.Errorf("bundle: got %d timestamps, want at most %d", len(stamps), maxTimestamps)
	}
	for _, stamp := range stamps {
		if n := len(stamp); n == 0 || n > maxTimestamp {
			return fmt.Errorf("bundle: timestamp: got %d bytes, want 1 to %d", n, maxTimestamp)
		}
	}
	return nil
}

// timestamps returns the RFC 3161 responses of the bundle.
func (b *Bundle) timestamps() [][]byte {
	var all [][]byte
	for _, s := range b.Proto.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps() {
		all = append(all, s.GetSignedTimestamp())
	}
	return all
}

// rekor2Kind is the kind and version of all entries of Rekor v2 logs that this package
// reads.
var rekor2Kind = [2]string{"hashedrekord", "0.0.2"}

// entryKinds holds the kinds and versions of log entries that contain digest,
// signature and signer.
var entryKinds = map[[2]string]bool{
	{"hashedrekord", "0.0.1"}: true,
	{"dsse", "0.0.1"}:         true,
	{"intoto", "0.0.2"}:       true,
	rekor2Kind:                true,
}

// checkEntry fails if required parts of an entry are missing, or if its parts do not
// belong to the same kind of log.
func checkEntry(e *rekorpb.TransparencyLogEntry) error {
	if len(e.GetLogId().GetKeyId()) == 0 || e.GetLogIndex() < 0 || e.GetIntegratedTime() < 0 {
		return errors.New("the log ID is missing, or the index or time is negative")
	}
	kind, err := bodyKind(e.GetCanonicalizedBody())
	if err != nil {
		return err
	}
	if outer := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()}; outer != kind {
		return fmt.Errorf("kind: got %q in the body, want %q", kind, outer)
	}
	if !entryKinds[kind] {
		return fmt.Errorf("kind: got %q, want one that contains digest, signature and signer", kind)
	}
	v2 := kind == rekor2Kind
	proof := e.GetInclusionProof()
	if proof == nil && (v2 || len(e.GetInclusionPromise().GetSignedEntryTimestamp()) == 0) {
		return errors.New("no inclusion proof")
	}
	if v2 && e.GetInclusionPromise() != nil {
		return errors.New("an entry of a Rekor v2 log has an inclusion promise")
	}
	if n := len(proof.GetHashes()); n > maxProofHashes {
		return fmt.Errorf("inclusion proof: got %d hashes, want at most %d", n, maxProofHashes)
	}
	return nil
}

// bodyKind reads kind and version from the body of a log entry. The log signed the
// body, so that this kind, and not the one outside of it, decides how the entry is
// verified.
func bodyKind(raw []byte) ([2]string, error) {
	var body struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
	}
	err := strict.Unmarshal(raw, maxCanonicalBody, &body)
	return [2]string{body.Kind, body.APIVersion}, err
}
