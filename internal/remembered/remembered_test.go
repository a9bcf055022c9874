package remembered

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAsk: parts that are divided or ordered otherwise are another question.
func TestAsk(t *testing.T) {
	seen := map[Question]string{}
	for name, parts := range map[string][][]byte{
		"none": nil, "an empty one": {{}}, "two empty ones": {{}, {}}, "one": {[]byte("ab")}, "divided": {[]byte("a"), []byte("b")},
		"other order": {[]byte("b"), []byte("a")}, "with an empty one": {[]byte("ab"), {}}, "empty first": {{}, []byte("ab")},
	} {
		q := Ask(parts...)
		if other, ok := seen[q]; ok {
			t.Errorf("%s and %s are one question", name, other)
		}
		seen[q] = name
		if q != Ask(parts...) {
			t.Errorf("%s: it is another question the second time", name)
		}
	}
}

// TestAnswersForget: the oldest answer goes first, and no more than the limit are kept.
func TestAnswersForget(t *testing.T) {
	a, asked := New[int](3), 0
	ask := func(n int) (fresh bool) {
		before := asked
		if got := a.To(Ask([]byte(strconv.Itoa(n))), func() int { asked++; return n }); got != n {
			t.Fatalf("got the answer %d, want %d", got, n)
		}
		return asked > before
	}
	for i, step := range []struct {
		n     int
		fresh bool
	}{{1, true}, {2, true}, {3, true}, {1, false}, {3, false}, {4, true}, {2, false}, {3, false}, {1, true}, {2, true}, {4, false}, {1, false}} {
		if got := ask(step.n); got != step.fresh {
			t.Errorf("step %d, question %d: got found anew %v, want %v", i, step.n, got, step.fresh)
		}
	}
	for n := range 100 {
		ask(n)
	}
	if len(a.known) != 3 || len(a.order) != 3 {
		t.Errorf("got %d answers and %d questions, want 3", len(a.known), len(a.order))
	}
}

// TestAnswersTogether: of many who ask the same at once, one finds the answer.
func TestAnswersTogether(t *testing.T) {
	a := New[string](10)
	var found atomic.Int64
	begin := make(chan struct{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			<-begin
			if got := a.To(Ask([]byte("who signed")), func() string { found.Add(1); return "ada" }); got != "ada" {
				t.Errorf("got %q", got)
			}
		})
	}
	close(begin)
	all.Wait()
	if found.Load() != 1 {
		t.Errorf("the answer was found %d times, want once", found.Load())
	}
}
