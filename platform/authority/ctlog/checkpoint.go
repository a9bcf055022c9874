package ctlog

import (
	"crypto/ecdsa"
	"crypto/sha256"
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
	origin string
	key    *ecdsa.PrivateKey
	hash   uint32
}

func newTreeSigner(origin string, key *keys.Key, id [sha256.Size]byte) *treeSigner {
	// Key ID of signed-note, for type 0x05: SHA-256(name ‖ 0x0A ‖ 0x05 ‖ log id).
	h := sha256.Sum256(append([]byte(origin+"\n\x05"), id[:]...))
	return &treeSigner{origin, key.PrivateKey, binary.BigEndian.Uint32(h[:4])}
}

func (t *treeSigner) Name() string    { return t.origin }
func (t *treeSigner) KeyHash() uint32 { return t.hash }

// Sign returns RFC6962NoteSignature: uint64 timestamp (ms), then the
// digitally-signed TreeHeadSignature.
func (t *treeSigner) Sign(text []byte) ([]byte, error) {
	var cp log.Checkpoint
	if rest, err := cp.Unmarshal(text); err != nil {
		return nil, err
	} else if len(rest) > 0 || cp.Origin != t.origin || len(cp.Hash) != sha256.Size {
		return nil, fmt.Errorf("not a checkpoint of %q: %q", t.origin, text)
	}
	now := uint64(time.Now().UnixMilli())
	input, err := ct.SerializeSTHSignatureInput(ct.SignedTreeHead{
		Version: ct.V1, Timestamp: now, TreeSize: cp.Size, SHA256RootHash: ct.SHA256Hash(cp.Hash),
	})
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
