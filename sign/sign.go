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
	"errors"
	"fmt"
	"net/http"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sgsign "github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
)

// timeout is the time limit of one request to a service.
const timeout = 30 * time.Second

// Session signs statements with one key. A session of Open is usable as long as its
// certificate is valid, which is 10 minutes with Colophon's certificate authority. A
// session is safe for concurrent use.
type Session struct {
	trusted     root.TrustedMaterial
	key         sgsign.Keypair
	certificate certificate // nil for a session of OpenKey
	logs        []sgsign.Transparency
	timestamps  []*sgsign.TimestampAuthority
}

// Open makes a key that never leaves this process, and exchanges an OIDC token for a
// certificate of it. The token is a JWT of an issuer that the certificate authority
// accepts.
//
// services names the certificate authority, the log and the timestamp authority.
// Statement verifies each bundle against trusted. ca sends the requests to the
// certificate authority, which contain the token; nil means http.DefaultTransport.
func Open(ctx context.Context, services *root.SigningConfig, trusted root.TrustedMaterial, token string, ca http.RoundTripper) (*Session, error) {
	key, err := sgsign.NewEphemeralKeypair(nil)
	if err != nil {
		return nil, err
	}
	s, err := newSession(services, trusted, key)
	if err != nil {
		return nil, err
	}
	service, err := root.SelectService(services.FulcioCertificateAuthorityURLs(), sgsign.FulcioAPIVersions, time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	fulcio := sgsign.NewFulcio(&sgsign.FulcioOptions{BaseURL: service.URL, Timeout: timeout, Retries: 2, Transport: ca})
	s.certificate, err = fulcio.GetCertificate(ctx, key, &sgsign.CertificateProviderOptions{IDToken: token})
	if err != nil {
		return nil, fmt.Errorf("certificate from %s: %w", service.URL, err)
	}
	return s, nil
}

// OpenKey returns a session that signs with the caller's key: see ParseKey. Verifiers
// must have its public key, because the bundles contain only a hint of it. For services
// and trusted, see Open; neither a certificate authority nor its certificates are used.
func OpenKey(services *root.SigningConfig, trusted root.TrustedMaterial, key *ecdsa.PrivateKey) (*Session, error) {
	pair, err := newKeypair(key)
	if err != nil {
		return nil, err
	}
	return newSession(services, trusted, pair)
}

func newSession(services *root.SigningConfig, trusted root.TrustedMaterial, key sgsign.Keypair) (*Session, error) {
	if services == nil || trusted == nil { // sigstore-go would not verify without a trusted root
		return nil, errors.New("signing requires a signing config and a trusted root")
	}
	s := &Session{trusted: trusted, key: key}
	return s, s.selectServices(services, time.Now())
}

// selectServices selects log and timestamp authority. Both are required: without them,
// nobody could verify a bundle after its certificate has expired.
func (s *Session) selectServices(services *root.SigningConfig, now time.Time) error {
	logs, err := root.SelectServices(services.RekorLogURLs(), services.RekorLogURLsConfig(), []uint32{2}, now)
	if err != nil {
		return fmt.Errorf("transparency log: %w", err)
	}
	for _, l := range logs {
		s.logs = append(s.logs, sgsign.NewRekor(&sgsign.RekorOptions{BaseURL: l.URL, Timeout: timeout, Version: l.MajorAPIVersion}))
	}
	authorities, err := root.SelectServices(services.TimestampAuthorityURLs(), services.TimestampAuthorityURLsConfig(), []uint32{1}, now)
	if err != nil {
		return fmt.Errorf("timestamp authority: %w", err)
	}
	for _, a := range authorities {
		s.timestamps = append(s.timestamps, sgsign.NewTimestampAuthority(&sgsign.TimestampAuthorityOptions{URL: a.URL, Timeout: timeout, Retries: 2}))
	}
	if len(s.logs) == 0 || len(s.timestamps) == 0 {
		return errors.New("the signing config has no transparency log or no timestamp authority")
	}
	return nil
}

// certificate is the DER of the session's certificate. It implements
// sgsign.CertificateProvider.
type certificate []byte

func (c certificate) GetCertificate(context.Context, sgsign.Keypair, *sgsign.CertificateProviderOptions) ([]byte, error) {
	return c, nil
}

// Statement signs an in-toto Statement v1 as a DSSE envelope, gets a timestamp and a log
// entry for the signature, verifies the resulting bundle against the trusted root, and
// returns its JSON. The bytes of statement are signed as they are.
func (s *Session) Statement(ctx context.Context, statement []byte) ([]byte, error) {
	st, err := attest.ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	opts := sgsign.BundleOptions{TimestampAuthorities: s.timestamps, TransparencyLogs: s.logs, Context: ctx}
	if s.certificate != nil {
		opts.CertificateProvider, opts.TrustedRoot = s.certificate, s.trusted
	}
	pb, err := sgsign.Bundle(&sgsign.DSSEData{Data: statement, PayloadType: attest.PayloadType}, s.key, opts)
	if err != nil {
		return nil, err
	}
	raw, err := marshal(pb)
	if err != nil || s.certificate != nil {
		return raw, err
	}
	return raw, s.verifyByKey(raw, st)
}

// verifyByKey verifies a bundle that the caller's key signed. Sigstore-go verifies such
// a bundle only if the trusted root contains the key.
func (s *Session) verifyByKey(raw []byte, st *attest.Statement) error {
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: st.Subject[0].Digest["sha256"]}}
	_, err := bundle.Artifact(raw, subject, bundle.Signer{Key: s.key.GetPublicKey()}, s.trusted, time.Now())
	return err
}

// marshal returns the JSON of a bundle, after checking that all required parts are there.
func marshal(pb *protobundle.Bundle) ([]byte, error) {
	if _, err := sgbundle.NewBundle(pb); err != nil {
		return nil, err
	}
	return protojson.Marshal(pb)
}
