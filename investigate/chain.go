package investigate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// anything demands a provenance that holds, of any source and recipe: it shows what there is.
var anything = policy.Document{AnySource: true, AnyRecipe: true}

// ChainAsker verifies an image as in.Policy demands, or without demands as in.Subject.Source does,
// and keeps all that the registry answered.
func ChainAsker(src oci.Source, reference string, layout bool) Asker {
	return func(ctx context.Context, in *Inquiry) (Reply, error) {
		reply := Reply{Asked: src.Name(), Query: reference}
		raw, err := json.Marshal(in.demand())
		if err == nil {
			err = in.Subject.checkDemand(raw)
		}
		if err != nil {
			return reply, err
		}
		kept, err := in.Evidence.Add(raw)
		if err != nil {
			return reply, err
		}
		rec := newRecorder(src, in.Evidence)
		rec.record.Layout = layout
		facts, inputs, err := examine(ctx, rec, reference, in.At, in.Trust, raw, layout)
		if err != nil {
			return reply, err
		}
		if l, ok := src.(*oci.Layout); ok { // verify cannot see through rec that it is one
			if err := refuseOthers(ctx, l, reference); err != nil {
				return reply, err
			}
		}
		facts.Verdict.Image = in.Subject.Name
		reply.Facts, in.inputs = facts, inputs
		if reply.Evidence, err = rec.close(); err != nil {
			return reply, err
		}
		reply.Evidence = append([]string{kept}, reply.Evidence...)
		return reply, nil
	}
}

func refuseOthers(ctx context.Context, l *oci.Layout, reference string) error {
	d, err := l.Resolve(ctx, reference)
	if err != nil {
		return err
	}
	return l.CheckSole(ctx, reference, d)
}

// demand returns the policy for an image.
func (in *Inquiry) demand() policy.Document {
	d := in.Policy
	if d.Source == "" && d.Signer == nil && !d.AnySource {
		d.Source, d.AnySource = in.Subject.Source, in.Subject.Source == ""
		d.AnyRecipe = d.AnyRecipe || d.AnySource && d.Recipe == nil
	}
	return d
}

// examine verifies an image under a policy document, and says what holds under any. The facts have no
// dependencies, of which there may be thousands: inputs are those of the build in Holding.
func examine(ctx context.Context, src oci.Source, reference string, at time.Time, roots []*trust.Root, document []byte, layout bool) (f Facts, inputs []attest.ResourceDescriptor, err error) {
	demanded, err := policy.Parse(document)
	if err != nil {
		return f, nil, fmt.Errorf("policy: %w", err)
	}
	loose, err := anything.Policy()
	if err != nil {
		return f, nil, err
	}
	ev := verify.Gather(ctx, src, reference, at, verify.Options{Trust: roots, Layout: layout}, verify.Ask{Policies: []policy.Policy{demanded, loose}, Inputs: true})
	v := *ev.Verdict(demanded) // evidence shares it
	f.Verdict = &v
	f.Holding, inputs = withoutInputs(ev.Verdict(loose).Facts)
	if v.Facts != nil && v.Facts.Build != nil {
		v.Facts, inputs = withoutInputs(v.Facts)
		f.Holding = v.Facts // of several proofs, those that were demanded
	}
	f.Others = others(ev.Builds(loose), f.Holding)
	return f, inputs, nil
}

// withoutInputs returns a copy of facts without the dependencies of the build, and these.
func withoutInputs(f *verify.Facts) (*verify.Facts, []attest.ResourceDescriptor) {
	if f == nil || f.Build == nil {
		return f, nil
	}
	out, build := *f, *f.Build
	inputs := build.Dependencies
	out.Build, build.Dependencies = &build, nil
	return &out, inputs
}

// others returns what the builds that hold say of other commits than holding, sorted, each commit once.
func others(all []verify.Facts, holding *verify.Facts) (out []Build) {
	for _, f := range all {
		if holding == nil || holding.Build == nil || f.Build.Source != holding.Build.Source || f.Build.Commit != holding.Build.Commit {
			out = append(out, Build{f.Build.Source, f.Build.Ref, f.Build.Commit, f.Build.Builder, f.Signed})
		}
	}
	slices.SortStableFunc(out, func(a, b Build) int { return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Commit, b.Commit)) })
	return slices.CompactFunc(out, func(a, b Build) bool { return a.Source == b.Source && a.Commit == b.Commit })
}

// recheckChain verifies again, with evidence in place of the registry. The answer's evidence has the
// policy, the record of the registry, and what that names. The link of the image cannot be checked
// again, since layers are no evidence.
func recheckChain(ctx context.Context, c *Case, a Answer, e *Evidence, roots []*trust.Root) error {
	if len(a.Evidence) < 2 {
		return errors.New("it has no evidence")
	}
	document, recorded := e.Get(a.Evidence[0]), e.Get(a.Evidence[1])
	if document == nil || recorded == nil {
		return errors.New("its evidence is missing")
	}
	if err := c.Subject.checkDemand(document); err != nil {
		return err
	}
	src, err := newReplay(recorded, e)
	if err != nil {
		return fmt.Errorf("record of the registry: %w", err)
	}
	again, _, err := examine(ctx, src, a.Query, c.At, roots, document, src.record.Layout)
	if err != nil {
		return err
	}
	if err := sameVerdict(c.Subject.Name, a.Facts.Verdict, again.Verdict); err != nil {
		return err
	}
	if err := sameJSON("what holds", a.Facts.Holding, again.Holding); err != nil {
		return err
	}
	return sameJSON("other builds", a.Facts.Others, again.Others)
}

// checkDemand fails if the policy does not demand the source that the case says it expects.
func (s Subject) checkDemand(document []byte) error {
	var d policy.Document
	if err := strict.UnmarshalKnown(document, limits.Request, &d); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if s.Source != "" && d.Source != s.Source {
		return fmt.Errorf("policy: expected the source %q of the case, found %q", s.Source, d.Source)
	}
	return nil
}

// sameVerdict fails if a verdict that a case states differs from the one that its evidence gives.
// name is that of the image, as the investigator wrote it.
func sameVerdict(name string, stated, again *verify.Verdict) error {
	if stated == nil {
		return errors.New("it has no verdict")
	}
	if stated.Digest != again.Digest {
		return fmt.Errorf("digest: the case says %s, its evidence %s", stated.Digest, again.Digest)
	}
	if len(stated.Links) != len(again.Links) {
		return fmt.Errorf("links: the case has %d, its evidence gives %d", len(stated.Links), len(again.Links))
	}
	rest := *again // what is left once the link of the image is as the case says
	rest.Image, rest.Links = name, slices.Clone(again.Links)
	for i, l := range stated.Links {
		g := again.Links[i]
		if l.Name != g.Name {
			return fmt.Errorf("link %d: the case says %s, its evidence %s", i+1, l.Name, g.Name)
		}
		if l.Name == verify.LinkImage && g.Status == verify.Unknown {
			rest.Links[i] = l
			continue
		}
		if l.Status != g.Status {
			return fmt.Errorf("link %s: the case says %q %s, its evidence gives %q %s", l.Name, l.Status, cmp.Or(l.Reason, l.Claim), g.Status, cmp.Or(g.Reason, g.Claim))
		}
	}
	rest.Outcome = outcomeOf(stated, again.Outcome)
	if stated.Outcome != rest.Outcome {
		return fmt.Errorf("outcome: the case says %s, its links give %s", stated.Outcome, rest.Outcome)
	}
	if err := sameJSON("verdict", withoutWords(stated), withoutWords(&rest)); err != nil {
		return err
	}
	if err := sameJSON("texts of the verdict", stated, &rest); err != nil {
		return errWords{err}
	}
	return nil
}

// errWords is the error of an answer of which only the texts for people differ from its evidence: another
// version may word them otherwise.
type errWords struct{ error }

// withoutWords returns a verdict without the texts for people that the program words.
func withoutWords(v *verify.Verdict) *verify.Verdict {
	out := *v
	out.Hint, out.Dangers, out.Requirements, out.Links = "", nil, slices.Clone(v.Requirements), slices.Clone(v.Links)
	for i := range out.Links {
		out.Links[i].Claim, out.Links[i].Reason, out.Links[i].Cause = "", "", verify.Cause{}
	}
	for i := range out.Requirements {
		out.Requirements[i].Evidence = ""
	}
	return &out
}

// outcomeOf returns the outcome of a verdict whose links but that of the image were checked again.
// again is the outcome without the layers of the image: rejected, or undecided.
func outcomeOf(v *verify.Verdict, again verify.Outcome) verify.Outcome {
	has := func(all ...verify.Status) bool {
		return slices.ContainsFunc(v.Links, func(l verify.Link) bool { return slices.Contains(all, l.Status) })
	}
	switch {
	case again != verify.Undecided:
		return again
	case has(verify.Broken, verify.Absent):
		return verify.Rejected
	case has(verify.Unknown) || v.Digest == "" || v.Facts == nil:
		return verify.Undecided
	}
	return verify.Accepted
}

// sameJSON fails if two values differ as JSON.
func sameJSON(what string, stated, again any) error {
	a, err := json.Marshal(stated)
	if err != nil {
		return err
	}
	b, err := json.Marshal(again)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("%s: the case says otherwise than its evidence", what)
	}
	return nil
}
