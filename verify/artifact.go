package verify

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/colophon-build/colophon/attest"
)

// Subject is what a signature should be about.
type Subject struct {
	Digest  v1.Hash   // sha256 of the content; required
	Content io.Reader // the content itself, read to its end, where the caller has it; some signatures need it. Nil: the digest alone
}

// Signer is who should have signed: Identity and Issuer, or Key.
type Signer struct {
	Identity string           // the one name of the certificate, compared whole
	Issuer   string           // who vouched for it, compared whole
	Key      crypto.PublicKey // a key kept elsewhere, in place of a certificate; the hint in the bundle chooses nothing

	InsecureNoLog bool // dangerous, only with Key: a signature that no log has is accepted
}

// Signature is what a bundle proved.
type Signature struct {
	Statement *attest.Statement   // nil where a file's signature is all there is
	Identity  certificate.Summary // zero where a key signed
	Times     []time.Time         // when it was signed, by logs and clocks of the trust root; may be none where a key signed
	Index     int64               // in the log that the first entry is of; -1 without an entry
}

// Artifact verifies a Sigstore bundle v0.1 to v0.3 of anybody about one
// artifact, against material, as of now: signature, certificate with SCT or
// key, log entries of Rekor v1 or v2, timestamps, and who signed. What material
// has none of (certificate logs, transparency logs) cannot be demanded of the
// bundle; a trusted time always is where a certificate signed.
func Artifact(raw []byte, subject Subject, signer Signer, material root.TrustedMaterial, now time.Time) (*Signature, error) {
	if (signer.Key == nil) == (signer.Identity == "" || signer.Issuer == "") {
		return nil, errors.New("the expected signer must be an identity and its issuer, or a key")
	}
	b, err := attest.ParseSigned(raw)
	if err != nil {
		return nil, err
	}
	return signedBy(b, subject, signer, material, now)
}

// signedBy is Artifact for a bundle that was parsed.
func signedBy(b *attest.Signed, subject Subject, signer Signer, material root.TrustedMaterial, now time.Time) (*Signature, error) {
	var sig *Signature
	var err error
	switch {
	case b.Promised == nil:
		sig, err = judgeSigned(b, subject, signer, material, now)
	case signer.Key != nil:
		err = errNotByKey
	default:
		sig, err = judgePromised(b, material, now)
	}
	if err != nil || signer.Key != nil {
		return sig, err
	}
	if got := sig.Identity.SubjectAlternativeName; got != signer.Identity {
		return nil, fmt.Errorf("signer: got %q, want %q", got, signer.Identity)
	}
	if got := sig.Identity.Issuer; got != signer.Issuer {
		return nil, fmt.Errorf("issuer of the signer's certificate: got %q, want %q", got, signer.Issuer)
	}
	return sig, nil
}

var errNotByKey = errors.New("a key was expected and a certificate signed, or the reverse")

// judgeSigned verifies everything about a bundle but the name of who signed it;
// of signer only the key counts. Acceptance is sigstore-go's and ours, never ours
// alone.
func judgeSigned(b *attest.Signed, subject Subject, signer Signer, material root.TrustedMaterial, now time.Time) (*Signature, error) {
	if now.IsZero() {
		return nil, errors.New("the time of verification is not set")
	}
	if (signer.Key != nil) != (b.Certificate == nil) {
		return nil, errNotByKey
	}
	policy := []verify.PolicyOption{verify.WithoutIdentitiesUnsafe()} // compared by the callers
	if signer.Key != nil {
		var err error
		if material, err = withKey(material, signer.Key, b.Statement == nil && b.Image == ""); err != nil {
			return nil, err
		}
		policy = []verify.PolicyOption{verify.WithKey()}
	}
	odd := oddRekor1(b)
	if odd != nil {
		if err := checkRekor1(b, odd, material); err != nil {
			return nil, err
		}
	}
	unlogged := signer.InsecureNoLog && signer.Key != nil && len(b.Entries) == 0
	v, err := verify.NewVerifier(material, demands(b, material, odd != nil || unlogged)...)
	if err != nil {
		return nil, err
	}
	artifact, check, err := subject.artifact()
	if err != nil {
		return nil, err
	}
	result, err := v.Verify(b.Entity, verify.NewPolicy(artifact, policy...))
	if err != nil {
		return nil, err
	}
	if err := check(); err != nil {
		return nil, err
	}
	sig := &Signature{Statement: b.Statement, Index: -1}
	for _, t := range result.VerifiedTimestamps {
		sig.Times = append(sig.Times, t.Timestamp)
	}
	if len(b.Entries) > 0 {
		sig.Index = b.Entries[0].GetLogIndex()
	}
	if b.Certificate != nil {
		if len(sig.Times) == 0 {
			return nil, errors.New("no verified timestamp")
		}
		if sig.Identity, err = identity(b.Certificate); err != nil {
			return nil, err
		}
	}
	return sig, checkSignedTimes(b, sig.Times, material, now)
}

// demands are the thresholds: one of each thing that the trust root has any of.
// Where the log entry was checked here, or none is wanted, times are those of
// clocks alone.
func demands(b *attest.Signed, material root.TrustedMaterial, logged bool) []verify.VerifierOption {
	opts := []verify.VerifierOption{verify.WithoutStatementPredicate()}
	timed := false
	if stamps, err := b.Entity.Timestamps(); err == nil && len(stamps) > 0 && len(material.TimestampingAuthorities()) > 0 {
		timed = true
	}
	for _, e := range b.Entries {
		timed = timed || e.GetInclusionPromise() != nil && !logged
	}
	if len(material.RekorLogs()) > 0 && !logged {
		opts = append(opts, verify.WithTransparencyLog(1))
	}
	switch {
	case b.Certificate == nil && !timed:
		// A key of this machine's choosing does not expire: without a time there is nothing to judge it at.
		return append(opts, verify.WithNoObserverTimestamps())
	case b.Certificate != nil && len(material.CTLogs()) > 0:
		opts = append(opts, verify.WithSignedCertificateTimestamps(1))
	}
	return append(opts, verify.WithObserverTimestamps(1))
}

// withKey has every key hint lead to key.
func withKey(material root.TrustedMaterial, key crypto.PublicKey, message bool) (root.TrustedMaterial, error) {
	var opts []signature.LoadOption
	if message {
		// Of Ed25519, a log of digests takes the prehashed form alone.
		opts = append(opts, options.WithED25519ph())
	}
	v, err := signature.LoadDefaultVerifier(key, opts...)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	expiring := root.NewExpiringKey(v, time.Time{}, time.Time{})
	keys := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return expiring, nil })
	return root.TrustedMaterialCollection{keys, material}, nil
}

// artifact is the subject as the library takes it, and a check for afterwards
// that the content was what the digest says.
func (s Subject) artifact() (verify.ArtifactPolicyOption, func() error, error) {
	raw, err := hex.DecodeString(s.Digest.Hex)
	if err != nil || s.Digest.Algorithm != "sha256" || len(raw) != sha256.Size {
		return nil, nil, fmt.Errorf("digest: got %q, want sha256 and 64 hex digits", s.Digest)
	}
	if s.Content == nil {
		return verify.WithArtifactDigest("sha256", raw), func() error { return nil }, nil
	}
	sum := sha256.New()
	check := func() error {
		if got := hex.EncodeToString(sum.Sum(nil)); got != s.Digest.Hex {
			return fmt.Errorf("content: got sha256:%s, want %s", got, s.Digest)
		}
		return nil
	}
	return verify.WithArtifact(io.TeeReader(s.Content, sum)), check, nil
}

// checkSignedTimes adds what the library leaves out: that each log's key was
// believed at those times, and that no time is to come.
func checkSignedTimes(b *attest.Signed, times []time.Time, material root.TrustedMaterial, now time.Time) error {
	logs := material.RekorLogs()
	all := times
	for _, e := range b.Entries {
		if t := e.GetIntegratedTime(); t != 0 {
			all = append(all[:len(all):len(all)], time.Unix(t, 0))
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil {
			continue // of a log that this root does not know: it counted for nothing
		}
		for _, t := range times {
			if t.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && t.After(log.ValidityPeriodEnd) {
				return fmt.Errorf("signed %s: the log's key is believed from %s to %s", show(t), show(log.ValidityPeriodStart), show(log.ValidityPeriodEnd))
			}
		}
	}
	for _, t := range all {
		if t.After(now.Add(clockSkew)) {
			return fmt.Errorf("signed %s, which is in the future: it is %s now", show(t), show(now))
		}
	}
	return nil
}
