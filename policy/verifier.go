package policy

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/colophon-build/colophon/attest"
)

// Verifier verifies images for consumers, and signs a SLSA verification summary of the
// result (slsa.dev/spec/v1.2/verification_summary, "How to verify").
type Verifier struct {
	ID           string        // verifier.id of the summary, a URI, compared whole; required
	Signer       Signer        // who must have signed the summary; required
	Resource     string        // resourceUri of the summary, compared whole; empty: attest.ImageURI of the image's repository
	PolicyDigest string        // "sha256:HEX" of the policy in the summary; empty: any
	Levels       []string      // SlsaResults, as in SLSA_BUILD_LEVEL_2, that the summary must have, or a higher one of the same track
	MaxAge       time.Duration // maximum time since timeVerified of the summary; 0: any
}

func (v Verifier) check() error {
	for _, uri := range []string{v.ID, v.Resource} {
		if u, err := url.Parse(uri); uri != "" && (err != nil || u.Scheme == "") {
			return fmt.Errorf("policy: verifier: got %q, want a URI", uri)
		}
	}
	if v.ID == "" {
		return fmt.Errorf("policy: verifier: got no id")
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
		return fmt.Errorf("policy: verifier %q: maxAge: got %s, want more than 0s", v.ID, v.MaxAge)
	}
	return nil
}

// MatchSummary fails unless a summary by v says PASSED, with the levels and the age
// that the policy demands at the time now. Call Concerns first.
func (p Policy) MatchSummary(v Verifier, s *attest.VSA, now time.Time) error {
	if err := v.passed(s, now); err != nil {
		return err
	}
	if want := p.minLevel(); want > 0 {
		return matchLevel(s.BuildLevel(), want)
	}
	return nil
}

// passed fails unless a summary, of an image or of a commit, says PASSED, with the levels and
// the age that v demands at the time now.
func (v Verifier) passed(s *attest.VSA, now time.Time) error {
	if s.VerificationResult != attest.VSAPassed {
		return fmt.Errorf("result: got %q, want %q", s.VerificationResult, attest.VSAPassed)
	}
	for _, want := range v.Levels {
		if !s.Reaches(want) {
			return fmt.Errorf("verified levels: got %q, want %q", s.VerifiedLevels, want)
		}
	}
	switch {
	case v.MaxAge == 0:
		return nil
	case s.TimeVerified == nil:
		return fmt.Errorf("timeVerified: got none, want within the last %s", v.MaxAge)
	case now.Sub(*s.TimeVerified) > v.MaxAge:
		return fmt.Errorf("timeVerified: got %s, want within the last %s", s.TimeVerified.UTC().Format(time.RFC3339), v.MaxAge)
	}
	return nil
}

// minLevel returns the lowest SLSA Build level that a summary must have, which is the
// one that the policy demands of provenance.
func (p Policy) minLevel() int {
	if o, ok := p.Origin.(SummaryOnly); ok {
		return o.MinLevel
	}
	return p.Provenance().MinLevel
}

// Concerns fails unless a summary has the verifier's id, is about v.Resource (or else
// the given resource) and rests on the policy with v.PolicyDigest.
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
		return fmt.Errorf("resource: got %q, and the policy does not say which resource to expect", s.ResourceURI)
	case s.ResourceURI != resource:
		return fmt.Errorf("resource: got %q, want %q", s.ResourceURI, resource)
	case v.PolicyDigest != "" && got != v.PolicyDigest:
		return fmt.Errorf("policy of the summary: got %q, want %q", got, v.PolicyDigest)
	}
	return nil
}
