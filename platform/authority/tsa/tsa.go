// Package tsa is a timestamp authority (RFC 3161, over HTTP as in its section 3.4). It
// answers POST /api/v1/timestamp with a timestamp, and GET /api/v1/timestamp/certchain
// with the certificates that verify timestamps. Sigstore clients use these paths.
package tsa

import (
	"crypto"
	_ "crypto/sha512" // makes SHA-384 and SHA-512 available
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/digitorus/timestamp"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/colophon-build/colophon/internal/keys"
	"github.com/colophon-build/colophon/internal/strict"
)

// Path is the URL path of timestamps.
const Path = "/api/v1/timestamp"

const (
	maxRequest = 8 << 10 // bytes; an honest request has about a hundred
	maxNonce   = 64      // bytes
	accuracy   = time.Second

	rootLife = 20 * 365 * 24 * time.Hour
	leafLife = 10 * 365 * 24 * time.Hour
)

var (
	// policy is the default policy of Sigstore's timestamp authorities.
	policy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}

	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}

	sizes = map[crypto.Hash]int{crypto.SHA256: 32, crypto.SHA384: 48, crypto.SHA512: 64}
)

// Config of a Service.
type Config struct {
	Dir string       // directory of root and leaf; created at first start
	Log *slog.Logger // nil: slog.Default()
}

// Service is the authority. Safe for concurrent use.
type Service struct {
	leaf  *keys.Authority
	chain []*x509.Certificate // leaf, root
	pem   []byte
	log   *slog.Logger
	now   func() time.Time // time.Now, except in tests

	mu   sync.Mutex
	last time.Time // latest time of any timestamp
}

// New opens the authority's keys and certificates, and creates them at the first start.
func New(cfg Config) (*Service, error) {
	rootKey, err := keys.Open(cfg.Dir, "clock-root")
	if err != nil {
		return nil, err
	}
	root, err := rootKey.Certify(keys.CA("colophon clock root", rootKey.Created.Add(rootLife), 0), nil)
	if err != nil {
		return nil, err
	}
	key, err := keys.Open(cfg.Dir, "clock")
	if err != nil {
		return nil, err
	}
	// The extended key usage must be the only one, and critical (RFC 3161, section 2.3).
	// crypto/x509 does not mark it critical.
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
	if err != nil {
		return nil, err
	}
	leaf, err := key.Certify(x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"colophon"}, CommonName: "colophon clock"},
		NotAfter:              key.Created.Add(leafLife),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtraExtensions:       []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}},
	}, root)
	if err != nil {
		return nil, err
	}
	s := &Service{leaf: leaf, chain: []*x509.Certificate{leaf.Cert, root.Cert}, log: cfg.Log, now: time.Now}
	if s.log == nil {
		s.log = slog.Default()
	}
	for _, c := range s.chain {
		s.pem = append(s.pem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return s, nil
}

// Chain returns the leaf, then the root.
func (s *Service) Chain() []*x509.Certificate { return s.chain }

// Register serves timestamps and the chain.
func (s *Service) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+Path, s.serve)
	mux.HandleFunc("GET "+Path+"/certchain", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Write(s.pem)
	})
}

// refusal is an error that the protocol can express: the authority understood the request
// and rejects it.
type refusal struct {
	failure timestamp.FailureInfo
	why     string
}

func (r refusal) Error() string { return r.why }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/timestamp-query" {
		http.Error(w, fmt.Sprintf("got content type %q, want application/timestamp-query", r.Header.Get("Content-Type")), http.StatusUnsupportedMediaType)
		return
	}
	body, err := strict.Read(r.Body, maxRequest)
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	reply, err := s.reply(body)
	no, refused := errors.AsType[refusal](err)
	switch {
	case refused:
		if no.failure == timestamp.TimeNotAvailable {
			s.log.Error("no timestamp issued", "err", err)
		}
		reply, err = timestamp.CreateErrorResponse(timestamp.Rejection, no.failure)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err != nil {
		s.log.Error("no timestamp issued", "err", err)
		http.Error(w, "the timestamp authority failed; its log has the reason", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/timestamp-reply")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(reply)
}

// reply returns the response to a request in DER. An error other than a refusal means
// that der is not a timestamp request.
func (s *Service) reply(der []byte) ([]byte, error) {
	req, err := parse(der)
	if err != nil {
		return nil, err
	}
	now, err := s.time()
	if err != nil {
		return nil, err
	}
	token := timestamp.Timestamp{
		HashAlgorithm:     req.HashAlgorithm,
		HashedMessage:     req.HashedMessage,
		Time:              now,
		Accuracy:          accuracy,
		Nonce:             req.Nonce,
		Policy:            policy,
		AddTSACertificate: req.Certificates,
	}
	reply, err := token.CreateResponseWithOpts(s.leaf.Cert, s.leaf.Key.PrivateKey, crypto.SHA256)
	if err != nil {
		return nil, refusal{timestamp.SystemFailure, err.Error()}
	}
	return reply, nil
}

// parse reads a TimeStampReq (RFC 3161, section 2.4.1) and accepts only requests that are
// safe to sign.
func parse(der []byte) (*timestamp.Request, error) {
	// The library does not check the version.
	var version int
	var seq cryptobyte.String
	if in := cryptobyte.String(der); !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() || !seq.ReadASN1Integer(&version) {
		return nil, errors.New("not a timestamp request")
	}
	if version != 1 {
		return nil, fmt.Errorf("got a timestamp request of version %d, want 1", version)
	}
	req, err := timestamp.ParseRequest(der)
	if err != nil {
		return nil, refusal{timestamp.BadAlgorithm, err.Error()}
	}
	size, ok := sizes[req.HashAlgorithm]
	if !ok {
		return nil, refusal{timestamp.BadAlgorithm, fmt.Sprintf("got hash algorithm %s, want SHA-256, SHA-384 or SHA-512", req.HashAlgorithm)}
	}
	if len(req.HashedMessage) != size {
		return nil, refusal{timestamp.BadDataFormat, fmt.Sprintf("got a digest of %d bytes, want %d", len(req.HashedMessage), size)}
	}
	if req.Nonce != nil && (req.Nonce.Sign() < 0 || req.Nonce.BitLen() > 8*maxNonce) {
		return nil, refusal{timestamp.BadDataFormat, "the nonce is negative or too long"}
	}
	if len(req.TSAPolicyOID) > 0 && !req.TSAPolicyOID.Equal(policy) {
		return nil, refusal{timestamp.UnacceptedPolicy, fmt.Sprintf("got policy %s, want %s", req.TSAPolicyOID, policy)}
	}
	if len(req.Extensions) > 0 {
		return nil, refusal{timestamp.UnacceptedExtension, "got extensions, want none"}
	}
	return req, nil
}

// time returns the current time. It is an error if the system clock was set back, or is
// outside the validity of the certificate: no timestamp can be issued then.
func (s *Service) time() (time.Time, error) {
	now := s.now().UTC().Round(0) // wall clock
	if now.Before(s.leaf.Cert.NotBefore) || now.After(s.leaf.Cert.NotAfter) {
		return now, refusal{timestamp.TimeNotAvailable, fmt.Sprintf("the system clock says %s, but the certificate is valid from %s to %s",
			now.Format(time.RFC3339), s.leaf.Cert.NotBefore.Format(time.RFC3339), s.leaf.Cert.NotAfter.Format(time.RFC3339))}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.last.Add(-accuracy)) {
		return now, refusal{timestamp.TimeNotAvailable, fmt.Sprintf("the system clock was set back: got %s after %s", now.Format(time.RFC3339Nano), s.last.Format(time.RFC3339Nano))}
	}
	if now.After(s.last) {
		s.last = now
	}
	return now, nil
}
