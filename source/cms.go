package source

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/colophon-build/colophon/attest"
)

var (
	oidSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	oidMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidECDSA         = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} // with SHA-256
	// The attribute in which gitsign stores a Rekor TransparencyLogEntry, in its mode "offline".
	oidLogEntry = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 3, 1}
)

// cmsSignature is a detached CMS signature (RFC 5652) in the form that gitsign makes:
// DER, one signer, SHA-256, signed attributes.
type cmsSignature struct {
	attributes  []byte // the signed bytes
	signature   []byte
	certificate *x509.Certificate
	entry       *protorekor.TransparencyLogEntry // nil if there is none
}

// cmsAttribute is RFC 5652's Attribute (section 5.3).
type cmsAttribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.RawValue `asn1:"set"`
}

// cmsSigner is RFC 5652's SignerInfo (section 5.3).
type cmsSigner struct {
	Version   int
	ID        asn1.RawValue
	Digest    pkix.AlgorithmIdentifier
	Signed    asn1.RawValue `asn1:"tag:0"`
	Algorithm pkix.AlgorithmIdentifier
	Signature []byte
	Unsigned  asn1.RawValue `asn1:"optional,tag:1"`
}

// parseCMS reads a signature of payload, and fails unless the key of the certificate in
// it made the signature. The caller must check whose certificate it is.
func parseCMS(armored, payload []byte) (*cmsSignature, error) {
	block, rest := pem.Decode(armored)
	if block == nil || block.Type != "SIGNED MESSAGE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("want one PEM block \"SIGNED MESSAGE\"")
	}
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version int
			Digests []pkix.AlgorithmIdentifier `asn1:"set"`
			Content struct {
				Type    asn1.ObjectIdentifier
				Content asn1.RawValue `asn1:"optional,explicit,tag:0"`
			}
			Certificates asn1.RawValue `asn1:"optional,tag:0"`
			Revocations  asn1.RawValue `asn1:"optional,tag:1"`
			Signers      []cmsSigner   `asn1:"set"`
		} `asn1:"explicit,tag:0"`
	}
	if err := unmarshalDER(block.Bytes, &outer); err != nil {
		return nil, err
	}
	data := outer.Content
	if !outer.Type.Equal(oidSignedData) || len(data.Revocations.FullBytes) > 0 || !data.Content.Type.Equal(oidData) || len(data.Content.Content.FullBytes) > 0 || len(data.Signers) != 1 {
		return nil, fmt.Errorf("got %d signers of type %s, want a detached signature by one signer", len(data.Signers), outer.Type)
	}
	signer := data.Signers[0]
	for _, a := range append(data.Digests, signer.Digest) {
		if !a.Algorithm.Equal(oidSHA256) {
			return nil, fmt.Errorf("digest algorithm: got %s, want SHA-256", a.Algorithm)
		}
	}
	if data.Version != 1 || signer.Version != 1 || !signer.Algorithm.Algorithm.Equal(oidECDSA) {
		return nil, fmt.Errorf("got versions %d and %d, algorithm %s, want 1, 1 and ECDSA with SHA-256", data.Version, signer.Version, signer.Algorithm.Algorithm)
	}
	// RFC 5652, section 5.4: the signature covers the attributes with the tag SET OF,
	// not with the tag that they have here.
	c := &cmsSignature{attributes: bytes.Clone(signer.Signed.FullBytes), signature: signer.Signature}
	c.attributes[0] = asn1.TagSet | 0x20
	if err := c.checkAttributes(payload); err != nil {
		return nil, err
	}
	if err := c.findCertificate(data.Certificates.Bytes, signer.ID); err != nil {
		return nil, err
	}
	if err := c.certificate.CheckSignature(x509.ECDSAWithSHA256, c.attributes, c.signature); err != nil {
		return nil, err
	}
	return c, c.parseEntry(signer.Unsigned)
}

// unmarshalDER is asn1.Unmarshal, but fails for trailing data.
func unmarshalDER(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow", len(rest))
	}
	return err
}

// checkAttributes checks that the signed attributes contain content type and digest of
// payload. Each of them must be there once, with one value.
func (c *cmsSignature) checkAttributes(payload []byte) error {
	var attributes []cmsAttribute
	if rest, err := asn1.UnmarshalWithParams(c.attributes, &attributes, "set"); err != nil || len(rest) > 0 {
		return fmt.Errorf("signed attributes: %v, %d bytes follow", err, len(rest))
	}
	var kind asn1.ObjectIdentifier
	if err := singleValue(attributes, oidContentType, &kind); err != nil || !kind.Equal(oidData) {
		return fmt.Errorf("content type: got %s, %v", kind, err)
	}
	var digest []byte
	if err := singleValue(attributes, oidMessageDigest, &digest); err != nil {
		return fmt.Errorf("message digest: %w", err)
	}
	if want := sha256.Sum256(payload); !bytes.Equal(digest, want[:]) {
		return fmt.Errorf("message digest: got %x, want %x", digest, want)
	}
	return nil
}

// singleValue reads the value of the attribute of a type. It fails unless there is
// exactly one.
func singleValue(attributes []cmsAttribute, kind asn1.ObjectIdentifier, v any) error {
	var found []asn1.RawValue
	for _, a := range attributes {
		if a.Type.Equal(kind) {
			found = append(found, a.Values...)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("got %d values, want 1", len(found))
	}
	return unmarshalDER(found[0].FullBytes, v)
}

// findCertificate finds the signer's certificate by issuer and serial number.
func (c *cmsSignature) findCertificate(certificates []byte, id asn1.RawValue) error {
	var want struct {
		Issuer asn1.RawValue
		Serial asn1.RawValue
	}
	if err := unmarshalDER(id.FullBytes, &want); err != nil {
		return fmt.Errorf("signer: %w", err)
	}
	list, err := x509.ParseCertificates(certificates)
	if err != nil {
		return err
	}
	for _, cert := range list {
		serial, err := asn1.Marshal(cert.SerialNumber)
		if err == nil && bytes.Equal(cert.RawIssuer, want.Issuer.FullBytes) && bytes.Equal(serial, want.Serial.FullBytes) {
			c.certificate = cert
			return nil
		}
	}
	return fmt.Errorf("the signer's certificate is not among the %d certificates of the signature", len(list))
}

// parseEntry reads the log entry from the unsigned attributes, if there is one.
func (c *cmsSignature) parseEntry(unsigned asn1.RawValue) error {
	if len(unsigned.FullBytes) == 0 {
		return nil
	}
	set := bytes.Clone(unsigned.FullBytes)
	set[0] = asn1.TagSet | 0x20
	var attributes []cmsAttribute
	if rest, err := asn1.UnmarshalWithParams(set, &attributes, "set"); err != nil || len(rest) > 0 {
		return fmt.Errorf("unsigned attributes: %v, %d bytes follow", err, len(rest))
	}
	there := false
	for _, a := range attributes {
		there = there || a.Type.Equal(oidLogEntry)
	}
	if !there {
		return nil
	}
	var raw []byte
	if err := singleValue(attributes, oidLogEntry, &raw); err != nil {
		return fmt.Errorf("log entry: %w", err)
	}
	c.entry = &protorekor.TransparencyLogEntry{}
	if err := proto.Unmarshal(raw, c.entry); err != nil {
		return fmt.Errorf("log entry: %w", err)
	}
	if len(c.entry.CanonicalizedBody) == 0 {
		c.entry.CanonicalizedBody = c.body()
	}
	return nil
}

// body returns the body of the log entry, which gitsign does not store: a hashedrekord
// v0.0.1 of this signature, in canonical JSON (RFC 8785).
func (c *cmsSignature) body() []byte {
	sum := sha256.Sum256(c.attributes)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw})
	return fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"%s"}},`+
		`"signature":{"content":"%s","publicKey":{"content":"%s"}}}}`,
		hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(c.signature), base64.StdEncoding.EncodeToString(cert))
}

// bundle returns the signature as a Sigstore bundle about the attributes.
func (c *cmsSignature) bundle() ([]byte, error) {
	sum := sha256.Sum256(c.attributes)
	return protojson.Marshal(&protobundle.Bundle{
		MediaType: attest.BundleMediaType,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
			MessageDigest: &protocommon.HashOutput{Algorithm: protocommon.HashAlgorithm_SHA2_256, Digest: sum[:]}, Signature: c.signature,
		}},
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: c.certificate.Raw}},
			TlogEntries: []*protorekor.TransparencyLogEntry{c.entry},
		},
	})
}
