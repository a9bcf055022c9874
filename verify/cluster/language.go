package cluster

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/colophon-build/colophon/attest"
	cip "github.com/colophon-build/colophon/policy/clusterimagepolicy"
	"github.com/colophon-build/colophon/policy/clusterimagepolicy/eval"
	"github.com/colophon-build/colophon/verify"
)

// input is what the policy of a Spec decides about.
type input struct {
	AuthorityMatches map[string]match `json:"authorityMatches,omitempty"`
	Spec             any              `json:"spec,omitempty"`
	ObjectMeta       any              `json:"metadata,omitempty"`
	TypeMeta         any              `json:"typemeta,omitempty"`
}

// match is what an authority accepted the image for.
type match struct {
	Signatures   []signature              `json:"signatures,omitempty"`
	Attestations map[string][]attestation `json:"attestations,omitempty"`
	Static       bool                     `json:"static,omitempty"`

	more error // why there may be more of them; nil: these are all
}

type signature struct {
	ID      string `json:"id,omitempty"`
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`

	WorkflowTrigger string `json:"githubWorkflowTrigger,omitempty"`
	WorkflowSHA     string `json:"githubWorkflowSha,omitempty"`
	WorkflowName    string `json:"githubWorkflowName,omitempty"`
	WorkflowRepo    string `json:"githubWorkflowRepo,omitempty"`
	WorkflowRef     string `json:"githubWorkflowRef,omitempty"`
}

type attestation struct {
	signature
	PredicateType string `json:"predicateType,omitempty"`
	Digest        string `json:"digest,omitempty"`
}

func signatureOf(t verify.Testimony) signature {
	return signature{
		ID: t.ID, Subject: t.Signer, Issuer: t.Issuer,
		WorkflowTrigger: t.Identity.GithubWorkflowTrigger, WorkflowSHA: t.Identity.GithubWorkflowSHA, WorkflowName: t.Identity.GithubWorkflowName,
		WorkflowRepo: t.Identity.GithubWorkflowRepository, WorkflowRef: t.Identity.GithubWorkflowRef,
	}
}

// attestations looks for each attestation that the authority demands among what it signed.
func (q question) attestations(ctx context.Context, a *authority, all []verify.Testimony, other string, unsure error) (match, result) {
	m := match{Attestations: map[string][]attestation{}, more: unsure}
	for i := range a.Attestations {
		demanded := &a.Attestations[i]
		best := missing("attestation "+demanded.PredicateType, other, unsure)
		for _, t := range all {
			if t.PredicateType != demanded.PredicateURI() || t.PredicateType == attest.PredicateSign {
				continue
			}
			r := q.evaluate(ctx, demanded.Policy, t.Statement)
			if r.outcome == verify.Undecided && m.more == nil {
				m.more = errors.New(r.reason)
			}
			switch {
			case r.outcome == verify.Accepted:
				m.Attestations[demanded.Name] = append(m.Attestations[demanded.Name], attestation{signatureOf(t), demanded.PredicateType, t.Digest})
			case len(m.Attestations[demanded.Name]) == 0 && (best.outcome != verify.Undecided || r.outcome == verify.Undecided):
				best = r
			}
		}
		if len(m.Attestations[demanded.Name]) == 0 {
			best.reason = "attestation \"" + demanded.Name + "\": " + best.reason
			return match{}, best
		}
	}
	return m, result{outcome: verify.Accepted}
}

// policy asks the policy of the Spec about the authorities that accepted the image.
func (q question) policy(ctx context.Context, matches map[string]match) result {
	p := q.Spec.Policy
	in := input{AuthorityMatches: matches}
	for _, want := range []struct {
		include bool
		from    func(*cip.Workload) any
		into    *any
		what    string
	}{
		{p.IncludeSpec, func(w *cip.Workload) any { return w.Spec }, &in.Spec, "spec"},
		{p.IncludeObjectMeta, func(w *cip.Workload) any { return w.ObjectMeta }, &in.ObjectMeta, "metadata"},
		{p.IncludeTypeMeta, func(w *cip.Workload) any { return w.TypeMeta }, &in.TypeMeta, "kind"},
	} {
		if !want.include {
			continue
		}
		if q.workload == nil || want.from(q.workload) == nil {
			return undecided("policy: it decides about the %s of the workload, which is not known: name the manifest with -f", want.what)
		}
		*want.into = want.from(q.workload)
	}
	if p.FetchConfigFile {
		return undecided("policy: it decides about the configuration of the image, which this version does not hand to policies")
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return undecided("policy: %v", err)
	}
	r := q.evaluate(ctx, p, raw)
	if r.outcome != verify.Accepted {
		r.reason = "policy: " + r.reason
	}
	return r
}

// evaluate asks a policy in CUE or Rego about a JSON value; nil accepts every value.
func (q question) evaluate(ctx context.Context, p *cip.Policy, input []byte) result {
	if p == nil {
		return result{outcome: verify.Accepted}
	}
	text, err := q.objects.Text(p)
	if err != nil {
		return undecided("%v", err)
	}
	if q.opts.Evaluate == nil {
		return undecided("policies in %s cannot be evaluated here", p.Type)
	}
	a, err := q.opts.Evaluate(ctx, eval.Order{Type: p.Type, Policy: text, Input: input, Time: q.now, AbsentPasses: q.Metadata.Annotations[cip.AbsentPasses] == "pass"})
	switch {
	case err != nil:
		return undecided("%v", err)
	case a.Result == eval.Holds:
		return result{outcome: verify.Accepted}
	case a.Result == eval.Fails:
		return rejected("%s: %s", p.Type, a.Reason)
	}
	return undecided("%s: %s", p.Type, a.Reason)
}
