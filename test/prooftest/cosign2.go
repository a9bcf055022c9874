package prooftest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
)

// Holder signs as cosign v2 did: with a certificate of the platform, or with a key.
// The log's promises are those of Rekor v1.
type Holder struct {
	p           *Platform
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate // nil for a key
	Unlogged    bool              // omit the log's promise
	Timestamped bool              // add a timestamp of the timestamp authority
}

// Certified returns a holder with a certificate for id.
func (p *Platform) Certified(id Identity) *Holder {
	k := key(p.t)
	return &Holder{p: p, key: k, certificate: p.leaf(id, k)}
}

// KeyHolder returns a holder of a key without a certificate.
func (p *Platform) KeyHolder() *Holder { return &Holder{p: p, key: key(p.t)} }

// PublicKey returns the holder's public key in PEM.
func (h *Holder) PublicKey() []byte {
	spki, err := x509.MarshalPKIXPublicKey(h.key.Public())
	must(h.p.t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

// verifier returns what the log entry names as the signer, in PEM.
func (h *Holder) verifier() []byte {
	if h.certificate == nil {
		return h.PublicKey()
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.certificate.Raw})
}

func (h *Holder) sign(content []byte) []byte {
	sum := sha256.Sum256(content)
	sig, err := ecdsa.SignASN1(rand.Reader, h.key, sum[:])
	must(h.p.t, err)
	return sig
}

// Simple signs a simple signing payload, and returns the annotations of its layer.
func (h *Holder) Simple(payload []byte) (annotations map[string]string) {
	sig := h.sign(payload)
	annotations = h.annotations(sig, "hashedrekord", map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hexSum(payload)}},
		"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": h.verifier()}},
	})
	annotations[attest.Cosign2Signature] = base64.StdEncoding.EncodeToString(sig)
	return annotations
}

// Envelope signs a statement.
func (h *Holder) Envelope(statement []byte) (envelope []byte, annotations map[string]string) {
	sig := h.sign(dsse.PAE(attest.PayloadType, statement))
	envelope, err := json.Marshal(map[string]any{"payloadType": attest.PayloadType, "payload": statement, "signatures": []map[string]any{{"keyid": "", "sig": sig}}})
	must(h.p.t, err)
	annotations = h.annotations(sig, "dsse", map[string]any{
		"envelopeHash": map[string]string{"algorithm": "sha256", "value": hexSum(envelope)},
		"payloadHash":  map[string]string{"algorithm": "sha256", "value": hexSum(statement)},
		"signatures":   []map[string]any{{"signature": base64.StdEncoding.EncodeToString(sig), "verifier": h.verifier()}},
	})
	annotations[attest.Cosign2Signature] = ""
	return envelope, annotations
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (h *Holder) annotations(sig []byte, kind string, spec map[string]any) map[string]string {
	a := map[string]string{}
	if h.certificate != nil {
		a[attest.Cosign2Certificate] = string(h.verifier())
		a["dev.sigstore.cosign/chain"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.p.ca.Raw}))
	}
	if !h.Unlogged {
		a[attest.Cosign2Bundle] = h.p.promise(kind, spec)
	}
	if h.Timestamped {
		raw, err := json.Marshal(map[string][]byte{"SignedRFC3161Timestamp": h.p.timestamp(sig)})
		must(h.p.t, err)
		a[attest.Cosign2Timestamp] = string(raw)
	}
	return a
}

// promise returns a signed entry timestamp of Rekor v1, in the form of cosign v2.
func (p *Platform) promise(kind string, spec map[string]any) string {
	body, err := json.Marshal(map[string]any{"apiVersion": "0.0.1", "kind": kind, "spec": spec})
	must(p.t, err)
	logKey := p.logKey
	if p.ForeignLog {
		logKey = key(p.t)
	}
	id := keyID(p.t, logKey)
	payload := struct {
		Body  []byte `json:"body"`
		Time  int64  `json:"integratedTime"`
		LogID string `json:"logID"`
		Index int64  `json:"logIndex"`
	}{body, p.Clock.Unix(), hex.EncodeToString(id[:]), 7}
	signed, err := json.Marshal(payload)
	must(p.t, err)
	sum := sha256.Sum256(signed)
	set, err := ecdsa.SignASN1(rand.Reader, logKey, sum[:])
	must(p.t, err)
	raw, err := json.Marshal(map[string]any{"SignedEntryTimestamp": set, "Payload": payload})
	must(p.t, err)
	return string(raw)
}

// Tagged stores layers under the tag of this kind that cosign v2 derives from the
// image's digest.
func (s *Store) Tagged(image v1.Descriptor, kind oci.CosignTag, layers ...v1.Descriptor) {
	config := s.putJSON(map[string]string{"architecture": "", "os": ""}, types.OCIConfigJSON)
	m := s.putJSON(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: layers}, types.OCIManifestSchema1)
	s.Tag(kind.Of(image.Digest), m)
}

// Layer stores a blob and returns its descriptor with annotations.
func (s *Store) Layer(content []byte, mediaType types.MediaType, annotations map[string]string) v1.Descriptor {
	d := s.Put(content, mediaType)
	d.Annotations = annotations
	return d
}
