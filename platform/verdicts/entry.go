package verdicts

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
	"github.com/colophon-build/colophon/verify/cluster"
)

// maxReaders limits the credentials of which an entry knows that they may read the image. The
// one that showed it first is forgotten first, and shows it again.
const maxReaders = 64

// entry is what is kept about one image: the verdicts by the policies that are about it, or all
// the evidence, if verdicts are not enough.
type entry struct {
	verdicts []*verify.Verdict // by ask.Policies, in their order
	evidence *verify.Evidence  // nil: the verdicts are enough
	others   *cluster.Answers  // of ask.others; nil if none of them is about the image
	read     time.Time
	until    time.Time // end of the validity of a trust root, or zero
	subjects []v1.Hash // the image, and the manifests in it to which proofs are attached
	partly   bool      // a verdict is undecided
	aging    bool      // a policy demands that the trust roots are fresh
	trustAge [sha256.Size]byte
	weight   int64 // estimated size in bytes

	asked     *ask         // for which it was read
	image     policy.Image // about which somebody asked first, in a namespace
	namespace string

	mu      sync.Mutex
	looked  time.Time // when it was known that nothing else is attached
	listing string    // what was attached then; empty: not known
	readers map[ReaderID]time.Time
}

func newEntry(ev *verify.Evidence, asked *ask, g *generation, q Question, now time.Time) *entry {
	e := &entry{verdicts: ev.Verdicts(), evidence: ev, read: now, looked: now, readers: map[ReaderID]time.Time{}, trustAge: g.trustAge, asked: asked, image: q.Image, namespace: q.Namespace}
	e.aging = slices.ContainsFunc(asked.Policies, func(p policy.Policy) bool { return p.FreshTrust || p.MaxTrustAge > 0 })
	roots := slices.Clone(g.roots)
	for _, query := range asked.Queries {
		roots = append(roots, query.Trust...)
	}
	e.bound(q, roots, now)
	e.weight = ev.Size()
	if asked.others.About(q.Image) {
		e.others = asked.others.Ask(ev, q.Image)
	}
	if len(asked.Predicates) > 0 || asked.Packages || asked.Distrust || e.others != nil || slices.ContainsFunc(asked.Policies, depends) {
		return e
	}
	whole := ev.DecideAt(g.in(q.Namespace), q.Image, now, verify.With{})
	// The evidence takes several times the memory of the verdicts. It is kept only if they do not
	// say the same.
	e.evidence = nil
	short := verify.Decide(g.in(q.Namespace), q.Image, now, e.verdict(asked))
	if short.Outcome != whole.Outcome || short.Reason != whole.Reason || !slices.Equal(short.Warnings, whole.Warnings) {
		e.evidence = ev
		return e
	}
	e.weight = 2 << 10
	for _, v := range e.verdicts {
		raw, err := json.Marshal(v)
		if err != nil {
			e.weight += 64 << 10
		}
		e.weight += int64(2 * len(raw))
	}
	return e
}

// bound sets when the trust roots end, and what something may be attached to.
func (e *entry) bound(q Question, roots []*trust.Root, now time.Time) {
	for _, r := range roots {
		if end := r.Until(now); !end.IsZero() && (e.until.IsZero() || end.Before(e.until)) {
			e.until = end
		}
	}
	digests := []string{q.Image.Digest}
	for _, v := range e.verdicts {
		e.partly = e.partly || v.Outcome == verify.Undecided
		if v.Digest != "" && !slices.Contains(digests, v.Digest) {
			digests = append(digests, v.Digest)
		}
	}
	for _, d := range digests {
		if h, err := v1.NewHash(d); err == nil {
			e.subjects = append(e.subjects, h)
		}
	}
}

// depends reports whether the verdict by a policy may change with the time alone.
func depends(p policy.Policy) bool {
	_, notation := p.Origin.(policy.NotationSignature)
	return notation || p.FreshTrust || p.MaxTrustAge > 0 || len(p.Verifiers) > 0 || len(p.Provenance().SourceVerifiers) > 0
}

// decide returns the decision now. asked must have the id for which the entry was read. It waits for
// ClusterImagePolicies until ctx ends.
func (e *entry) decide(ctx context.Context, asked *ask, sets []*policy.Set, q Question, now time.Time, lists distrust.Lists) *verify.Decision {
	with := verify.With{Lists: lists}
	if e.others != nil {
		with.Others = e.others.Decide(ctx, q.Workload, now)
	} else { // none of them is about the image
		with.Others = asked.others.Unknown(q.Image, q.Workload, "the image was read for another policy")
	}
	if e.evidence != nil {
		return e.evidence.DecideAt(sets, q.Image, now, with)
	}
	return verify.DecideWith(sets, q.Image, now, with, e.verdict(asked))
}

// verdict returns the verdicts that are kept.
func (e *entry) verdict(asked *ask) func(policy.Policy) *verify.Verdict {
	return func(p policy.Policy) *verify.Verdict {
		for i := range asked.Policies {
			if i < len(e.verdicts) && asked.Policies[i].Equal(p) {
				return e.verdicts[i]
			}
		}
		return &verify.Verdict{Links: []verify.Link{{Name: verify.LinkImage, Status: verify.Unknown, Reason: "the image was read for another policy"}}}
	}
}

// state says what an entry is worth as an answer.
type state int

const (
	missing state = iota // no answer
	aged                 // an answer, and time to look for news
	fresh                // an answer
)

// state returns what the decision, which rests on the entry, is worth to a reader.
func (e *entry) state(d *verify.Decision, r ReaderID, now time.Time) state {
	e.mu.Lock()
	shown, mayRead := e.readers[r]
	e.mu.Unlock()
	switch {
	case !mayRead, !e.counts(now), now.Sub(shown) >= keptFor, now.Before(shown), d.Outcome == verify.Undecided:
		return missing
	case e.settled(d, now) && now.Sub(shown) < freshFor:
		return fresh
	case d.Outcome == verify.Rejected:
		return missing
	}
	return aged
}

// counts reports whether the evidence is young enough, under trust roots that are still valid,
// and the clock did not go back behind it.
func (e *entry) counts(now time.Time) bool {
	return !now.Before(e.read) && now.Sub(e.read) < keptFor && (e.until.IsZero() || now.Before(e.until))
}

// old reports whether the image is to be read again before the entry counts no more: because of its
// age, or because of that of the trust roots, which were refreshed since.
func (e *entry) old(g *generation, now time.Time) bool {
	return now.Sub(e.read) >= renewFor || e.aging && e.trustAge != g.trustAge
}

// settled reports whether it is too early to look for news.
func (e *entry) settled(d *verify.Decision, now time.Time) bool {
	e.mu.Lock()
	age := now.Sub(e.looked)
	e.mu.Unlock()
	switch {
	case d.Outcome == verify.Undecided:
		return false
	case d.Outcome == verify.Rejected:
		return age < rejectedFor
	case e.partly:
		return age < partlyFor
	}
	return age < freshFor
}

// sameListing reports whether nothing else is attached than when the image was read.
func (e *entry) sameListing(listing string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.listing == "" || e.listing != listing {
		return false
	}
	e.looked = now
	return true
}

// allow notes that a reader showed that it may read the image.
func (e *entry) allow(r ReaderID, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, again := e.readers[r]; !again && len(e.readers) >= maxReaders {
		oldest := r
		for other, at := range e.readers {
			if oldest == r || at.Before(e.readers[oldest]) {
				oldest = other
			}
		}
		delete(e.readers, oldest)
	}
	e.readers[r] = now
}

// forbid notes that a reader may not read the image, or that nobody knows.
func (e *entry) forbid(r ReaderID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.readers, r)
}
