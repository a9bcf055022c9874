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
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
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

// TestCacheNearMiss: one thing changed, whatever it is, and the answer is not
// taken from memory.
func TestCacheNearMiss(t *testing.T) {
	p := prooftest.New(t)
	store := prooftest.NewStore(t)
	rel := p.Release(store)
	rel.Attach(prooftest.Kinds...)
	src := &counted{Source: store}
	now := time.Now()
	opts := func() verify.Options {
		return verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, policy.Document{Source: prooftest.Source}), Now: now}
	}
	cache := &verify.Cache{Age: time.Minute, Size: 100}
	ask := func(reference string, o verify.Options) (*verify.Verdict, bool) {
		t.Helper()
		before := src.asked
		v := cache.Image(t.Context(), src, reference, o)
		return v, src.asked == before
	}
	digest := rel.Image.Digest.String()
	first, fromMemory := ask("v1.2.0", opts())
	if first.Outcome != verify.Accepted || fromMemory {
		t.Fatalf("got %s from memory %v: %s", first.Outcome, fromMemory, first.Why())
	}
	links := slices.Clone(first.Links)
	first.Links[0].Status = verify.Broken // of whoever asked first, and of nobody else
	for _, reference := range []string{"v1.2.0", digest} {
		v, fromMemory := ask(reference, opts())
		if !fromMemory || v.Outcome != verify.Accepted || !strings.HasSuffix(v.Image, reference) || v.Digest != digest || !reflect.DeepEqual(v.Links, links) {
			t.Errorf("%s: got %+v, from memory %v", reference, v, fromMemory)
		}
		v.Links[0].Status, v.Outcome = verify.Broken, verify.Rejected
		if v, _ := ask(reference, opts()); v.Outcome != verify.Accepted || v.Links[0].Status != verify.Holds {
			t.Errorf("%s: an answer was changed by who got it before: %+v", reference, v)
		}
	}
	remembered := func() {
		t.Helper()
		ask("v1.2.0", opts())
		if v, fromMemory := ask("v1.2.0", opts()); !fromMemory || v.Outcome != verify.Accepted {
			t.Fatalf("got %s, from memory %v", v.Outcome, fromMemory)
		}
	}
	policyOf := func(d policy.Document) func(*verify.Options) {
		return func(o *verify.Options) { o.Policy = demanded(t, d) }
	}
	for what, change := range map[string]func(*verify.Options){
		"no time yet":      func(o *verify.Options) { o.Now = o.Now.Add(-time.Second) },
		"too old":          func(o *verify.Options) { o.Now = o.Now.Add(time.Minute) },
		"another ref":      policyOf(policy.Document{Source: prooftest.Source, Ref: prooftest.Ref}),
		"another source":   policyOf(policy.Document{Source: prooftest.Source + "x"}),
		"another level":    policyOf(policy.Document{Source: prooftest.Source, MinLevel: 1}),
		"more trust":       func(o *verify.Options) { o.Trust = append(o.Trust, prooftest.New(t).Root()) },
		"other trust":      func(o *verify.Options) { o.Trust = []*trust.Root{prooftest.New(t).Root()} },
		"trust until then": func(o *verify.Options) { r := *o.Trust[0]; r.Expires = now.Add(time.Hour); o.Trust = []*trust.Root{&r} },
		"one byte of trust": func(o *verify.Options) {
			r, err := trust.Parse(append(p.Document(), '\n'))
			if err != nil {
				t.Fatal(err)
			}
			o.Trust = []*trust.Root{r}
		},
		"a layout": func(o *verify.Options) { o.Layout = true },
		"a bundle": func(o *verify.Options) { o.Bundles = [][]byte{[]byte("{}")} },
		"asking the repository": func(o *verify.Options) {
			o.SourceCheck = func(context.Context, source.Question) (source.Standing, error) {
				return source.Standing{}, context.Canceled
			}
		},
	} {
		remembered()
		o := opts()
		change(&o)
		if v, fromMemory := ask("v1.2.0", o); fromMemory {
			t.Errorf("%s: got %s from memory", what, v.Outcome)
		}
	}
	remembered()
	src.name = "127.0.0.1:8080/team/other"
	if _, fromMemory := ask(digest, opts()); fromMemory {
		t.Error("another repository: answered from memory")
	}
	src.name = ""
	// Another image beside it, unproven, by digest and by a tag of its own.
	store.Tar = []byte("another")
	other, _ := store.Image("v2")
	remembered()
	before := src.asked
	for _, reference := range []string{"v2", other.Digest.String()} {
		if v, _ := ask(reference, opts()); v.Outcome == verify.Accepted && v.Digest == digest {
			t.Errorf("another image, %s: got the answer to %s", reference, v.Digest)
		}
	}
	if src.asked == before {
		t.Error("another image: answered from memory")
	}
}

// TestCacheForgets: rejections, what is asked anew, and what is old.
func TestCacheForgets(t *testing.T) {
	p := prooftest.New(t)
	p.CAUntil = time.Now().Add(30 * time.Second) // ends before the cache would
	store := prooftest.NewStore(t)
	rel := p.Release(store)
	rel.Attach(attest.PredicateSign)
	src := &counted{Source: store}
	o := verify.Options{Trust: []*trust.Root{p.Root()}, Policy: demanded(t, policy.Document{Source: prooftest.Source}), Now: time.Now()}
	cache := &verify.Cache{Age: time.Hour, Size: 2}
	if v := cache.Image(t.Context(), src, "v1.2.0", o); v.Outcome != verify.Rejected {
		t.Fatalf("got %s: %s", v.Outcome, v.Why())
	}
	rel.Attach(attest.PredicateSLSA1, attest.PredicateSPDX, attest.PredicateCDX)
	if v := cache.Image(t.Context(), src, "v1.2.0", o); v.Outcome != verify.Accepted {
		t.Errorf("a rejection was remembered: %s", v.Why())
	}
	before := src.asked
	for _, later := range []struct {
		by         time.Duration
		fromMemory bool
	}{{20 * time.Second, true}, {29 * time.Second, true}, {31 * time.Second, false}} {
		at := o
		at.Now = o.Now.Add(later.by)
		cache.Image(t.Context(), src, "v1.2.0", at)
		if (src.asked == before) != later.fromMemory {
			t.Errorf("after %s: asked %d times more, want from memory %v", later.by, src.asked-before, later.fromMemory)
		}
	}
	// Two others push it out.
	for _, ref := range []string{"a", "b"} {
		other := o
		other.Policy = demanded(t, policy.Document{Source: prooftest.Source, Builders: []string{prooftest.Builder, prooftest.URL + "/builders/" + ref}})
		if v := cache.Image(t.Context(), src, "v1.2.0", other); v.Outcome != verify.Accepted {
			t.Fatal(v.Why())
		}
	}
	before = src.asked
	if cache.Image(t.Context(), src, "v1.2.0", o); src.asked == before {
		t.Error("of three answers all are there, and two were to be kept")
	}
}

// TestCacheKeyCoversOptions fails when Options grows: a verdict that depends on
// more than the key says would be wrong from memory.
func TestCacheKeyCoversOptions(t *testing.T) {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[verify.Options]()) {
		names = append(names, f.Name)
	}
	if got, want := strings.Join(names, " "), "Trust Policy Now SourceCheck Bundles Layout"; got != want {
		t.Errorf("Options has the fields %q, and the key of Cache knows %q", got, want)
	}
}
