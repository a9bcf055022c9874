package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/colophon-build/colophon/internal/strict"
)

// record is the content of an entry of a Rekor v1 log: what was signed, and by whom.
// It is not verified. Entries of Rekor v2 logs are compared with recordV2 instead.
type record struct {
	OfPayload bool   // Digest is that of the envelope's payload; otherwise that of the signed bytes
	Algorithm string // of Digest, such as "sha256"
	Digest    []byte
	Signature []byte
	Signer    []byte // DER of a certificate or of a public key (SubjectPublicKeyInfo)
}

// hashValue is a digest in the body of a Rekor v1 entry.
type hashValue struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"` // hex
}

// parseRecord reads the body of an entry of kind hashedrekord 0.0.1, dsse 0.0.1
// or intoto 0.0.2 (sigstore/rekor, pkg/types).
func parseRecord(body []byte) (*record, error) {
	kind, err := bodyKind(body)
	if err != nil {
		return nil, err
	}
	r := new(record)
	var digest hashValue
	var pemSigner []byte
	switch kind {
	case [2]string{"hashedrekord", "0.0.1"}:
		var b struct {
			Spec struct {
				Data struct {
					Hash hashValue `json:"hash"`
				} `json:"data"`
				Signature struct {
					Content   []byte `json:"content"`
					PublicKey struct {
						Content []byte `json:"content"`
					} `json:"publicKey"`
				} `json:"signature"`
			} `json:"spec"`
		}
		err = strict.Unmarshal(body, maxCanonicalBody, &b)
		digest, r.Signature, pemSigner = b.Spec.Data.Hash, b.Spec.Signature.Content, b.Spec.Signature.PublicKey.Content
	case [2]string{"dsse", "0.0.1"}:
		type signature struct {
			Signature []byte `json:"signature"`
			Verifier  []byte `json:"verifier"`
		}
		var b struct {
			Spec struct {
				PayloadHash hashValue   `json:"payloadHash"`
				Signatures  []signature `json:"signatures"`
			} `json:"spec"`
		}
		if err = strict.Unmarshal(body, maxCanonicalBody, &b); err == nil && len(b.Spec.Signatures) != 1 {
			err = fmt.Errorf("got %d signatures, want 1", len(b.Spec.Signatures))
		}
		if err == nil {
			s := b.Spec.Signatures[0]
			digest, r.OfPayload, r.Signature, pemSigner = b.Spec.PayloadHash, true, s.Signature, s.Verifier
		}
	case [2]string{"intoto", "0.0.2"}:
		type signature struct {
			Sig       []byte `json:"sig"` // base64 of the base64 of the signature
			PublicKey []byte `json:"publicKey"`
		}
		var b struct {
			Spec struct {
				Content struct {
					Envelope struct {
						Signatures []signature `json:"signatures"`
					} `json:"envelope"`
					PayloadHash hashValue `json:"payloadHash"`
				} `json:"content"`
			} `json:"spec"`
		}
		if err = strict.Unmarshal(body, maxCanonicalBody, &b); err == nil && len(b.Spec.Content.Envelope.Signatures) != 1 {
			err = fmt.Errorf("got %d signatures, want 1", len(b.Spec.Content.Envelope.Signatures))
		}
		if err == nil {
			s := b.Spec.Content.Envelope.Signatures[0]
			digest, r.OfPayload, pemSigner = b.Spec.Content.PayloadHash, true, s.PublicKey
			r.Signature, err = base64.StdEncoding.Strict().DecodeString(string(s.Sig))
		}
	default:
		err = fmt.Errorf("kind: got %q %q, want one that contains digest, signature and signer", kind[0], kind[1])
	}
	if err != nil {
		return nil, err
	}
	return r, r.fill(digest, pemSigner)
}

// fill sets digest and signer of r, and checks that nothing is missing.
func (r *record) fill(digest hashValue, pemSigner []byte) error {
	var err error
	if r.Digest, err = hex.DecodeString(digest.Value); err != nil || len(r.Digest) == 0 || digest.Algorithm == "" {
		return fmt.Errorf("digest: got %q %q, want an algorithm and hex", digest.Algorithm, digest.Value)
	}
	r.Algorithm = digest.Algorithm
	if len(r.Signature) == 0 {
		return errors.New("the signature is missing")
	}
	block, rest := pem.Decode(pemSigner)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 || block.Type != "CERTIFICATE" && block.Type != "PUBLIC KEY" {
		return errors.New("want one certificate or public key in PEM")
	}
	r.Signer = block.Bytes
	return nil
}

// recordV2 returns the body of the entry of kind hashedrekord 0.0.2 for a signature:
// canonical JSON (rekor-tiles, RFC 8785). There is only one such body, and the leaf of
// the log is its hash. algorithm and keyDetails are names of Sigstore's protobuf
// enumerations ("SHA2_256", "PKIX_ECDSA_P256_SHA_256"). signer is the DER of a
// certificate or, if isKey is true, of a public key (SubjectPublicKeyInfo).
func recordV2(algorithm string, digest, signature []byte, keyDetails string, signer []byte, isKey bool) []byte {
	member := "x509Certificate"
	if isKey {
		member = "publicKey"
	}
	// No value needs escaping. "keyDetails" sorts before both names of the last member.
	b64 := base64.StdEncoding.AppendEncode
	body := make([]byte, 0, 512+(len(digest)+len(signature)+len(signer))*3/2)
	body = append(body, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`+algorithm+`","digest":"`...)
	body = append(b64(body, digest), `"},"signature":{"content":"`...)
	body = append(b64(body, signature), `","verifier":{"keyDetails":"`+keyDetails+`","`+member+`":{"rawBytes":"`...)
	return append(b64(body, signer), `"}}}}}}`...)
}
