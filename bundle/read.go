package bundle

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/trust"
)

// githubServer is where the repository in GitHub's first extension may be.
const githubServer = "https://github.com"

// maxSigners is the limit of the signers of one entry of a log.
const maxSigners = 64

// LogEntry is what an entry of a Rekor log says was signed, and by whom. Nothing of it is
// verified here. A Rekor log verifies the signature, and no certificate.
type LogEntry struct {
	Kind, Version string
	Digests       []string      // ALGORITHM:hex of what was signed, or of its payload; SHA-256 is "sha256"
	Signers       []EntrySigner // at least one
}

// EntrySigner is a signer in an entry. All names are those that any reader could see:
// a certificate can have several.
type EntrySigner struct {
	Certificate *x509.Certificate // nil: a key signed
	Fingerprint string            // sha256:hex of the certificate, or of the public key (SubjectPublicKeyInfo), in DER
	Names       []string          // subject alternative names
	Issuers     []string          // OIDC issuers
	Sources     []string          // URIs of the source repository
	Extensions  certificate.Extensions
}

// ParseEntry reads the body of an entry: hashedrekord and dsse 0.0.2 of Rekor v2, and
// hashedrekord 0.0.1, dsse 0.0.1 and intoto 0.0.2 of Rekor v1.
func ParseEntry(body []byte) (*LogEntry, error) {
	kind, err := bodyKind(body)
	if err != nil {
		return nil, err
	}
	e := &LogEntry{Kind: kind[0], Version: kind[1]}
	if kind[1] != "0.0.2" || kind[0] == "intoto" {
		r, err := parseRecord(body)
		if err != nil {
			return nil, err
		}
		e.Digests = []string{r.Algorithm + ":" + hex.EncodeToString(r.Digest)}
		var isKey bool
		if _, err := x509.ParsePKIXPublicKey(r.Signer); err == nil {
			isKey = true
		}
		return e, e.add(r.Signer, isKey)
	}
	var b struct {
		Spec struct {
			Record *struct {
				Data      protoDigest    `json:"data"`
				Signature protoSignature `json:"signature"`
			} `json:"hashedRekordV002"`
			DSSE *struct {
				PayloadHash protoDigest      `json:"payloadHash"`
				Signatures  []protoSignature `json:"signatures"`
			} `json:"dsseV002"`
		} `json:"spec"`
	}
	if err := strict.Unmarshal(body, maxCanonicalBody, &b); err != nil {
		return nil, err
	}
	var digest protoDigest
	var signatures []protoSignature
	switch {
	case kind[0] == "hashedrekord" && b.Spec.Record != nil && b.Spec.DSSE == nil:
		digest, signatures = b.Spec.Record.Data, []protoSignature{b.Spec.Record.Signature}
	case kind[0] == "dsse" && b.Spec.DSSE != nil && b.Spec.Record == nil:
		digest, signatures = b.Spec.DSSE.PayloadHash, b.Spec.DSSE.Signatures
	default:
		return nil, fmt.Errorf("kind: got %q %q, want hashedrekord or dsse with its content", kind[0], kind[1])
	}
	name, known := protoAlgorithms[digest.Algorithm]
	if !known || len(digest.Digest) == 0 {
		return nil, fmt.Errorf("digest: got algorithm %q and %d bytes", digest.Algorithm, len(digest.Digest))
	}
	e.Digests = []string{name + ":" + hex.EncodeToString(digest.Digest)}
	if len(signatures) == 0 || len(signatures) > maxSigners {
		return nil, fmt.Errorf("got %d signatures, want 1 to %d", len(signatures), maxSigners)
	}
	for _, s := range signatures {
		v := s.Verifier
		if (v.Certificate == nil) == (v.Key == nil) {
			return nil, errors.New("signer: want a certificate or a public key")
		}
		if v.Key != nil {
			err = e.add(v.Key.Bytes, true)
		} else {
			err = e.add(v.Certificate.Bytes, false)
		}
		if err != nil {
			return nil, err
		}
	}
	return e, nil
}

// protoAlgorithms are the names that Sigstore's protobuf-specs give to hash algorithms.
var protoAlgorithms = map[string]string{
	"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512", "SHA3_256": "sha3-256", "SHA3_384": "sha3-384",
}

type protoDigest struct {
	Algorithm string `json:"algorithm"`
	Digest    []byte `json:"digest"`
}

type rawBytes struct {
	Bytes []byte `json:"rawBytes"`
}

type protoSignature struct {
	Verifier struct {
		Certificate *rawBytes `json:"x509Certificate"`
		Key         *rawBytes `json:"publicKey"`
	} `json:"verifier"`
}

// add adds a signer, of which der is the certificate or the key.
func (e *LogEntry) add(der []byte, isKey bool) error {
	sum := sha256.Sum256(der)
	s := EntrySigner{Fingerprint: "sha256:" + hex.EncodeToString(sum[:])}
	if isKey {
		if _, err := x509.ParsePKIXPublicKey(der); err != nil {
			return errors.New("signer: its public key cannot be read")
		}
		e.Signers = append(e.Signers, s)
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return errors.New("signer: its certificate cannot be read")
	}
	s.Certificate = cert
	for _, u := range cert.URIs {
		s.Names = append(s.Names, u.String())
	}
	s.Names = append(append(s.Names, cert.EmailAddresses...), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		s.Names = append(s.Names, ip.String())
	}
	if hasOtherName(cert) {
		name, err := cryptoutils.UnmarshalOtherNameSAN(cert.Extensions)
		if err != nil {
			return errors.New("signer: a name in its certificate cannot be read")
		}
		s.Names = append(s.Names, name)
	}
	if s.Extensions, err = certificate.ParseExtensions(cert.Extensions); err != nil {
		return errors.New("signer: the extensions of its certificate are not those of Sigstore")
	}
	for _, x := range cert.Extensions {
		var text string
		switch {
		//lint:ignore SA1019 deprecated, but certificates have it
		case x.Id.Equal(certificate.OIDIssuer):
			s.Issuers = append(s.Issuers, string(x.Value))
		case x.Id.Equal(certificate.OIDIssuerV2):
			if certificate.ParseDERString(x.Value, &text) == nil {
				s.Issuers = append(s.Issuers, text)
			}
		case x.Id.Equal(certificate.OIDSourceRepositoryURI):
			if certificate.ParseDERString(x.Value, &text) == nil {
				s.Sources = append(s.Sources, text)
			}
		//lint:ignore SA1019 deprecated, but certificates have it
		case x.Id.Equal(certificate.OIDGitHubWorkflowRepository):
			s.Sources = append(s.Sources, githubServer+"/"+string(x.Value))
			for _, name := range s.Names { // with data residency, the server is another one
				if w, err := trust.ParseWorkflow(name); err == nil {
					s.Sources = append(s.Sources, w.Server()+"/"+string(x.Value))
				}
			}
		}
	}
	slices.Sort(s.Issuers) // certificates have both extensions
	s.Issuers = slices.Compact(s.Issuers)
	slices.Sort(s.Sources)
	s.Sources = slices.Compact(s.Sources)
	e.Signers = append(e.Signers, s)
	return nil
}

// Issued reports whether a certificate authority of the trust root issued the signer's
// certificate. Anybody can log a signature with a certificate of their own, in which any
// name stands.
func (s *EntrySigner) Issued(material root.TrustedMaterial) bool {
	if s.Certificate == nil {
		return false
	}
	cert := withKnownName(s.Certificate)
	for _, ca := range material.FulcioCertificateAuthorities() {
		if _, err := ca.Verify(cert, cert.NotBefore); err == nil {
			return true
		}
	}
	return false
}

// hasOtherName reports whether a subject alternative name of cert has the form OtherName
// (RFC 5280, 4.2.1.6), which crypto/x509 skips.
func hasOtherName(cert *x509.Certificate) bool {
	for _, x := range cert.Extensions {
		if !x.Id.Equal(oidSAN) {
			continue
		}
		var names cryptobyte.String
		for san := cryptobyte.String(x.Value); san.ReadASN1(&names, asn1.SEQUENCE); {
			var name cryptobyte.String
			var tag asn1.Tag
			for names.ReadAnyASN1(&name, &tag) {
				if tag == asn1.Tag(0).ContextSpecific().Constructed() {
					return true
				}
			}
		}
	}
	return false
}
