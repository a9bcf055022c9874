// Package notation verifies signatures in the formats of the Notary Project, which the tool
// notation writes: JWS and COSE envelopes
// (github.com/notaryproject/specifications, signature-specification.md), under a trust policy
// (trust-store-trust-policy.md) of the level strict.
//
// It is stricter than these specifications in some things: no member of a JSON document may be
// there twice or in another case; a certificate with a critical extension that nobody here
// knows is refused, and so is one whose extended key usages lack code signing; there are no
// plugins, so that no signature that asks for one passes; and the package asks no server
// whether a certificate was revoked: see TrustPolicy.
package notation

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	core "github.com/notaryproject/notation-core-go/signature"
	"github.com/notaryproject/notation-core-go/signature/cose"
	"github.com/notaryproject/notation-core-go/signature/jws"
	gocose "github.com/veraison/go-cose"

	"github.com/colophon-build/colophon/internal/strict"
)

// ArtifactType is the type of a manifest that has a signature, as its one layer.
const ArtifactType = "application/vnd.cncf.notary.signature"

// Media types of envelopes.
const (
	JWS  = jws.MediaTypeEnvelope
	COSE = cose.MediaTypeEnvelope
)

// payloadType is the content type of what is signed.
const payloadType = "application/vnd.cncf.notary.payload.v1+json"

// MaxEnvelope limits the size of an envelope in bytes.
const MaxEnvelope = 256 << 10

const (
	maxChain       = 10
	maxCertificate = 16 << 10 // bytes of one certificate
	maxToken       = 16 << 10 // bytes of a timestamp
	maxModulus     = 8192     // bits of an RSA key
)

// Signature is a signature whose envelope is intact: the first certificate of Chain signed
// Target. Nothing says yet that Chain is trusted.
type Signature struct {
	Target  v1.Descriptor       // what was signed
	Chain   []*x509.Certificate // 1 to 10: the signer's first; the last one is self-signed
	Scheme  Scheme
	Signed  time.Time // when it was signed, says the signer
	Expires time.Time // from then on the signer wants it to count no more; zero: never

	signature []byte
	token     []byte // timestamp (RFC 3161) over the signature, or nil
}

// Scheme says which trust store must have a certificate of the chain.
type Scheme string

// The schemes (signing-scheme.md).
const (
	X509             Scheme = "notary.x509"                  // a store of the type ca
	SigningAuthority Scheme = "notary.x509.signingAuthority" // a store of the type signingAuthority: it vouches for the time of signing
)

// Peek returns the certificates of an envelope. It verifies nothing.
func Peek(mediaType string, raw []byte) ([]*x509.Certificate, error) {
	if len(raw) > MaxEnvelope {
		return nil, fmt.Errorf("notation: envelope: got %d bytes, want at most %d", len(raw), MaxEnvelope)
	}
	var chain [][]byte
	var err error
	switch mediaType {
	case JWS:
		chain, err = peekJWS(raw)
	case COSE:
		chain, err = peekCOSE(raw)
	default:
		err = fmt.Errorf("envelope: got the type %q, want %s or %s", mediaType, JWS, COSE)
	}
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	certs, err := parseChain(chain)
	if err != nil {
		return nil, fmt.Errorf("notation: certificate: %w", err)
	}
	return certs, nil
}

// Parse parses an envelope of at most MaxEnvelope bytes, and verifies that the first of its
// certificates signed it, and each of its certificates the one before it.
func Parse(mediaType string, raw []byte) (*Signature, error) {
	// The library would verify signatures by keys of any size, and any number of them.
	if _, err := Peek(mediaType, raw); err != nil {
		return nil, err
	}
	envelope, err := core.ParseEnvelope(mediaType, raw)
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	content, err := envelope.Verify()
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	s, err := read(content)
	if err != nil {
		return nil, fmt.Errorf("notation: %w", err)
	}
	return s, nil
}

// jwsEnvelope is the flattened JSON form (signature-envelope-jws.md).
type jwsEnvelope struct {
	Payload   string    `json:"payload"`
	Protected string    `json:"protected"`
	Header    jwsHeader `json:"header"`
	Signature string    `json:"signature"`
}

// jwsHeader is not signed.
type jwsHeader struct {
	Chain     [][]byte `json:"x5c"`
	Timestamp []byte   `json:"io.cncf.notary.timestampSignature"`
	Agent     string   `json:"io.cncf.notary.signingAgent"`
}

// jwsProtected names the headers that mean something, for a strict reading.
type jwsProtected struct {
	Algorithm     string   `json:"alg"`
	ContentType   string   `json:"cty"`
	Critical      []string `json:"crit"`
	Expiry        string   `json:"io.cncf.notary.expiry"`
	Scheme        string   `json:"io.cncf.notary.signingScheme"`
	Time          string   `json:"io.cncf.notary.signingTime"`
	AuthenticTime string   `json:"io.cncf.notary.authenticSigningTime"`
}

// peekJWS returns the certificates, and fails if another reader could understand the envelope
// differently.
func peekJWS(raw []byte) ([][]byte, error) {
	var e jwsEnvelope
	if err := strict.UnmarshalKnown(raw, MaxEnvelope, &e); err != nil {
		return nil, fmt.Errorf("JWS: %w", err)
	}
	protected, err := base64.RawURLEncoding.Strict().DecodeString(e.Protected)
	if err == nil {
		err = strict.Unmarshal(protected, MaxEnvelope, new(jwsProtected))
	}
	if err != nil {
		return nil, fmt.Errorf("JWS: protected header: %w", err)
	}
	return e.Header.Chain, nil
}

// peekCOSE returns the certificates of a COSE_Sign1 message (signature-envelope-cose.md). Its
// decoder refuses maps with a label twice.
func peekCOSE(raw []byte) ([][]byte, error) {
	var message gocose.Sign1Message
	if err := message.UnmarshalCBOR(raw); err != nil {
		return nil, fmt.Errorf("COSE: %w", err)
	}
	list, ok := message.Headers.Unprotected[gocose.HeaderLabelX5Chain].([]any)
	if !ok {
		return nil, errors.New("COSE: there is no list of certificates")
	}
	var chain [][]byte
	for _, c := range list {
		der, ok := c.([]byte)
		if !ok {
			return nil, fmt.Errorf("COSE: certificate: got a %T, want bytes", c)
		}
		chain = append(chain, der)
	}
	return chain, nil
}

func parseChain(chain [][]byte) (certs []*x509.Certificate, err error) {
	if n := len(chain); n == 0 || n > maxChain {
		return nil, fmt.Errorf("got %d, want 1 to %d", n, maxChain)
	}
	for _, der := range chain {
		if len(der) > maxCertificate {
			return nil, fmt.Errorf("got %d bytes, want at most %d", len(der), maxCertificate)
		}
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = checkKey(c)
		}
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// checkKey refuses keys whose use takes long.
func checkKey(c *x509.Certificate) error {
	if k, ok := c.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxModulus {
		return fmt.Errorf("RSA key of %d bits, want at most %d", k.N.BitLen(), maxModulus)
	}
	return nil
}

// read reads what was signed, and refuses what this package does not know.
func read(content *core.EnvelopeContent) (*Signature, error) {
	info := &content.SignerInfo
	if content.Payload.ContentType != payloadType {
		return nil, fmt.Errorf("content type: got %q, want %s", content.Payload.ContentType, payloadType)
	}
	var payload struct {
		Target v1.Descriptor `json:"targetArtifact"`
	}
	if err := strict.UnmarshalKnown(content.Payload.Content, MaxEnvelope, &payload); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	for _, a := range info.SignedAttributes.ExtendedAttributes {
		if a.Critical {
			return nil, fmt.Errorf("critical attribute: got %q, which is not known here (plugins are not supported)", fmt.Sprint(a.Key))
		}
	}
	s := &Signature{
		Target: payload.Target, Chain: info.CertificateChain, Scheme: Scheme(info.SignedAttributes.SigningScheme),
		Signed: info.SignedAttributes.SigningTime.UTC(), Expires: info.SignedAttributes.Expiry,
		signature: info.Signature, token: info.UnsignedAttributes.TimestampSignature,
	}
	switch {
	case s.Scheme != X509 && s.Scheme != SigningAuthority:
		return nil, fmt.Errorf("signing scheme: got %q, want %s or %s", s.Scheme, X509, SigningAuthority)
	case len(s.token) > maxToken:
		return nil, fmt.Errorf("timestamp: got %d bytes, want at most %d", len(s.token), maxToken)
	}
	return s, nil
}

// Signer returns the subject of the certificate that signed, as in RFC 2253.
func (s *Signature) Signer() string { return s.Chain[0].Subject.String() }

// Authority returns the subject of the last certificate of the chain.
func (s *Signature) Authority() string { return s.Chain[len(s.Chain)-1].Subject.String() }

// Size estimates how much memory the signature takes, in bytes. A certificate takes several
// times its encoded size.
func (s *Signature) Size() int64 {
	n := int64(4<<10 + len(s.signature) + len(s.token))
	for _, c := range s.Chain {
		n += 4 * int64(len(c.Raw))
	}
	return n
}

// Fingerprint identifies a certificate: its SHA-256.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint { return sha256.Sum256(c.Raw) }
