// Package sign signs in-toto statements, and returns them as Sigstore bundles v0.3
// (protobuf-specs, sigstore_bundle.proto).
//
// A Session signs with a certificate that it gets for an OIDC token from a Fulcio v2
// certificate authority, or with a private key of the caller. Each bundle is entered in
// a Rekor v2 log, timestamped by an RFC 3161 timestamp authority, and verified before
// it is returned.
package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	bundlepb "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	commonpb "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	dssepb "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
)

// Session signs statements with one key. A session of Open is usable as long as its
// certificate is valid, which is 10 minutes with Colophon's certificate authority. A
// session is safe for concurrent use.
type Session struct {
	trusted     root.TrustedMaterial
	key         *key
	certificate []byte // DER; nil for a session of OpenKey
	logs        []*service
	timestamps  []*service
}

// Open makes a key that never leaves this process, and exchanges an OIDC token for a
// certificate of it. The token is a JWT of an issuer that the certificate authority
// accepts.
//
// services names the certificate authority, the log and the timestamp authority.
// Statement verifies each bundle against trusted, the Material of a trust.Root.
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
	selected, err := root.SelectService(services.FulcioCertificateAuthorityURLs(), []uint32{1}, time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	authority := newService(strings.TrimSuffix(selected.URL, "/")+"/api/v2/signingCert", transport)
	s.certificate, err = authority.certify(ctx, s.key, token)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return s, nil
}

// OpenKey returns a session that signs with the caller's key: see ParseKey. Verifiers
// must have its public key, because the bundles contain only a hint of it. For services
// and trusted, see Open; neither a certificate authority nor its certificates are used.
func OpenKey(services *root.SigningConfig, trusted root.TrustedMaterial, key *ecdsa.PrivateKey) (*Session, error) {
	return newSession(services, trusted, key, nil)
}

func newSession(services *root.SigningConfig, trusted root.TrustedMaterial, private *ecdsa.PrivateKey, transport http.RoundTripper) (*Session, error) {
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

// selectServices selects log and timestamp authority. Both are required: without them,
// nobody could verify a bundle after its certificate has expired.
func (s *Session) selectServices(services *root.SigningConfig, transport http.RoundTripper, now time.Time) error {
	logs, err := root.SelectServices(services.RekorLogURLs(), services.RekorLogURLsConfig(), []uint32{2}, now)
	if err != nil {
		return fmt.Errorf("transparency log: %w", err)
	}
	authorities, err := root.SelectServices(services.TimestampAuthorityURLs(), services.TimestampAuthorityURLsConfig(), []uint32{1}, now)
	if err != nil {
		return fmt.Errorf("timestamp authority: %w", err)
	}
	if len(logs) == 0 || len(authorities) == 0 {
		return errors.New("the signing config has no transparency log or no timestamp authority")
	}
	for _, l := range logs {
		s.logs = append(s.logs, newService(strings.TrimSuffix(l.URL, "/")+"/api/v2/log/entries", transport))
	}
	for _, a := range authorities {
		s.timestamps = append(s.timestamps, newService(a.URL, transport))
	}
	return nil
}

// Statement signs an in-toto Statement v1 as a DSSE envelope, gets a timestamp and a log
// entry for the signature, verifies the resulting bundle against the trusted root, and
// returns its JSON. The bytes of statement are signed as they are.
func (s *Session) Statement(ctx context.Context, statement []byte) ([]byte, error) {
	st, err := attest.ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	signed := dsse.PAE(attest.PayloadType, statement)
	signature, err := s.key.sign(signed)
	if err != nil {
		return nil, err
	}
	material := &bundlepb.VerificationMaterial{TimestampVerificationData: &bundlepb.TimestampVerificationData{}}
	entered := s.name(material)
	for _, authority := range s.timestamps {
		t, err := authority.timestamp(ctx, signature)
		if err != nil {
			return nil, fmt.Errorf("timestamp: %w", err)
		}
		material.TimestampVerificationData.Rfc3161Timestamps = append(material.TimestampVerificationData.Rfc3161Timestamps, &commonpb.RFC3161SignedTimestamp{SignedTimestamp: t})
	}
	digest := sha256.Sum256(signed)
	for _, log := range s.logs {
		entry, err := log.log(ctx, entered, digest[:], signature)
		if err != nil {
			return nil, fmt.Errorf("log entry: %w", err)
		}
		material.TlogEntries = append(material.TlogEntries, entry)
	}
	raw, err := protojson.Marshal(&bundlepb.Bundle{
		MediaType:            attest.BundleMediaType,
		VerificationMaterial: material,
		Content: &bundlepb.Bundle_DsseEnvelope{DsseEnvelope: &dssepb.Envelope{
			Payload: statement, PayloadType: attest.PayloadType, Signatures: []*dssepb.Signature{{Sig: signature}},
		}},
	})
	if err != nil {
		return nil, err
	}
	return raw, s.verify(raw, st)
}

// name writes into the bundle who signs, and returns the same as the log wants it.
func (s *Session) name(material *bundlepb.VerificationMaterial) *verifier {
	if s.certificate == nil {
		material.Content = &bundlepb.VerificationMaterial_PublicKey{PublicKey: &commonpb.PublicKeyIdentifier{Hint: s.key.hint()}}
		return &verifier{PublicKey: &rawBytes{s.key.spki}, KeyDetails: keyDetails}
	}
	material.Content = &bundlepb.VerificationMaterial_Certificate{Certificate: &commonpb.X509Certificate{RawBytes: s.certificate}}
	return &verifier{Certificate: &rawBytes{s.certificate}, KeyDetails: keyDetails}
}

// verify verifies the bundle as a stranger would, so that a service that answers
// wrongly is found now.
func (s *Session) verify(raw []byte, st *attest.Statement) error {
	b, err := bundle.Parse(raw)
	if err != nil {
		return err
	}
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: st.Subject[0].Digest["sha256"]}}
	if s.certificate == nil {
		return b.VerifyBy(bundle.Signer{Key: s.key.private.Public()}, subject, s.trusted, time.Now()).Err()
	}
	return b.Verify(subject, s.trusted, time.Now()).Err()
}
