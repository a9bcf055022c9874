package policy

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/colophon-build/colophon/attest"
)

// Verifier is somebody who verifies images in the consumer's place, and signs a
// SLSA verification summary that says so
// (slsa.dev/spec/v1.2/verification_summary, "How to verify").
type Verifier struct {
	ID           string        // verifier.id of the summary, a URI, compared whole; required
	Signer       Signer        // who must have signed it; required: each pair of ID and Signer is trusted by itself
	Resource     string        // resourceUri, compared whole; empty: attest.ImageURI of the repository that was asked
	PolicyDigest string        // sha256:HEX of the policy that was verified against; empty: any
	Levels       []string      // SlsaResults that must be among the verified levels, or a higher one of the same track
	MaxAge       time.Duration // how long ago it may have been verified; 0: any time
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
	if err := checkSigner(v.Signer); err != nil {
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
	if v.MaxAge < 0 {
		return fmt.Errorf("policy: verifier %q: age of a summary: got %s, want more than 0s", v.ID, v.MaxAge)
	}
	return nil
}

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
	if want := p.minLevel(); want > 0 {
		if err := matchLevel(s.BuildLevel(), want); err != nil {
			return err
		}
	}
	switch {
	case v.MaxAge == 0:
		return nil
	case s.TimeVerified == nil:
		return fmt.Errorf("it does not say when it was verified, want within %s", v.MaxAge)
	case now.Sub(*s.TimeVerified) > v.MaxAge:
		return fmt.Errorf("verified %s, want within %s", s.TimeVerified.UTC().Format(time.RFC3339), v.MaxAge)
	}
	return nil
}

// minLevel is the SLSA Build level that a summary must state at least: the one
// that the policy demands of provenance, too.
func (p Policy) minLevel() int {
	if o, ok := p.Origin.(SummaryOnly); ok {
		return o.MinLevel
	}
	return p.Provenance().MinLevel
}

// Concerns fails unless the verifier is trusted for a summary: it must have the
// verifier's id, be about the resource (the given one, where the policy names
// none) and rest on the policy demanded.
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
