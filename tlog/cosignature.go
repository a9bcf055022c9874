package tlog

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"filippo.io/mldsa"
	cosign "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// Types of signatures in signed notes (c2sp.org/signed-note).
const (
	typeEd25519            = 0x01 // of a log
	typeECDSA              = 0x02 // of a log
	typeEd25519Cosignature = 0x04 // of a witness (c2sp.org/tlog-cosignature)
	typeMLDSA44Cosignature = 0x06 // of a witness
)

// maxCosignerName is the size limit of the name of a witness and, for ML-DSA-44, of the
// origin of a log, in bytes: the signed message has one byte for their sizes.
const maxCosignerName = 255

// WitnessKey is the public key of a witness, for its cosignatures of checkpoints
// (c2sp.org/tlog-cosignature): Ed25519 or ML-DSA-44. It is a note.Verifier. Two keys of one
// name are keys of one witness.
type WitnessKey struct {
	note.Verifier        // Verify takes the text of a checkpoint
	vkey          string // as ParseWitnessKey read it
	public        string // type and public key
}

// ParseWitnessKey reads a verifier key of the type 0x04 or 0x06 (c2sp.org/signed-note):
//
//	name "+" key ID in hex "+" base64 of type and public key
//
// It accepts only the text that String returns, so that the key ID is that of the key. The
// name has at most 255 bytes.
func ParseWitnessKey(vkey string) (WitnessKey, error) {
	name, material, err := cutKey(vkey)
	if err != nil {
		return WitnessKey{}, fmt.Errorf("witness key: %w", err)
	}
	if len(name) > maxCosignerName {
		return WitnessKey{}, fmt.Errorf("witness key: name: got %d bytes, want at most %d", len(name), maxCosignerName)
	}
	switch kind := material[0]; kind {
	case typeEd25519Cosignature, typeMLDSA44Cosignature:
	case typeEd25519:
		return WitnessKey{}, fmt.Errorf("witness key %s: got a log's key (type 0x01), want a witness's (0x04 or 0x06)", name)
	default:
		return WitnessKey{}, fmt.Errorf("witness key %s: type: got 0x%02x, want 0x04 (Ed25519) or 0x06 (ML-DSA-44)", name, kind)
	}
	v, err := cosign.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return WitnessKey{}, fmt.Errorf("witness key %s: the public key is malformed", name)
	}
	return WitnessKey{v, vkey, string(material)}, nil
}

// cutKey cuts a verifier key into its name and its type and public key, of which there is
// at least one byte. It fails unless the key ID is that of c2sp.org/signed-note, and the
// text the only one for this key.
func cutKey(vkey string) (name string, material []byte, err error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, key, _ := strings.Cut(rest, "+")
	if err := checkOrigin(name); err != nil {
		return "", nil, errors.New("the text is not NAME+HEX+BASE64")
	}
	material, err = base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(material) < 2 || len(material) > 1<<12 {
		return "", nil, errors.New("the text is not NAME+HEX+BASE64")
	}
	if want := keyID(name, material); id != want {
		return "", nil, fmt.Errorf("%s: key ID: got %q, want %q", name, id, want)
	}
	if formatKey(name, material) != vkey {
		return "", nil, errors.New("the text is not NAME+HEX+BASE64")
	}
	return name, material, nil
}

func keyID(name string, material []byte) string {
	if material[0] == typeECDSA { // the hash of the key alone
		sum := sha256.Sum256(material[1:])
		return hex.EncodeToString(sum[:4])
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), material...))
	return hex.EncodeToString(sum[:4])
}

func formatKey(name string, material []byte) string {
	return name + "+" + keyID(name, material) + "+" + base64.StdEncoding.EncodeToString(material)
}

// String returns the verifier key.
func (k WitnessKey) String() string { return k.vkey }

// Same reports whether k and other are the same public key, whatever their names.
func (k WitnessKey) Same(other WitnessKey) bool { return k.public == other.public }

// Is reports whether k is this public key, which may be of another purpose.
func (k WitnessKey) Is(key crypto.PublicKey) bool {
	public, ok := key.(ed25519.PublicKey)
	return ok && k.public[0] == typeEd25519Cosignature && k.public[1:] == string(public)
}

// named reports whether the signed message of k has the names of witness and log. That
// message has no extension lines.
func (k WitnessKey) named() bool { return k.public[0] == typeMLDSA44Cosignature }

// Cosignature is a verified statement of a witness: at Time, the checkpoint was the largest
// that the witness had seen of this log, and all of them were consistent. It says nothing
// about extension lines.
type Cosignature struct {
	Key  WitnessKey
	Time time.Time // UTC, whole seconds
}

// ErrNoWitness means that none of the witnesses cosigned a checkpoint.
var ErrNoWitness = errors.New("no witness has cosigned the checkpoint")

// Cosignatures returns the cosignatures by keys under a checkpoint that OpenCheckpoint opened.
// It ignores signatures by other keys. It fails with ErrNoWitness if there are none by keys,
// and also if one of them is wrong, or of a later time than latest, or has no time: nobody
// but the witness makes such a signature.
func Cosignatures(signed []byte, keys []WitnessKey, latest time.Time) ([]Cosignature, error) {
	if len(signed) > MaxCheckpoint {
		return nil, fmt.Errorf("checkpoint: got %d bytes, want at most %d", len(signed), MaxCheckpoint)
	}
	verifiers := make([]note.Verifier, len(keys))
	for i, k := range keys {
		verifiers[i] = k
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	if _, none := errors.AsType[*note.UnverifiedNoteError](err); none {
		return nil, ErrNoWitness
	} else if err != nil {
		return nil, fmt.Errorf("cosignatures: %w", NoteError(err))
	}
	cp, err := ParseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	var all []Cosignature
	for _, sig := range n.Sigs {
		for _, k := range keys {
			if k.Name() != sig.Name || k.KeyHash() != sig.Hash {
				continue
			}
			if k.named() && len(cp.Origin) > maxCosignerName {
				return nil, fmt.Errorf("cosignature by %s: origin: got %d bytes, want at most %d", sig.Name, len(cp.Origin), maxCosignerName)
			}
			at, err := cosignedAt(sig)
			if err != nil {
				return nil, err
			}
			if at.After(latest) {
				return nil, fmt.Errorf("cosignature by %s: it is of %s, which is in the future", sig.Name, at.Format(time.RFC3339))
			}
			all = append(all, Cosignature{k, at})
		}
	}
	return all, nil
}

// cosignedAt returns the time in a cosignature, which the signature covers. A time of zero
// means that the witness does not say that it knows no larger tree.
func cosignedAt(sig note.Signature) (time.Time, error) {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(raw) < 12 {
		return time.Time{}, fmt.Errorf("cosignature by %s: it has no time", sig.Name)
	}
	seconds := binary.BigEndian.Uint64(raw[4:])
	if seconds == 0 || seconds > math.MaxInt64 {
		return time.Time{}, fmt.Errorf("cosignature by %s: time: got %d, want 1 to 2^63-1", sig.Name, seconds)
	}
	return time.Unix(int64(seconds), 0).UTC(), nil
}

// Witnesses returns the names of the witnesses of cosignatures, each once, in their order.
func Witnesses(all []Cosignature) (names []string) {
	seen := make(map[string]bool)
	for _, c := range all {
		if name := c.Key.Name(); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// Cosigner is the private key of a witness.
type Cosigner struct {
	Key  WitnessKey
	sign func(cp Checkpoint, seconds uint64) ([]byte, error)
}

// NewEd25519Cosigner returns a cosigner with an Ed25519 key. The key may have no other use
// and no other name, because the signed message does not have the name.
func NewEd25519Cosigner(name string, key ed25519.PrivateKey) (*Cosigner, error) {
	public, _ := key.Public().(ed25519.PublicKey)
	k, err := ParseWitnessKey(formatKey(name, append([]byte{typeEd25519Cosignature}, public...)))
	if err != nil {
		return nil, err
	}
	return &Cosigner{k, func(cp Checkpoint, seconds uint64) ([]byte, error) {
		return ed25519.Sign(key, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, cp)), nil
	}}, nil
}

// NewMLDSA44Cosigner returns a cosigner with an ML-DSA-44 key of a seed of 32 bytes (FIPS
// 204, 6.1).
func NewMLDSA44Cosigner(name string, seed []byte) (*Cosigner, error) {
	key, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed)
	if err != nil {
		return nil, fmt.Errorf("ML-DSA-44 key: seed: got %d bytes, want %d", len(seed), mldsa.PrivateKeySize)
	}
	k, err := ParseWitnessKey(formatKey(name, append([]byte{typeMLDSA44Cosignature}, key.PublicKey().Bytes()...)))
	if err != nil {
		return nil, err
	}
	signer, err := cosign.NewMLDSASigner("PRIVATE+KEY+" + formatKey(name, append([]byte{typeMLDSA44Cosignature}, seed...)))
	if err != nil {
		return nil, err
	}
	return &Cosigner{k, func(cp Checkpoint, seconds uint64) ([]byte, error) {
		if len(cp.Origin) > maxCosignerName {
			return nil, fmt.Errorf("origin: got %d bytes, want at most %d for ML-DSA-44", len(cp.Origin), maxCosignerName)
		}
		sig, err := signer.SignSubtree(seconds, cp.Origin, 0, uint64(cp.Size), cp.Root[:])
		if err != nil {
			return nil, err
		}
		return sig[8:], nil // without the time
	}}, nil
}

// Cosign returns the signature line of a cosignature, with its newline. The caller must know
// that cp is the largest checkpoint of its log, and consistent with all others.
func (c *Cosigner) Cosign(cp Checkpoint, at time.Time) (line string, err error) {
	seconds := uint64(at.Unix())
	if at.Unix() <= 0 {
		return "", fmt.Errorf("cosignature: time: got %s, want one after 1970", at)
	}
	sig, err := c.sign(cp, seconds)
	if err != nil {
		return "", err
	}
	raw := binary.BigEndian.AppendUint32(nil, c.Key.KeyHash())
	raw = append(binary.BigEndian.AppendUint64(raw, seconds), sig...)
	return "— " + c.Key.Name() + " " + base64.StdEncoding.EncodeToString(raw) + "\n", nil
}
