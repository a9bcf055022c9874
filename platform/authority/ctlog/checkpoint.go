package ctlog

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	ct "github.com/google/certificate-transparency-go"
	cttls "github.com/google/certificate-transparency-go/tls"
	"github.com/transparency-dev/formats/log"

	"github.com/colophon-build/colophon/internal/keys"
)

// treeSigner signs checkpoints as static-ct-api requires: a note signature of type 0x05,
// which signs the RFC 6962 TreeHeadSignature instead of the note's text.
type treeSigner struct {
	key *ecdsa.PrivateKey
	*treeVerifier
}

func newTreeSigner(key *keys.Key, v *treeVerifier) *treeSigner {
	return &treeSigner{key.PrivateKey, v}
}

// treeVerifier verifies what treeSigner signs.
type treeVerifier struct {
	origin string
	key    *ecdsa.PublicKey
	hash   uint32
}

func newTreeVerifier(origin string, key *ecdsa.PublicKey, id [sha256.Size]byte) *treeVerifier {
	// Key ID of signed-note, for type 0x05: SHA-256(name ‖ 0x0A ‖ 0x05 ‖ log id).
	h := sha256.Sum256(append([]byte(origin+"\n\x05"), id[:]...))
	return &treeVerifier{origin, key, binary.BigEndian.Uint32(h[:4])}
}

// vkey returns the verifier key (C2SP signed-note) of the log with this ID.
func (t *treeVerifier) vkey(id [sha256.Size]byte) string {
	return fmt.Sprintf("%s+%08x+%s", t.origin, t.hash, base64.StdEncoding.EncodeToString(append([]byte{5}, id[:]...)))
}

// Name implements note.Verifier and note.Signer.
func (t *treeVerifier) Name() string { return t.origin }

// KeyHash implements note.Verifier and note.Signer.
func (t *treeVerifier) KeyHash() uint32 { return t.hash }

// Verify implements note.Verifier.
func (t *treeVerifier) Verify(text, sig []byte) bool {
	if len(sig) < 8 {
		return false
	}
	input, err := t.input(text, binary.BigEndian.Uint64(sig))
	if err != nil {
		return false
	}
	var signed cttls.DigitallySigned
	if rest, err := cttls.Unmarshal(sig[8:], &signed); err != nil || len(rest) > 0 {
		return false
	}
	sum := sha256.Sum256(input)
	return signed.Algorithm.Hash == cttls.SHA256 && signed.Algorithm.Signature == cttls.ECDSA && ecdsa.VerifyASN1(t.key, sum[:], signed.Signature)
}

// input returns the TreeHeadSignature of a checkpoint's text and a time in milliseconds.
func (t *treeVerifier) input(text []byte, millis uint64) ([]byte, error) {
	var cp log.Checkpoint
	if rest, err := cp.Unmarshal(text); err != nil {
		return nil, err
	} else if len(rest) > 0 || cp.Origin != t.origin || len(cp.Hash) != sha256.Size {
		return nil, fmt.Errorf("not a checkpoint of %q: %q", t.origin, text)
	}
	return ct.SerializeSTHSignatureInput(ct.SignedTreeHead{
		Version: ct.V1, Timestamp: millis, TreeSize: cp.Size, SHA256RootHash: ct.SHA256Hash(cp.Hash),
	})
}

// Sign returns RFC6962NoteSignature: uint64 timestamp (ms), then the
// digitally-signed TreeHeadSignature.
func (t *treeSigner) Sign(text []byte) ([]byte, error) {
	now := uint64(time.Now().UnixMilli())
	input, err := t.input(text, now)
	if err != nil {
		return nil, err
	}
	sig, err := sign(t.key, input)
	if err != nil {
		return nil, err
	}
	raw, err := cttls.Marshal(sig)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint64(nil, now), raw...), nil
}
