package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// PathArchive leads to the archive of signed evidence: GET answers a KeptList, GET
// PathArchive/sha256:HEX the content, POST keeps a bundle and answers a Kept.
const PathArchive = "/api/colophon/v1/archive"

// Paths below PathArchive for who searches the archive (spec/archive/v1): the search, and the tiles of
// the archive's log and of its index log.
const (
	PathArchiveSearch = PathArchive + "/search"
	PathArchiveLog    = PathArchive + "/log/"
	PathArchiveIndex  = PathArchive + "/index/"
)

// Form says what the content of a Kept is.
type Form string

// All forms.
const (
	FormBundle            Form = "bundle"             // a Sigstore bundle
	FormCosignSignature   Form = "cosign-signature"   // a simple signing payload of cosign v2; the signature is in Annotations
	FormCosignAttestation Form = "cosign-attestation" // a DSSE envelope of cosign v2; certificate and log entry are in Annotations
	FormEnvelope          Form = "dsse"               // a DSSE envelope
	FormStatement         Form = "statement"          // an in-toto statement that nobody signed
	FormNotation          Form = "notation"           // an envelope of the Notary Project
)

// Kept is one piece of evidence in a platform's archive. Spec: docs/api.md. Form,
// Annotations and all that the content says are whatever somebody pushed: verify it.
type Kept struct {
	Number int64     `json:"number"` // in the order of arrival, from 1
	Since  time.Time `json:"since"`
	Form   Form      `json:"form"`
	Digest string    `json:"digest"` // sha256:hex of the content
	Size   int64     `json:"size"`   // of the content, bytes
	// Leaf is the leaf hash, hex, that the entry of the signature has in a Rekor v2 log
	// (RFC 6962, 2.1), computed from the content; empty if it cannot be computed.
	Leaf        string            `json:"leaf,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"` // of the layer, for the forms of cosign v2
}

// KeptList is a part of what the archive keeps, in the order of arrival.
type KeptList struct {
	Kept []Kept `json:"kept"`
	Next int64  `json:"next,omitempty"` // there may be more, after this number

	// Filling says that the archive does not have all evidence yet that its registry had before the
	// archive existed.
	Filling bool `json:"filling,omitempty"`
}

// MaxKept is the limit of one KeptList: of its elements, and of its bytes.
const (
	MaxKept      = 100
	MaxKeptBytes = 4 << 20
)

// MaxContent is the limit of what the archive keeps as one piece, in bytes. Nobody reads
// larger evidence: see package bundle.
const MaxContent = limits.Bundle

// KeptWith asks the archive for evidence with a leaf hash, hex.
func (c *ClientConfig) KeptWith(ctx context.Context, leaf string, after int64) (*KeptList, error) {
	return c.kept(ctx, url.Values{"leaf": {leaf}}, after)
}

// KeptAbout asks the archive for evidence about a digest: ALGORITHM:HEX.
func (c *ClientConfig) KeptAbout(ctx context.Context, subject string, after int64) (*KeptList, error) {
	return c.kept(ctx, url.Values{"subject": {subject}}, after)
}

func (c *ClientConfig) kept(ctx context.Context, q url.Values, after int64) (*KeptList, error) {
	if after > 0 {
		q.Set("after", strconv.FormatInt(after, 10))
	}
	raw, err := c.archived(ctx, PathArchive+"?"+q.Encode(), MaxKeptBytes)
	if err != nil {
		return nil, err
	}
	var list KeptList
	if err := strict.Unmarshal(raw, MaxKeptBytes, &list); err != nil {
		return nil, fmt.Errorf("platform %s, archive: %w", c.URL, err)
	}
	if list.Next != 0 && list.Next <= after {
		return nil, fmt.Errorf("platform %s, archive: its list does not end", c.URL)
	}
	return &list, nil
}

// Content returns the content of k, which has its digest and size.
func (c *ClientConfig) Content(ctx context.Context, k Kept) ([]byte, error) {
	if !sha256Digest.MatchString(k.Digest) || k.Size < 0 || k.Size > MaxContent {
		return nil, fmt.Errorf("platform %s, archive: got the digest %q and %d bytes", c.URL, k.Digest, k.Size)
	}
	raw, err := c.archived(ctx, PathArchive+"/"+k.Digest, int(k.Size))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(raw); "sha256:"+hex.EncodeToString(sum[:]) != k.Digest {
		return nil, fmt.Errorf("platform %s, archive: got content with the digest sha256:%x, want %s", c.URL, sum, k.Digest)
	}
	return raw, nil
}

// Keep has the archive keep a Sigstore bundle, and returns when it is on disk. It needs a
// token that may push.
func (c *ClientConfig) Keep(ctx context.Context, raw []byte) (*Kept, error) {
	answer, err := c.read(ctx, http.MethodPost, PathArchive, raw, http.StatusCreated, limits.Request)
	if err != nil {
		return nil, err
	}
	var k Kept
	if err := strict.Unmarshal(answer, limits.Request, &k); err != nil {
		return nil, fmt.Errorf("platform %s, archive: %w", c.URL, err)
	}
	if sum := sha256.Sum256(raw); k.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("platform %s, archive: it kept %q, want sha256:%x", c.URL, k.Digest, sum)
	}
	return &k, nil
}

// archived reads an answer of the archive. It sends the token if there is one: a platform
// whose registry demands a token to pull demands one here too.
func (c *ClientConfig) archived(ctx context.Context, path string, max int) ([]byte, error) {
	r, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, absent{refusal(c.URL, resp)}
	default:
		return nil, refusal(c.URL, resp)
	}
	raw, err := strict.Read(resp.Body, max)
	if err != nil {
		return nil, fmt.Errorf("platform %s, archive: %w", c.URL, err)
	}
	return raw, nil
}

// absent is the error of an archive that does not have what was asked for.
type absent struct{ error }

func (absent) Is(target error) bool { return target == fs.ErrNotExist }
func (a absent) Unwrap() error      { return a.error }
