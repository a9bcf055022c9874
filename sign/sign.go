// Package sign signs in-toto statements and files, and returns Sigstore bundles v0.3
// (protobuf-specs, sigstore_bundle.proto).
//
// A Session signs with a certificate that it gets for an OIDC token from a Fulcio v2
// certificate authority, or with a private key of the caller. Each bundle is entered in
// a Rekor v2 log, timestamped by an RFC 3161 timestamp authority, and verified before
// it is returned. Package sign/token gets the token.
package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
)

// Session signs with one key. A session of Open is usable as long as its certificate is
// valid, which is 10 minutes with Colophon's certificate authority. A session is safe for
// concurrent use.
type Session struct {
	trusted     root.TrustedMaterial
	key         *key
	signer      bundle.Signer
	identity    certificate.Summary
	certificate []byte // DER; nil for a session of OpenKey
	logs        []*service
	timestamps  []*service
}

// maxSkew is how far the clock of this machine may be from that of a service. Beyond that,
// signatures would look expired, or made in the future.
const maxSkew = 5 * time.Minute

// Open makes a key that never leaves this process, and exchanges an OIDC token for a
// certificate of it. The token is a JWT of an issuer that the certificate authority
// accepts.
//
// services, which ParseConfig reads, names the certificate authority, the logs and the
// timestamp authorities: by its selectors, all of them take part, or some chosen at random.
// The session verifies each bundle against trusted, the Material of a trust.Root.
// transport sends the requests to these services; one of them contains the token. nil
// means http.DefaultTransport.
func Open(ctx context.Context, services *root.SigningConfig, trusted root.TrustedMaterial, token string, transport http.RoundTripper) (*Session, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	s, err := newSession(services, trusted, private, transport)
	if err != nil {
		return nil, err
	}
	authority, err := selectAuthority(services, transport, time.Now())
	if err != nil {
		return nil, err
	}
	s.certificate, err = authority.certify(ctx, s.key, token)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := s.named(time.Now()); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return s, nil
}

// named sets who signs with a new certificate. It fails if nobody would accept what the
// certificate signs, or if the clock of this machine and that of the certificate authority
// differ: before anything is logged.
func (s *Session) named(now time.Time) error {
	cert, err := x509.ParseCertificate(s.certificate)
	if err != nil {
		return errors.New("malformed")
	}
	if err := checkClock("the certificate authority", cert.NotBefore, now); err != nil {
		return err
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, s.key.spki) {
		return errors.New("it is for another key")
	}
	if err := bundle.Certificate(cert, s.trusted); err != nil {
		return err
	}
	s.identity, err = certificate.SummarizeCertificate(cert)
	s.signer = bundle.Signer{Identity: s.identity.SubjectAlternativeName, Issuer: s.identity.Issuer}
	return err
}

// ClockError means that the clock of this machine, and that of a service, differ by more
// than five minutes. Nothing was signed.
type ClockError struct {
	Service string        // for people
	Ahead   time.Duration // of the clock of this machine; negative: behind
}

func (e *ClockError) Error() string {
	direction := "ahead of"
	if e.Ahead < 0 {
		direction = "behind"
	}
	return fmt.Sprintf("the clock of this machine is %s %s that of %s", e.Ahead.Abs().Round(time.Second), direction, e.Service)
}

func checkClock(service string, theirs, ours time.Time) error {
	if ahead := ours.Sub(theirs); ahead.Abs() > maxSkew {
		return &ClockError{service, ahead}
	}
	return nil
}

// OpenKey returns a session that signs with the caller's key, which is of a kind that
// Algorithm has: ParseKey reads one from a file. A key elsewhere, such as in a token of
// PKCS #11, signs a digest as crypto.Signer says. Verifiers must have the public key, because
// the bundles contain only a hint of it. For services and trusted, see Open; neither a
// certificate authority nor its certificates are used.
func OpenKey(services *root.SigningConfig, trusted root.TrustedMaterial, key crypto.Signer) (*Session, error) {
	s, err := newSession(services, trusted, key, nil)
	if err != nil {
		return nil, err
	}
	s.signer = bundle.Signer{Key: key.Public()}
	return s, nil
}

// Signer returns who signs: the public key of OpenKey, or the name and issuer in the
// certificate.
func (s *Session) Signer() bundle.Signer { return s.signer }

// Identity returns what the certificate says about the signer; it is zero for a session of
// OpenKey. The certificate authority vouches for it only once a bundle was verified.
func (s *Session) Identity() certificate.Summary { return s.identity }

func newSession(services *root.SigningConfig, trusted root.TrustedMaterial, private crypto.Signer, transport http.RoundTripper) (*Session, error) {
	if services == nil || trusted == nil {
		return nil, errors.New("signing requires a signing config and a trusted root")
	}
	k, err := newKey(private)
	if err != nil {
		return nil, err
	}
	s := &Session{trusted: trusted, key: k}
	return s, s.selectServices(services, transport, time.Now())
}

// Statement signs an in-toto Statement v1 as a DSSE envelope, gets a timestamp and a log
// entry for the signature, verifies the resulting bundle against the trusted root, and
// returns its JSON. The bytes of statement are signed as they are.
func (s *Session) Statement(ctx context.Context, statement []byte) ([]byte, error) {
	st, err := attest.ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	digest := s.key.hash().New()
	digest.Write(dsse.PAE(attest.PayloadType, statement))
	return s.bundle(ctx, digest.Sum(nil), bundle.Subject{Digest: subjectOf(st)}, func(b *bundlepb.Bundle, signature []byte) {
		b.Content = &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: statement, PayloadType: attest.PayloadType, Signatures: []*dssepb.Signature{{Sig: signature}},
		}}
	})
}

// Artifact signs the content of a file, as cosign sign-blob does: its digest by the hash of
// the key's Algorithm. Otherwise, it does what Statement does. It reads content twice.
func (s *Session) Artifact(ctx context.Context, content io.ReadSeeker) ([]byte, error) {
	named, signed := sha256.New(), s.key.hash().New()
	if _, err := io.Copy(io.MultiWriter(named, signed), content); err != nil {
		return nil, err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	digest := signed.Sum(nil)
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(named.Sum(nil))}, Content: content}
	return s.message(ctx, digest, subject)
}

// Digest signs a file or an image by its digest alone. Its log entry has the digest, so that
// whoever has the digest finds it; that of a Statement has a hash that only the statement
// leads to. The session's key must sign SHA-256 digests. Otherwise, it does what Statement
// does.
func (s *Session) Digest(ctx context.Context, of v1.Hash) ([]byte, error) {
	digest, err := hex.DecodeString(of.Hex)
	if err != nil || of.Algorithm != "sha256" || len(digest) != sha256.Size {
		return nil, fmt.Errorf("digest: got %q, want sha256 and 64 hex digits", of)
	}
	if s.key.hash() != crypto.SHA256 {
		return nil, fmt.Errorf("the key signs digests of %s, want SHA-256", s.key.hash())
	}
	return s.message(ctx, digest, bundle.Subject{Digest: of})
}

// message signs the digest of a file or image, which is subject.
func (s *Session) message(ctx context.Context, digest []byte, subject bundle.Subject) ([]byte, error) {
	return s.bundle(ctx, digest, subject, func(b *bundlepb.Bundle, signature []byte) {
		b.Content = &bundlepb.Bundle_MessageSignature{MessageSignature: &commonpb.MessageSignature{
			MessageDigest: &commonpb.HashOutput{Algorithm: s.key.algorithm.GetProtoHashType(), Digest: digest}, Signature: signature,
		}}
	})
}

// bundle signs a digest, and returns the bundle, to which fill adds what was signed.
// subject is the file, image or commit that the bundle is about.
func (s *Session) bundle(ctx context.Context, digest []byte, subject bundle.Subject, fill func(b *bundlepb.Bundle, signature []byte)) ([]byte, error) {
	for again := false; ; again = true {
		signature, err := s.key.sign(digest)
		if err != nil {
			return nil, fmt.Errorf("signature: %w", err)
		}
		b := &bundlepb.Bundle{MediaType: attest.BundleMediaType, VerificationMaterial: &bundlepb.VerificationMaterial{}}
		fill(b, signature)
		err = s.prove(ctx, b.VerificationMaterial, digest, signature, again)
		if _, logged := errors.AsType[*loggedError](err); logged && !again {
			continue // ECDSA signatures differ each time
		}
		if err != nil {
			return nil, err
		}
		raw, err := protojson.Marshal(b)
		if err != nil {
			return nil, err
		}
		return raw, s.verify(raw, subject)
	}
}

// prove adds who signed, the timestamps and the log entries of a signature. again means that
// an entry that a log has already, which is a *loggedError otherwise, is read from the log.
func (s *Session) prove(ctx context.Context, material *bundlepb.VerificationMaterial, digest, signature []byte, again bool) error {
	entered := s.name(material)
	material.TimestampVerificationData = &bundlepb.TimestampVerificationData{}
	for _, authority := range s.timestamps {
		t, err := authority.timestamp(ctx, signature, s.trusted)
		if err != nil {
			return fmt.Errorf("timestamp: %w", err)
		}
		material.TimestampVerificationData.Rfc3161Timestamps = append(material.TimestampVerificationData.Rfc3161Timestamps, &commonpb.RFC3161SignedTimestamp{SignedTimestamp: t})
	}
	for _, log := range s.logs {
		entry, err := log.log(ctx, entered, digest, signature)
		if logged, ok := errors.AsType[*loggedError](err); ok && again {
			entry, err = log.logged(ctx, logged, s.trusted)
		}
		if err != nil {
			return fmt.Errorf("log entry: %w", err)
		}
		material.TlogEntries = append(material.TlogEntries, entry)
	}
	return nil
}

// name writes into the bundle who signs, and returns the same as the log wants it.
func (s *Session) name(material *bundlepb.VerificationMaterial) *verifier {
	if s.certificate == nil {
		material.Content = &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: s.key.hint()}}
		return &verifier{PublicKey: &rawBytes{s.key.spki}, KeyDetails: s.key.details()}
	}
	material.Content = &bundlepb.VerificationMaterial_Certificate{Certificate: &commonpb.X509Certificate{RawBytes: s.certificate}}
	return &verifier{Certificate: &rawBytes{s.certificate}, KeyDetails: s.key.details()}
}

// verify verifies the bundle as a stranger would, so that a service that answers
// wrongly is found now.
func (s *Session) verify(raw []byte, subject bundle.Subject) error {
	_, err := bundle.Artifact(raw, subject, s.signer, s.trusted, time.Now())
	return err
}

// subjectOf returns what a statement is about: a file or image, or else a commit.
func subjectOf(st *attest.Statement) v1.Hash {
	d := st.Subject[0].Digest
	if id := d[attest.GitCommit]; id != "" && d["sha256"] == "" {
		return v1.Hash{Algorithm: attest.GitCommit, Hex: id}
	}
	return v1.Hash{Algorithm: "sha256", Hex: d["sha256"]}
}
