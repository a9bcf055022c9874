// Package trustroot tells clients whom to believe and where to go: Sigstore's
// trusted root (v0.1) and signing config (v0.2) of protobuf-specs, the
// platform's own document (spec/trust), and a TUF repository (TUF 1.0) that
// hands the first two out and keeps them fresh.
//
// The documents are a function of keys, certificates and URLs: every start
// gives the same bytes, so that a fingerprint stays true.
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

// Where the documents are served.
const (
	TrustedRootPath   = "/trusted_root.json"
	SigningConfigPath = "/signing_config.json"
	DocumentPath      = "/.well-known/colophon.json"
)

// Config of a Service.
type Config struct {
	KeyDir string // holds the keys of the TUF repository; made at first start
	Dir    string // holds the TUF repository; made at first start
	URL    string // the platform's origin, without a trailing slash

	CA    []*x509.Certificate // issuing → root; its service is at URL
	CT    Log                 // certificate transparency; Origin and KeyID are not needed
	Clock []*x509.Certificate // leaf → root; its service is at URL + /api/v1/timestamp
	Log   Log                 // of signatures (Rekor v2)

	Builders []trust.Builder // the builders that the platform speaks for

	// Outside, if set, takes the place of CA, CT, Clock and Log: the trust services
	// of somebody else.
	Outside *Outside

	Logger *slog.Logger // nil: slog.Default()
}

// Log is a transparency log.
type Log struct {
	Origin    string // of its checkpoints: the host name of BaseURL, without a port
	BaseURL   string
	PublicKey crypto.PublicKey // Ed25519 or ECDSA P-256
	KeyID     []byte           // 32 bytes, by C2SP signed-note
	Since     time.Time        // when the key was made
}

// Outside are a trusted root and signing config as received. Both are checked,
// and handed on byte for byte.
type Outside struct {
	TrustedRoot   []byte
	SigningConfig []byte
}

// Service hands the documents out. Safe for concurrent use.
type Service struct {
	trustedRoot   []byte
	signingConfig []byte
	document      []byte
	tuf           *repository
	log           *slog.Logger
}

// New makes the documents, and publishes them in the TUF repository where that
// does not hold them yet.
func New(cfg Config) (*Service, error) {
	s := &Service{log: cfg.Logger}
	if s.log == nil {
		s.log = slog.Default()
	}
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
			return nil, fmt.Errorf("%s of %d bytes, at most %d are taken", name, len(data), limits.TrustRoot)
		}
	}
	if _, err := root.NewSigningConfigFromJSON(s.signingConfig); err != nil {
		return nil, fmt.Errorf("signing config: %w", err)
	}
	s.document, err = json.Marshal(trust.Document{URL: cfg.URL, Issuer: cfg.URL, Builders: cfg.Builders, TrustedRoot: s.trustedRoot})
	if err != nil {
		return nil, fmt.Errorf("trust document: %w", err)
	}
	s.document = append(s.document, '\n')
	// What clients will refuse is not served in the first place.
	if _, err := trust.Parse(s.document); err != nil {
		return nil, err
	}
	s.tuf, err = openRepository(cfg.KeyDir, cfg.Dir, map[string][]byte{
		"colophon.json":            s.document,
		"trusted_root.json":        s.trustedRoot,
		"signing_config.v0.2.json": s.signingConfig,
		// The name that cosign asks for where it is told to use Rekor v2.
		"signing_config_rekor_v2.v0.2.json": s.signingConfig,
	})
	if err != nil {
		return nil, fmt.Errorf("TUF repository in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// TrustedRoot is what TrustedRootPath serves. Not to be changed.
func (s *Service) TrustedRoot() []byte { return s.trustedRoot }

// SigningConfig is what SigningConfigPath serves. Not to be changed.
func (s *Service) SigningConfig() []byte { return s.signingConfig }

// Document is what DocumentPath serves: the fingerprint that `trust add` shows
// is SHA-256 of these bytes. Not to be changed.
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

// trustedRoot makes a trusted root as sigstore-go 1.3 and cosign 3.1 read it.
func trustedRoot(cfg Config) ([]byte, error) {
	ca, err := authority(cfg.URL, cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	clock, err := authority(cfg.URL+"/api/v1/timestamp", cfg.Clock)
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	if cfg.Clock[0].IsCA {
		// Clients find no leaf, and then no timestamp verifies.
		return nil, errors.New("clock: the chain does not begin with the leaf")
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
		TimestampAuthorities:   []*proto.CertificateAuthority{clock},
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
		return nil, errors.New("it is not known since when the key is valid")
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

// checkLog refuses what clients would stumble over in silence: they take the
// origin from the URL, and the key id from both.
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
		TsaUrls:         service(cfg.URL+"/api/v1/timestamp", 1, cfg.Clock[0].NotBefore),
		TsaConfig:       all,
	})
}

func since(t time.Time) *protocommon.TimeRange {
	return &protocommon.TimeRange{Start: timestamppb.New(t.UTC().Truncate(time.Second))}
}

// marshal gives the same bytes for the same message: protojson by itself varies
// its white space on purpose.
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
