package attest

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Values of VSA.VerificationResult.
const (
	VSAPassed = "PASSED"
	VSAFailed = "FAILED"
)

// SLSAVersion is the SLSAVersion of the summaries that Colophon writes.
const SLSAVersion = "1.2"

// VSA is the predicate of a SLSA verification summary
// (slsa.dev/spec/v1.2/verification_summary): a verifier reports whether the
// subject met a policy, and which SLSA levels it reached.
type VSA struct {
	Verifier           VSAVerifier          `json:"verifier"`
	TimeVerified       *time.Time           `json:"timeVerified,omitempty"`
	ResourceURI        string               `json:"resourceUri"` // where consumers get the subject; see ImageURI
	Policy             ResourceDescriptor   `json:"policy"`      // the policy that was applied; its URI is required
	InputAttestations  []ResourceDescriptor `json:"inputAttestations,omitempty"`
	VerificationResult string               `json:"verificationResult"`         // VSAPassed or VSAFailed
	VerifiedLevels     []string             `json:"verifiedLevels"`             // such as SLSA_BUILD_LEVEL_3; 1 to 64, at most one of each track
	DependencyLevels   map[string]uint64    `json:"dependencyLevels,omitempty"` // level to the number of dependencies that reach it
	SLSAVersion        string               `json:"slsaVersion,omitempty"`      // "1.x"
}

// VSAVerifier identifies the verifier.
type VSAVerifier struct {
	ID      string            `json:"id"` // URI; compare it with the signer
	Version map[string]string `json:"version,omitempty"`
}

const maxLevels = 64 // of one summary

var (
	// trackLevel matches a level of a SLSA track (section "SlsaResult").
	trackLevel = lazyregexp.New(`^SLSA_([A-Z]+(?:_[A-Z]+)*)_LEVEL_([0-9]|UNEVALUATED)$`)
	// slsaRange matches the versions of SLSA that PredicateVSA belongs to.
	slsaRange = lazyregexp.New(`^1\.[0-9]{1,3}$`)
)

// ParseVSA reads the predicate of a verification summary and checks it: see
// Check.
func ParseVSA(predicate []byte) (*VSA, error) {
	var v VSA
	if err := strict.Unmarshal(predicate, limits.Statement, &v); err != nil {
		return nil, fmt.Errorf("verification summary: %w", err)
	}
	if err := v.Check(); err != nil {
		return nil, fmt.Errorf("verification summary: %w", err)
	}
	return &v, nil
}

// Check fails if a required member is missing or malformed, or if two members
// contradict each other.
func (v *VSA) Check() error {
	for _, uri := range [][2]string{{"verifier id", v.Verifier.ID}, {"resource", v.ResourceURI}, {"policy", v.Policy.URI}} {
		if u, err := url.Parse(uri[1]); err != nil || u.Scheme == "" {
			return fmt.Errorf("%s: got %q, want a URI", uri[0], uri[1])
		}
	}
	switch {
	case v.VerificationResult != VSAPassed && v.VerificationResult != VSAFailed:
		return fmt.Errorf("result: got %q, want %q or %q", v.VerificationResult, VSAPassed, VSAFailed)
	case len(v.VerifiedLevels) == 0 || len(v.VerifiedLevels) > maxLevels:
		return fmt.Errorf("got %d verified levels, want 1 to %d", len(v.VerifiedLevels), maxLevels)
	case v.SLSAVersion != "" && !slsaRange.MatchString(v.SLSAVersion):
		return fmt.Errorf("version of SLSA: got %q, want 1.x", v.SLSAVersion)
	}
	tracks := make(map[string]bool)
	for _, l := range v.VerifiedLevels {
		if l == VSAFailed && v.VerificationResult != VSAFailed {
			return fmt.Errorf("the result is %s, but the levels contain %s", v.VerificationResult, l)
		}
		track, _, err := parseLevel(l)
		if err != nil {
			return err
		}
		if track != "" && tracks[track] {
			return fmt.Errorf("more than one level of the track %s", track)
		}
		tracks[track] = true
	}
	for l := range v.DependencyLevels {
		if _, _, err := parseLevel(l); err != nil {
			return fmt.Errorf("dependencies: %w", err)
		}
	}
	return nil
}

// parseLevel reads a SlsaResult. For a level of a track it returns both; level is
// -1 for UNEVALUATED. Any other text has the track "", unless it looks like a
// malformed level: that is an error.
func parseLevel(s string) (track string, level int, err error) {
	m := trackLevel.FindStringSubmatch(s)
	switch {
	case s == "" || strings.HasPrefix(s, "SLSA_") && strings.Contains(s, "_LEVEL") && m == nil:
		return "", 0, fmt.Errorf("level: got %q, want SLSA_TRACK_LEVEL_NUMBER", s)
	case m == nil:
		return "", 0, nil
	case m[2] == "UNEVALUATED":
		return m[1], -1, nil
	}
	level, err = strconv.Atoi(m[2])
	return m[1], level, err
}

// BuildLevel returns the SLSA Build level that was verified, or 0 if the summary
// has none.
func (v *VSA) BuildLevel() int {
	for _, l := range v.VerifiedLevels {
		if track, level, err := parseLevel(l); err == nil && track == "BUILD" && level > 0 {
			return level
		}
	}
	return 0
}

// Reaches reports whether the verified levels contain want or a higher level of
// the same track.
func (v *VSA) Reaches(want string) bool {
	track, least, err := parseLevel(want)
	if err != nil {
		return false
	}
	for _, l := range v.VerifiedLevels {
		t, level, err := parseLevel(l)
		if l == want || err == nil && track != "" && t == track && least >= 0 && level >= least {
			return true
		}
	}
	return false
}

// CheckLevel fails unless s is a valid level of a summary that passed: a
// SlsaResult other than VSAFailed.
func CheckLevel(s string) error {
	if s == VSAFailed {
		return fmt.Errorf("level: got %q, want a level that a passed verification can have", s)
	}
	_, _, err := parseLevel(s)
	return err
}

// BuildLevelName returns the SlsaResult of a Build level 0 to 3:
// SLSA_BUILD_LEVEL_3.
func BuildLevelName(level int) string { return fmt.Sprintf("SLSA_BUILD_LEVEL_%d", level) }

// BuildUnevaluated is the SlsaResult that makes no claim about the Build track.
const BuildUnevaluated = "SLSA_BUILD_LEVEL_UNEVALUATED"

// ImageURI returns the package URL of an image repository HOST/NAME, such as
// pkg:oci/app?repository_url=reg.example.com/team/app (purl-spec, type oci). It
// has no version: the subject of the statement holds the digest.
func ImageURI(repository string) string {
	name := repository[strings.LastIndexByte(repository, '/')+1:]
	escaped := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(url.QueryEscape(repository))
	return "pkg:oci/" + url.PathEscape(name) + "?repository_url=" + escaped
}
