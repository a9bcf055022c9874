// Package root publishes the platform's trust root: the trusted root (v0.1) and signing
// config (v0.2) of Sigstore's protobuf-specs, the platform's trust document (spec/trust),
// and a TUF repository (TUF 1.0) that distributes them and renews its metadata.
//
// The documents depend only on keys, certificates and URLs. Every start produces the
// same bytes, so that their fingerprints do not change.
package root

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	proto "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/trust"
)

// URL paths of the documents.
const (
	TrustedRootPath   = "/trusted_root.json"
	SigningConfigPath = "/signing_config.json"
	DocumentPath      = "/.well-known/colophon.json"
)

// Config of a Service.
type Config struct {
	KeyDir string // directory of the TUF repository's keys; created at first start
	Dir    string // directory of the TUF repository; created at first start
	URL    string // the platform's origin, without a trailing slash

	CA  []*x509.Certificate // issuing certificate first, root last; its service is at URL
	CT  Log                 // certificate transparency log; Origin and KeyID are ignored
	TSA []*x509.Certificate // timestamp authority: leaf first, root last; its service is at URL + /api/v1/timestamp
	Log Log                 // transparency log of signatures (Rekor v2)

	Builders []trust.Builder // the builders of the platform
	Issuers  []string        // other OIDC issuers whose identities CA certifies

	// Outside, if set, replaces CA, CT, TSA and Log with trust services that another
	// operator runs.
	Outside *Outside

	// Record brings another trust document to an audit ledger, before it is published. If it fails, New does.
	// nil: nobody records.
	Record func(document []byte) error

	Logger *slog.Logger // nil: slog.Default()
}

// Log is a transparency log.
type Log struct {
	Origin    string // origin of its checkpoints: the host name of BaseURL, without a port
	BaseURL   string
	PublicKey crypto.PublicKey // Ed25519 or ECDSA P-256
	KeyID     []byte           // 32 bytes, as C2SP signed-note derives it
	Since     time.Time        // when the key was created
}

// Outside holds a trusted root and a signing config as received. New and Check check both;
// the service publishes them unchanged.
type Outside struct {
	TrustedRoot   []byte
	SigningConfig []byte
}

// Service serves the documents. Safe for concurrent use.
type Service struct {
	trustedRoot   []byte
	signingConfig []byte
	document      []byte
	tuf           *repository
	log           *slog.Logger
}

// New builds the documents, and publishes those that the TUF repository does not hold yet.
func New(cfg Config) (*Service, error) {
	s, err := build(cfg)
	if err != nil {
		return nil, err
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if cfg.Record != nil {
		if err := cfg.Record(s.document); err != nil {
			return nil, fmt.Errorf("trust document: %w", err)
		}
	}
	s.tuf, err = openRepository(cfg.KeyDir, cfg.Dir, map[string][]byte{
		"colophon.json":            s.document,
		"trusted_root.json":        s.trustedRoot,
		"signing_config.v0.2.json": s.signingConfig,
		// cosign asks for this name if it is told to use Rekor v2.
		"signing_config_rekor_v2.v0.2.json": s.signingConfig,
	}, s.log)
	if err != nil {
		return nil, fmt.Errorf("TUF repository in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// Check returns an error if New would refuse the documents of cfg. It publishes nothing.
func Check(cfg Config) error {
	_, err := build(cfg)
	return err
}

// build builds the documents.
func build(cfg Config) (*Service, error) {
	s := &Service{log: cfg.Logger}
	var err error
	if cfg.Outside != nil {
		s.trustedRoot, s.signingConfig = cfg.Outside.TrustedRoot, cfg.Outside.SigningConfig
	} else {
		if s.trustedRoot, err = trustedRoot(cfg); err != nil {
			return nil, fmt.Errorf("trusted root: %w", err)
		}
		if s.signingConfig, err = signingConfig(cfg); err != nil {
			return nil, fmt.Errorf("signing config: %w", err)
		}
	}
	for name, data := range map[string][]byte{"trusted root": s.trustedRoot, "signing config": s.signingConfig} {
		if len(data) > limits.TrustRoot {
			return nil, fmt.Errorf("%s: got %d bytes, want at most %d", name, len(data), limits.TrustRoot)
		}
	}
	if _, err := root.NewSigningConfigFromJSON(s.signingConfig); err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	s.document, err = json.Marshal(trust.Document{URL: cfg.URL, Issuer: cfg.URL, Issuers: cfg.Issuers, Builders: cfg.Builders, TrustedRoot: s.trustedRoot})
	if err != nil {
		return nil, fmt.Errorf("trust document: %w", err)
	}
	s.document = append(s.document, '\n')
	// Do not serve a document that clients would refuse.
	if _, err := trust.Parse(s.document); err != nil {
		return nil, err
	}
	return s, nil
}

// TrustedRoot returns the bytes served at TrustedRootPath. Do not modify them.
func (s *Service) TrustedRoot() []byte { return s.trustedRoot }

// SigningConfig returns the bytes served at SigningConfigPath. Do not modify them.
func (s *Service) SigningConfig() []byte { return s.signingConfig }

// Document returns the bytes served at DocumentPath. The fingerprint that `colophon trust
// add` shows is their SHA-256. Do not modify them.
func (s *Service) Document() []byte { return s.document }

// Register serves the documents, and the TUF repository under /tuf/.
func (s *Service) Register(mux *http.ServeMux) {
	for path, body := range map[string][]byte{TrustedRootPath: s.trustedRoot, SigningConfigPath: s.signingConfig, DocumentPath: s.document} {
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(body))
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("ETag", tag)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		})
	}
	mux.HandleFunc("GET /tuf/{path...}", s.tuf.serve)
}

// trustedRoot returns a trusted root that sigstore-go 1.3 and cosign 3.1 can read.
func trustedRoot(cfg Config) ([]byte, error) {
	ca, err := authority(cfg.URL, cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	tsa, err := authority(cfg.URL+"/api/v1/timestamp", cfg.TSA)
	if err != nil {
		return nil, fmt.Errorf("timestamp authority: %w", err)
	}
	if cfg.TSA[0].IsCA {
		// Clients would find no leaf and reject every timestamp.
		return nil, errors.New("timestamp authority: the chain does not begin with the leaf")
	}
	ct := cfg.CT
	spki, err := x509.MarshalPKIXPublicKey(ct.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	id := sha256.Sum256(spki)
	ct.KeyID = id[:]
	ctlog, err := instance(ct)
	if err != nil {
		return nil, fmt.Errorf("CT log: %w", err)
	}
	if err := checkLog(cfg.Log); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	tlog, err := instance(cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return marshal(&proto.TrustedRoot{
		MediaType:              root.TrustedRootMediaType01,
		Tlogs:                  []*proto.TransparencyLogInstance{tlog},
		CertificateAuthorities: []*proto.CertificateAuthority{ca},
		Ctlogs:                 []*proto.TransparencyLogInstance{ctlog},
		TimestampAuthorities:   []*proto.CertificateAuthority{tsa},
	})
}

func authority(uri string, chain []*x509.Certificate) (*proto.CertificateAuthority, error) {
	if len(chain) < 2 {
		return nil, fmt.Errorf("got a chain of %d certificates, want at least 2", len(chain))
	}
	a := &proto.CertificateAuthority{
		Subject:   &protocommon.DistinguishedName{CommonName: chain[len(chain)-1].Subject.CommonName},
		Uri:       uri,
		CertChain: &protocommon.X509CertificateChain{},
		ValidFor:  since(chain[0].NotBefore),
	}
	if org := chain[len(chain)-1].Subject.Organization; len(org) > 0 {
		a.Subject.Organization = org[0]
	}
	for i, c := range chain {
		if i > 0 {
			if err := chain[i-1].CheckSignatureFrom(c); err != nil {
				return nil, fmt.Errorf("certificate %d of the chain: %w", i-1, err)
			}
		}
		a.CertChain.Certificates = append(a.CertChain.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
	}
	return a, nil
}

func instance(l Log) (*proto.TransparencyLogInstance, error) {
	if l.Since.IsZero() {
		return nil, errors.New("the creation time of the key is not set")
	}
	spki, err := x509.MarshalPKIXPublicKey(l.PublicKey)
	if err != nil {
		return nil, err
	}
	details := protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
	if _, ok := l.PublicKey.(ed25519.PublicKey); ok {
		details = protocommon.PublicKeyDetails_PKIX_ED25519
	}
	return &proto.TransparencyLogInstance{
		BaseUrl:       l.BaseURL,
		HashAlgorithm: protocommon.HashAlgorithm_SHA2_256,
		PublicKey:     &protocommon.PublicKey{RawBytes: spki, KeyDetails: details, ValidFor: since(l.Since)},
		LogId:         &protocommon.LogId{KeyId: l.KeyID},
	}, nil
}

// checkLog checks Origin and KeyID. Clients derive the origin from the URL, and the key
// id from origin and key; if they differ, every proof of the log fails without a reason.
func checkLog(l Log) error {
	u, err := url.Parse(l.BaseURL)
	if err != nil {
		return err
	}
	if u.Hostname() != l.Origin {
		return fmt.Errorf("got origin %q, want the host name of %q", l.Origin, l.BaseURL)
	}
	var want [sha256.Size]byte
	switch k := l.PublicKey.(type) {
	case ed25519.PublicKey:
		want = sha256.Sum256(append([]byte(l.Origin+"\n\x01"), k...))
	case *ecdsa.PublicKey:
		spki, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return err
		}
		want = sha256.Sum256(spki)
	default:
		return fmt.Errorf("got a key of type %T, want Ed25519 or ECDSA", l.PublicKey)
	}
	if !bytes.Equal(l.KeyID, want[:]) {
		return fmt.Errorf("got key id %x, want %x", l.KeyID, want)
	}
	return nil
}

func signingConfig(cfg Config) ([]byte, error) {
	service := func(url string, version uint32, start time.Time) []*proto.Service {
		return []*proto.Service{{Url: url, MajorApiVersion: version, ValidFor: since(start), Operator: "colophon"}}
	}
	all := &proto.ServiceConfiguration{Selector: proto.ServiceSelector_ALL}
	return marshal(&proto.SigningConfig{
		MediaType:       root.SigningConfigMediaType02,
		CaUrls:          service(cfg.URL, 1, cfg.CA[0].NotBefore),
		RekorTlogUrls:   service(cfg.Log.BaseURL, 2, cfg.Log.Since),
		RekorTlogConfig: all,
		TsaUrls:         service(cfg.URL+"/api/v1/timestamp", 1, cfg.TSA[0].NotBefore),
		TsaConfig:       all,
	})
}

func since(t time.Time) *protocommon.TimeRange {
	return &protocommon.TimeRange{Start: timestamppb.New(t.UTC().Truncate(time.Second))}
}

// marshal returns the same bytes for the same message. protojson alone does not: it
// varies white space on purpose.
func marshal(m pb.Message) ([]byte, error) {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
