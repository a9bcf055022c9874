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
	"net/url"
	"regexp"
	"strings"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/tlog"
	"github.com/colophon-build/colophon/trust"
)

// logged is what the entries of a bundle proved.
type logged struct {
	count    int         // entries in logs of the trust root
	promised []time.Time // by these logs
	size     int64       // of the tree that has the first of them; 0 without a proof
}

// logged verifies the entries that a bundle has of logs of the trust root: that
// each is about this signature, of this content, by this signer, and in the log.
func (s *sealed) logged(b *Bundle, material root.TrustedMaterial) (l logged, err error) {
	logs := material.RekorLogs()
	for i, e := range b.Entries {
		for _, other := range b.Entries[:i] {
			if e.GetLogIndex() == other.GetLogIndex() && bytes.Equal(e.GetLogId().GetKeyId(), other.GetLogId().GetKeyId()) {
				return logged{}, errors.New("the same log entry twice")
			}
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil && e == b.bound {
			return logged{}, errUnknownLog(e) // its promise is all that there is
		} else if log == nil {
			continue // of a log that this root does not know: it counts for nothing
		}
		at, size, err := s.entry(e, log, e == b.bound)
		if err != nil {
			return logged{}, err
		}
		if l.count++; l.count == 1 {
			l.size = size
		}
		if !at.IsZero() {
			l.promised = append(l.promised, at)
		}
	}
	return l, nil
}

// entry verifies one entry of log. It returns the time of its promise and the
// size of the tree that it is proved to be in, if it has them.
func (s *sealed) entry(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog, bound bool) (at time.Time, size int64, err error) {
	v2 := [2]string{e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion()} == rekor2Kind
	switch {
	case e.GetInclusionPromise() == nil && e.GetInclusionProof() == nil || v2 && e.GetInclusionProof() == nil:
		return at, 0, errors.New("log entry: neither a promise nor a proof that it is in the log")
	case v2 && ofRekor1Tree(e):
		return at, 0, fmt.Errorf("checkpoint: origin: got %q, want one of a Rekor v2 log", originOf(e))
	case v2:
		err = s.bindV2(e.GetCanonicalizedBody())
	case !bound: // or else the parser has done it
		err = s.bindV1(e.GetCanonicalizedBody())
	}
	if err != nil {
		return at, 0, fmt.Errorf("log entry: %w", err)
	}
	if t := e.GetIntegratedTime(); t != 0 && s.cert != nil {
		if t, w := time.Unix(t, 0), trust.CertificateWindow(s.cert); !w.Contains(t) {
			return at, 0, fmt.Errorf("logged %s: the certificate is valid %s", trust.FormatTime(t), w)
		}
	}
	if e.GetInclusionPromise() != nil {
		if at, err = checkPromise(e, log); err != nil {
			return at, 0, err
		}
	}
	if e.GetInclusionProof() != nil {
		size, err = included(e, log)
	}
	return at, size, err
}

// rekor1Origin is how logs of Rekor v1 name their trees in checkpoints. Logs of
// Rekor v2 never do.
var rekor1Origin = regexp.MustCompile(` - [0-9]+$`)

// ofRekor1Tree says whether the checkpoint of an entry names a tree of Rekor v1.
func ofRekor1Tree(e *rekorpb.TransparencyLogEntry) bool { return rekor1Origin.MatchString(originOf(e)) }

func originOf(e *rekorpb.TransparencyLogEntry) string {
	origin, _, _ := strings.Cut(e.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n")
	return origin
}

// bindV1 fails unless an entry of Rekor v1 is about what the bundle holds.
func (s *sealed) bindV1(body []byte) error {
	r, err := parseRecord(body)
	if err != nil {
		return err
	}
	if !bytes.Equal(r.Signature, s.signature) {
		return errors.New("it is about another signature")
	}
	if s.cert != nil && !bytes.Equal(r.Signer, s.cert.Raw) || s.cert == nil && !sameKey(r.Signer, s.key) {
		return errors.New("it is about another signer")
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

// bindV2 fails unless an entry of Rekor v2 is the one about what the bundle holds.
func (s *sealed) bindV2(body []byte) error {
	key, signer := s.key, []byte(nil)
	var err error
	if s.cert != nil {
		key, signer = s.cert.PublicKey, s.cert.Raw
	} else if signer, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return err
	}
	algorithm, err := signature.GetDefaultAlgorithmDetails(key, options.WithED25519ph())
	if err != nil {
		return err
	}
	digest := s.digest
	if s.envelope {
		h := algorithm.GetHashType()
		if !h.Available() {
			return errors.New("signed by a key whose algorithm takes no digest")
		}
		sum := h.New()
		sum.Write(s.signed)
		digest = sum.Sum(nil)
	}
	want := recordV2(algorithm.GetProtoHashType().String(), digest, s.signature, algorithm.GetSignatureAlgorithm().String(), signer, s.cert == nil)
	if !bytes.Equal(body, want) {
		return errors.New("it is about another signature")
	}
	return nil
}

// checkPromise verifies a signed entry timestamp of Rekor v1 and returns the
// time in it. What is signed is the canonical JSON of these four members.
func checkPromise(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) (time.Time, error) {
	id := hex.EncodeToString(e.GetLogId().GetKeyId())
	key, ok := log.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return time.Time{}, fmt.Errorf("log %s: promises are signed by ECDSA keys, this one is %T", id, log.PublicKey)
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
		return time.Time{}, errors.New("the log's promise is not signed by the log")
	}
	at := time.Unix(e.GetIntegratedTime(), 0)
	if w := trust.LogWindow(log); !w.Contains(at) {
		return time.Time{}, fmt.Errorf("signed %s: the log's key is trusted %s", trust.FormatTime(at), w)
	}
	return at, nil
}

// included verifies that log has the entry, under a checkpoint that it signed.
// It returns the size of the tree.
func included(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) (size int64, err error) {
	proof := e.GetInclusionProof()
	signed := proof.GetCheckpoint().GetEnvelope()
	index := e.GetLogIndex()
	var cp tlog.Checkpoint
	if ofRekor1Tree(e) {
		index = proof.GetLogIndex() // of the tree, which is one of several that the log's indexes run through
		cp, err = rekor1Checkpoint(signed, log)
	} else {
		cp, err = rekor2Checkpoint(signed, log)
	}
	if err != nil {
		return 0, fmt.Errorf("the checkpoint is not signed by the log: %w", err)
	}
	if ofRekor1Tree(e) && (cp.Size != proof.GetTreeSize() || !bytes.Equal(cp.Root[:], proof.GetRootHash())) {
		return 0, fmt.Errorf("checkpoint: got %d entries and root %v, the proof says %d and %x", cp.Size, cp.Root, proof.GetTreeSize(), proof.GetRootHash())
	}
	hashes := make([]tlog.Hash, len(proof.GetHashes()))
	for i, h := range proof.GetHashes() {
		if len(h) != len(hashes[i]) {
			return 0, fmt.Errorf("inclusion proof: hash of %d bytes, want %d", len(h), len(hashes[i]))
		}
		hashes[i] = tlog.Hash(h)
	}
	if err := tlog.VerifyInclusion(cp, index, tlog.LeafHash(e.GetCanonicalizedBody()), hashes); err != nil {
		return 0, fmt.Errorf("the proof does not show this signature in the log: %w", err)
	}
	return cp.Size, nil
}

// rekor2Checkpoint opens a checkpoint that is named as its log is.
func rekor2Checkpoint(signed string, log *root.TransparencyLog) (tlog.Checkpoint, error) {
	u, err := url.Parse(log.BaseURL)
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	v, err := tlog.NewVerifier(u.Hostname(), log.PublicKey)
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	return tlog.OpenCheckpoint([]byte(signed), v)
}

// rekor1Checkpoint opens a checkpoint of Rekor v1. Its origin names a tree, its
// one signature whatever host the log went by: the key alone counts.
func rekor1Checkpoint(signed string, log *root.TransparencyLog) (tlog.Checkpoint, error) {
	if len(signed) > tlog.MaxCheckpoint {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint of %d bytes, at most %d are taken", len(signed), tlog.MaxCheckpoint)
	}
	_, line, _ := strings.Cut(signed, "\n\n— ")
	name, _, _ := strings.Cut(line, " ")
	v, err := tlog.NewVerifier(name, log.PublicKey)
	if err != nil {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return tlog.Checkpoint{}, fmt.Errorf("checkpoint: %d signatures of others, want none", len(n.UnverifiedSigs))
	}
	return tlog.ParseCheckpoint(n.Text)
}

// stamped returns the times that timestamp authorities of the trust root vouch
// for, and why other timestamps do not count.
func (s *sealed) stamped(tokens [][]byte, material root.TrustedMaterial) ([]time.Time, error) {
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
			refused = errors.New("the trust root has no timestamp authority")
		}
	}
	return times, refused
}
