// Package remembered caches answers in memory. It is for answers that depend on
// nothing but the question, such as whether a key signed these bytes: never for one that depends on
// the time, on a setting, or on who asks.
package remembered

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Question stands for everything that an answer depends on.
type Question [sha256.Size]byte

// Ask returns the question that consists of parts. Other parts, or the same bytes divided or ordered
// otherwise, are another question.
func Ask(parts ...[]byte) (q Question) {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		h.Write(size[:])
		h.Write(p)
	}
	h.Sum(q[:0])
	return q
}

// Answers remembers the answers to a limited number of questions, and forgets the oldest first. It is
// safe for concurrent use.
type Answers[V any] struct {
	mu    sync.Mutex
	known map[Question]func() V
	order []Question // of known; as a ring once it is full
	next  int        // in order, the oldest
	most  int
}

// New returns an Answers that remembers at most most answers, at least one.
func New[V any](most int) *Answers[V] {
	return &Answers[V]{known: map[Question]func() V{}, most: max(most, 1)}
}

// To returns the answer to q. Unless it is remembered, find finds it. Whoever asks the same
// question meanwhile waits for this answer.
func (a *Answers[V]) To(q Question, find func() V) V {
	return a.answer(q, find)()
}

func (a *Answers[V]) answer(q Question, find func() V) func() V {
	a.mu.Lock()
	defer a.mu.Unlock()
	if known, ok := a.known[q]; ok {
		return known
	}
	if len(a.order) < a.most {
		a.order = append(a.order, q)
	} else {
		delete(a.known, a.order[a.next])
		a.order[a.next] = q
		a.next = (a.next + 1) % a.most
	}
	answer := sync.OnceValue(find)
	a.known[q] = answer
	return answer
}
