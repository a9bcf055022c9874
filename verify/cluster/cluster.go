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
	"context"
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
	Now   time.Time     // the time of verification

	// Evaluate answers for policies in CUE and Rego, as eval.Run does. An error means that there is
	// no answer. nil: such a policy is undecided.
	Evaluate func(context.Context, eval.Order) (eval.Answer, error)
	// Open returns the repository REGISTRY/NAME of a source. nil: such an authority is undecided.
	Open func(repository string) (oci.Source, error)
}

// Policies are the policies of one file, ready for questions. They are safe for concurrent use.
type Policies struct {
	objects *cip.Objects
	opts    Options
	all     []*compiled
}

type compiled struct {
	*cip.ClusterImagePolicy
	authorities []*authority
}

// New prepares policies for questions. What an authority needs and nobody has makes it undecided.
func New(o *cip.Objects, opts Options) *Policies {
	p := &Policies{objects: o, opts: opts}
	roots := rootsOf(o.TrustRoots, opts)
	for _, c := range o.Policies {
		one := &compiled{ClusterImagePolicy: c}
		for i := range c.Spec.Authorities {
			one.authorities = append(one.authorities, p.authority(roots, &c.Spec.Authorities[i], c.Spec.AuthorityName(i)))
		}
		p.all = append(p.all, one)
	}
	return p
}

// Any reports whether there is a policy.
func (p *Policies) Any() bool { return p != nil && len(p.all) > 0 }

// Queries returns what Decide asks of an image's evidence. repository is the image's own.
func (p *Policies) Queries(image policy.Image) (out []verify.Query) {
	if p == nil {
		return nil
	}
	for _, c := range p.all {
		if !c.About(image) {
			continue
		}
		for _, a := range c.authorities {
			out = append(out, a.queries...)
		}
	}
	return out
}

// DependsOnWorkload reports whether a policy about the image may decide otherwise if another
// workload runs it.
func (p *Policies) DependsOnWorkload(image policy.Image) bool {
	return p != nil && slices.ContainsFunc(p.all, func(c *compiled) bool { return c.About(image) && c.DependsOnWorkload() })
}

// Decide returns what the policies say about an image, for Evidence.DecideWith. The evidence was
// gathered with Queries. The workload is what runs the image, nil if that is not known: then a
// policy about some workloads only is undecided.
func (p *Policies) Decide(ctx context.Context, ev *verify.Evidence, image policy.Image, w *cip.Workload) *verify.Others {
	return p.Ask(ev, image).Decide(ctx, w)
}

// Answers are what policies say about one image, whatever workload runs it. They remember what does
// not depend on the workload. They are not safe for concurrent use.
type Answers struct {
	policies *Policies
	evidence *verify.Evidence
	image    policy.Image
	known    map[*compiled]result
}

// Ask prepares Decide for several workloads with one image.
func (p *Policies) Ask(ev *verify.Evidence, image policy.Image) *Answers {
	return &Answers{policies: p, evidence: ev, image: image, known: map[*compiled]result{}}
}

// Decide is Policies.Decide.
func (a *Answers) Decide(ctx context.Context, w *cip.Workload) *verify.Others {
	if !a.policies.Any() {
		return nil
	}
	out := &verify.Others{Kind: Kind, Unmatched: a.policies.objects.NoMatch()}
	for _, c := range a.policies.all {
		if !c.About(a.image) || w != nil && !c.AboutWorkload(w) {
			continue
		}
		d := verify.RuleDecision{Policy: Kind, Rule: c.Metadata.Name, Mode: policy.Enforce}
		if c.Spec.Mode == cip.Warn {
			d.Mode = policy.Warn
		}
		r := a.result(ctx, c, w)
		if w == nil && len(c.Spec.Match) > 0 {
			r = result{verify.Undecided, fmt.Sprintf("the policy is about some workloads only, and it is not known what runs the image: name the manifest with -f; of these workloads it would be %s: %s", r.outcome, r.reason)}
		}
		d.Outcome, d.Reason = r.outcome, plain(strings.TrimSuffix(r.reason, ": "))
		out.Rules = append(out.Rules, d)
	}
	return out
}

// result returns what a policy says about the image, as far as the link to its digest holds.
func (a *Answers) result(ctx context.Context, c *compiled, w *cip.Workload) result {
	if r, ok := a.known[c]; ok {
		return r
	}
	r := question{a.policies, a.evidence, c, w}.decide(ctx)
	if link := a.evidence.Image(); r.outcome == verify.Accepted && link.Status != verify.Holds {
		r.outcome, r.reason = verify.Undecided, "image: "+link.Reason
		if link.Status == verify.Broken {
			r.outcome = verify.Rejected
		}
	}
	if r.outcome != verify.Undecided && !c.LooksAtWorkload() { // an undecided answer may be mended by the next try
		a.known[c] = r
	}
	return r
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
