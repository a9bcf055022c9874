package bundle

import (
	"crypto/x509"
	"crypto/x509/pkix"
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

// ClockSkew is how far the time of a signature may be ahead of the time of
// verification. The clocks of two maintained machines differ by seconds, that of a
// badly kept laptop by minutes.
const ClockSkew = time.Hour

// Result is the result of a verification. Call Err first: the bundle is valid only if
// Err returns nil. If it does not, use the other fields only to explain the failure.
type Result struct {
	Identity    certificate.Summary // subject and issuer of the certificate; zero if a key signed
	Certified   time.Time           // start of the certificate's validity, UTC; zero if a key signed
	Times       []time.Time         // when it was signed, according to logs and timestamp authorities of the trust root; may be empty if a key signed
	Stamped     int                 // how many of Times a timestamp authority proves
	Index       int64               // of the first entry in a log of the trust root, from 0; -1 without one
	Checkpoints []string            // signed checkpoints that prove the inclusion of the log entries, one for each entry in a log of the trust root that has one
	TreeSize    int64               // number of entries in the checkpoint that proves the inclusion; 0 without an inclusion proof
	Passed      int                 // how many of signature, log, time, certificate and SCT were valid: 0 to 5; to choose the failure to report

	Signature   error // what is wrong with subject, signature, certificate, SCT or signer; nil: nothing
	Log         error // what is wrong with log entry, checkpoint or time; nil: nothing
	Undecidable bool  // Signature could not be decided, because Log leaves the time of the signature unknown
}

// Err returns nil if the bundle is valid, and otherwise the main reason why it is not.
func (r *Result) Err() error {
	switch {
	case r.Undecidable && r.Log != nil:
		return r.Log
	case r.Signature != nil:
		return r.Signature
	}
	return r.Log
}

var (
	errCertificateSigned = errors.New("a key was expected, but a certificate signed")
	errKeySigned         = errors.New("a certificate was expected, but a key signed")
)

// Verify verifies all parts of a bundle that a certificate signed: that they are
// valid according to one trust root, for subject, at the time now. Result.Identity
// says who signed. The caller must compare it with the expected signer, or use
// VerifyBy. The trust root must vouch for the certificate's issuer (trust.Vouches).
//
// A bundle from ParsePlatform must have an SCT, an entry in a log of the trust root,
// and a timestamp of one of its timestamp authorities. Any other bundle must have an
// SCT if the trust root has certificate transparency logs, an entry if the trust root
// has logs, and in any case a time that a log or timestamp authority of the trust root
// signed.
func (b *Bundle) Verify(subject Subject, material root.TrustedMaterial, now time.Time) *Result {
	return b.verify(subject, Signer{}, material, b.demands(Signer{}, material), now)
}

// VerifyBy is like Verify, but also fails unless signer signed. The signer may be a
// key. A key does not expire, so that its signature needs no time; it needs a log entry, also
// under a trust root without logs, unless signer.InsecureNoLog is set.
func (b *Bundle) VerifyBy(signer Signer, subject Subject, material root.TrustedMaterial, now time.Time) *Result {
	if err := signer.check(); err != nil {
		return &Result{Index: -1, Signature: err}
	}
	r := b.verify(subject, signer, material, b.demands(signer, material), now)
	if r.Signature == nil && signer.Key == nil {
		r.Signature = signer.Match(r.Identity)
	}
	return r
}

// demands says which parts a bundle must have.
type demands struct {
	sct     bool // an SCT of the certificate
	entry   bool // an entry in a log of the trust root
	stamp   bool // a timestamp; the time in a log's inclusion promise is not enough
	untimed bool // no time: the bundle has none, and needs none
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
		// Of a key, the verifier says whether it needs an entry, and not which trust roots a machine has.
		entry: len(material.RekorLogs()) > 0 && !unlogged || signer.Key != nil && !signer.InsecureNoLog,
		sct:   len(material.CTLogs()) > 0,
		// The verifier chose the key, and it does not expire.
		untimed: b.Certificate == nil && !timed,
	}
}

// verification is the state of one call of Verify.
type verification struct {
	*Result
	bundle   *Bundle
	sealed   *sealed
	material root.TrustedMaterial
	ask      demands
	now      time.Time
}

// verify verifies the parts one after another, and records what is wrong with each.
func (b *Bundle) verify(subject Subject, signer Signer, material root.TrustedMaterial, ask demands, now time.Time) *Result {
	v := &verification{Result: &Result{Index: -1}, bundle: b, material: material, ask: ask, now: now}
	var unnamed error
	if b.Certificate != nil {
		v.Certified = b.Certificate.NotBefore.UTC()
		v.Identity, unnamed = identity(b.Certificate)
	}
	if v.Signature = v.signature(subject, signer); v.Signature != nil {
		v.Log = errors.New("not checked: the signature is not valid")
		return v.Result
	}
	v.Passed++
	v.times(v.log())
	if v.Signature = unnamed; v.Signature == nil && b.Certificate != nil {
		v.Signature = v.certificate()
	}
	return v.Result
}

// signature verifies the signature cryptographically, and that it is about subject.
func (v *verification) signature(subject Subject, signer Signer) (err error) {
	switch key := signer.Key; {
	case v.now.IsZero():
		return errors.New("the time of verification is not set")
	case (key != nil) != (v.bundle.Certificate == nil):
		if key != nil {
			return errCertificateSigned
		}
		return errKeySigned
	}
	// With the content, the last check below compares all digests. This one costs less.
	if err := v.bundle.About(subject.Digest); err != nil && (subject.Content == nil || !v.bundle.namedOtherwise(subject.Digest.Algorithm)) {
		return err
	}
	if v.sealed, err = v.bundle.seal(signer); err != nil {
		return err
	}
	return v.sealed.about(v.bundle, subject)
}

// log verifies the log entries, and returns the times in their inclusion promises.
func (v *verification) log() []time.Time {
	b := v.bundle
	if b.Certificate != nil && len(b.Entries) == 0 && len(b.timestamps()) == 0 {
		v.Log = errors.New("the signature comes without its log entry, and without a timestamp: nothing proves when the certificate signed")
		return nil
	}
	var l logged
	if len(v.material.RekorLogs()) > 0 || b.bound != nil {
		if l, v.Log = v.sealed.verifyEntries(b, v.material); v.Log != nil {
			return nil
		}
	}
	if v.ask.entry && l.count == 0 {
		v.Log = errors.New("no entry is in a log of the trust root")
		if len(b.Entries) == 1 {
			v.Log = errUnknownLog(b.Entries[0])
		}
		return nil
	}
	if l.count > 0 {
		v.Index = l.index
	}
	v.TreeSize, v.Checkpoints = l.size, l.checkpoints
	v.Passed++
	return l.promised
}

// times finds out when the bundle was signed: promised are the times in the inclusion
// promises of logs; timestamps add theirs. All of them must be in the time in which
// the log's key is trusted.
func (v *verification) times(promised []time.Time) {
	tokens := v.bundle.timestamps()
	stamps, refused := v.sealed.verifyTimestamps(tokens, v.material)
	v.Stamped = len(stamps)
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
		err = errors.Join(errors.New("no timestamp is of a trusted timestamp authority and for this signature"), unstamped(refused))
	case v.Log == nil:
		err = errors.Join(errors.New("no trusted time: neither an inclusion promise nor a timestamp is valid"), unstamped(refused))
	default:
		return // the log entry failed, and its time with it
	}
	if err != nil {
		v.Log = errors.Join(v.Log, err)
		return
	}
	v.Passed++
}

// unstamped returns err if it says more to people than that a timestamp is not valid. The
// library's errors do not.
func unstamped(err error) error {
	if errors.Is(err, errNoStamper) {
		return err
	}
	return nil
}

// checkTimes fails if the key of a log was not trusted at one of the times, or if one of
// them, or of the times in log entries, is in the future.
func (v *verification) checkTimes() error {
	logs := v.material.RekorLogs()
	all := v.Times
	for _, e := range v.bundle.Entries {
		if t := e.GetIntegratedTime(); t != 0 {
			all = append(all[:len(all):len(all)], time.Unix(t, 0))
		}
		log := logs[hex.EncodeToString(e.GetLogId().GetKeyId())]
		if log == nil {
			continue // a log that is not in the trust root; its entry was ignored
		}
		for _, t := range v.Times {
			if w := trust.LogWindow(log); !w.Contains(t) {
				return fmt.Errorf("signed at %s, but the log's key is trusted %s", trust.FormatTime(t), w)
			}
		}
	}
	for _, t := range all {
		if t.After(v.now.Add(ClockSkew)) {
			return fmt.Errorf("signed at %s, which is in the future: it is %s now", trust.FormatTime(t), trust.FormatTime(v.now))
		}
	}
	return nil
}

// certificate verifies the certificate at each of the times, its SCT, and that the
// trust root vouches for its issuer. If a time is outside of the certificate's
// validity, that is an error of Log: the time is wrong, not the certificate.
func (v *verification) certificate() error {
	cert := v.bundle.Certificate
	if len(v.Times) == 0 {
		if _, err := v.chains(cert.NotBefore); err != nil {
			return err
		}
		v.Undecidable = true
		return errors.New("not checked: it is unknown when the certificate signed")
	}
	var chains [][]*x509.Certificate
	for _, t := range v.Times {
		if w := trust.CertificateWindow(cert); !w.Contains(t) {
			v.Log = errors.Join(v.Log, fmt.Errorf("signed at %s, but the certificate is valid %s", trust.FormatTime(t), w))
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
			return fmt.Errorf("the certificate has no SCT of a trusted certificate transparency log: %w", err)
		}
	}
	v.Passed++
	return trust.Vouches(v.material, v.Identity.Issuer)
}

// Certificate fails unless, according to the trust root material, a certificate authority issued
// cert, a certificate transparency log has it, and the trust root vouches for its issuer. So whoever is about to sign with it knows that verifiers will accept it.
func Certificate(cert *x509.Certificate, material root.TrustedMaterial) error {
	b := &Bundle{Certificate: cert}
	id, err := identity(cert)
	if err != nil {
		return err
	}
	v := &verification{Result: &Result{Identity: id, Times: []time.Time{cert.NotBefore}}, bundle: b, material: material, ask: b.demands(Signer{}, material)}
	return v.certificate()
}

// chains returns the chains of the certificate up to a certificate authority that was
// trusted at t.
func (v *verification) chains(t time.Time) ([][]*x509.Certificate, error) {
	cert := withKnownName(v.bundle.Certificate)
	for _, ca := range v.material.FulcioCertificateAuthorities() {
		if chains, err := ca.Verify(cert, t); err == nil {
			return chains, nil
		}
	}
	if w, ok := trust.ExpiredAuthority(v.material, cert, t); ok {
		return nil, fmt.Errorf("the certificate is of an authority trusted %s, but it signed at %s", w, trust.FormatTime(t))
	}
	return nil, &UntrustedError{Signer: v.Identity.SubjectAlternativeName, Issuer: v.Identity.Issuer, Authority: cert.Issuer}
}

// UntrustedError means that no certificate authority of the trust root issued the signer's
// certificate. Another trust root may have it. All fields are as the certificate says, and
// nothing proves them.
type UntrustedError struct {
	Signer    string // subject alternative name
	Issuer    string // OIDC issuer
	Authority pkix.Name
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the certificate, issued by %q, is not of a trusted authority", e.Authority.String())
}

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// withKnownName returns cert for chain building. If its subject alternative name has
// Fulcio's form OtherName, crypto/x509 does not know that critical extension and would
// refuse the certificate. The function identity reads it.
func withKnownName(cert *x509.Certificate) *x509.Certificate {
	if len(cert.UnhandledCriticalExtensions) == 0 {
		return cert
	}
	known := *cert
	known.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(cert.UnhandledCriticalExtensions), oidSAN.Equal)
	return &known
}

// identity reads subject and issuer of the certificate. It fails for more than one
// subject, or two extensions with different issuers: two readers could then see
// different signers.
func identity(cert *x509.Certificate) (certificate.Summary, error) {
	if n := len(cert.URIs) + len(cert.EmailAddresses) + len(cert.DNSNames) + len(cert.IPAddresses); n > 1 {
		return certificate.Summary{}, fmt.Errorf("certificate: got %d subject alternative names, want 1", n)
	}
	id, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return id, errors.New("certificate: its subject alternative name or its extensions are not those of a Sigstore certificate")
	}
	for _, e := range cert.Extensions {
		issuer := id.Issuer
		switch {
		//lint:ignore SA1019 deprecated, but certificates have it
		case e.Id.Equal(certificate.OIDIssuer):
			issuer = string(e.Value)
		case e.Id.Equal(certificate.OIDIssuerV2):
			err = certificate.ParseDERString(e.Value, &issuer)
		}
		if err != nil || issuer != id.Issuer {
			return certificate.Summary{}, fmt.Errorf("certificate: got the issuers %q and %q, want one", issuer, id.Issuer)
		}
	}
	return id, nil
}

func errUnknownLog(e *rekorpb.TransparencyLogEntry) error {
	return fmt.Errorf("log %x is not one of the trust root", e.GetLogId().GetKeyId())
}
