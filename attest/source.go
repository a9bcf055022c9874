package attest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// GitCommit is the digest algorithm of a subject that is a git commit: its value is the
// commit's id (in-toto attestation spec, v1/digest_set.md).
const GitCommit = "gitCommit"

// reviewersPrefix begins the level of a Source VSA that says how many reviewers other than
// the author approved the commit. It is Colophon's own: SLSA's levels do not say it.
const reviewersPrefix = "COLOPHON_SOURCE_REVIEWERS_"

// SourceVSA returns the summary that a commit of a repository has a Source level and a number
// of reviewers (slsa.dev/spec/v1.2/source-requirements, "Source verification summary
// attestation"). Its Verifier and Policy are left to the caller.
func SourceVSA(uri string, level, reviewers int, at time.Time) *VSA {
	at = at.UTC().Truncate(time.Second)
	v := &VSA{
		TimeVerified: &at, ResourceURI: GitURI(uri, ""), VerificationResult: VSAPassed,
		VerifiedLevels: []string{sourceLevelName(level)}, SLSAVersion: SLSAVersion,
	}
	if reviewers > 0 {
		v.VerifiedLevels = append(v.VerifiedLevels, reviewersPrefix+strconv.Itoa(reviewers))
	}
	return v
}

// sourceLevelName returns the SlsaResult of a Source level 0 to 4: SLSA_SOURCE_LEVEL_3.
func sourceLevelName(level int) string { return fmt.Sprintf("SLSA_SOURCE_LEVEL_%d", level) }

// SourceLevel returns the SLSA Source level that was verified, or 0 if the summary has none.
func (v *VSA) SourceLevel() int {
	for _, l := range v.VerifiedLevels {
		if track, level, err := parseLevel(l); err == nil && track == "SOURCE" && level > 0 {
			return level
		}
	}
	return 0
}

// Reviewers returns how many reviewers other than the author approved the commit, or 0 if the
// summary does not say it. If it says it twice, the smaller number counts.
func (v *VSA) Reviewers() int {
	found := -1
	for _, l := range v.VerifiedLevels {
		text, ok := strings.CutPrefix(l, reviewersPrefix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return 0
		}
		if found < 0 || int(n) < found {
			found = int(n)
		}
	}
	return max(found, 0)
}

// NewSourceStatement returns the JSON of a Statement v1 that is a Source VSA about a commit.
// refs are full names of branches and tags that had the commit.
func NewSourceStatement(commit string, refs []string, vsa *VSA) ([]byte, error) {
	type subject struct {
		Digest      map[string]string   `json:"digest"`
		Annotations map[string][]string `json:"annotations,omitempty"`
	}
	about := subject{Digest: map[string]string{GitCommit: commit}}
	if len(refs) > 0 {
		about.Annotations = map[string][]string{"sourceRefs": refs}
	}
	return json.Marshal(struct {
		Type          string    `json:"_type"`
		Subject       []subject `json:"subject"`
		PredicateType string    `json:"predicateType"`
		Predicate     *VSA      `json:"predicate"`
	}{StatementType, []subject{about}, PredicateVSA, vsa})
}
