package verify

import (
	"errors"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// memory holds answers about one thing that is read once: an image, or a signed item.
// Once it is closed it never changes, so that any number of verdicts may read it at once.
type memory struct {
	answers map[any]any // by a key of a type of its own for each kind of question
	closed  bool        // what could answer is gone: the registry, or the item's content
}

func newMemory() *memory { return &memory{answers: make(map[any]any)} }

// Keys of what is remembered about an image. What is asked about one digest is asked about
// the image, or about the one manifest in it.
type (
	foundKey    v1.Hash
	onlyKey     struct{}
	contentsKey v1.Hash
	childrenKey int // number of cosign's tags
	sourceKey   struct{ provenance *piece }
	trackKey    struct{ provenance *piece }
	lockKey     struct {
		about v1.Hash
		lock  string
	}
)

type answer[V any] struct {
	value V
	err   error
}

// errNotGathered means that the answer was not read when there was still a source to ask.
var errNotGathered = errors.New("the evidence was gathered without asking for this: gather it again, with this policy among the policies asked for")

// recall returns the answer to the question key, and reads it if it is asked for the first
// time. Nothing is remembered if m is nil. If m is closed and has no answer, c misses it, and
// gives no verdict.
func recall[V any](c *check, m *memory, key any, read func() (V, error)) (V, error) {
	if m == nil {
		return read()
	}
	if a, ok := m.answers[key].(answer[V]); ok {
		return a.value, a.err
	}
	if m.closed {
		c.miss()
		var none V
		return none, errNotGathered
	}
	v, err := read()
	err = bounded(err)
	m.answers[key] = answer[V]{v, err}
	return v, err
}

// reuse is like recall, for what can be computed anew without the source or the content.
func reuse[V any](m *memory, key any, compute func() V) V {
	if m == nil {
		return compute()
	}
	if a, ok := m.answers[key].(V); ok {
		return a
	}
	v := compute()
	if !m.closed {
		m.answers[key] = v
	}
	return v
}

// maxText is the maximum number of bytes of an error that is remembered as it is: it may quote
// what strangers wrote.
const maxText = 64 << 10

// bounded returns err, or an error with the beginning of its text if that is long.
func bounded(err error) error {
	if err != nil && len(err.Error()) > maxText {
		return errors.New(plain(err.Error()))
	}
	return err
}

// miss records that an answer is missing.
func (c *check) miss() {
	if c.missed != nil {
		*c.missed = true
	}
}
