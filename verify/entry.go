package verify

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
	"golang.org/x/mod/sumdb/note"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/tlog"
)

// logged verifies the entries that a bundle has of logs of the trust root: that
// each is about this signature, of this content, by this signer, and in the log.
// It returns how many there are, and the times that logs promised.
func (s *sealed) logged(entries []*rekorpb.TransparencyLogEntry, material root.TrustedMaterial) (count int, promised []time.Time, err error) {
	logs := material.RekorLogs()
	for i, e := range entries {
		for _, other := range entries[:i] {
			if e.GetLogIndex() == other.GetLogIndex() && bytes.Equal(e.GetLogId().GetKeyId(), other.GetLogId().GetKeyId()) {
				return 0, nil, errors.New("the same log entry twice")
			}
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil {
			continue // of a log that this root does not know: it counts for nothing
		}
		at, err := s.entry(e, log, material)
		if err != nil {
			return 0, nil, fmt.Errorf("log entry: %w", err)
		}
		if count++; !at.IsZero() {
			promised = append(promised, at)
		}
	}
	return count, promised, nil
}

// entry verifies one entry of log. The time is that of its promise, if it has one.
func (s *sealed) entry(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog, material root.TrustedMaterial) (at time.Time, err error) {
	v2 := e.GetKindVersion().GetVersion() == "0.0.2" && e.GetKindVersion().GetKind() == "hashedrekord"
	if e.GetInclusionPromise() == nil && e.GetInclusionProof() == nil || v2 && e.GetInclusionProof() == nil {
		return at, errors.New("neither a promise nor a proof that it is in the log")
	}
	if v2 {
		err = s.bindV2(e.GetCanonicalizedBody())
	} else {
		err = s.bindV1(e.GetCanonicalizedBody())
	}
	if err != nil {
		return at, err
	}
	if t := e.GetIntegratedTime(); t != 0 && s.cert != nil {
		if t := time.Unix(t, 0); t.Before(s.cert.NotBefore) || t.After(s.cert.NotAfter) {
			return at, fmt.Errorf("logged %s: the certificate is valid from %s to %s", show(t), show(s.cert.NotBefore), show(s.cert.NotAfter))
		}
	}
	if e.GetInclusionPromise() != nil {
		if at, err = checkPromise(e, material); err != nil {
			return at, err
		}
	}
	if e.GetInclusionProof() != nil {
		err = included(e, log)
	}
	return at, err
}

// bindV1 fails unless an entry of Rekor v1 is about what the bundle holds.
func (s *sealed) bindV1(body []byte) error {
	r, err := attest.ParseRecord(body)
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
	want := attest.RecordV2(algorithm.GetProtoHashType().String(), digest, s.signature, algorithm.GetSignatureAlgorithm().String(), signer, s.cert == nil)
	if !bytes.Equal(body, want) {
		return errors.New("it is about another signature")
	}
	return nil
}

// included verifies that log has the entry, under a checkpoint that it signed.
func included(e *rekorpb.TransparencyLogEntry, log *root.TransparencyLog) error {
	proof := e.GetInclusionProof()
	signed := proof.GetCheckpoint().GetEnvelope()
	index := e.GetLogIndex()
	var cp tlog.Checkpoint
	var err error
	if attest.OfRekor1Tree(e) {
		index = proof.GetLogIndex() // of the tree, which is one of several that the log's indexes run through
		cp, err = rekor1Checkpoint(signed, log)
		if err == nil && (cp.Size != proof.GetTreeSize() || !bytes.Equal(cp.Root[:], proof.GetRootHash())) {
			err = fmt.Errorf("checkpoint: got %d entries and root %v, the proof says %d and %x", cp.Size, cp.Root, proof.GetTreeSize(), proof.GetRootHash())
		}
	} else {
		cp, err = rekor2Checkpoint(signed, log)
	}
	if err != nil {
		return err
	}
	hashes := make([]tlog.Hash, len(proof.GetHashes()))
	for i, h := range proof.GetHashes() {
		if len(h) != len(hashes[i]) {
			return fmt.Errorf("inclusion proof: hash of %d bytes, want %d", len(h), len(hashes[i]))
		}
		hashes[i] = tlog.Hash(h)
	}
	return tlog.VerifyInclusion(cp, index, tlog.LeafHash(e.GetCanonicalizedBody()), hashes)
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
