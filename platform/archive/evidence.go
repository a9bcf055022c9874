package archive

import (
	"crypto"
	"encoding/hex"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/tlog"
)

// formOf returns the form of a layer, by its media type, or "" if it is no evidence. An
// envelope that cosign v2 attached has the rest of the evidence in annotations.
func formOf(mediaType string, annotations map[string]string) api.Form {
	_, cosign := annotations[attest.Cosign2Signature]
	switch {
	case attest.IsBundleMediaType(mediaType):
		return api.FormBundle
	case mediaType == attest.SimpleSigningMediaType:
		return api.FormCosignSignature
	case mediaType == attest.EnvelopeMediaType && cosign:
		return api.FormCosignAttestation
	case mediaType == attest.EnvelopeMediaType:
		return api.FormEnvelope
	case mediaType == attest.PayloadType:
		return api.FormStatement
	case mediaType == "application/jose+json" || mediaType == "application/cose":
		return api.FormNotation
	}
	return ""
}

// annotated reports whether content of the form is complete only with the annotations of
// its layer.
func annotated(f api.Form) bool {
	return f == api.FormCosignSignature || f == api.FormCosignAttestation
}

// said is what content says of itself, computed from its bytes.
type said struct {
	leaf     string   // hex; empty if there is no entry of Rekor v2 that could have it
	subjects []string // ALGORITHM:HEX
}

// read returns what content says. Content that cannot be parsed says nothing: it is kept
// as bytes.
func read(form api.Form, raw []byte, annotations map[string]string) (s said) {
	var b *bundle.Bundle
	var statement *attest.Statement
	var err error
	switch form {
	case api.FormBundle:
		b, err = bundle.Parse(raw)
	case api.FormCosignSignature:
		b, err = bundle.ParseCosign2Signature(raw, annotations)
	case api.FormCosignAttestation:
		b, err = bundle.ParseCosign2(raw, annotations)
	case api.FormEnvelope:
		b, err = bundle.ParseEnvelope(raw)
	case api.FormStatement:
		statement, err = attest.ParseAnyStatement(raw)
	}
	if err != nil {
		return s
	}
	switch {
	case b != nil:
		s.subjects, s.leaf = b.Digests(), leafOf(b)
	case statement != nil:
		s.subjects = (&bundle.Bundle{Statement: statement}).Digests()
	}
	return s
}

// leafOf returns the leaf hash of the entry that a Rekor v2 log has of the signature. It
// is computed from the signature, what it covers and the signer; if a key signed, that is
// the key in the bundle's entry whose record is that of the content.
func leafOf(b *bundle.Bundle) string {
	var signers []crypto.PublicKey
	if b.Certificate != nil {
		signers = append(signers, nil)
	} else {
		for _, e := range b.Entries {
			if key := bundle.RecordKey(e.GetCanonicalizedBody()); key != nil {
				signers = append(signers, key)
			}
		}
	}
	for _, key := range signers {
		record, err := b.Record(key)
		if err != nil || key != nil && !hasEntry(b, record) {
			continue
		}
		leaf := tlog.LeafHash(record)
		return hex.EncodeToString(leaf[:])
	}
	return ""
}

func hasEntry(b *bundle.Bundle, record []byte) bool {
	for _, e := range b.Entries {
		if string(e.GetCanonicalizedBody()) == string(record) {
			return true
		}
	}
	return false
}
