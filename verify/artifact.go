package verify

import (
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"

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
	Pattern  *regexp.Regexp   // in place of Identity: what the name must match; the caller anchors it
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
	if (signer.Key == nil) == (signer.Identity == "" && signer.Pattern == nil || signer.Issuer == "") {
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
		sig, err = judgePromised(b, subject, material, now)
	}
	if err != nil || signer.Key != nil {
		return sig, err
	}
	switch got := sig.Identity.SubjectAlternativeName; {
	case signer.Pattern != nil:
		if !signer.Pattern.MatchString(got) {
			return nil, fmt.Errorf("signer: got %q, want one that matches %s", got, signer.Pattern)
		}
	case got != signer.Identity:
		return nil, fmt.Errorf("signer: got %q, want %q", got, signer.Identity)
	}
	if got := sig.Identity.Issuer; got != signer.Issuer {
		return nil, fmt.Errorf("issuer of the signer's certificate: got %q, want %q", got, signer.Issuer)
	}
	return sig, nil
}

var errNotByKey = errors.New("a key was expected and a certificate signed, or the reverse")

// judgeSigned verifies everything about a bundle but the name of who signed it;
// of signer only the key counts.
func judgeSigned(b *attest.Signed, subject Subject, signer Signer, material root.TrustedMaterial, now time.Time) (*Signature, error) {
	if now.IsZero() {
		return nil, errors.New("the time of verification is not set")
	}
	if (signer.Key != nil) != (b.Certificate == nil) {
		return nil, errNotByKey
	}
	if stamps, err := b.Entity.Timestamps(); b.Certificate != nil && len(b.Entries) == 0 && err == nil && len(stamps) == 0 {
		return nil, errors.New("the signature comes without its log entry, and without a timestamp: nothing proves when its certificate was used")
	}
	sealed, err := seal(b, signer.Key)
	if err != nil {
		return nil, err
	}
	sig := &Signature{Statement: b.Statement, Index: -1}
	if sig.Times, err = sealed.verify(b, subject, material, demands(b, signer, material)); err != nil {
		return nil, err
	}
	if len(b.Entries) > 0 {
		sig.Index = b.Entries[0].GetLogIndex()
	}
	if b.Certificate != nil {
		if sig.Identity, err = identity(b.Certificate); err != nil {
			return nil, err
		}
	}
	return sig, checkSignedTimes(b, sig.Times, material, now)
}

// demands are one of each thing that the trust root has any of.
func demands(b *attest.Signed, signer Signer, material root.TrustedMaterial) asked {
	stamps := b.Entity.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps()
	timed := len(stamps) > 0 && len(material.TimestampingAuthorities()) > 0
	for _, e := range b.Entries {
		timed = timed || e.GetInclusionPromise() != nil
	}
	unlogged := signer.InsecureNoLog && signer.Key != nil && len(b.Entries) == 0
	return asked{
		entry: len(material.RekorLogs()) > 0 && !unlogged,
		sct:   len(material.CTLogs()) > 0,
		// A key of this machine's choosing does not expire.
		notime: b.Certificate == nil && !timed,
	}
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
