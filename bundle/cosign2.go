package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

const (
	simpleSigningType      = "cosign container image signature" // containers/image, docs/containers-signature.5.md, and cosign's type
	bundle01MediaType      = "application/vnd.dev.sigstore.bundle+json;version=0.1"
	maxCosign2BundleLength = 128 << 10
	maxCosign2Payload      = 64 << 10 // bytes of a simple signing payload; usual is 300
)

type envelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signatures  []struct {
		KeyID string `json:"keyid"`
		Sig   []byte `json:"sig"`
		Cert  string `json:"cert"` // PEM; written by slsa-github-generator before it wrote bundles
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

// ParseCosign2 reads an attestation that cosign v2 attached to an image: raw is the
// layer, a DSSE envelope, and annotations are those of the layer (see
// attest.Cosign2Bundle). Its log entry, if any, has the inclusion promise of a Rekor
// v1 log and no inclusion proof. Only here the entry may be of kind intoto 0.0.1.
func ParseCosign2(raw []byte, annotations map[string]string) (*Bundle, error) {
	var env envelope
	if err := strict.Unmarshal(raw, limits.Bundle, &env); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	m, err := parseCosign2Material(annotations)
	if err != nil {
		return nil, err
	}
	return m.bundle(&env, raw)
}

// IsEnvelope reports whether raw is the JSON of a DSSE envelope and not of a Sigstore
// bundle.
func IsEnvelope(raw []byte) bool {
	var head struct {
		MediaType   string `json:"mediaType"`
		PayloadType string `json:"payloadType"`
	}
	return strict.Unmarshal(raw, limits.Bundle, &head) == nil && head.MediaType == "" && head.PayloadType != ""
}

// ParseEnvelope reads a DSSE envelope that is not part of a bundle, such as a line of
// an old *.intoto.jsonl file. A key signed it, or the envelope contains the
// certificate. It has no log entry and no timestamp.
func ParseEnvelope(raw []byte) (*Bundle, error) {
	var env envelope
	if err := strict.Unmarshal(raw, limits.Bundle, &env); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	m := new(cosign2Material)
	if len(env.Signatures) == 1 && env.Signatures[0].Cert != "" {
		var err error
		if m.der, err = onePEM([]byte(env.Signatures[0].Cert)); err != nil {
			return nil, fmt.Errorf("envelope: certificate: %w", err)
		}
	}
	return m.bundle(&env, raw)
}

// bundle combines envelope and material into a Bundle. raw is the envelope's JSON.
func (m *cosign2Material) bundle(env *envelope, raw []byte) (*Bundle, error) {
	signed := &dssepb.Envelope{Payload: env.Payload, PayloadType: env.PayloadType}
	for _, s := range env.Signatures {
		signed.Signatures = append(signed.Signatures, &dssepb.Signature{Sig: s.Sig, Keyid: s.KeyID})
	}
	pb := m.proto()
	pb.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: signed}
	if m.entry == nil || m.kind != intoto001 {
		return newBundle(pb)
	}
	if m.der == nil {
		return nil, errors.New("log entry: kind intoto 0.0.1 requires a certificate, but a key signed")
	}
	b := &Bundle{Proto: pb, Entries: pb.VerificationMaterial.TlogEntries, bound: m.entry}
	if err := b.parseContent(); err != nil {
		return nil, err
	}
	if err := b.parseSigner(); err != nil {
		return nil, err
	}
	if err := bindIntoto001(m.entry.GetCanonicalizedBody(), raw, env.Payload, m.der); err != nil {
		return nil, fmt.Errorf("log entry: %w", err)
	}
	return b, nil
}

// ParseCosign2Signature reads a signature that cosign v2 attached to an image: payload
// is the layer, in the simple signing format, and annotations are those of the layer
// (see attest.Cosign2Signature). The signature covers the payload. The payload names
// the image: Bundle.Image.
func ParseCosign2Signature(payload []byte, annotations map[string]string) (*Bundle, error) {
	image, err := parseSimpleSigning(payload)
	if err != nil {
		return nil, err
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(annotations[attest.Cosign2Signature])
	if err != nil || len(sig) == 0 {
		return nil, fmt.Errorf("annotation %s: want a signature in base64", attest.Cosign2Signature)
	}
	m, err := parseCosign2Material(annotations)
	if err != nil {
		return nil, err
	}
	pb := m.proto()
	sum := sha256.Sum256(payload)
	pb.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
		MessageDigest: &commonpb.HashOutput{Algorithm: commonpb.HashAlgorithm_SHA2_256, Digest: sum[:]}, Signature: sig,
	}}
	b, err := newBundle(pb)
	if err != nil {
		return nil, err
	}
	b.Payload, b.Image = payload, image
	return b, nil
}

// IsSimpleSigning reports whether raw is a payload that cosign v2 signs.
func IsSimpleSigning(raw []byte) bool {
	_, err := parseSimpleSigning(raw)
	return err == nil
}

// SimpleSigning returns the payload that cosign v2 signs, without annotations of its user, for the
// image with a digest in a repository, HOST/NAME. Whoever knows these bytes need not fetch a layer
// that has their digest.
func SimpleSigning(repository string, image v1.Hash) []byte {
	if name, hub := strings.CutPrefix(repository, "docker.io/"); hub {
		repository = "index.docker.io/" + name
	}
	name, err := json.Marshal(repository)
	if err != nil {
		return nil // strings always marshal
	}
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%s},"image":{"docker-manifest-digest":%q},"type":%q},"optional":null}`, name, image.String(), simpleSigningType)
}

// parseSimpleSigning returns the digest of the image that a simple signing payload
// names. It fails for unknown members of "critical", as the specification demands, and
// ignores "optional".
func parseSimpleSigning(payload []byte) (string, error) {
	var outer struct {
		Critical jsontext.Value `json:"critical"`
	}
	if err := strict.Unmarshal(payload, maxCosign2Payload, &outer); err != nil {
		return "", fmt.Errorf("simple signing payload: %w", err)
	}
	var critical struct {
		Type     string `json:"type"`
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
	}
	if err := strict.UnmarshalKnown(outer.Critical, maxCosign2Payload, &critical); err != nil {
		return "", fmt.Errorf("simple signing payload: critical: %w", err)
	}
	if critical.Type != simpleSigningType {
		return "", fmt.Errorf("simple signing payload: type: got %q, want %q", critical.Type, simpleSigningType)
	}
	hexDigest, ok := strings.CutPrefix(critical.Image.Digest, "sha256:")
	if raw, err := hex.DecodeString(hexDigest); !ok || err != nil || len(raw) != sha256.Size || hexDigest != strings.ToLower(hexDigest) {
		return "", fmt.Errorf("simple signing payload: image: got %q, want sha256: and 64 hex digits", critical.Image.Digest)
	}
	return critical.Image.Digest, nil
}

// cosign2Material is the content of the annotations.
type cosign2Material struct {
	der       []byte                           // certificate; nil if a key signed
	entry     *rekorpb.TransparencyLogEntry    // may be nil
	kind      [2]string                        // of entry
	timestamp *commonpb.RFC3161SignedTimestamp // may be nil
}

func parseCosign2Material(annotations map[string]string) (*cosign2Material, error) {
	m := new(cosign2Material)
	var err error
	if cert, ok := annotations[attest.Cosign2Certificate]; ok {
		if m.der, err = onePEM([]byte(cert)); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", attest.Cosign2Certificate, err)
		}
	}
	if promise, ok := annotations[attest.Cosign2Bundle]; ok {
		if m.entry, m.kind, err = parseCosign2Entry([]byte(promise)); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", attest.Cosign2Bundle, err)
		}
	}
	if stamp, ok := annotations[attest.Cosign2Timestamp]; ok {
		var t struct{ SignedRFC3161Timestamp []byte }
		if err := strict.Unmarshal([]byte(stamp), 2*maxTimestamp, &t); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", attest.Cosign2Timestamp, err)
		}
		m.timestamp = &commonpb.RFC3161SignedTimestamp{SignedTimestamp: t.SignedRFC3161Timestamp}
	}
	return m, nil
}

// proto returns the material as part of a bundle v0.1.
func (m *cosign2Material) proto() *protobundle.Bundle {
	material := &protobundle.VerificationMaterial{Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{}}}
	if m.der != nil {
		material.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &commonpb.X509CertificateChain{
			Certificates: []*commonpb.X509Certificate{{RawBytes: m.der}}}}
	}
	if m.entry != nil {
		material.TlogEntries = []*rekorpb.TransparencyLogEntry{m.entry}
	}
	if m.timestamp != nil {
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{Rfc3161Timestamps: []*commonpb.RFC3161SignedTimestamp{m.timestamp}}
	}
	return &protobundle.Bundle{MediaType: bundle01MediaType, VerificationMaterial: material}
}

func onePEM(raw []byte) ([]byte, error) {
	if len(raw) > 2*maxCertificate {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(raw), 2*maxCertificate)
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
		return nil, kind, errors.New("log ID, index, time or inclusion promise is missing or malformed")
	}
	return &rekorpb.TransparencyLogEntry{
		LogIndex: b.Payload.LogIndex, LogId: &commonpb.LogId{KeyId: id}, IntegratedTime: b.Payload.IntegratedTime,
		KindVersion:       &rekorpb.KindVersion{Kind: kind[0], Version: kind[1]},
		InclusionPromise:  &rekorpb.InclusionPromise{SignedEntryTimestamp: b.SignedEntryTimestamp},
		CanonicalizedBody: b.Payload.Body,
	}, kind, nil
}

// intoto001 is a kind of log entry that contains the digest of the envelope's JSON.
// Only cosign v2 keeps that JSON byte for byte.
var intoto001 = [2]string{"intoto", "0.0.1"}

// bindIntoto001 fails unless a log entry of kind intoto 0.0.1 contains the digests of
// this envelope and payload, and this certificate.
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
		return errors.New("it contains another certificate")
	}
	return nil
}
