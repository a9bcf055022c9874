package attest

import (
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Caps on bundles of others, beside those on ours.
const (
	maxForeignEntries    = 32
	maxForeignTimestamps = 32
	maxChain             = 10 // certificates of a bundle v0.1 or v0.2; only the first is used
)

// The spellings of Sigstore bundles v0.1 to v0.3 (protobuf-specs,
// sigstore_bundle.proto).
var (
	bundleMediaTypes01 = []string{"application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle.v0.1+json"}
	bundleMediaTypes02 = []string{"application/vnd.dev.sigstore.bundle+json;version=0.2", "application/vnd.dev.sigstore.bundle.v0.2+json"}
	bundleMediaTypes03 = []string{"application/vnd.dev.sigstore.bundle+json;version=0.3", BundleMediaType}
	bundleMediaTypes   = slices.Concat(bundleMediaTypes01, bundleMediaTypes02, bundleMediaTypes03)
)

// IsBundleMediaType says whether t is a Sigstore bundle of any version that
// ParseSigned reads.
func IsBundleMediaType(t string) bool { return slices.Contains(bundleMediaTypes, t) }

// Signed is a Sigstore bundle v0.1 to v0.3 as anybody makes them: an in-toto
// statement in a DSSE envelope, or the signature of a file; by a certificate or
// a key kept elsewhere; logged in Rekor v1 or v2, with or without timestamps.
// ParseBundle's narrow form is what Colophon's own platforms are held to.
// Parsed strictly; nothing in it is verified yet.
type Signed struct {
	Entity      *bundle.Bundle                  // the parts; sigstore-go has not looked at them
	Certificate *x509.Certificate               // nil where a key signed
	KeyHint     string                          // the signer's name of that key; nobody vouches for it
	Statement   *Statement                      // nil where a file's signature is all there is
	Entries     []*rekorpb.TransparencyLogEntry // Rekor v1 or v2; may be none
	Payload     []byte                          // only of ParseCosign2Signature: what was signed, in place of a statement
	Image       string                          // only of ParseCosign2Signature: digest of the image that Payload names
	Promised    *rekorpb.TransparencyLogEntry   // only of ParseCosign2: an entry of kind intoto 0.0.1, bound to envelope and certificate
}

// ParseSigned reads the JSON form of a bundle v0.1 to v0.3. It refuses what two
// readers could understand differently, and log entries whose parts belong to
// different kinds of log.
func ParseSigned(raw []byte) (*Signed, error) {
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := strict.Unmarshal(raw, limits.Bundle, &head); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if !IsBundleMediaType(head.MediaType) {
		return nil, fmt.Errorf("bundle media type: got %q, want a Sigstore bundle v0.1 to v0.3", head.MediaType)
	}
	pb := new(protobundle.Bundle)
	if err := protojson.Unmarshal(raw, pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return newSigned(pb)
}

func newSigned(pb *protobundle.Bundle) (*Signed, error) {
	s := &Signed{Entries: pb.GetVerificationMaterial().GetTlogEntries()}
	var err error
	if pb.GetMessageSignature() != nil {
		err = checkMessage(pb)
	} else {
		s.Statement, err = parseEnvelopeOf(pb, ParseAnyStatement)
	}
	if err != nil {
		return nil, err
	}
	if err := s.parseSigner(pb.GetVerificationMaterial()); err != nil {
		return nil, err
	}
	if n := len(s.Entries); n > maxForeignEntries {
		return nil, fmt.Errorf("bundle has %d log entries, at most %d are taken", n, maxForeignEntries)
	}
	for i, e := range s.Entries {
		if err := checkForeignEntry(e); err != nil {
			return nil, fmt.Errorf("log entry %d of the bundle: %w", i, err)
		}
	}
	if err := checkVersion(pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	s.Entity = &bundle.Bundle{Bundle: pb}
	return s, nil
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
	first := slices.Contains(bundleMediaTypes01, pb.GetMediaType())
	switch {
	case len(material.GetTlogEntries()) > 0 && first && !promised:
		return fmt.Errorf("of version 0.1, and its log entry has no promise")
	case len(material.GetTlogEntries()) > 0 && !first && !proved:
		return fmt.Errorf("of a version after 0.1, and its log entry has no proof of inclusion")
	case !first && !slices.Contains(bundleMediaTypes02, pb.GetMediaType()) && material.GetX509CertificateChain() != nil:
		return fmt.Errorf("of a version after 0.2, and it has a chain of certificates")
	}
	return nil
}

func checkMessage(pb *protobundle.Bundle) error {
	m := pb.GetMessageSignature()
	if len(m.GetSignature()) == 0 || len(m.GetMessageDigest().GetDigest()) == 0 {
		return fmt.Errorf("message signature is without a signature or a digest")
	}
	return nil
}

func (s *Signed) parseSigner(m *protobundle.VerificationMaterial) error {
	var der []byte
	switch {
	case m.GetPublicKey() != nil:
		s.KeyHint = m.GetPublicKey().GetHint()
	case m.GetCertificate() != nil:
		der = m.GetCertificate().GetRawBytes()
	case m.GetX509CertificateChain() != nil:
		chain := m.GetX509CertificateChain().GetCertificates()
		if n := len(chain); n == 0 || n > maxChain {
			return fmt.Errorf("bundle has a chain of %d certificates, want 1 to %d", n, maxChain)
		}
		// The rest of the chain is whatever the sender says; trust roots have theirs.
		der = chain[0].GetRawBytes()
	default:
		return fmt.Errorf("bundle holds neither a certificate nor a key's name")
	}
	if m.GetPublicKey() == nil {
		if n := len(der); n == 0 || n > maxCertificate {
			return fmt.Errorf("certificate of %d bytes, want 1 to %d", n, maxCertificate)
		}
		var err error
		if s.Certificate, err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("certificate of the bundle: %w", err)
		}
	}
	return checkTimestamps(m, maxForeignTimestamps)
}

// foreignEntries are the kinds of log entry that bind digest, signature and
// signer, and whether they are of Rekor v2.
var foreignEntries = map[[2]string]bool{
	{"hashedrekord", "0.0.1"}: false,
	{"dsse", "0.0.1"}:         false,
	{"intoto", "0.0.2"}:       false,
	{"hashedrekord", "0.0.2"}: true,
}

// rekor1Origin is how the logs of Rekor v1 name their trees in checkpoints;
// Rekor v2 never does.
var rekor1Origin = regexp.MustCompile(` - [0-9]+$`)

// checkForeignEntry holds the parts of an entry to one kind of log. Verifiers
// choose the check of a checkpoint by its origin and the check of a body by its
// version: a v2 body under a v1 checkpoint would be tied to nothing.
func checkForeignEntry(e *rekorpb.TransparencyLogEntry) error {
	if len(e.GetLogId().GetKeyId()) == 0 || e.GetLogIndex() < 0 || e.GetIntegratedTime() < 0 {
		return fmt.Errorf("no log, or a negative index or time")
	}
	kind, err := bodyKind(e.GetCanonicalizedBody())
	if err != nil {
		return err
	}
	if beside := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()}; beside != kind {
		return fmt.Errorf("kind: the body says %q, the bundle %q", kind, beside)
	}
	v2, known := foreignEntries[kind]
	if !known {
		return fmt.Errorf("kind: got %q %q, want one that binds digest, signature and signer", kind[0], kind[1])
	}
	proof := e.GetInclusionProof()
	if proof == nil && (v2 || len(e.GetInclusionPromise().GetSignedEntryTimestamp()) == 0) {
		return fmt.Errorf("no proof of inclusion")
	}
	if v2 && e.GetInclusionPromise() != nil {
		return fmt.Errorf("an entry of Rekor v2 with a promise of Rekor v1")
	}
	if proof == nil {
		return nil
	}
	if n := len(proof.GetHashes()); n > maxProofHashes {
		return fmt.Errorf("inclusion proof of %d hashes, at most %d are taken", n, maxProofHashes)
	}
	if v2 && OfRekor1Tree(e) {
		return fmt.Errorf("an entry of kind %q under a checkpoint of another version of the log", kind)
	}
	return nil
}

// OfRekor1Tree says whether the checkpoint of an entry names a tree of Rekor v1.
func OfRekor1Tree(e *rekorpb.TransparencyLogEntry) bool {
	origin, _, _ := strings.Cut(e.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n")
	return rekor1Origin.MatchString(origin)
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
