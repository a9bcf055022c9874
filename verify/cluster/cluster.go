// Package cluster answers what ClusterImagePolicies of sigstore's policy-controller say about an
// image (package policy/clusterimagepolicy), from the evidence of package verify. It follows
// github.com/sigstore/policy-controller v0.14.0, pkg/webhook/validator.go: of a policy's
// authorities one is enough, and all policies about an image must be satisfied.
//
// It differs where the original lets pass what nothing proves: a policy without authorities
// accepts no image; an attestation counts only if its signature holds, wherever it is attached; a
// trust root that has logs demands an entry in one; a policy in CUE demands the members that it
// names. What cannot be decided is undecided.
package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// Kind is what these policies are called in a decision.
const Kind = "ClusterImagePolicy"

// Options are what policies are read with.
type Options struct {
	Trust []*trust.Root // trust roots of this machine, for what names no TrustRoot

	// Evaluate answers for policies in CUE and Rego, as eval.Run does. An error means that there is
	// no answer. nil: such a policy is undecided.
	Evaluate func(context.Context, eval.Order) (eval.Answer, error)
	// Open returns the repository REGISTRY/NAME of a source. nil: such an authority is undecided.
	Open func(repository string) (oci.Source, error)
	// NoMatch is what happens to an image that no policy is about, also if there is no policy.
	// Empty: what the objects say; without any policy, nothing is said.
	NoMatch policy.Unmatched
}

// Policies are policies ready for questions. They are safe for concurrent use.
type Policies struct {
	objects *cip.Objects
	opts    Options
	all     []*compiled
	beside  [sha256.Size]byte // of what all policies may refer to: see Key
}

type compiled struct {
	*cip.ClusterImagePolicy
	authorities []*authority
	sum         [sha256.Size]byte
	timed       bool // the answer may change with the time alone
}

// New prepares policies for questions. What an authority needs and nobody has makes it undecided.
func New(o *cip.Objects, opts Options) *Policies {
	p := &Policies{objects: o, opts: opts}
	roots := rootsOf(o.TrustRoots, opts)
	for _, c := range o.Policies {
		one := &compiled{ClusterImagePolicy: c, timed: inRego(c.Spec.Policy)}
		for i := range c.Spec.Authorities {
			one.authorities = append(one.authorities, p.authority(roots, &c.Spec.Authorities[i], c.Spec.AuthorityName(i)))
			for _, t := range c.Spec.Authorities[i].Attestations {
				one.timed = one.timed || inRego(t.Policy)
			}
		}
		one.sum = sumOf(c.Metadata.Name, c.Metadata.Annotations, c.Spec)
		p.all = append(p.all, one)
	}
	p.beside = sumOf(o.TrustRoots, o.ConfigMaps, o.Secrets, describe(opts.Trust))
	return p
}

// inRego reports whether a policy is in Rego, which may ask for the time. CUE cannot.
func inRego(p *cip.Policy) bool { return p != nil && p.Type == cip.TypeRego }

// describe returns what tells trust roots from others, and from what they were before a refresh.
func describe(all []*trust.Root) (out []string) {
	for _, r := range all {
		out = append(out, fmt.Sprintf("%s %q %d", r.Fingerprint, r.Issuers(), r.Expires.UnixNano()))
	}
	return out
}

// sumOf returns a digest of values that JSON can write.
func sumOf(values ...any) (sum [sha256.Size]byte) {
	raw, err := json.Marshal(values)
	if err != nil {
		panic(err) // they came from JSON
	}
	return sha256.Sum256(raw)
}

// Any reports whether there is a policy.
func (p *Policies) Any() bool { return p != nil && len(p.all) > 0 }

// say reports whether the policies say something about every image.
func (p *Policies) say() bool { return p != nil && (len(p.all) > 0 || p.opts.NoMatch != "") }

func (p *Policies) noMatch() policy.Unmatched { return cmp.Or(p.opts.NoMatch, p.objects.NoMatch()) }

// about returns the policies about an image, whatever workload runs it.
func (p *Policies) about(image policy.Image) (out []*compiled) {
	if p == nil {
		return nil
	}
	for _, c := range p.all {
		if c.About(image) {
			out = append(out, c)
		}
	}
	return out
}

// About reports whether a policy is about an image, whatever workload runs it.
func (p *Policies) About(image policy.Image) bool { return len(p.about(image)) > 0 }

// Queries returns what Decide asks of an image's evidence. repository is the image's own.
func (p *Policies) Queries(image policy.Image) (out []verify.Query) {
	for _, c := range p.about(image) {
		for _, a := range c.authorities {
			out = append(out, a.queries...)
		}
	}
	return out
}

// Key stands for everything that Decide depends on for an image, but for the evidence, the workload
// and the time: if the Key of other policies is the same, so are their answers.
func (p *Policies) Key(image policy.Image) (key [sha256.Size]byte) {
	if !p.say() {
		return key
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", p.noMatch())
	for i, c := range p.about(image) {
		if i == 0 {
			h.Write(p.beside[:])
		}
		h.Write(c.sum[:])
	}
	h.Sum(key[:0])
	return key
}

// DependsOnWorkload reports whether a policy about the image may decide otherwise if another
// workload runs it.
func (p *Policies) DependsOnWorkload(image policy.Image) bool {
	return slices.ContainsFunc(p.about(image), func(c *compiled) bool { return c.DependsOnWorkload() })
}

// Enforces reports whether a policy that enforces is about the image with one digest or another.
func (p *Policies) Enforces(image policy.Image) bool {
	image.Digest = "sha256:" + strings.Repeat("0", 64)
	return p != nil && slices.ContainsFunc(p.all, func(c *compiled) bool {
		return c.Spec.Mode != cip.Warn && slices.ContainsFunc(c.Spec.Images, func(i cip.Image) bool {
			return policy.ImagePattern{Glob: anyDigest(i.Glob)}.Matches(image)
		})
	})
}

// anyDigest returns a glob that matches each image that glob matches, and with it all digests of that.
func anyDigest(glob string) string {
	if name, _, pinned := strings.Cut(glob, "@"); pinned {
		return name + "@*"
	}
	if last := strings.LastIndexByte(glob, '*'); last >= 0 && last < len(glob)-1 {
		return glob[:last] + "**" // what follows may be the end of a digest
	}
	return glob
}

// Decide returns the decision of the policies about an image at a time, for Evidence.DecideAt. The
// evidence was gathered with Queries. The workload is what runs the image, nil if that is not known:
// then a policy about some workloads only is undecided.
func (p *Policies) Decide(ctx context.Context, ev *verify.Evidence, image policy.Image, w *cip.Workload, now time.Time) *verify.Others {
	return p.Ask(ev, image).Decide(ctx, w, now)
}

// Unknown is Decide if nothing is known about the image, and why says so: every policy about it is
// undecided.
func (p *Policies) Unknown(image policy.Image, w *cip.Workload, why string) *verify.Others {
	return p.others(image, w, func(*compiled) result { return undecided("%s", why) })
}

// others returns the answers of all policies about an image that a workload runs.
func (p *Policies) others(image policy.Image, w *cip.Workload, answer func(*compiled) result) *verify.Others {
	if !p.say() {
		return nil
	}
	out := &verify.Others{Kind: Kind, Unmatched: p.noMatch()}
	for _, c := range p.about(image) {
		if w != nil && !c.AboutWorkload(w) {
			continue
		}
		d := verify.RuleDecision{Policy: Kind, Rule: c.Metadata.Name, Mode: policy.Enforce}
		if c.Spec.Mode == cip.Warn {
			d.Mode = policy.Warn
		}
		r := answer(c)
		d.Outcome, d.Reason = r.outcome, plain(strings.TrimSuffix(r.reason, ": "))
		out.Rules = append(out.Rules, d)
	}
	return out
}

// Answers are what policies say about one image, whatever workload runs it. They remember what does
// not depend on the workload. They are safe for concurrent use.
type Answers struct {
	policies *Policies
	evidence *verify.Evidence
	image    policy.Image
	turn     chan struct{} // whoever puts something in reads and writes known; the others wait for its answer
	known    map[*compiled]remembered
}

// remembered is the answer of one policy from one time on, and before another.
type remembered struct {
	result
	from, until time.Time // until: zero means for ever
}

// timedFor is how long the answer of a policy is remembered that may ask for the time.
const timedFor = time.Minute

// Ask prepares Decide for several workloads with one image.
func (p *Policies) Ask(ev *verify.Evidence, image policy.Image) *Answers {
	return &Answers{policies: p, evidence: ev, image: image, turn: make(chan struct{}, 1), known: map[*compiled]remembered{}}
}

// Decide is Policies.Decide. What has no answer when ctx ends is undecided.
func (a *Answers) Decide(ctx context.Context, w *cip.Workload, now time.Time) *verify.Others {
	return a.policies.others(a.image, w, func(c *compiled) result {
		r := a.result(ctx, c, w, now)
		if w == nil && len(c.Spec.Match) > 0 {
			return undecided("the policy is about some workloads only, and it is not known what runs the image: name the manifest with -f; of these workloads it would be %s: %s", r.outcome, r.reason)
		}
		return r
	})
}

// result returns what a policy says about the image, as far as the link to its digest holds.
func (a *Answers) result(ctx context.Context, c *compiled, w *cip.Workload, now time.Time) result {
	q := question{a.policies, a.evidence, c, w, now}
	if c.LooksAtWorkload() {
		return q.answer(ctx)
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return undecided("there was no answer in time: %v", context.Cause(ctx))
	}
	if r, ok := a.known[c]; ok && !now.Before(r.from) && (r.until.IsZero() || now.Before(r.until)) {
		return r.result
	}
	r := remembered{q.answer(ctx), now, c.until(now)}
	if r.outcome != verify.Undecided { // an undecided answer may be mended by the next try
		a.known[c] = r
	}
	return r.result
}

// until returns when an answer of now may be another one because of the time; zero means never.
func (c *compiled) until(now time.Time) (first time.Time) {
	if c.timed {
		first = now.Add(timedFor)
	}
	for _, a := range c.authorities {
		for _, r := range a.roots() {
			if r.Expires.After(now) && (first.IsZero() || r.Expires.Before(first)) {
				first = r.Expires
			}
		}
	}
	return first
}

func plain(s string) string { return printable.Cut(printable.Line(s), 2000) }

// result is an answer with its reason, one line for people.
type result struct {
	outcome verify.Outcome
	reason  string
}

func rejected(format string, args ...any) result {
	return result{verify.Rejected, fmt.Sprintf(format, args...)}
}

func undecided(format string, args ...any) result {
	return result{verify.Undecided, fmt.Sprintf(format, args...)}
}

// question is one policy about one image.
type question struct {
	*Policies
	ev *verify.Evidence
	*compiled
	workload *cip.Workload
	now      time.Time
}

// answer is decide, as far as the link of the image to its digest holds.
func (q question) answer(ctx context.Context) result {
	r := q.decide(ctx)
	if link := q.ev.Image(); r.outcome == verify.Accepted && link.Status != verify.Holds {
		r.outcome, r.reason = verify.Undecided, "image: "+link.Reason
		if link.Status == verify.Broken {
			r.outcome = verify.Rejected
		}
	}
	return r
}

// decide asks the authorities until one accepts, or all of them if a policy looks at them.
func (q question) decide(ctx context.Context) result {
	if len(q.authorities) == 0 {
		return rejected("the policy has no authorities, so that nobody can have signed the image for it")
	}
	matches := map[string]match{}
	best, open := result{verify.Rejected, ""}, "" // open: why the policy may not see all that there is
	for _, a := range q.authorities {
		m, r := q.ask(ctx, a)
		accepted := r.outcome == verify.Accepted
		if accepted {
			matches[a.name] = m
			if q.Spec.Policy == nil {
				return r
			}
			if m.more == nil {
				continue
			}
			r = undecided("%v", m.more)
		}
		r.reason = fmt.Sprintf("authority %q: %s", a.name, r.reason)
		if r.outcome == verify.Undecided {
			open = r.reason
		}
		if !accepted && (best.reason == "" || best.outcome == verify.Rejected && r.outcome == verify.Undecided) {
			best = r
		}
	}
	if len(matches) == 0 {
		return best
	}
	r := q.policy(ctx, matches)
	switch {
	case open == "" || r.outcome == verify.Undecided:
		return r
	case r.outcome == verify.Accepted: // a policy may demand that somebody did not sign
		return undecided("policy: it holds for what is known; and %s", open)
	}
	return undecided("%s; and %s", r.reason, open)
}
