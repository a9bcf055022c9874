package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/colophon-build/colophon/attest"
)

// SourceTrack is what a commit must reach on SLSA's Source track. The zero SourceTrack
// demands nothing.
type SourceTrack struct {
	MinLevel  int // 1 to 4; 0: any
	Reviewers int // minimum number of accounts other than the author's that approved the commit
}

const maxReviewers = 16 // that a policy can demand of one commit

// Check fails if the numbers are out of range.
func (t SourceTrack) Check() error {
	switch {
	case t.MinLevel < 0 || t.MinLevel > 4:
		return fmt.Errorf("policy: Source level: got %d, want 1 to 4", t.MinLevel)
	case t.Reviewers < 0 || t.Reviewers > maxReviewers:
		return fmt.Errorf("policy: reviewers: got %d, want 1 to %d", t.Reviewers, maxReviewers)
	}
	return nil
}

// Digest returns the SHA-256 digest, in hex, that identifies the demand in a Source VSA: that
// of the JSON {"source":{"minLevel":N,"reviewers":N}}, without white space.
func (t SourceTrack) Digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, `{"source":{"minLevel":%d,"reviewers":%d}}`, t.MinLevel, t.Reviewers))
	return hex.EncodeToString(sum[:])
}

// MatchSummary fails unless a Source VSA by v says PASSED, with the level and the reviewers,
// and the levels and the age that v demands at the time now. Call v.Concerns first.
func (t SourceTrack) MatchSummary(v Verifier, s *attest.VSA, now time.Time) error {
	if err := v.passed(s, now); err != nil {
		return err
	}
	switch level, reviewers := s.SourceLevel(), s.Reviewers(); {
	case level < t.MinLevel:
		return fmt.Errorf("Source level: got %d, want %d", level, t.MinLevel)
	case reviewers < t.Reviewers:
		return fmt.Errorf("reviewers other than the author: got %d, want %d", reviewers, t.Reviewers)
	}
	return nil
}
