package verify

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/trust"
)

// clockSkew is how far a timestamp may lie ahead of the verifier's clock: two
// honest machines are seconds apart, and a badly kept laptop minutes.
const clockSkew = time.Hour

// proof is what a bundle proved, or how far it came.
type proof struct {
	root       *trust.Root
	identity   certificate.Summary
	certified  time.Time // start of the certificate
	index      int64     // in the log
	size       uint64    // of the checkpoint
	score      int       // checks passed; only to choose whose reason is shown
	signature  error     // envelope, certificate, SCT
	log        error     // inclusion, checkpoint, timestamp
	unjudgable bool      // signature could not be judged, because there is no trusted time
}

func (p *proof) err() error {
	if p.signature != nil && !p.unjudgable {
		return p.signature
	}
	return errors.Join(p.log, p.signature)
}

// Bundle verifies one bundle in full against r: envelope, certificate with
// SCT, log inclusion, checkpoint, timestamp, and that its statement is about
// digest. It answers who signed what; whether the signer is one that should
// have is for the caller to compare.
func Bundle(raw []byte, r *trust.Root, digest v1.Hash) (*attest.Statement, *certificate.Summary, error) {
	b, err := attest.ParseBundle(raw)
	if err != nil {
		return nil, nil, err
	}
	if err := aboutDigest(b.Statement, digest); err != nil {
		return nil, nil, err
	}
	p := judge(b, r, digest, time.Time{})
	if err := p.err(); err != nil {
		return nil, nil, err
	}
	return b.Statement, &p.identity, nil
}

// aboutDigest fails unless the digest is among the statement's subjects.
func aboutDigest(s *attest.Statement, digest v1.Hash) error {
	var got []string
	for _, sub := range s.Subject {
		if sub.Digest[digest.Algorithm] == digest.Hex {
			return nil
		}
		got = append(got, digest.Algorithm+":"+sub.Digest[digest.Algorithm])
	}
	if len(got) > 3 {
		got = append(got[:3], "…")
	}
	return fmt.Errorf("subject of the statement: got %q, want %q", strings.Join(got, ", "), digest)
}

// judge verifies b against r as of now (no check against now where it is
// zero). Where it refuses, sigstore-go's parts are asked one by one, to say which
// link is broken.
func judge(b *attest.Bundle, r *trust.Root, digest v1.Hash, now time.Time) *proof {
	p := &proof{root: r, certified: b.Certificate.NotBefore.UTC(), index: b.Entry.GetLogIndex()}
	times, err := accept(b, r, digest)
	if err != nil {
		diagnose(p, b, r, err)
		return p
	}
	p.score = 100
	if p.identity, p.signature = identity(b.Certificate); p.signature != nil {
		return p
	}
	p.log = errors.Join(checkTimes(b, r, times, now), p.checkpoint(b))
	return p
}

// accept verifies the whole of b, of which a platform has every part.
func accept(b *attest.Bundle, r *trust.Root, digest v1.Hash) ([]time.Time, error) {
	whole := &attest.Signed{Entity: b.Entity, Certificate: b.Certificate, Statement: b.Statement, Entries: []*rekorpb.TransparencyLogEntry{b.Entry}}
	sealed, err := seal(whole, nil)
	if err != nil {
		return nil, err
	}
	return sealed.verify(whole, Subject{Digest: digest}, r.Material, asked{sct: true, entry: true, clock: true})
}

// identity reads who the certificate is for. One name alone: with two, two
// readers could see different signers.
func identity(cert *x509.Certificate) (certificate.Summary, error) {
	if n := len(cert.URIs) + len(cert.EmailAddresses) + len(cert.DNSNames) + len(cert.IPAddresses); n > 1 {
		return certificate.Summary{}, fmt.Errorf("certificate names %d subjects, want 1", n)
	}
	return certificate.SummarizeCertificate(cert)
}

// checkTimes adds what the library leaves out: the log's key was believed at
// that time, and the time is not to come.
func checkTimes(b *attest.Bundle, r *trust.Root, times []time.Time, now time.Time) error {
	log := r.Material.RekorLogs()[hex.EncodeToString(b.Entry.GetLogId().GetKeyId())]
	if log == nil {
		return errUnknownLog(b)
	}
	for _, t := range times {
		if t.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && t.After(log.ValidityPeriodEnd) {
			return fmt.Errorf("timestamp %s: the log's key is believed from %s to %s", show(t), show(log.ValidityPeriodStart), show(log.ValidityPeriodEnd))
		}
		if !now.IsZero() && t.After(now.Add(clockSkew)) {
			return fmt.Errorf("timestamp %s is in the future, it is %s now", show(t), show(now))
		}
	}
	return nil
}

// legacyOrigin is how Rekor v1 names its trees. The library checks an entry
// under such a checkpoint by its body alone, without tying the body to this
// signature, which is right for v1 entries only; ours are all v2.
var legacyOrigin = regexp.MustCompile(` - [0-9]+$`)

func (p *proof) checkpoint(b *attest.Bundle) error {
	lines := strings.SplitN(b.Entry.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n", 3)
	if len(lines) < 3 || legacyOrigin.MatchString(lines[0]) {
		return fmt.Errorf("checkpoint: origin: got %q, want one of a Rekor v2 log", lines[0])
	}
	var err error
	p.size, err = strconv.ParseUint(lines[1], 10, 64)
	return err
}

func errUnknownLog(b *attest.Bundle) error {
	return fmt.Errorf("log %x is not one of the trust root", b.Entry.GetLogId().GetKeyId())
}

// diagnose finds out which part of a refused bundle is broken. It can only
// ever explain: if all parts look sound, the refusal stands.
func diagnose(p *proof, b *attest.Bundle, r *trust.Root, refusal error) {
	content, err1 := b.Entity.SignatureContent()
	material, err2 := b.Entity.VerificationContent()
	if err := errors.Join(err1, err2); err != nil {
		p.signature = err
		return
	}
	if err := verify.VerifySignature(content, material, r.Material); err != nil {
		p.signature = errors.New("the signature does not match what is signed")
		p.log = errors.New("not checked: the signature that it would be about is broken")
		return
	}
	p.score++
	p.log = logFault(p, b, r)
	times, err := timeFault(p, b, r)
	p.log = errors.Join(p.log, err)
	if p.identity, p.signature = identity(b.Certificate); p.signature != nil {
		return
	}
	p.signature = certificateFault(p, b, r, times)
	if p.log == nil && p.signature == nil {
		p.signature = refusal
	}
}

func logFault(p *proof, b *attest.Bundle, r *trust.Root) error {
	if r.Material.RekorLogs()[hex.EncodeToString(b.Entry.GetLogId().GetKeyId())] == nil {
		return errUnknownLog(b)
	}
	if err := p.checkpoint(b); err != nil {
		return err
	}
	_, err := verify.VerifyTlogEntry(b.Entity, r.Material, 1, false)
	switch {
	case err == nil:
		p.score++
		return nil
	case strings.Contains(err.Error(), "checkpoint signature"):
		return fmt.Errorf("the checkpoint is not signed by the log: %w", err)
	case strings.Contains(err.Error(), "verifying inclusion"):
		// The library's words are the two root hashes, byte by byte.
		return errors.New("the proof does not show this signature in the log")
	}
	return err
}

// timeFault returns the times that trusted clocks vouch for, or why there is none.
func timeFault(p *proof, b *attest.Bundle, r *trust.Root) ([]time.Time, error) {
	stamps, _ := b.Entity.Timestamps()
	if len(stamps) == 0 {
		return nil, errors.New("there is no timestamp")
	}
	good, err := verify.VerifySignedTimestampWithThreshold(b.Entity, r.Material, 1)
	if err != nil {
		return nil, fmt.Errorf("no timestamp is of a trusted clock and about this signature: %w", err)
	}
	p.score++
	var times []time.Time
	for _, t := range good {
		times = append(times, t.Time)
	}
	return times, nil
}

// certificateFault judges the certificate at the trusted times. A time outside
// of it belongs to the log link, and is put there.
func certificateFault(p *proof, b *attest.Bundle, r *trust.Root, times []time.Time) error {
	cert := b.Certificate
	if len(times) == 0 {
		if _, err := verify.VerifyLeafCertificate(cert.NotBefore, cert, r.Material); err != nil {
			return chainFault(cert, cert.NotBefore, r)
		}
		p.unjudgable = true
		return errors.New("there is no trusted time to judge the certificate at")
	}
	for _, t := range times {
		if t.Before(cert.NotBefore) || t.After(cert.NotAfter) {
			p.log = errors.Join(p.log, fmt.Errorf("timestamp %s: the certificate is valid from %s to %s", show(t), show(cert.NotBefore), show(cert.NotAfter)))
			p.unjudgable = true
			return errors.New("the certificate was not valid at the time of the timestamp")
		}
		chains, err := verify.VerifyLeafCertificate(t, cert, r.Material)
		if err != nil {
			return chainFault(cert, t, r)
		}
		p.score++
		if err := verify.VerifySignedCertificateTimestamp(chains, 1, r.Material); err != nil {
			return fmt.Errorf("the certificate has no SCT of a trusted certificate log: %w", err)
		}
		p.score++
	}
	return nil
}

// chainFault tells an authority that nobody believes from one that was not
// believed any more.
func chainFault(cert *x509.Certificate, t time.Time, r *trust.Root) error {
	for _, f := range trust.Authorities(r.Material) {
		anytime := *f
		anytime.ValidityPeriodStart, anytime.ValidityPeriodEnd = time.Time{}, time.Time{}
		if _, err := anytime.Verify(cert, t); err == nil {
			return fmt.Errorf("the certificate is of an authority believed from %s to %s, and signed at %s", show(f.ValidityPeriodStart), show(f.ValidityPeriodEnd), show(t))
		}
	}
	return fmt.Errorf("the certificate of %q is not of a trusted authority", cert.Issuer)
}

func show(t time.Time) string {
	if t.IsZero() {
		return "ever"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}
