package attest

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// PredicateVSA is the SLSA verification summary v1.
const PredicateVSA = "https://slsa.dev/verification_summary/v1"

// Results of a verification summary.
const (
	VSAPassed = "PASSED"
	VSAFailed = "FAILED"
)

// SLSAVersion is the version of SLSA that summaries of Colophon speak of.
const SLSAVersion = "1.2"

// VSA is the predicate of a SLSA verification summary
// (slsa.dev/spec/v1.2/verification_summary): somebody verified the subject, and
// says how that went.
type VSA struct {
	Verifier           VSAVerifier          `json:"verifier"`
	TimeVerified       *time.Time           `json:"timeVerified,omitempty"`
	ResourceURI        string               `json:"resourceUri"`
	Policy             ResourceDescriptor   `json:"policy"`
	InputAttestations  []ResourceDescriptor `json:"inputAttestations,omitempty"`
	VerificationResult string               `json:"verificationResult"` // VSAPassed or VSAFailed
	VerifiedLevels     []string             `json:"verifiedLevels"`     // SlsaResults: at most one of a track
	DependencyLevels   map[string]uint64    `json:"dependencyLevels,omitempty"`
	SLSAVersion        string               `json:"slsaVersion,omitempty"`
}

// VSAVerifier is who verified.
type VSAVerifier struct {
	ID      string            `json:"id"` // URI
	Version map[string]string `json:"version,omitempty"`
}

const maxLevels = 64 // SlsaResults of one summary

var (
	// trackLevel is how levels of SLSA's tracks are written (section "SlsaResult").
	trackLevel = regexp.MustCompile(`^SLSA_([A-Z]+(?:_[A-Z]+)*)_LEVEL_([0-9]|UNEVALUATED)$`)
	// slsaRange are the versions of SLSA that the predicate type stands for.
	slsaRange = regexp.MustCompile(`^1\.[0-9]{1,3}$`)
)

// ParseVSA reads the predicate strictly. Unrecognised members are ignored, as
// the specification says; a summary that contradicts itself is refused.
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

// Check fails where a required member is missing, or two contradict each other.
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
			return fmt.Errorf("the result is %s, and %s is among its levels", v.VerificationResult, l)
		}
		track, _, err := parseLevel(l)
		if err != nil {
			return err
		}
		if track != "" && tracks[track] {
			return fmt.Errorf("got more than one level of the track %s", track)
		}
		tracks[track] = true
	}
	for l := range v.DependencyLevels {
		if _, _, err := parseLevel(l); err != nil {
			return fmt.Errorf("of dependencies: %w", err)
		}
	}
	return nil
}

// parseLevel reads a SlsaResult: a level of a track (-1: unevaluated), or
// something else, which has no track. What looks like a level must be one.
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

// BuildLevel is the SLSA Build level that was verified; 0 where the summary
// says none.
func (v *VSA) BuildLevel() int {
	for _, l := range v.VerifiedLevels {
		if track, level, err := parseLevel(l); err == nil && track == "BUILD" && level > 0 {
			return level
		}
	}
	return 0
}

// Reaches says whether want is among the verified levels: as it is written, or
// by a higher level of the same track.
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

// CheckLevel fails unless s can be a SlsaResult of something that passed.
func CheckLevel(s string) error {
	if s == VSAFailed {
		return fmt.Errorf("level: got %q, which nothing that passed has", s)
	}
	_, _, err := parseLevel(s)
	return err
}

// BuildLevelName is the SlsaResult of a Build level, 0 to 3.
func BuildLevelName(level int) string { return fmt.Sprintf("SLSA_BUILD_LEVEL_%d", level) }

// BuildUnevaluated is the SlsaResult that makes no claim about the Build track.
const BuildUnevaluated = "SLSA_BUILD_LEVEL_UNEVALUATED"

// ImageURI is the package URL of a repository of images, HOST/NAME, which holds
// for all of its images (purl-spec, type oci; the version is left out, as the
// subject has the digest).
func ImageURI(repository string) string {
	name := repository[strings.LastIndexByte(repository, '/')+1:]
	escaped := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(url.QueryEscape(repository))
	return "pkg:oci/" + url.PathEscape(name) + "?repository_url=" + escaped
}
