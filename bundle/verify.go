package bundle

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/trust"
)

// ClockSkew is how far the time of a signature may lie ahead of the verifier's
// clock: two honest machines are seconds apart, and a badly kept laptop minutes.
const ClockSkew = time.Hour

// Result says how far the verification of a bundle got. The bundle holds only
// where Err returns nil; until then the other fields are good for explanations.
type Result struct {
	Identity  certificate.Summary // whom the certificate is for; zero where a key signed
	Certified time.Time           // start of the certificate; zero where a key signed
	Times     []time.Time         // when it was signed, by logs and timestamp authorities of the trust root; may be empty where a key signed
	Index     int64               // of the first entry in its log; -1 without an entry
	TreeSize  int64               // of the checkpoint that proves the entry to be in the log; 0 without a proof
	Passed    int                 // how many of signature, log, time, certificate and SCT held; to choose whose reason to show

	Signature   error // what is wrong with subject, signature, certificate, SCT or signer
	Log         error // what is wrong with log entry, checkpoint or time
	Undecidable bool  // Signature could not be decided, for want of the time that Log is about
}

// Err returns nil if the bundle holds, or else the main reason why it does not.
func (r *Result) Err() error {
	switch {
	case r.Undecidable && r.Log != nil:
		return r.Log
	case r.Signature != nil:
		return r.Signature
	}
	return r.Log
}

var errNotByKey = errors.New("a key was expected and a certificate signed, or the reverse")

// Verify verifies all parts of a bundle that a certificate signed, about
// subject, against one trust root, as of now. It answers who signed: the caller
// has to compare that, or use VerifyBy.
//
// A bundle of ParsePlatform must have an SCT, an entry in a log of the trust
// root and a time by one of its timestamp authorities. Any other bundle must have
// what the trust root has any of: an SCT if it has certificate logs, an entry if
// it has logs. A trusted time is always demanded.
func (b *Bundle) Verify(subject Subject, material root.TrustedMaterial, now time.Time) *Result {
	return b.verify(subject, nil, material, b.demands(Signer{}, material), now)
}

// VerifyBy is Verify for one signer, which may be a key. What a key signed needs
// no time, as the key does not expire, and no log entry where the signer says so.
func (b *Bundle) VerifyBy(signer Signer, subject Subject, material root.TrustedMaterial, now time.Time) *Result {
	if err := signer.check(); err != nil {
		return &Result{Index: -1, Signature: err}
	}
	r := b.verify(subject, signer.Key, material, b.demands(signer, material), now)
	if r.Signature == nil && signer.Key == nil {
		r.Signature = signer.Match(r.Identity)
	}
	return r
}

// demands is what a bundle must have for its signature to count.
type demands struct {
	sct     bool // its certificate must have been logged
	entry   bool // it must be in a log of the trust root
	stamp   bool // a timestamp authority must vouch for the time, not the log alone
	untimed bool // there may be no time: none is claimed, and none is needed
}

func (b *Bundle) demands(signer Signer, material root.TrustedMaterial) demands {
	if b.platform {
		return demands{sct: true, entry: true, stamp: true}
	}
	timed := len(b.timestamps()) > 0 && len(material.TimestampingAuthorities()) > 0
	for _, e := range b.Entries {
		timed = timed || e.GetInclusionPromise() != nil
	}
	unlogged := signer.InsecureNoLog && signer.Key != nil && len(b.Entries) == 0
	return demands{
		entry: len(material.RekorLogs()) > 0 && !unlogged,
		sct:   len(material.CTLogs()) > 0,
		// A key of this machine's choosing does not expire.
		untimed: b.Certificate == nil && !timed,
	}
}

// verification is one call of Verify under way.
type verification struct {
	*Result
	bundle   *Bundle
	sealed   *sealed
	material root.TrustedMaterial
	ask      demands
	now      time.Time
}

// verify goes through the parts one by one, and notes what is wrong with each.
func (b *Bundle) verify(subject Subject, key crypto.PublicKey, material root.TrustedMaterial, ask demands, now time.Time) *Result {
	v := &verification{Result: &Result{Index: -1}, bundle: b, material: material, ask: ask, now: now}
	if len(b.Entries) > 0 {
		v.Index = b.Entries[0].GetLogIndex()
	}
	var unnamed error
	if b.Certificate != nil {
		v.Certified = b.Certificate.NotBefore.UTC()
		v.Identity, unnamed = identity(b.Certificate)
	}
	if v.Signature = v.signature(subject, key); v.Signature != nil {
		v.Log = errors.New("not checked: the signature that it would be about does not hold")
		return v.Result
	}
	v.Passed++
	v.times(v.log())
	if v.Signature = unnamed; v.Signature == nil && b.Certificate != nil {
		v.Signature = v.certificate()
	}
	return v.Result
}

// signature verifies the signature itself, and that it is about subject.
func (v *verification) signature(subject Subject, key crypto.PublicKey) (err error) {
	switch {
	case v.now.IsZero():
		return errors.New("the time of verification is not set")
	case (key != nil) != (v.bundle.Certificate == nil):
		return errNotByKey
	}
	if err := v.bundle.About(subject.Digest); err != nil {
		return err
	}
	if v.sealed, err = v.bundle.seal(key); err != nil {
		return err
	}
	return v.sealed.about(v.bundle, subject)
}

// log verifies the log entries, and returns the times that logs promised.
func (v *verification) log() []time.Time {
	b := v.bundle
	if b.Certificate != nil && len(b.Entries) == 0 && len(b.timestamps()) == 0 {
		v.Log = errors.New("the signature comes without its log entry, and without a timestamp: nothing proves when its certificate was used")
		return nil
	}
	var l logged
	if len(v.material.RekorLogs()) > 0 || b.bound != nil {
		if l, v.Log = v.sealed.logged(b, v.material); v.Log != nil {
			return nil
		}
	}
	if v.ask.entry && l.count == 0 {
		v.Log = errors.New("no entry is of a log of the trust root")
		if len(b.Entries) == 1 {
			v.Log = errUnknownLog(b.Entries[0])
		}
		return nil
	}
	v.TreeSize = l.size
	v.Passed++
	return l.promised
}

// times settles when the bundle was signed: as logs promised and timestamp
// authorities say, each within the time that the log's key is trusted.
func (v *verification) times(promised []time.Time) {
	tokens := v.bundle.timestamps()
	stamps, refused := v.sealed.stamped(tokens, v.material)
	if v.Times = append(promised, stamps...); v.ask.stamp {
		v.Times = stamps
	}
	var err error
	switch {
	case len(v.Times) > 0 || v.ask.untimed:
		err = v.checkTimes()
	case v.ask.stamp && len(tokens) == 0:
		err = errors.New("there is no timestamp")
	case v.ask.stamp:
		err = fmt.Errorf("no timestamp is of a trusted timestamp authority and about this signature: %w", refused)
	case v.Log == nil:
		err = errors.Join(errors.New("no trusted time: neither a log's promise nor a timestamp holds"), refused)
	default:
		return // without the log entry there was no time to be had
	}
	if err != nil {
		v.Log = errors.Join(v.Log, err)
		return
	}
	v.Passed++
}

// checkTimes fails unless each log's key was trusted at the times of signing,
// and none of them, nor the times that entries name, is to come.
func (v *verification) checkTimes() error {
	logs := v.material.RekorLogs()
	all := v.Times
	for _, e := range v.bundle.Entries {
		if t := e.GetIntegratedTime(); t != 0 {
			all = append(all[:len(all):len(all)], time.Unix(t, 0))
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil {
			continue // of a log that this root does not know: it counted for nothing
		}
		for _, t := range v.Times {
			if w := trust.LogWindow(log); !w.Contains(t) {
				return fmt.Errorf("signed %s: the log's key is trusted %s", trust.FormatTime(t), w)
			}
		}
	}
	for _, t := range all {
		if t.After(v.now.Add(ClockSkew)) {
			return fmt.Errorf("signed %s, which is in the future: it is %s now", trust.FormatTime(t), trust.FormatTime(v.now))
		}
	}
	return nil
}

// certificate verifies the certificate at each of the times, and its SCT. A time
// outside of the certificate is put down to the log, which should have one within.
func (v *verification) certificate() error {
	cert := v.bundle.Certificate
	if len(v.Times) == 0 {
		if _, err := v.chains(cert.NotBefore); err != nil {
			return err
		}
		v.Undecidable = true
		return errors.New("there is no trusted time to judge the certificate at")
	}
	var chains [][]*x509.Certificate
	for _, t := range v.Times {
		if w := trust.CertificateWindow(cert); !w.Contains(t) {
			v.Log = errors.Join(v.Log, fmt.Errorf("signed %s: the certificate is valid %s", trust.FormatTime(t), w))
			v.Undecidable = true
			return errors.New("the certificate was not valid when it signed")
		}
		var err error
		if chains, err = v.chains(t); err != nil {
			return err
		}
	}
	v.Passed++
	if v.ask.sct {
		if err := anyLogged(chains, v.material); err != nil {
			return fmt.Errorf("the certificate has no SCT of a trusted certificate log: %w", err)
		}
	}
	v.Passed++
	return nil
}

// chains are the chains of the certificate up to an authority of the trust root
// that was trusted at t.
func (v *verification) chains(t time.Time) ([][]*x509.Certificate, error) {
	cert := withKnownName(v.bundle.Certificate)
	for _, ca := range v.material.FulcioCertificateAuthorities() {
		if chains, err := ca.Verify(cert, t); err == nil {
			return chains, nil
		}
	}
	if w, ok := trust.ExpiredAuthority(v.material, cert, t); ok {
		return nil, fmt.Errorf("the certificate is of an authority trusted %s, and signed at %s", w, trust.FormatTime(t))
	}
	return nil, fmt.Errorf("the certificate of %q is not of a trusted authority", cert.Issuer)
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// withKnownName is cert for chain building where it names its subject in a form
// of Fulcio's (OtherName) that crypto/x509 does not read. identity reads it.
func withKnownName(cert *x509.Certificate) *x509.Certificate {
	if len(cert.UnhandledCriticalExtensions) == 0 {
		return cert
	}
	known := *cert
	known.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(cert.UnhandledCriticalExtensions), oidSAN.Equal)
	return &known
}

// identity reads whom the certificate is for. One name alone: with two, two
// readers could see different signers.
func identity(cert *x509.Certificate) (certificate.Summary, error) {
	if n := len(cert.URIs) + len(cert.EmailAddresses) + len(cert.DNSNames) + len(cert.IPAddresses); n > 1 {
		return certificate.Summary{}, fmt.Errorf("certificate names %d subjects, want 1", n)
	}
	return certificate.SummarizeCertificate(cert)
}

func errUnknownLog(e *rekorpb.TransparencyLogEntry) error {
	return fmt.Errorf("log %x is not one of the trust root", e.GetLogId().GetKeyId())
}
