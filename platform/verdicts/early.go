package verdicts

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/oci"
)

// early is a repository that was asked what is attached to one image at the same time as for the
// image itself: so an image that is not known costs one round trip less. What it says of that image
// is what the repository said then.
type early struct {
	oci.Source
	subject   v1.Hash
	referrers soon[[]v1.Descriptor]
	tags      map[string]soon[v1.Descriptor]
}

// askEarly starts to ask about an image, and about the given tags of it.
func askEarly(ctx context.Context, r oci.Source, subject v1.Hash, tags []oci.CosignTag) *early {
	e := &early{Source: r, subject: subject, tags: map[string]soon[v1.Descriptor]{}}
	e.referrers = start(func() ([]v1.Descriptor, error) { return r.Referrers(ctx, subject) })
	for _, t := range tags {
		e.tags[t.Of(subject)] = start(func() (v1.Descriptor, error) { return r.Resolve(ctx, t.Of(subject)) })
	}
	return e
}

// Referrers implements oci.Source.
func (e *early) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	if subject != e.subject {
		return e.Source.Referrers(ctx, subject)
	}
	return e.referrers.get(ctx)
}

// Resolve implements oci.Source.
func (e *early) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	if tag, ok := e.tags[reference]; ok {
		return tag.get(ctx)
	}
	return e.Source.Resolve(ctx, reference)
}

// soon is an answer that is on its way.
type soon[V any] struct {
	done chan struct{}
	*answered[V]
}

type answered[V any] struct {
	value V
	err   error
}

// start calls work at once. A fault in it is an error.
func start[V any](work func() (V, error)) soon[V] {
	s := soon[V]{make(chan struct{}), &answered[V]{}}
	go func() {
		defer close(s.done)
		defer func() {
			if fault := recover(); fault != nil {
				s.err = fmt.Errorf("the reading ended with a fault: %v", fault)
			}
		}()
		s.value, s.err = work()
	}()
	return s
}

func (s soon[V]) get(ctx context.Context) (V, error) {
	select {
	case <-s.done:
		return s.value, s.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}
