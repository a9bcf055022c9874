package tlog

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// LogID returns the hash that identifies the key of a log. Sigstore's trusted root
// calls it logId.keyId; its first four bytes are the key ID of signed notes. For
// an Ed25519 key it is SHA-256(origin ‖ 0x0A ‖ 0x01 ‖ key) (c2sp.org/signed-note),
// for an ECDSA key SHA-256(SubjectPublicKeyInfo), like in Rekor v2. It fails for
// other types of keys.
func LogID(origin string, key crypto.PublicKey) ([32]byte, error) {
	switch key := key.(type) {
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return [32]byte{}, fmt.Errorf("Ed25519 key: got %d bytes, want %d", len(key), ed25519.PublicKeySize)
		}
		return sha256.Sum256(append([]byte(origin+"\n\x01"), key...)), nil
	case *ecdsa.PublicKey:
		spki, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return [32]byte{}, err
		}
		return sha256.Sum256(spki), nil
	}
	return [32]byte{}, fmt.Errorf("log key: got a %T, want Ed25519 or ECDSA", key)
}

// NewVerifier returns a verifier of the checkpoints of a log, for OpenCheckpoint.
// The key is an ed25519.PublicKey, or an *ecdsa.PublicKey that signs with SHA-256.
// The origin may not be empty, nor contain spaces, control characters or "+".
func NewVerifier(origin string, key crypto.PublicKey) (note.Verifier, error) {
	if err := checkOrigin(origin); err != nil {
		return nil, err
	}
	id, err := LogID(origin, key)
	if err != nil {
		return nil, err
	}
	return &verifier{origin, binary.BigEndian.Uint32(id[:]), key}, nil
}

// NewSigner returns a signer of the checkpoints of the log with this origin. Its
// signatures are those of c2sp.org/signed-note, type 0x01.
func NewSigner(origin string, key ed25519.PrivateKey) (note.Signer, error) {
	v, err := NewVerifier(origin, key.Public())
	if err != nil {
		return nil, err
	}
	return &signer{v, key}, nil
}

// checkOrigin fails if a signed note cannot have a key of this name.
func checkOrigin(origin string) error {
	if origin == "" || !utf8.ValidString(origin) || strings.Contains(origin, "+") ||
		strings.IndexFunc(origin, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) >= 0 {
		return fmt.Errorf("log origin: got %q, want a name without spaces, control characters and plus signs", origin)
	}
	return nil
}

type verifier struct {
	name string
	id   uint32
	key  crypto.PublicKey
}

func (v *verifier) Name() string    { return v.name }
func (v *verifier) KeyHash() uint32 { return v.id }

func (v *verifier) Verify(msg, sig []byte) bool {
	switch key := v.key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, msg, sig)
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(key, digest[:], sig)
	}
	return false
}

type signer struct {
	note.Verifier
	key ed25519.PrivateKey
}

func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// ParseLogKey reads the verifier key of a log (c2sp.org/signed-note), as FormatLogKey writes it:
//
//	origin "+" key ID in hex "+" base64 of type and public key
//
// The types are 0x01 (Ed25519) and 0x02 (ECDSA with SHA-256).
func ParseLogKey(vkey string) (note.Verifier, error) {
	name, material, err := cutKey(vkey)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	var key crypto.PublicKey
	switch kind, public := material[0], material[1:]; kind {
	case typeEd25519:
		key = ed25519.PublicKey(public)
	case typeECDSA:
		if key, err = x509.ParsePKIXPublicKey(public); err != nil {
			return nil, fmt.Errorf("log key %s: the public key is malformed", name)
		}
	default:
		return nil, fmt.Errorf("log key %s: type: got 0x%02x, want 0x01 (Ed25519) or 0x02 (ECDSA)", name, kind)
	}
	return NewVerifier(name, key)
}

// FormatLogKey returns the verifier key of a log. It fails for keys and origins that
// NewVerifier refuses.
func FormatLogKey(origin string, key crypto.PublicKey) (string, error) {
	if _, err := NewVerifier(origin, key); err != nil {
		return "", err
	}
	if key, ok := key.(ed25519.PublicKey); ok {
		return formatKey(origin, append([]byte{typeEd25519}, key...)), nil
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	return formatKey(origin, append([]byte{typeECDSA}, spki...)), nil
}

// sameKey reports whether two verifiers have the same public key, whatever their names.
func sameKey(a, b note.Verifier) bool {
	x, ok := a.(*verifier)
	y, also := b.(*verifier)
	if !ok || !also {
		return false
	}
	k, ok := x.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(y.key)
}
