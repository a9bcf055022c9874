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
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/reach"
)

// The clients of the three services are here and not sigstore-go's, because those link
// Rekor v1's models and gRPC, which took half of the start of every command, and they do
// not stop when their context ends.

const (
	timeout = 30 * time.Second // of one request
	retries = 2                // after the first request, if the service is busy or fails
)

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

// post sends a request until the service has an answer other than "busy" or "failed",
// at most 1+retries times, and returns the body of a 200 or 201.
func (s *service) post(ctx context.Context, header http.Header, body []byte) ([]byte, error) {
	for try := 0; ; try++ {
		status, answer, err := s.once(ctx, header, body)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK || status == http.StatusCreated:
			return answer, nil
		case status != http.StatusTooManyRequests && status < 500 || try == retries:
			return nil, fmt.Errorf("%s: got status %d, want 200 or 201: %.200q", s.url, status, withoutToken(answer, header))
		}
		select {
		case <-time.After(time.Second << try):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
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

func (s *service) once(ctx context.Context, header http.Header, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, nil, reach.Explain(err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, limits.Request+1))
	if err == nil && len(answer) > limits.Request {
		err = fmt.Errorf("%s: got an answer of more than %d bytes", s.url, limits.Request)
	}
	if err == nil && resp.StatusCode == http.StatusConflict {
		index, bad := strconv.ParseInt(resp.Header.Get(indexHeader), 10, 64)
		if bad != nil {
			index = -1
		}
		err = &loggedError{s.url, index}
	}
	return resp.StatusCode, answer, err
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
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", s.url, err)
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

// timestamp gets a timestamp for a signature: an RFC 3161 response, in DER.
func (s *service) timestamp(ctx context.Context, signature []byte) ([]byte, error) {
	sum := sha256.Sum256(signature)
	query, err := (&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: sum[:]}).Marshal()
	if err != nil {
		return nil, err
	}
	raw, err := s.post(ctx, header("application/timestamp-query"), query)
	if err != nil {
		return nil, err
	}
	// Whether the response is right, and whose, is verified with the bundle. The time is
	// compared before the signature is logged.
	t, err := timestamp.ParseResponse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: got no timestamp", s.url)
	}
	return raw, checkClock("the timestamp authority", t.Time, time.Now())
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
		return nil, fmt.Errorf("%s: %w", s.url, err)
	}
	return entry, nil
}
