package policy

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/colophon-build/colophon/attest"
)

// maxVerifiers bounds how many verifiers one policy believes.
const maxVerifiers = 16

// Verifier is somebody who verified in the consumer's place, and signed a SLSA
// verification summary that says so (slsa.dev/spec/v1.2/verification_summary,
// "How to verify").
type Verifier struct {
	ID           string   `json:"id"`                     // verifier.id of the summary, compared whole
	Signer       Signer   `json:"signer"`                 // who must have signed it: each pair of id and signer is believed by itself
	Resource     string   `json:"resource,omitempty"`     // resourceUri, compared whole; absent: attest.ImageURI of the repository that was asked
	PolicyDigest string   `json:"policyDigest,omitempty"` // sha256:HEX of the policy that was verified against; absent: any
	Levels       []string `json:"levels,omitempty"`       // SlsaResults that must be among the verified levels, or a higher one of the same track
	MaxAge       string   `json:"maxAge,omitempty"`       // how long ago it may have been verified, as in 720h; absent: any time
}

func (v Verifier) check() error {
	for _, uri := range []string{v.ID, v.Resource} {
		if u, err := url.Parse(uri); uri != "" && (err != nil || u.Scheme == "") {
			return fmt.Errorf("policy: verifier: got %q, want a URI", uri)
		}
	}
	if v.ID == "" {
		return fmt.Errorf("policy: a verifier has no id")
	}
	if err := v.Signer.check(); err != nil {
		return err
	}
	if digest, ok := strings.CutPrefix(v.PolicyDigest, "sha256:"); v.PolicyDigest != "" {
		if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != 32 || digest != strings.ToLower(digest) {
			return fmt.Errorf("policy: policy digest of verifier %q: got %q, want sha256:HEX", v.ID, v.PolicyDigest)
		}
	}
	for _, l := range v.Levels {
		if err := attest.CheckLevel(l); err != nil {
			return fmt.Errorf("policy: verifier %q: %w", v.ID, err)
		}
	}
	_, err := v.age()
	return err
}

// age is MaxAge, 0 where any will do.
func (v Verifier) age() (time.Duration, error) {
	if v.MaxAge == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v.MaxAge)
	if err == nil && d <= 0 {
		err = fmt.Errorf("got %q, want more than nothing", v.MaxAge)
	}
	if err != nil {
		return 0, fmt.Errorf("policy: age of a summary of verifier %q: %w", v.ID, err)
	}
	return d, nil
}

// Chain says whether the policy demands evidence of the image's own: a
// provenance of some source, or a signature.
func (p Policy) Chain() bool { return p.Source != "" || p.AnySource || p.Signer != nil }

// MatchSummary fails unless a summary by the verifier says what is demanded, as
// of now.
func (p Policy) MatchSummary(v Verifier, s *attest.VSA, now time.Time) error {
	if s.VerificationResult != attest.VSAPassed {
		return fmt.Errorf("result: got %q, want %q", s.VerificationResult, attest.VSAPassed)
	}
	for _, want := range v.Levels {
		if !s.Reaches(want) {
			return fmt.Errorf("verified levels: got %q, want %q", s.VerifiedLevels, want)
		}
	}
	if p.MinLevel > 0 {
		if err := p.MatchLevel(s.BuildLevel()); err != nil {
			return err
		}
	}
	age, err := v.age()
	switch {
	case err != nil || age == 0:
		return err
	case s.TimeVerified == nil:
		return fmt.Errorf("it does not say when it was verified, want within %s", age)
	case now.Sub(*s.TimeVerified) > age:
		return fmt.Errorf("verified %s, want within %s", s.TimeVerified.UTC().Format(time.RFC3339), age)
	}
	return nil
}

// Concerns fails unless a summary is one that the verifier is believed for: of
// its id, about the resource (that of the image, where the policy names none),
// by the policy demanded.
func (v Verifier) Concerns(s *attest.VSA, resource string) error {
	if v.Resource != "" {
		resource = v.Resource
	}
	got := ""
	if d := s.Policy.Digest["sha256"]; d != "" {
		got = "sha256:" + d
	}
	switch {
	case s.Verifier.ID != v.ID:
		return fmt.Errorf("verifier: got %q, want %q", s.Verifier.ID, v.ID)
	case resource == "":
		return fmt.Errorf("resource: got %q, and the policy does not say which one to expect", s.ResourceURI)
	case s.ResourceURI != resource:
		return fmt.Errorf("resource: got %q, want %q", s.ResourceURI, resource)
	case v.PolicyDigest != "" && got != v.PolicyDigest:
		return fmt.Errorf("policy of the summary: got %q, want %q", got, v.PolicyDigest)
	}
	return nil
}
