package audit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
)

// Envelope is a signed record: a DSSE envelope of one signature. Its bytes are exactly what Bytes
// returns, so that a record has one ID.
type Envelope struct {
	PayloadType string      `json:"payloadType"` // MediaType
	Payload     []byte      `json:"payload"`     // JSON of the record
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"` // see KeyID
	Sig   []byte `json:"sig"`
}

// MaxEnvelope is the size limit of an envelope, in bytes.
const MaxEnvelope = tlog.MaxEntry - 64

// ID names an envelope: sha256:HEX of its bytes. The same record sent twice has the same ID.
func ID(envelope []byte) string {
	sum := sha256.Sum256(envelope)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// KeyID returns the name of a key in envelopes: the hex of the SHA-256 of its SubjectPublicKeyInfo.
func KeyID(spki []byte) string {
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:])
}

// Bytes returns the envelope's JSON.
func (e *Envelope) Bytes() []byte {
	raw, _ := json.Marshal(e) // strings and bytes always marshal
	return raw
}

// KeyID returns the name of the key that is said to have signed.
func (e *Envelope) KeyID() string { return e.Signatures[0].KeyID }

// ParseEnvelope reads an envelope and the record in it. It accepts exactly what Bytes writes. It
// does not verify the signature: see Writers and Verify.
func ParseEnvelope(data []byte) (*Envelope, *Record, error) {
	var e Envelope
	if err := strict.UnmarshalKnown(data, MaxEnvelope, &e); err != nil {
		return nil, nil, fmt.Errorf("audit envelope: %w", err)
	}
	switch {
	case e.PayloadType != MediaType:
		return nil, nil, fmt.Errorf("audit envelope: payload type: expected %q, found %q", MediaType, e.PayloadType)
	case len(e.Signatures) != 1 || !isHex(e.Signatures[0].KeyID, 64):
		return nil, nil, errors.New("audit envelope: expected one signature, by a key that 64 hex digits name")
	case !bytes.Equal(e.Bytes(), data):
		return nil, nil, errors.New("audit envelope: the text is not the only one for this envelope")
	}
	r, err := ParseRecord(e.Payload)
	return &e, r, err
}

// Verify fails unless the key signed the envelope. key is an ed25519.PublicKey, or an
// *ecdsa.PublicKey of the curve P-256: see ParseKey.
func (e *Envelope) Verify(key crypto.PublicKey) error {
	signed := dsse.PAE(e.PayloadType, e.Payload)
	ok := false
	switch key := key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, signed, e.Signatures[0].Sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(signed)
		ok = ecdsa.VerifyASN1(key, sum[:], e.Signatures[0].Sig)
	}
	if !ok {
		return fmt.Errorf("the signature is not by the key %s", e.KeyID())
	}
	return nil
}

// ParseKey reads the SubjectPublicKeyInfo of a key that can sign records.
func ParseKey(spki []byte) (crypto.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		return key, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return key, nil
		}
	}
	return nil, fmt.Errorf("key: expected Ed25519 or ECDSA P-256, found a %T", key)
}

// Entry is an envelope and the openings that belong to it: what is sent to a ledger.
type Entry struct {
	Envelope json.RawMessage `json:"envelope"`
	Openings []Opening       `json:"openings,omitempty"`
}

// MaxRequest is the size limit of the JSON of an Entry, in bytes.
const MaxRequest = 2*MaxEnvelope + 16<<10

// Marshal returns the JSON of the entry, on one line. The envelope must be one that ParseEnvelope accepts.
func (e Entry) Marshal() []byte {
	out := slices.Concat([]byte(`{"envelope":`), e.Envelope)
	if len(e.Openings) > 0 {
		raw, _ := json.Marshal(e.Openings) // strings and bytes always marshal
		out = append(append(out, `,"openings":`...), raw...)
	}
	return append(out, '}')
}

// ParseEntry reads an Entry. Each hidden field of the record may have an opening, and nothing else.
func ParseEntry(data []byte) (e Entry, env *Envelope, r *Record, err error) {
	if err = strict.UnmarshalKnown(data, MaxRequest, &e); err != nil {
		return e, nil, nil, fmt.Errorf("audit entry: %w", err)
	}
	if env, r, err = ParseEnvelope(e.Envelope); err != nil {
		return e, nil, nil, err
	}
	if _, err = r.Open(e.Openings); err != nil {
		return e, nil, nil, fmt.Errorf("audit entry: %w", err)
	}
	return e, env, r, nil
}

// Signer signs the records of one process. Safe for concurrent use.
type Signer struct {
	key            crypto.Signer
	id             string
	role, instance string
	private        []string
	run            string

	mu     sync.Mutex
	number int64 // of the last record
}

// NewSigner returns a signer with a new run. key is Ed25519 or ECDSA P-256; private are the names of
// the fields that records only commit to, nil for those of Private.
func NewSigner(key crypto.Signer, role, instance string, private []string) (*Signer, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if _, err := ParseKey(spki); err != nil {
		return nil, err
	}
	if private == nil {
		private = Private()
	}
	run := make([]byte, 16)
	_, _ = rand.Read(run) // never fails
	return &Signer{key: key, id: KeyID(spki), role: role, instance: instance, private: private, run: hex.EncodeToString(run)}, nil
}

// Role returns the role that signs.
func (s *Signer) Role() string { return s.role }

// numbered gives a record the next number, and returns its JSON.
func (s *Signer) numbered(r *Record) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.By.Number = s.number + 1
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("audit record: expected at most %d bytes, found %d", MaxPayload, len(payload))
	}
	s.number++
	return payload, nil
}

// Seal numbers and signs a record: it sets By (all but the user), and hides what is private. A zero
// time is now. The number of a record that cannot be sealed is used again.
func (s *Signer) Seal(r Record, now time.Time) (Entry, error) {
	if r.Time.IsZero() {
		r.Time = now
	}
	r.Time = r.Time.UTC().Round(0)
	r.By = By{Role: s.role, Instance: s.instance, Run: s.run, Number: 1, User: r.By.User}
	if err := r.Check(); err != nil { // before it has a number, and as long as all values are there
		return Entry{}, fmt.Errorf("audit record: %w", err)
	}
	openings := r.hide(s.private)
	payload, err := s.numbered(&r)
	if err != nil {
		return Entry{}, err
	}
	signed, options := dsse.PAE(MediaType, payload), crypto.SignerOpts(crypto.Hash(0))
	if _, ok := s.key.Public().(*ecdsa.PublicKey); ok {
		sum := sha256.Sum256(signed)
		signed, options = sum[:], crypto.SHA256
	}
	sig, err := s.key.Sign(rand.Reader, signed, options)
	if err != nil {
		return Entry{}, err
	}
	env := Envelope{PayloadType: MediaType, Payload: payload, Signatures: []signature{{s.id, sig}}}
	return Entry{Envelope: env.Bytes(), Openings: openings}, nil
}
