// Package ca is the platform's certificate authority: Fulcio as a library. It serves
// Fulcio's v2 API (/api/v2/signingCert, trustBundle, configuration) and keeps its keys
// in files. Certificates are for code signing, are valid for 10 minutes, and carry an
// SCT of the platform's CT log.
//
// The authority trusts two kinds of OIDC issuers. The platform's own issuer, whose key
// is configured, may name builders: URIs under URL + "/builders/". Outside issuers,
// configured in Fulcio's format, may name any identity that Fulcio lets them name,
// except the platform and its builders: see guard.go.
package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	fulcioca "github.com/sigstore/fulcio/pkg/ca"
	"github.com/sigstore/fulcio/pkg/ca/baseca"
	"github.com/sigstore/fulcio/pkg/config"
	"github.com/sigstore/fulcio/pkg/generated/protobuf"
	"github.com/sigstore/fulcio/pkg/identity"
	fulciolog "github.com/sigstore/fulcio/pkg/log"
	"github.com/sigstore/fulcio/pkg/server"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/signature"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/limits"
)

// Audience is the required audience (aud) of tokens.
const Audience = "sigstore"

const (
	rootLife         = 20 * 365 * 24 * time.Hour
	intermediateLife = 10 * 365 * 24 * time.Hour
)

// Config of a Service.
type Config struct {
	Dir string // directory of root and intermediate; created at first start
	URL string // the platform's origin, without a trailing slash; the iss of its own tokens

	// TokenKey verifies the tokens of the platform's own issuer.
	TokenKey crypto.PublicKey

	// AddPreChain logs chain[0], a precertificate, whose issuers up to the root
	// follow in chain. It returns the SCT once the entry is durable. Required: every
	// certificate has an SCT.
	AddPreChain func(ctx context.Context, chain []*x509.Certificate) (*ct.SignedCertificateTimestamp, error)

	// Outside configures other issuers in Fulcio's format (JSON or YAML: OIDCIssuers,
	// MetaIssuers, CIIssuerMetadata). May be nil. The authority contacts an issuer
	// when its first token arrives.
	Outside []byte

	Log *slog.Logger // nil: slog.Default()
}

// Service is the authority. Safe for concurrent use.
type Service struct {
	chain   []*x509.Certificate // intermediate, root
	handler http.Handler
}

// New opens the authority's keys and certificates, and creates them at the first start.
func New(cfg Config) (*Service, error) {
	if cfg.AddPreChain == nil || cfg.TokenKey == nil {
		return nil, errors.New("certificate authority: a CT log and the key of the platform's issuer are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	setFulcioLog(cfg.Log)
	root, intermediate, err := authorities(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	s := &Service{chain: []*x509.Certificate{intermediate.Cert, root.Cert}}
	if err := fulcioca.VerifyCertChain(s.chain, intermediate.Key); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	fulcio, pool, err := issuers(cfg)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	algorithms, err := signature.NewAlgorithmRegistryConfig(accepted)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	backend := &loggedCA{
		base: &baseca.BaseCA{SignerWithChain: &fulcioca.SignerCerts{Certs: s.chain, Signer: intermediate.Key.PrivateKey}},
		add:  cfg.AddPreChain,
		log:  cfg.Log,
	}
	s.handler, err = handler(fulcio, server.NewGRPCCAServer(nil, backend, algorithms, pool))
	return s, err
}

// accepted are the types of keys that the authority certifies: those that common clients
// use.
var accepted = []protocommon.PublicKeyDetails{
	protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
	protocommon.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384,
	protocommon.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512,
	protocommon.PublicKeyDetails_PKIX_ED25519,
	protocommon.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256,
	protocommon.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
	protocommon.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256,
}

func authorities(dir string) (root, intermediate *keys.Authority, err error) {
	rootKey, err := keys.Open(dir, "root")
	if err != nil {
		return nil, nil, err
	}
	root, err = rootKey.Certify(keys.CA("colophon root", rootKey.Created.Add(rootLife), 1), nil)
	if err != nil {
		return nil, nil, err
	}
	key, err := keys.Open(dir, "intermediate")
	if err != nil {
		return nil, nil, err
	}
	issuing := keys.CA("colophon issuing", key.Created.Add(intermediateLife), 0)
	issuing.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	intermediate, err = key.Certify(issuing, root)
	return root, intermediate, err
}

// Chain returns the intermediate, then the root.
func (s *Service) Chain() []*x509.Certificate { return s.chain }

// Register serves Fulcio's v2 API.
func (s *Service) Register(mux *http.ServeMux) {
	for _, path := range []string{"POST /api/v2/signingCert", "GET /api/v2/trustBundle", "GET /api/v2/configuration"} {
		mux.Handle(path, s.handler)
	}
}

// handler serves Fulcio's gRPC server over HTTP, without a gRPC listener.
func handler(cfg *config.FulcioConfig, srv protobuf.CAServer) (http.Handler, error) {
	gw := runtime.NewServeMux(
		runtime.WithMetadata(func(_ context.Context, r *http.Request) metadata.MD {
			token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if !ok {
				return nil
			}
			return metadata.Pairs(server.MetadataOIDCTokenKey, token)
		}),
		// Pass no other request header to Fulcio.
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithForwardResponseOption(func(_ context.Context, w http.ResponseWriter, _ proto.Message) error {
			w.Header().Set("Cache-Control", "no-store")
			return nil
		}),
	)
	if err := protobuf.RegisterCAHandlerServer(context.Background(), gw, embedded{srv}); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limits.Request)
		gw.ServeHTTP(w, r.WithContext(config.With(r.Context(), cfg)))
	}), nil
}

// loggedCA is Fulcio's CA with the CT log in the same process. Fulcio's server can use a
// log only over HTTP. It is configured without a log, and gets from loggedCA certificates
// that already contain their SCT.
type loggedCA struct {
	base *baseca.BaseCA
	add  func(context.Context, []*x509.Certificate) (*ct.SignedCertificateTimestamp, error)
	log  *slog.Logger
}

func (l *loggedCA) CreateCertificate(ctx context.Context, p identity.Principal, key crypto.PublicKey) (*fulcioca.CodeSigningCertificate, error) {
	pre, err := l.base.CreatePrecertificate(ctx, p, key)
	if err != nil {
		return nil, err
	}
	sct, err := l.add(ctx, append([]*x509.Certificate{pre.PreCert}, pre.CertChain...))
	if err == nil && sct == nil {
		err = errors.New("the CT log returned no SCT")
	}
	if err != nil {
		l.log.Error("certificate not issued", "err", err)
		return nil, err
	}
	return l.base.IssueFinalCertificate(ctx, pre, sct)
}

func (l *loggedCA) TrustBundle(ctx context.Context) ([][]*x509.Certificate, error) {
	return l.base.TrustBundle(ctx)
}

func (l *loggedCA) Close() error { return nil }

// embedded turns answers into those that tell clients that the SCT is in the certificate.
type embedded struct{ protobuf.CAServer }

func (e embedded) CreateSigningCertificate(ctx context.Context, r *protobuf.CreateSigningCertificateRequest) (*protobuf.SigningCertificate, error) {
	resp, err := e.CAServer.CreateSigningCertificate(ctx, r)
	if err != nil {
		return nil, err
	}
	return &protobuf.SigningCertificate{Certificate: &protobuf.SigningCertificate_SignedCertificateEmbeddedSct{
		SignedCertificateEmbeddedSct: &protobuf.SigningCertificateEmbeddedSCT{
			Chain: resp.GetSignedCertificateDetachedSct().GetChain(),
		},
	}}, nil
}

var fulcioLogOnce sync.Once

// setFulcioLog sends Fulcio's warnings to log. By default Fulcio writes to standard
// output, and reports for every certificate that it skips the CT log. Its logger is a
// global variable, so only the first call has an effect.
func setFulcioLog(log *slog.Logger) {
	fulcioLogOnce.Do(func() {
		enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
		fulciolog.Logger = zap.New(zapcore.NewCore(enc, zapcore.AddSync(slogWriter{log}), zapcore.WarnLevel)).Sugar()
	})
}

type slogWriter struct{ log *slog.Logger }

var _ io.Writer = slogWriter{}

func (w slogWriter) Write(line []byte) (int, error) {
	w.log.Warn("fulcio", "event", strings.TrimSpace(string(line)))
	return len(line), nil
}
