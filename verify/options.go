package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options are what a verdict depends on besides the evidence and the time.
type Options struct {
	Trust       []*trust.Root // the trust roots; each proof must verify wholly under one of them
	Policy      policy.Policy // what to demand; must pass its Check
	SourceCheck SourceCheck   // asks the git repository; nil: the repository is not asked
	TrackCheck  TrackCheck    // asks the forge for what the policy demands on SLSA's Source track; nil: it is not asked
	Bundles     [][]byte      // more evidence about an image: Sigstore bundles or DSSE envelopes, as JSON
	Layout      bool          // the image is in a layout, whose name is not a registry's: no verification summary can be about it
	Platform    *v1.Platform  // of an index, read only this one; nil: all. What is proved is the index
	Pinned      bool          // of the image, only the manifest or index itself is read: whoever uses the image compares all else with the digests in it, as runtimes do. Its configuration, layers and unsigned claims say nothing then; the contents that a policy compares with SBOMs are read
	Distrust    Distrust      // lists of what is no longer trusted, for verdicts by one policy; decisions of sets have their own (With)
	Whole       bool          // all platforms of an index must be there, and the proofs must be about the index itself; otherwise see Missing and Index of Verdict
}

// SourceCheck asks a git repository a question, as source.Lookup does. It may add
// Signers to the question: if the answer then has a signature that is not
// verified, the source link is broken. An error means that the repository did not
// answer.
type SourceCheck func(ctx context.Context, q source.Question) (source.Standing, error)

// check is one verification.
type check struct {
	src   oci.Source
	now   time.Time // the time of verification
	opts  Options
	about string        // kind of the thing that the proofs must be about
	title string        // of a file: the name that a platform's provenance must give it
	stale []*trust.Root // dropped from opts.Trust; what must be absent may be signed under them, too
	read  reading

	asks   []*check // the verifications that will look at what is read now; empty: this one alone
	digest v1.Hash  // of the subject, to which the evidence is attached
	known  *memory  // of the image; nil: nothing is remembered
	of     *memory  // of the item that is judged; nil: nothing is remembered
	missed *bool    // set if an answer was asked for that a closed memory does not have
	ask    *Ask     // what else is asked for; may be nil

	beside []distrust.Signer // who signed what the policy demands beside its Origin, as far as it was judged

	queries []Query // those that look at src

	kept *atomic.Int64 // bytes of statements that were kept for that
}

const (
	aboutIndex    = "index"
	aboutManifest = "manifest"
	aboutFile     = "file"
)

func aboutOf(image v1.Descriptor) string {
	if image.MediaType.IsIndex() {
		return aboutIndex
	}
	return aboutManifest
}

// ready fails if there is too little to verify with.
func (c *check) ready() error {
	switch {
	case len(c.opts.Trust) == 0 && !c.opts.Policy.WithoutRoots():
		return trust.ErrEmpty
	case c.now.IsZero():
		return errors.New("the time of verification is not set")
	}
	if p := c.opts.Policy; p.FreshTrust || p.MaxTrustAge > 0 {
		if err := c.dropStale(); err != nil {
			return err
		}
	}
	for _, name := range c.opts.Policy.Roots() {
		if len(named(c.opts.Trust, name)) == 0 {
			return fmt.Errorf("the policy names the trust root %q, which is not trusted here, or is stale", name)
		}
	}
	return c.opts.Policy.Check()
}

// asksFor reports whether statements of a predicate type are asked for as facts.
func (c *check) asksFor(predicateType string) bool {
	return c.ask != nil && slices.Contains(c.ask.Predicates, predicateType)
}

// lists reports whether the lists of packages in SBOMs are kept.
func (c *check) lists() bool {
	contents := func(p policy.Policy) bool { return p.SBOM() == policy.SBOMContents }
	return contents(c.opts.Policy) || c.keepsInputs() || c.ask != nil && (c.ask.Packages || slices.ContainsFunc(c.ask.Policies, contents))
}

// keepsInputs reports whether what builds used is kept, for lists of what is no longer trusted.
func (c *check) keepsInputs() bool {
	return c.opts.Distrust.asked() || c.ask != nil && c.ask.Distrust
}

// named returns the trust roots with this name; all of them if it is empty.
func named(roots []*trust.Root, name string) []*trust.Root {
	return slices.DeleteFunc(slices.Clone(roots), func(r *trust.Root) bool { return name != "" && !r.Named(name) })
}

// roots returns the trust roots under which the policy's Origin may be proved.
func (c *check) roots() []*trust.Root { return named(c.opts.Trust, c.opts.Policy.Root()) }

// dropStale removes the trust roots that may have been withdrawn since they were
// last refreshed. They stay in c.stale.
func (c *check) dropStale() error {
	var fresh, stale []*trust.Root
	var err error
	for _, r := range c.opts.Trust {
		switch age := c.opts.Policy.MaxTrustAge; {
		case c.opts.Policy.FreshTrust && r.Stale(c.now):
			err = fmt.Errorf("the policy demands fresh trust roots, and the one from %s is stale", r.Repository.URL)
			stale = append(stale, r)
		case age > 0 && !r.RefreshedWithin(age, c.now):
			err = fmt.Errorf("the policy demands trust roots that were refreshed within the last %s, and none is known to be: see `colophon trust refresh`", age)
			stale = append(stale, r)
		default:
			fresh = append(fresh, r)
		}
	}
	if c.opts.Trust, c.stale = fresh, stale; len(fresh) == 0 {
		return err
	}
	return nil
}

// plainRoots returns those of roots that name no builder, as a Sigstore
// trusted_root.json does.
func (c *check) plainRoots() []*trust.Root {
	return slices.DeleteFunc(c.roots(), func(r *trust.Root) bool { return len(r.Builders) > 0 })
}

// parallel is the maximum number of requests in flight, and so of bundles in memory.
const parallel = 8
