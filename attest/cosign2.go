package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// How cosign v2 attaches attestations: a manifest under the tag
// sha256-HEX.att, each layer an envelope, the rest in its annotations.
const (
	EnvelopeMediaType      = "application/vnd.dsse.envelope.v1+json"
	Cosign2Certificate     = "dev.sigstore.cosign/certificate" // PEM
	Cosign2Bundle          = "dev.sigstore.cosign/bundle"      // JSON: the log's promise
	bundle01MediaType      = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	maxCosign2BundleLength = 128 << 10
)

type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
	} `json:"signatures"`
}

type cosign2Bundle struct {
	SignedEntryTimestamp []byte
	Payload              struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogIndex       int64  `json:"logIndex"`
		LogID          string `json:"logID"` // hex
	}
}

// ParseCosign2 reads an attestation as cosign v2 attached it: the envelope's
// bytes and the annotations of its layer. Its log entry has the promise of
// Rekor v1 and no proof. Entries of kind intoto 0.0.1 come in Promised, apart
// from what sigstore-go judges.
func ParseCosign2(raw []byte, annotations map[string]string) (*Signed, error) {
	var env envelope
	if err := strict.Unmarshal(raw, limits.Bundle, &env); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	der, err := onePEM([]byte(annotations[Cosign2Certificate]))
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", Cosign2Certificate, err)
	}
	entry, kind, err := parseCosign2Entry([]byte(annotations[Cosign2Bundle]))
	if err != nil {
		return nil, fmt.Errorf("annotation %s: %w", Cosign2Bundle, err)
	}
	pb := &protobundle.Bundle{MediaType: bundle01MediaType, VerificationMaterial: &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &commonpb.X509CertificateChain{
			Certificates: []*commonpb.X509Certificate{{RawBytes: der}}}},
	}}
	signed := &dssepb.Envelope{Payload: env.Payload, PayloadType: env.PayloadType}
	for _, s := range env.Signatures {
		signed.Signatures = append(signed.Signatures, &dssepb.Signature{Sig: s.Sig, Keyid: s.KeyID})
	}
	pb.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: signed}
	if kind != [2]string{"intoto", "0.0.1"} {
		pb.VerificationMaterial.TlogEntries = []*rekorpb.TransparencyLogEntry{entry}
		return newSigned(pb)
	}
	s := &Signed{Promised: entry}
	if s.Statement, err = parseEnvelopeOf(pb, ParseAnyStatement); err != nil {
		return nil, err
	}
	if err := s.parseSigner(pb.GetVerificationMaterial()); err != nil {
		return nil, err
	}
	if err := bindIntoto001(entry.GetCanonicalizedBody(), raw, env.Payload, der); err != nil {
		return nil, fmt.Errorf("log entry: %w", err)
	}
	s.Entity, err = bundle.NewBundle(pb)
	return s, err
}

func onePEM(raw []byte) ([]byte, error) {
	if len(raw) > 2*maxCertificate {
		return nil, fmt.Errorf("%d bytes, at most %d are taken", len(raw), 2*maxCertificate)
	}
	block, rest := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("want one certificate in PEM")
	}
	return block.Bytes, nil
}

func parseCosign2Entry(raw []byte) (*rekorpb.TransparencyLogEntry, [2]string, error) {
	var b cosign2Bundle
	if err := strict.Unmarshal(raw, maxCosign2BundleLength, &b); err != nil {
		return nil, [2]string{}, err
	}
	kind, err := bodyKind(b.Payload.Body)
	if err != nil {
		return nil, kind, err
	}
	id, err := hex.DecodeString(b.Payload.LogID)
	if err != nil || len(id) != sha256.Size || b.Payload.LogIndex < 0 || b.Payload.IntegratedTime <= 0 || len(b.SignedEntryTimestamp) == 0 {
		return nil, kind, errors.New("not the promise of a log")
	}
	return &rekorpb.TransparencyLogEntry{
		LogIndex: b.Payload.LogIndex, LogId: &commonpb.LogId{KeyId: id}, IntegratedTime: b.Payload.IntegratedTime,
		KindVersion:       &rekorpb.KindVersion{Kind: kind[0], Version: kind[1]},
		InclusionPromise:  &rekorpb.InclusionPromise{SignedEntryTimestamp: b.SignedEntryTimestamp},
		CanonicalizedBody: b.Payload.Body,
	}, kind, nil
}

// bindIntoto001 fails unless a log entry of kind intoto 0.0.1 is about this
// envelope, byte by byte, and this certificate.
func bindIntoto001(body, envelope, payload, der []byte) error {
	type digest struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"value"`
	}
	var entry struct {
		Spec struct {
			Content struct {
				Hash        digest `json:"hash"`
				PayloadHash digest `json:"payloadHash"`
			} `json:"content"`
			PublicKey string `json:"publicKey"`
		} `json:"spec"`
	}
	if err := strict.Unmarshal(body, maxCanonicalBody, &entry); err != nil {
		return err
	}
	for _, h := range []struct {
		what    string
		got     digest
		content []byte
	}{{"envelope", entry.Spec.Content.Hash, envelope}, {"payload", entry.Spec.Content.PayloadHash, payload}} {
		sum := sha256.Sum256(h.content)
		if want := (digest{"sha256", hex.EncodeToString(sum[:])}); h.got != want {
			return fmt.Errorf("%s: got %s:%s, want %s:%s", h.what, h.got.Algorithm, h.got.Value, want.Algorithm, want.Value)
		}
	}
	key, err := base64.StdEncoding.DecodeString(entry.Spec.PublicKey)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	logged, err := onePEM(key)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if !bytes.Equal(logged, der) {
		return errors.New("it is about another certificate")
	}
	return nil
}
