package verdicts

import (
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/distrust"
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
	image.Digest = "sha256:" + strings.Repeat("0", 64)
	for _, set := range sets {
		for _, r := range set.Rules {
			if r.ModeAt(now) == policy.Enforce && slices.ContainsFunc(r.Images, func(p policy.ImagePattern) bool { return anyDigest(p).Matches(image) }) {
				return true
			}
		}
	}
	return g.others.Enforces(image) || g.unknown(sets, Question{Image: image}, now, nil, nil).Outcome != verify.Accepted
}

// anyDigest returns a pattern that matches an image if p matches it with one digest or another.
func anyDigest(p policy.ImagePattern) policy.ImagePattern {
	p.Digest = ""
	name, _, pinned := strings.Cut(p.Glob, "@")
	switch {
	case p.Glob == "":
		p.Glob = "**"
	case pinned:
		p.Glob = name + "@*"
	}
	return p
}

// unknown returns the decision if nothing is known about an image, because of err.
func (g *generation) unknown(sets []*policy.Set, q Question, now time.Time, lists distrust.Lists, err error) *verify.Decision {
	v, why := &verify.Verdict{}, ""
	if err != nil {
		why = err.Error()
		v.Links = []verify.Link{{Name: verify.LinkImage, Status: verify.Unknown, Reason: why}}
	}
	return verify.DecideWith(sets, q.Image, now, verify.With{Others: g.others.Unknown(q.Image, q.Workload, why), Lists: lists}, func(policy.Policy) *verify.Verdict { return v })
}
