// Package sign turns a token into a short-lived certificate, or takes a key
// that is kept elsewhere, and makes logged, timestamped Sigstore bundles (bundle
// v0.3). It verifies each one before it returns it.
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

// Config says where to sign and whom the result must convince.
type Config struct {
	SigningConfig *root.SigningConfig  // CA, log and clock to use; each must be named
	TrustedRoot   root.TrustedMaterial // what every bundle is verified against before it is returned
	CATransport   http.RoundTripper    // to the certificate authority, which gets the token; nil is http.DefaultTransport
	Timeout       time.Duration        // of one request to a service; zero is 30 s
}

// Session signs with one ephemeral key and one certificate, and lives as long
// as the certificate (10 minutes with Colophon's CA); or with a key that is
// kept elsewhere. Safe for concurrent use.
type Session struct {
	cfg         Config
	key         sgsign.Keypair
	certificate []byte // DER; nil of a key that is kept elsewhere
	logs        []sgsign.Transparency
	clocks      []*sgsign.TimestampAuthority
}

// Open makes a key that never leaves this process and exchanges the token for
// a certificate over it. The token is an OIDC JWT that the CA's issuer list knows.
func Open(ctx context.Context, cfg Config, token string) (*Session, error) {
	key, err := sgsign.NewEphemeralKeypair(nil)
	if err != nil {
		return nil, err
	}
	s, err := open(cfg, key)
	if err != nil {
		return nil, err
	}
	cfg = s.cfg
	ca, err := root.SelectService(cfg.SigningConfig.FulcioCertificateAuthorityURLs(), sgsign.FulcioAPIVersions, time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	fulcio := sgsign.NewFulcio(&sgsign.FulcioOptions{BaseURL: ca.URL, Timeout: cfg.Timeout, Retries: 2, Transport: cfg.CATransport})
	s.certificate, err = fulcio.GetCertificate(ctx, key, &sgsign.CertificateProviderOptions{IDToken: token})
	if err != nil {
		return nil, fmt.Errorf("certificate from %s: %w", ca.URL, err)
	}
	return s, nil
}

// OpenKey signs with a key that is kept elsewhere, as ParseKey reads it. Whoever
// verifies has to have its public half: the bundles only name it.
func OpenKey(cfg Config, key *ecdsa.PrivateKey) (*Session, error) {
	kept, err := newKeptKey(key)
	if err != nil {
		return nil, err
	}
	return open(cfg, kept)
}

func open(cfg Config, key sgsign.Keypair) (*Session, error) {
	if cfg.SigningConfig == nil || cfg.TrustedRoot == nil {
		return nil, errors.New("signing needs a signing config and a trusted root")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	s := &Session{cfg: cfg, key: key}
	return s, s.services(time.Now())
}

// services picks the log and the clock. Both are required: without them a
// bundle could not be verified once its certificate has expired.
func (s *Session) services(now time.Time) error {
	sc := s.cfg.SigningConfig
	logs, err := root.SelectServices(sc.RekorLogURLs(), sc.RekorLogURLsConfig(), []uint32{2}, now)
	if err != nil {
		return fmt.Errorf("transparency log: %w", err)
	}
	for _, l := range logs {
		s.logs = append(s.logs, sgsign.NewRekor(&sgsign.RekorOptions{BaseURL: l.URL, Timeout: s.cfg.Timeout, Version: l.MajorAPIVersion}))
	}
	clocks, err := root.SelectServices(sc.TimestampAuthorityURLs(), sc.TimestampAuthorityURLsConfig(), []uint32{1}, now)
	if err != nil {
		return fmt.Errorf("timestamp authority: %w", err)
	}
	for _, c := range clocks {
		s.clocks = append(s.clocks, sgsign.NewTimestampAuthority(&sgsign.TimestampAuthorityOptions{URL: c.URL, Timeout: s.cfg.Timeout, Retries: 2}))
	}
	if len(s.logs) == 0 || len(s.clocks) == 0 {
		return errors.New("the signing config names no transparency log or no timestamp authority")
	}
	return nil
}

// GetCertificate hands the session's certificate to sigstore-go.
func (s *Session) GetCertificate(context.Context, sgsign.Keypair, *sgsign.CertificateProviderOptions) ([]byte, error) {
	return s.certificate, nil
}

// Statement signs an in-toto statement as a DSSE envelope, has it timestamped
// and logged, verifies the bundle against the trusted root, and returns its JSON.
func (s *Session) Statement(ctx context.Context, statement []byte) ([]byte, error) {
	st, err := attest.ParseStatement(statement)
	if err != nil {
		return nil, err
	}
	opts := sgsign.BundleOptions{TimestampAuthorities: s.clocks, TransparencyLogs: s.logs, Context: ctx}
	if s.certificate != nil {
		opts.CertificateProvider, opts.TrustedRoot = s, s.cfg.TrustedRoot
	}
	pb, err := sgsign.Bundle(&sgsign.DSSEData{Data: statement, PayloadType: attest.PayloadType}, s.key, opts)
	if err != nil {
		return nil, err
	}
	raw, err := marshal(pb)
	if err != nil || s.certificate != nil {
		return raw, err
	}
	return raw, s.checkKept(raw, st)
}

// checkKept verifies a bundle that a kept key signed, which sigstore-go does
// only under a trusted root that has the key.
func (s *Session) checkKept(raw []byte, st *attest.Statement) error {
	subject := bundle.Subject{Digest: v1.Hash{Algorithm: "sha256", Hex: st.Subject[0].Digest["sha256"]}}
	_, err := bundle.Artifact(raw, subject, bundle.Signer{Key: s.key.GetPublicKey()}, s.cfg.TrustedRoot, time.Now())
	return err
}

func marshal(pb *protobundle.Bundle) ([]byte, error) {
	if _, err := sgbundle.NewBundle(pb); err != nil {
		return nil, err
	}
	return protojson.Marshal(pb)
}
