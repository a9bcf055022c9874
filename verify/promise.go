package verify

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
)

// judgePromised verifies an attestation of cosign v2 whose log entry is of the
// kind intoto 0.0.1. That the entry is about this envelope and this certificate,
// attest.ParseCosign2 has seen.
func judgePromised(b *attest.Signed, subject Subject, material root.TrustedMaterial, now time.Time) (*Signature, error) {
	at, err := checkPromise(b.Promised, material)
	if err != nil {
		return nil, err
	}
	if at.After(now.Add(clockSkew)) {
		return nil, fmt.Errorf("signed %s, which is in the future: it is %s now", show(at), show(now))
	}
	sealed, err := seal(b, nil)
	if err != nil {
		return nil, err
	}
	if err := sealed.certified([]time.Time{at}, material, len(material.CTLogs()) > 0); err != nil {
		return nil, err
	}
	if err := sealed.about(b, subject); err != nil {
		return nil, err
	}
	sig := &Signature{Statement: b.Statement, Times: []time.Time{at}, Index: b.Promised.GetLogIndex()}
	sig.Identity, err = identity(b.Certificate)
	return sig, err
}

// checkPromise verifies a signed entry timestamp of Rekor v1 and returns the
// time in it. What is signed is the canonical JSON of these four members.
func checkPromise(e *rekorpb.TransparencyLogEntry, material root.TrustedMaterial) (time.Time, error) {
	id := hex.EncodeToString(e.GetLogId().GetKeyId())
	log := material.RekorLogs()[id]
	if log == nil {
		return time.Time{}, fmt.Errorf("log %s is not one of the trust root", id)
	}
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
	if at.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && at.After(log.ValidityPeriodEnd) {
		return time.Time{}, fmt.Errorf("signed %s: the log's key is believed from %s to %s", show(at), show(log.ValidityPeriodStart), show(log.ValidityPeriodEnd))
	}
	return at, nil
}
