package verdicts

import (
	"slices"
	"strings"

	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/verify"
)

// Enforced reports whether an enforcing rule may be about an image whose digest is not known, or
// a policy denies it because no rule is. Without policies, it does.
func (s *Store) Enforced(namespace string, image policy.Image) bool {
	g := s.current.Load()
	if g == nil {
		return true
	}
	sets, now := g.in(namespace), s.config.Now()
	byDigest := func(p policy.ImagePattern) bool { return p.Digest != "" || strings.Contains(p.Glob, "@") }
	for _, set := range sets {
		for _, r := range set.Rules {
			if r.ModeAt(now) == policy.Enforce && slices.ContainsFunc(r.Images, byDigest) {
				return true // the digest may be that one
			}
		}
	}
	image.Digest = "sha256:" + strings.Repeat("0", 64)
	return verify.Decide(sets, image, now, func(policy.Policy) *verify.Verdict { return &verify.Verdict{} }).Outcome != verify.Accepted
}
