package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/trust"
)

// Options are what a verdict depends on besides the evidence.
type Options struct {
	Trust       []*trust.Root // trust roots; all of one proof must verify under one of them
	Policy      policy.Policy // what to demand; must pass its Check
	SourceCheck SourceCheck   // asks the repository; nil: not asked
	Bundles     [][]byte      // evidence that the caller brings, beside what is attached to the image
	Layout      bool          // src is a layout and no registry; only changes words
}

// check is one verification under way.
type check struct {
	src   oci.Source
	now   time.Time // the time of verification
	opts  Options
	about string // what the proofs are to be about, for people
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

// Image answers whether the image that reference (a tag or digest of src) names
// proves where it comes from. It always returns a verdict: what could not be had
// leaves it undecided, what is wrong gets it rejected.
func Image(ctx context.Context, src oci.Source, reference string, now time.Time, opts Options) *Verdict {
	c := &check{src: src, now: now, opts: opts}
	sep := ":"
	if strings.Contains(reference, ":") {
		sep = "@"
	}
	v := &Verdict{Image: src.Name() + sep + reference, Dangers: opts.Policy.Dangers()}
	if err := c.ready(); err != nil {
		v.add(Link{Name: LinkImage, Status: Unknown, Reason: err.Error()})
		return v
	}
	d, err := src.Resolve(ctx, reference)
	if err != nil {
		l := Link{Name: LinkImage, Status: Unknown, Reason: err.Error()}
		switch {
		case errors.Is(err, oci.ErrMismatch):
			l.Status = Broken
		case errors.Is(err, oci.ErrNotFound) && !c.opts.Layout:
			// A registry that denies what it holds proves nothing about the image.
			l.Reason, v.Hint = c.nowhere(reference)
		}
		v.add(l)
		v.demand(map[string]bool{LinkImage: true})
		return v
	}
	c.resolved(ctx, v, d)
	return v
}

// resolved is Image from where the digest is known.
func (c *check) resolved(ctx context.Context, v *Verdict, d v1.Descriptor) {
	v.Digest, c.about = d.Digest.String(), aboutOf(d)
	image := make(chan Link, 1)
	go func() { image <- c.image(ctx, d.Digest) }()
	ev := c.gather(ctx, d.Digest)
	v.add(<-image)
	var s set
	if _, only := c.opts.Policy.Origin.(policy.SummaryOnly); only {
		c.unasked(v, LinkImage, LinkSignature, LinkLog, LinkProvenance, LinkSource, LinkSBOM)
	} else {
		s = c.chain(ctx, v, ev, &d.Digest)
	}
	resource := ""
	if !c.opts.Layout {
		resource = attest.ImageURI(c.src.Name())
	}
	c.demanded(v, ev, s, resource)
	if _, builder := c.opts.Policy.Origin.(policy.BuilderProvenance); builder {
		v.hint(ev)
	}
	v.Unsigned = Claims(ctx, c.src, d.Digest, false)
}

// unasked adds the links of a chain that no policy demands, and the outcome as
// far as it follows from the first link, which v has already.
func (c *check) unasked(v *Verdict, first string, names ...string) {
	for _, name := range names {
		v.add(Link{Name: name, Status: NotAsked, Reason: "the policy trusts a verifier in its place"})
	}
	v.demand(map[string]bool{first: true})
}

func (c *check) ready() error {
	switch {
	case len(c.opts.Trust) == 0 && !c.opts.Policy.WithoutRoots():
		return trust.ErrEmpty
	case c.now.IsZero():
		return errors.New("the time of verification is not set")
	}
	if c.opts.Policy.FreshTrust {
		if err := c.dropStale(); err != nil {
			return err
		}
	}
	return c.opts.Policy.Check()
}

// dropStale leaves out trust roots that may have been withdrawn.
func (c *check) dropStale() error {
	var fresh []*trust.Root
	stale := ""
	for _, r := range c.opts.Trust {
		if r.Stale(c.now) {
			stale = r.Repository.URL
			continue
		}
		fresh = append(fresh, r)
	}
	if c.opts.Trust = fresh; len(fresh) == 0 {
		return fmt.Errorf("the policy demands fresh trust roots, and the one from %s is stale", stale)
	}
	return nil
}

// nowhere words a reference that the registry says it does not have.
func (c *check) nowhere(reference string) (reason, hint string) {
	what := fmt.Sprintf("tag %q", reference)
	if strings.Contains(reference, ":") {
		what = reference
	}
	return fmt.Sprintf("the registry says that %s has no %s", c.src.Name(), what),
		"is the name right, and the release finished? Tags appear last. Some registries answer so where credentials are missing"
}

// add appends a link. Much of a reason comes from outside, and goes to
// terminals: one line, no control characters, bounded.
func (v *Verdict) add(l Link) {
	l.Claim, l.Reason = plain(l.Claim), plain(l.Reason)
	v.Links = append(v.Links, l)
}

func plain(s string) string { return printable.Cut(printable.Line(s), 2000) }

// demand sets the outcome. Accepted is only what each required link earned.
func (v *Verdict) demand(required map[string]bool) {
	holds := make(map[string]bool)
	for _, l := range v.Links {
		holds[l.Name] = l.Status == Holds
		if l.Status == Broken || l.Status == Absent && required[l.Name] {
			v.Outcome = Rejected
			return
		}
	}
	for name, needed := range required {
		if needed && !holds[name] {
			v.Outcome = Undecided
			return
		}
	}
	v.Outcome = Accepted
}

// Why is the first link that kept the image from being accepted, and its
// reason; empty for an accepted image.
func (v *Verdict) Why() string {
	if v.Outcome == Accepted {
		return ""
	}
	for _, status := range [][2]Status{{Broken, Absent}, {Unknown, NotAsked}} {
		for _, l := range v.Links {
			if l.Status == status[0] || l.Status == status[1] {
				return l.Name + ": " + l.Reason
			}
		}
	}
	return "nothing was verified"
}

// also adds a link that is demanded beside those that decided so far.
func (v *Verdict) also(l Link) {
	v.add(l)
	switch {
	case l.Status == Holds:
	case l.Status == Broken || l.Status == Absent:
		v.Outcome = Rejected
	case v.Outcome == Accepted:
		v.Outcome = Undecided
	}
}
