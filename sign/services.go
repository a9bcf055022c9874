package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/digitorus/timestamp"
	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
)

// The clients of the three services are here and not sigstore-go's, because those link
// Rekor v1's models and gRPC, which took half of the start of every command, and they do
// not stop when their context ends.

// timeout is that of one request.
const timeout = 30 * time.Second

// again repeats requests to a service that is busy, fails or gives no answer. No harm is done
// if it did get the first one: the log returns the same entry for the same signature, or says
// where that is.
var again = reach.Retry{
	Server: "the service", Pause: 500 * time.Millisecond,
	MayPass: func(err error) bool {
		if e, answered := errors.AsType[*statusError](err); answered {
			return e.status == http.StatusTooManyRequests || e.status >= 500
		}
		unreached, _ := errors.AsType[*reach.Error](err)
		return errors.Is(err, io.ErrUnexpectedEOF) || unreached != nil && (unreached.Why == reach.Closed || unreached.Why == reach.Late || unreached.Why == reach.Refused || unreached.Why == reach.NoConnection)
	},
	After: func(err error) string {
		if e, ok := errors.AsType[*statusError](err); ok {
			return e.retryAfter
		}
		return ""
	},
}

// statusError is an answer that is neither 200 nor 201.
type statusError struct {
	url        string
	status     int
	said       []byte
	retryAfter string // header
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%s: got status %d, want 200 or 201", e.url, e.status)
	if len(e.said) > 0 {
		s += fmt.Sprintf(": %.200q", e.said)
	}
	return s
}

// loggedError means that a log has the same entry already: it answered an earlier request, and
// the answer was lost. Colophon's log returns the entry again; others say where it is
// (rekor-tiles v2, service.go).
type loggedError struct {
	url   string
	index int64 // negative if the log does not say it
}

func (e *loggedError) Error() string {
	return e.url + ": got status 409: the log has this entry already"
}

// indexHeader says in an answer of status 409 where the log has the entry.
const indexHeader = "X-Log-Index"

// service is one HTTP service that takes part in a signature.
type service struct {
	url    string // of the endpoint
	client *http.Client
}

// newService returns the service with its endpoint at url. A nil transport means
// http.DefaultTransport.
func newService(url string, transport http.RoundTripper) *service {
	return &service{url, &http.Client{
		Transport: transport,
		Timeout:   timeout,
		// A token must not follow a redirect, and none of the protocols has any.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post sends a request, again if the service may answer later, and returns the body of a 200
// or 201.
func (s *service) post(ctx context.Context, header http.Header, body []byte) (answer []byte, err error) {
	err = again.Do(ctx, func() (err error) {
		answer, err = s.once(ctx, header, body)
		return err
	})
	return answer, err
}

// withoutToken replaces the token of a request, and its parts, in an answer: a server may
// quote the request in its error.
func withoutToken(answer []byte, header http.Header) []byte {
	token := strings.TrimPrefix(header.Get("Authorization"), "Bearer ")
	for _, part := range append([]string{token}, strings.Split(token, ".")...) {
		if part != "" {
			answer = bytes.ReplaceAll(answer, []byte(part), []byte("[token]"))
		}
	}
	return answer
}

func (s *service) once(ctx context.Context, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, reach.Explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusConflict {
		index, bad := strconv.ParseInt(resp.Header.Get(indexHeader), 10, 64)
		if bad != nil {
			index = -1
		}
		return nil, &loggedError{s.url, index}
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limits.Request+1))
	switch {
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated:
		return nil, &statusError{s.url, resp.StatusCode, withoutToken(answer, header), resp.Header.Get("Retry-After")}
	case err != nil:
		return nil, fmt.Errorf("%s: its answer ended early: %w", s.url, err)
	case len(answer) > limits.Request:
		return nil, fmt.Errorf("%s: got an answer of more than %d bytes", s.url, limits.Request)
	}
	return answer, nil
}

func header(contentType string) http.Header {
	return http.Header{"Content-Type": {contentType}, "User-Agent": {"colophon"}}
}

// certify exchanges a token for a certificate of the key, and returns its DER (Fulcio
// v2, fulcio.proto, CreateSigningCertificate).
func (s *service) certify(ctx context.Context, k *key, token string) ([]byte, error) {
	name, err := challenge(token)
	if err != nil {
		return nil, err
	}
	digest := k.hash().New()
	digest.Write([]byte(name))
	proof, err := k.sign(digest.Sum(nil))
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]any{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.spki}))},
		"proofOfPossession": proof,
	}})
	if err != nil {
		return nil, err
	}
	h := header("application/json")
	h.Set("Authorization", "Bearer "+token)
	raw, err := s.post(ctx, h, body)
	if err != nil {
		return nil, err
	}
	type issued struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var answer struct {
		Embedded issued `json:"signedCertificateEmbeddedSct"`
		Detached issued `json:"signedCertificateDetachedSct"`
	}
	if err := strict.Unmarshal(raw, limits.Request, &answer); err != nil {
		return nil, fmt.Errorf("%s: expected a certificate, found %.100q: %w", s.url, withoutToken(raw, h), err)
	}
	chain := append(answer.Embedded.Chain.Certificates, answer.Detached.Chain.Certificates...)
	if len(chain) > 0 {
		if block, _ := pem.Decode([]byte(chain[0])); block != nil && block.Type == "CERTIFICATE" {
			return block.Bytes, nil
		}
	}
	return nil, fmt.Errorf("%s: got no certificate", s.url)
}

// challenge returns the text that a Fulcio certificate authority wants signed as proof
// of possession: the email address in the token if there is one, otherwise its subject.
// The authority verifies the token; this only reads it.
func challenge(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("token: got no JWT")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", errors.New("token: got no JWT") // the error would quote the token
	}
	var claims struct {
		Subject string `json:"sub"`
		Email   string `json:"email"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", errors.New("token: got no claims in JSON")
	}
	if claims.Email != "" {
		return claims.Email, nil
	}
	if claims.Subject == "" {
		return "", errors.New("token: got no subject")
	}
	return claims.Subject, nil
}

// timestamp gets a timestamp for a signature: an RFC 3161 response, in DER, of a timestamp
// authority of trusted.
func (s *service) timestamp(ctx context.Context, signature []byte, trusted root.TrustedMaterial) ([]byte, error) {
	sum := sha256.Sum256(signature)
	query, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:]}).Marshal()
	if err != nil {
		return nil, err
	}
	raw, err := s.post(ctx, header("application/timestamp-query"), query)
	if err != nil {
		return nil, err
	}
	t, err := timestamp.ParseResponse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: got no timestamp", s.url)
	}
	if err := checkClock("the timestamp authority", t.Time, time.Now()); err != nil {
		return nil, err
	}
	// The bundle is verified once it is logged. A signature that has no use is not.
	for _, authority := range trusted.TimestampingAuthorities() {
		if _, err := authority.Verify(raw, signature); err == nil {
			return raw, nil
		}
	}
	return nil, fmt.Errorf("%s: got no timestamp of this signature by a timestamp authority of the trust root", s.url)
}

// verifier is the certificate or public key that verifies a signature, as the log wants
// it (rekor-tiles, verifier.proto).
type verifier struct {
	Certificate *rawBytes `json:"x509Certificate,omitempty"`
	PublicKey   *rawBytes `json:"publicKey,omitempty"`
	KeyDetails  string    `json:"keyDetails"` // algorithm (protobuf-specs, PublicKeyDetails)
}

type rawBytes struct {
	DER []byte `json:"rawBytes"`
}

// log enters a signature and its digest in the log, as a hashedrekord 0.0.2 (rekor-tiles,
// hashedrekord.proto), and returns the entry with its inclusion proof.
func (s *service) log(ctx context.Context, verifier *verifier, digest, signature []byte) (*rekorpb.TransparencyLogEntry, error) {
	body, err := json.Marshal(map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest":    digest,
		"signature": map[string]any{"content": signature, "verifier": verifier},
	}})
	if err != nil {
		return nil, err
	}
	raw, err := s.post(ctx, header("application/json"), body)
	if err != nil {
		return nil, err
	}
	entry := new(rekorpb.TransparencyLogEntry)
	if err := protojson.Unmarshal(raw, entry); err != nil {
		return nil, fmt.Errorf("%s: expected a log entry, found %.100q: %w", s.url, raw, err)
	}
	return entry, nil
}
