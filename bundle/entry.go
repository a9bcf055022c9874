package bundle

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
)

// logged is what the verified log entries of a bundle prove.
type logged struct {
	count    int         // number of entries in logs of the trust root
	promised []time.Time // the times in their inclusion promises
	index    int64       // of the first of them
	size     int64       // of the tree that contains the first of them; 0 without an inclusion proof

	checkpoints []string // of the inclusion proofs
}

// verifyEntries verifies those entries of a bundle that are in logs of the trust root:
// that each contains this signature, content and signer, and is in its log.
func (s *sealed) verifyEntries(b *Bundle, material root.TrustedMaterial) (l logged, err error) {
	logs := material.RekorLogs()
	for i, e := range b.Entries {
		for _, other := range b.Entries[:i] {
			if e.GetLogIndex() == other.GetLogIndex() && bytes.Equal(e.GetLogId().GetKeyId(), other.GetLogId().GetKeyId()) {
				return logged{}, errors.New("the bundle has the same log entry twice")
			}
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil && e == b.bound {
			return logged{}, errUnknownLog(e) // nothing else in the bundle proves a time
		} else if log == nil {
			continue // a log that is not in the trust root: ignore the entry
		}
		at, size, err := s.verifyEntry(e, log, e == b.bound)
		if err != nil {
			return logged{}, err
		}
		if l.count++; l.count == 1 {
			l.index, l.size = e.GetLogIndex(), size
		}
		if e.GetInclusionProof() != nil {
			l.checkpoints = append(l.checkpoints, e.GetInclusionProof().GetCheckpoint().GetEnvelope())
		}
		if !at.IsZero() {
			l.promised = append(l.promised, at)
		}
	}
	return l, nil
}

// verifyEntry verifies one entry of log. It returns the time in its inclusion promise,
// and the size of the tree in its inclusion proof, if it has them. bound means that the
// parser has already compared the entry with the bundle.
func (s *sealed) verifyEntry(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog, bound bool) (at time.Time, size int64, err error) {
	v2 := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()} == rekor2Kind
	switch {
	case e.GetInclusionPromise() == nil && e.GetInclusionProof() == nil || v2 && e.GetInclusionProof() == nil:
		return at, 0, errors.New("log entry: it has neither an inclusion promise nor an inclusion proof")
	case v2 && ofRekor1Tree(e):
		return at, 0, fmt.Errorf("checkpoint: origin: got %q, want that of a Rekor v2 log", originOf(e))
	case v2:
		err = s.bindV2(e.GetCanonicalizedBody())
	case !bound:
		err = s.bindV1(e.GetCanonicalizedBody())
	}
	if err != nil {
		return at, 0, fmt.Errorf("log entry: %w", err)
	}
	if t := e.GetIntegratedTime(); t != 0 && s.cert != nil {
		if t, w := time.Unix(t, 0), trust.CertificateWindow(s.cert); !w.Contains(t) {
			return at, 0, fmt.Errorf("logged at %s, but the certificate is valid %s", trust.FormatTime(t), w)
		}
	}
	if e.GetInclusionPromise() != nil {
		if at, err = verifyPromise(e, log); err != nil {
			return at, 0, err
		}
	}
	if e.GetInclusionProof() != nil {
		size, err = verifyInclusion(e, log)
	}
	return at, size, err
}

// rekor1Origin matches the origin in checkpoints of Rekor v1 logs: "HOST - TREE". The
// origin of a Rekor v2 log never has this form.
var rekor1Origin = lazyregexp.New(` - [0-9]+$`)

// ofRekor1Tree reports whether the checkpoint of an entry is that of a Rekor v1 log.
func ofRekor1Tree(e *rekorpb.TransparencyLogEntry) bool { return rekor1Origin.MatchString(originOf(e)) }

func originOf(e *rekorpb.TransparencyLogEntry) string {
	origin, _, _ := strings.Cut(e.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n")
	return origin
}

// bindV1 fails unless the body of a Rekor v1 entry contains the signature, signer and
// digest of the bundle.
func (s *sealed) bindV1(body []byte) error {
	r, err := parseRecord(body)
	if err != nil {
		return err
	}
	if !bytes.Equal(r.Signature, s.signature) {
		return errors.New("it contains another signature")
	}
	if s.cert != nil && !bytes.Equal(r.Signer, s.cert.Raw) || s.cert == nil && !sameKey(r.Signer, s.key) {
		return errors.New("it contains another signer")
	}
	want, algorithm := s.digest, s.algorithm
	if s.envelope {
		algorithm = "sha256"
		sum := sha256.Sum256(s.payload)
		if !r.OfPayload {
			sum = sha256.Sum256(s.signed)
		}
		want = sum[:]
	}
	if r.OfPayload && !s.envelope || r.Algorithm != algorithm || !bytes.Equal(r.Digest, want) {
		return fmt.Errorf("digest: got %s:%x, want %s:%x", r.Algorithm, r.Digest, algorithm, want)
	}
	return nil
}

func sameKey(der []byte, key crypto.PublicKey) bool {
	got, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return false
	}
	k, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(got)
}

// bindV2 fails unless the body of a Rekor v2 entry contains the signature, signer and
// digest of the bundle.
func (s *sealed) bindV2(body []byte) error {
	want, err := s.recordV2()
	if err == nil && !bytes.Equal(body, want) {
		err = errors.New("it contains another signature")
	}
	return err
}

// recordV2 returns the body of the Rekor v2 entry of the signature.
func (s *sealed) recordV2() ([]byte, error) {
	key, signer := s.key, []byte(nil)
	var err error
	if s.cert != nil {
		key, signer = s.cert.PublicKey, s.cert.Raw
	} else if signer, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return nil, err
	}
	algorithm, err := signature.GetDefaultAlgorithmDetails(key, options.WithED25519ph())
	if err != nil {
		return nil, err
	}
	digest := s.digest
	if s.envelope {
		h := algorithm.GetHashType()
		if !h.Available() {
			return nil, errors.New("the algorithm of the signer's key does not sign a digest")
		}
		sum := h.New()
		sum.Write(s.signed)
		digest = sum.Sum(nil)
	}
	return recordV2(algorithm.GetProtoHashType().String(), digest, s.signature, algorithm.GetSignatureAlgorithm().String(), signer, s.cert == nil), nil
}

// Record returns the body of the entry that a Rekor v2 log has if it logged the
// signature of b: a hashedrekord 0.0.2 in canonical JSON (RFC 8785). It is computed from
// the content of b; entries in b are not read. key is the public key that signed, or nil
// if a certificate did. Record verifies nothing: a log has no entry of a signature that
// is not valid.
func (b *Bundle) Record(key crypto.PublicKey) ([]byte, error) {
	if (key == nil) != (b.Certificate != nil) {
		if key == nil {
			return nil, errKeySigned
		}
		return nil, errCertificateSigned
	}
	s, err := b.seal(Signer{Key: key})
	if err != nil {
		return nil, err
	}
	return s.recordV2()
}

// RecordKey returns the public key in the body of a Rekor v2 entry, or nil if the body
// has a certificate, or is of another kind. The log verified the signature with the key.
func RecordKey(body []byte) crypto.PublicKey {
	var r struct {
		Spec struct {
			HashedRekord struct {
				Signature struct {
					Verifier struct {
						PublicKey struct {
							RawBytes []byte `json:"rawBytes"`
						} `json:"publicKey"`
					} `json:"verifier"`
				} `json:"signature"`
			} `json:"hashedRekordV002"`
		} `json:"spec"`
	}
	if err := strict.Unmarshal(body, maxCanonicalBody, &r); err != nil {
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(r.Spec.HashedRekord.Signature.Verifier.PublicKey.RawBytes)
	if err != nil {
		return nil
	}
	return key
}

// verifyPromise verifies the inclusion promise (signed entry timestamp) of a Rekor v1
// log, and returns the time in it. The log signed the canonical JSON of the four
// members below.
func verifyPromise(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) (time.Time, error) {
	id := hex.EncodeToString(e.GetLogId().GetKeyId())
	key, ok := log.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return time.Time{}, fmt.Errorf("log %s: key for inclusion promises: got %T, want ECDSA", id, log.PublicKey)
	}
	signed, err := json.Marshal(struct {
		Body  []byte `json:"body"`
		Time  int64  `json:"integratedTime"`
		LogID string `json:"logID"`
		Index int64  `json:"logIndex"`
	}{e.GetCanonicalizedBody(), e.GetIntegratedTime(), id, e.GetLogIndex()})
	if err != nil {
		return time.Time{}, err
	}
	sum := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(key, sum[:], e.GetInclusionPromise().GetSignedEntryTimestamp()) {
		return time.Time{}, errors.New("the inclusion promise is not signed by the log")
	}
	at := time.Unix(e.GetIntegratedTime(), 0)
	if w := trust.LogWindow(log); !w.Contains(at) {
		return time.Time{}, fmt.Errorf("logged at %s, but the log's key is trusted %s", trust.FormatTime(at), w)
	}
	return at, nil
}

// verifyInclusion verifies the inclusion proof of the entry, and that log signed its
// checkpoint. It returns the size of the tree.
func verifyInclusion(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) (size int64, err error) {
	proof := e.GetInclusionProof()
	signed := proof.GetCheckpoint().GetEnvelope()
	index := e.GetLogIndex()
	var cp tlog.Checkpoint
	if ofRekor1Tree(e) {
		index = proof.GetLogIndex() // counted in this tree; the log's own index counts all its trees
		cp, err = rekor1Checkpoint(signed, log)
	} else {
		cp, err = rekor2Checkpoint(signed, log)
	}
	if err != nil {
		return 0, fmt.Errorf("the checkpoint is not signed by the log: %w", err)
	}
	if ofRekor1Tree(e) && (cp.Size != proof.GetTreeSize() || !bytes.Equal(cp.Root[:], proof.GetRootHash())) {
		return 0, fmt.Errorf("checkpoint: got %d entries and root %v, want %d and %x as in the inclusion proof", cp.Size, cp.Root, proof.GetTreeSize(), proof.GetRootHash())
	}
	hashes := make([]tlog.Hash, len(proof.GetHashes()))
	for i, h := range proof.GetHashes() {
		if len(h) != len(hashes[i]) {
			return 0, fmt.Errorf("inclusion proof: hash: got %d bytes, want %d", len(h), len(hashes[i]))
		}
		hashes[i] = tlog.Hash(h)
	}
	if err := tlog.VerifyInclusion(cp, index, tlog.LeafHash(e.GetCanonicalizedBody()), hashes); err != nil {
		return 0, fmt.Errorf("the proof does not show this signature in the log: %w", err)
	}
	return cp.Size, nil
}

// rekor2Checkpoint opens the checkpoint of a Rekor v2 log.
func rekor2Checkpoint(signed string, log *root.TransparencyLog) (tlog.Checkpoint, error) {
	v, err := trust.LogVerifier(log)
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	return tlog.OpenCheckpoint([]byte(signed), shared(v, log.PublicKey))
}

// rekor1Checkpoint opens the checkpoint of a Rekor v1 log. Its origin names a tree, and
// its signature any host name that the log once had. Only the key is checked.
func rekor1Checkpoint(signed string, log *root.TransparencyLog) (tlog.Checkpoint, error) {
	if len(signed) > tlog.MaxCheckpoint {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: got %d bytes, want at most %d", len(signed), tlog.MaxCheckpoint)
	}
	_, line, _ := strings.Cut(signed, "\n\n— ")
	name, _, _ := strings.Cut(line, " ")
	v, err := tlog.NewVerifier(name, log.PublicKey)
	if err != nil {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(shared(v, log.PublicKey)))
	if err != nil {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: %w", tlog.NoteError(err))
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: got %d other signatures, want none", len(n.UnverifiedSigs))
	}
	return tlog.ParseCheckpoint(n.Text)
}

var errNoStamper = errors.New("the trust root has no timestamp authority")

// verifyTimestamps returns the times of the timestamps that a timestamp authority of
// the trust root signed for this signature, and why it refused others.
func (s *sealed) verifyTimestamps(tokens [][]byte, material root.TrustedMaterial) ([]time.Time, error) {
	var times []time.Time
	var refused error
	for _, token := range tokens {
		good := false
		for _, authority := range material.TimestampingAuthorities() {
			ts, err := authority.Verify(token, s.signature)
			if err == nil {
				times, good = append(times, ts.Time), true
				break
			}
			refused = err
		}
		if !good && refused == nil {
			refused = errNoStamper
		}
	}
	return times, refused
}
