package verify_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/distrusttest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// counted is a source that says how often it was asked for more than a tag.
type counted struct {
	oci.Source
	asked int
	name  string
}

func (c *counted) Name() string {
	if c.name != "" {
		return c.name
	}
	return c.Source.Name()
}

func (c *counted) Referrers(ctx context.Context, h v1.Hash) ([]v1.Descriptor, error) {
	c.asked++
	return c.Source.Referrers(ctx, h)
}

// remembered is one proven image, and a cache that answers about it.
type remembered struct {
	t     *testing.T
	p     *prooftest.Platform
	store *prooftest.Store
	rel   *prooftest.Release
	src   *counted
	cache verify.Cache
	now   time.Time // of the first question
}

func newRemembered(t *testing.T) *remembered {
	c := &remembered{t: t, p: prooftest.New(t), store: prooftest.NewStore(t), cache: verify.Cache{Age: time.Minute, Size: 100}, now: time.Now()}
	c.rel = c.p.Release(c.store)
	c.src = &counted{Source: c.store}
	return c
}

func (c *remembered) opts() verify.Options {
	return verify.Options{Trust: []*trust.Root{c.p.Root()}, Policy: demanded(c.t, policy.Document{Source: prooftest.Source})}
}

// ask asks the cache, and says whether it answered without asking the registry
// for more than what a tag names.
func (c *remembered) ask(reference string, now time.Time, opts verify.Options) (v *verify.Verdict, fromMemory bool) {
	c.t.Helper()
	before := c.src.asked
	v = c.cache.Image(c.t.Context(), c.src, reference, now, opts)
	return v, c.src.asked == before
}

// again makes sure that the cache knows the image as it is.
func (c *remembered) again() {
	c.t.Helper()
	c.ask("v1.2.0", c.now, c.opts())
	if v, fromMemory := c.ask("v1.2.0", c.now, c.opts()); !fromMemory || v.Outcome != verify.Accepted {
		c.t.Fatalf("got %s, from memory %v", v.Outcome, fromMemory)
	}
}

// TestCacheAnswers: the second question about a digest is answered from memory,
// by tag and by digest, and no caller can change what the next one gets.
func TestCacheAnswers(t *testing.T) {
	c := newRemembered(t)
	c.rel.Attach(prooftest.Kinds...)
	digest := c.rel.Image.Digest.String()
	first, fromMemory := c.ask("v1.2.0", c.now, c.opts())
	if first.Outcome != verify.Accepted || fromMemory {
		t.Fatalf("got %s from memory %v: %s", first.Outcome, fromMemory, first.Why())
	}
	links := slices.Clone(first.Links)
	first.Links[0].Status = verify.Broken // changes the copy of the first caller, and nobody else's
	for _, reference := range []string{"v1.2.0", digest} {
		v, fromMemory := c.ask(reference, c.now, c.opts())
		if !fromMemory || v.Outcome != verify.Accepted || !strings.HasSuffix(v.Image, reference) || v.Digest != digest || !reflect.DeepEqual(v.Links, links) {
			t.Errorf("%s: got %+v, from memory %v", reference, v, fromMemory)
		}
		v.Links[0].Status, v.Outcome = verify.Broken, verify.Rejected
		if v, _ := c.ask(reference, c.now, c.opts()); v.Outcome != verify.Accepted || v.Links[0].Status != verify.Holds {
			t.Errorf("%s: a caller changed the answer of the next one: %+v", reference, v)
		}
	}
}

// TestCacheByTag: an answer from memory names the image as it was asked for.
func TestCacheByTag(t *testing.T) {
	c := newRemembered(t)
	c.rel.Attach(prooftest.Kinds...)
	for _, image := range []string{":v1.2.0", ":v1.2.0", "@" + c.rel.Image.Digest.String(), "@" + c.rel.Image.Digest.String()} {
		c.src.asked = 0
		v := c.cache.Image(t.Context(), c.src, image[1:], c.now, c.opts())
		if v.Image != c.src.Name()+image || v.Outcome != verify.Accepted {
			t.Errorf("got %s, %v", v.Image, v.Outcome)
		}
	}
	if c.src.asked != 0 {
		t.Errorf("the image was asked for again, by its digest")
	}
	fresh := verify.Cache{Age: time.Minute, Size: 1}
	for range 2 {
		c.src.asked = 0
		fresh.Image(t.Context(), c.src, c.rel.Image.Digest.String(), c.now, c.opts())
	}
	if c.src.asked != 0 {
		t.Errorf("an answer by digest was not remembered")
	}
}

// TestCacheNearMiss: one thing changed, whatever it is, and the answer is not
// taken from memory.
func TestCacheNearMiss(t *testing.T) {
	c := newRemembered(t)
	c.rel.Attach(prooftest.Kinds...)
	policyOf := func(d policy.Document) func(*verify.Options) {
		return func(o *verify.Options) { o.Policy = demanded(t, d) }
	}
	for what, tt := range map[string]struct {
		later  time.Duration
		change func(*verify.Options)
	}{
		"no time yet":    {later: -time.Second},
		"too old":        {later: time.Minute},
		"another ref":    {change: policyOf(policy.Document{Source: prooftest.Source, Ref: prooftest.Ref})},
		"another source": {change: policyOf(policy.Document{Source: prooftest.Source + "x"})},
		"another level":  {change: policyOf(policy.Document{Source: prooftest.Source, MinLevel: 1})},
		"more trust":     {change: func(o *verify.Options) { o.Trust = append(o.Trust, prooftest.New(t).Root()) }},
		"other trust":    {change: func(o *verify.Options) { o.Trust = []*trust.Root{prooftest.New(t).Root()} }},
		"trust until then": {change: func(o *verify.Options) {
			r := *o.Trust[0]
			r.Expires = c.now.Add(time.Hour)
			o.Trust = []*trust.Root{&r}
		}},
		"one byte of trust": {change: func(o *verify.Options) {
			r, err := trust.Parse(append(c.p.Document(), '\n'))
			if err != nil {
				t.Fatal(err)
			}
			o.Trust = []*trust.Root{r}
		}},
		"a layout": {change: func(o *verify.Options) { o.Layout = true }},
		"a bundle": {change: func(o *verify.Options) { o.Bundles = [][]byte{[]byte("{}")} }},
		"a list of what is no longer trusted": {change: func(o *verify.Options) {
			o.Distrust = verify.Distrust{Lists: distrust.Lists{distrusttest.New(t).Known("shop")}}
		}},
		"asking the repository": {change: func(o *verify.Options) {
			o.SourceCheck = func(context.Context, source.Question) (source.Standing, error) {
				return source.Standing{}, context.Canceled
			}
		}},
	} {
		c.again()
		o := c.opts()
		if tt.change != nil {
			tt.change(&o)
		}
		if v, fromMemory := c.ask("v1.2.0", c.now.Add(tt.later), o); fromMemory {
			t.Errorf("%s: got %s from memory", what, v.Outcome)
		}
	}
}

// TestCacheAnotherImage: the answer about an image is given neither for the same
// digest in another repository nor for an image beside it.
func TestCacheAnotherImage(t *testing.T) {
	c := newRemembered(t)
	c.rel.Attach(prooftest.Kinds...)
	digest := c.rel.Image.Digest.String()
	c.again()
	c.src.name = "127.0.0.1:8080/team/other"
	if _, fromMemory := c.ask(digest, c.now, c.opts()); fromMemory {
		t.Error("another repository: answered from memory")
	}
	c.src.name = ""
	// Another image beside it, unproven, by digest and by a tag of its own.
	c.store.Tar = []byte("another")
	other, _ := c.store.Image("v2")
	c.again()
	before := c.src.asked
	for _, reference := range []string{"v2", other.Digest.String()} {
		if v, _ := c.ask(reference, c.now, c.opts()); v.Outcome == verify.Accepted && v.Digest == digest {
			t.Errorf("another image, %s: got the answer to %s", reference, v.Digest)
		}
	}
	if c.src.asked == before {
		t.Error("another image: answered from memory")
	}
}

// TestCacheForgets: rejections, answers that are too old, and the oldest ones
// where there is no room for more.
func TestCacheForgets(t *testing.T) {
	c := newRemembered(t)
	c.cache.Age, c.cache.Size = time.Hour, 2
	c.p.CAUntil = time.Now().Add(30 * time.Second) // ends before the cache would
	c.rel.Attach(attest.PredicateSign)
	if v, _ := c.ask("v1.2.0", c.now, c.opts()); v.Outcome != verify.Rejected {
		t.Fatalf("got %s: %s", v.Outcome, v.Why())
	}
	c.rel.Attach(attest.PredicateSLSA1, attest.PredicateSPDX, attest.PredicateCDX)
	if v, _ := c.ask("v1.2.0", c.now, c.opts()); v.Outcome != verify.Accepted {
		t.Errorf("a rejection was remembered: %s", v.Why())
	}
	for _, later := range []struct {
		by   time.Duration
		want bool
	}{{20 * time.Second, true}, {29 * time.Second, true}, {31 * time.Second, false}} {
		if _, fromMemory := c.ask("v1.2.0", c.now.Add(later.by), c.opts()); fromMemory != later.want {
			t.Errorf("after %s: got from memory %v, want %v", later.by, fromMemory, later.want)
		}
	}
	// Two others push it out.
	for _, ref := range []string{"a", "b"} {
		other := c.opts()
		other.Policy = demanded(t, policy.Document{Source: prooftest.Source, Builders: []string{prooftest.Builder, prooftest.URL + "/builders/" + ref}})
		if v, _ := c.ask("v1.2.0", c.now, other); v.Outcome != verify.Accepted {
			t.Fatal(v.Why())
		}
	}
	if _, fromMemory := c.ask("v1.2.0", c.now, c.opts()); fromMemory {
		t.Error("the cache keeps three answers, want two")
	}
}

// TestCacheKeyCoversOptions fails when Options grows: a verdict that depends on
// more than the key says would be wrong from memory.
func TestCacheKeyCoversOptions(t *testing.T) {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[verify.Options]()) {
		names = append(names, f.Name)
	}
	if got, want := strings.Join(names, " "), "Trust Policy SourceCheck TrackCheck Bundles Layout Platform Pinned Distrust Whole"; got != want {
		t.Errorf("Options has the fields %q, and the key of Cache knows %q", got, want)
	}
}
