package attest

import (
	"crypto/x509"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	maxCertificate   = 16 << 10 // bytes of DER; an honest one has 1 KiB
	maxTimestamps    = 4        // RFC 3161 responses of one bundle
	maxTimestamp     = 16 << 10 // bytes of one
	maxProofHashes   = 64       // a log of 2^64 entries needs no more
	maxCanonicalBody = 64 << 10 // bytes of a log entry: a digest, a signature, a certificate
)

// Bundle is a Sigstore bundle v0.3 around one in-toto statement: one DSSE
// envelope with one signature, one certificate, one Rekor v2 log entry with its
// proof, and timestamps. Parsed strictly; nothing in it is verified yet.
type Bundle struct {
	Entity      *bundle.Bundle // the parts; sigstore-go has not looked at them
	Certificate *x509.Certificate
	Statement   *Statement
	Entry       *rekorpb.TransparencyLogEntry // with an inclusion proof and a checkpoint
}

// ParseBundle reads the JSON form of a bundle. Whatever the layout of cosign v3
// does not have (message signatures, bare keys, certificate chains, log entries
// without proof, entries of Rekor v1) is refused, so that nothing past this
// point meets a part that is missing.
func ParseBundle(raw []byte) (*Bundle, error) {
	var head struct {
		MediaType string `json:"mediaType"`
	}
	if err := strict.Unmarshal(raw, limits.Bundle, &head); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	if head.MediaType != BundleMediaType {
		return nil, fmt.Errorf("bundle media type: got %q, want %q", head.MediaType, BundleMediaType)
	}
	pb := new(protobundle.Bundle)
	if err := protojson.Unmarshal(raw, pb); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	b := new(Bundle)
	var err error
	if b.Statement, err = parseEnvelopeOf(pb, ParseStatement); err != nil {
		return nil, err
	}
	if b.Certificate, b.Entry, err = parseMaterial(pb); err != nil {
		return nil, err
	}
	b.Entity = &bundle.Bundle{Bundle: pb}
	return b, nil
}

func parseEnvelopeOf(pb *protobundle.Bundle, parse func([]byte) (*Statement, error)) (*Statement, error) {
	env := pb.GetDsseEnvelope()
	if env == nil {
		return nil, fmt.Errorf("bundle holds no DSSE envelope")
	}
	if env.GetPayloadType() != PayloadType {
		return nil, fmt.Errorf("envelope payload type: got %q, want %q", env.GetPayloadType(), PayloadType)
	}
	sigs := env.GetSignatures()
	if len(sigs) != 1 || len(sigs[0].GetSig()) == 0 {
		return nil, fmt.Errorf("envelope has %d signatures, want 1 that is not empty", len(sigs))
	}
	return parse(env.GetPayload())
}

func parseMaterial(pb *protobundle.Bundle) (*x509.Certificate, *rekorpb.TransparencyLogEntry, error) {
	material := pb.GetVerificationMaterial()
	der := material.GetCertificate().GetRawBytes()
	if len(der) == 0 {
		return nil, nil, fmt.Errorf("bundle holds no certificate")
	}
	if len(der) > maxCertificate {
		return nil, nil, fmt.Errorf("certificate of %d bytes, at most %d are taken", len(der), maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of the bundle: %w", err)
	}
	if err := checkTimestamps(material, maxTimestamps); err != nil {
		return nil, nil, err
	}
	entries := material.GetTlogEntries()
	if len(entries) != 1 {
		return nil, nil, fmt.Errorf("bundle has %d log entries, want 1", len(entries))
	}
	if err := checkEntry(entries[0]); err != nil {
		return nil, nil, fmt.Errorf("log entry of the bundle: %w", err)
	}
	return cert, entries[0], nil
}

func checkTimestamps(m *protobundle.VerificationMaterial, most int) error {
	stamps := m.GetTimestampVerificationData().GetRfc3161Timestamps()
	if len(stamps) > most {
		return fmt.Errorf("bundle has %d timestamps, at most %d are taken", len(stamps), most)
	}
	for _, s := range stamps {
		if n := len(s.GetSignedTimestamp()); n == 0 || n > maxTimestamp {
			return fmt.Errorf("timestamp of %d bytes, want 1 to %d", n, maxTimestamp)
		}
	}
	return nil
}

func checkEntry(e *rekorpb.TransparencyLogEntry) error {
	if e.GetInclusionProof().GetCheckpoint().GetEnvelope() == "" {
		return fmt.Errorf("no inclusion proof with a checkpoint")
	}
	if len(e.GetLogId().GetKeyId()) == 0 || e.GetLogIndex() < 0 || e.GetInclusionPromise() != nil {
		return fmt.Errorf("not an entry of a Rekor v2 log")
	}
	if n := len(e.GetInclusionProof().GetHashes()); n > maxProofHashes {
		return fmt.Errorf("inclusion proof of %d hashes, at most %d are taken", n, maxProofHashes)
	}
	kind, err := bodyKind(e.GetCanonicalizedBody())
	if err != nil {
		return err
	}
	for _, kv := range [][2]string{kind, {e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()}} {
		if kv != [2]string{"hashedrekord", "0.0.2"} {
			return fmt.Errorf("kind: got %q %q, want \"hashedrekord\" \"0.0.2\"", kv[0], kv[1])
		}
	}
	return nil
}
