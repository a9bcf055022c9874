package together

import (
	"context"
	"slices"
	"testing"
)

func TestNext(t *testing.T) {
	c := make(chan int, 8)
	for i := range 5 {
		c <- i
	}
	if got := Next(t.Context(), c, 3); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("got %v, want the first three", got)
	}
	if got := Next(t.Context(), c, 3); !slices.Equal(got, []int{3, 4}) {
		t.Errorf("got %v, want the two that are left", got)
	}
	go func() { c <- 5 }()
	if got := Next(t.Context(), c, 3); !slices.Equal(got, []int{5}) {
		t.Errorf("got %v, want the one that it waited for", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Next(ctx, c, 3); got != nil {
		t.Errorf("got %v, want nothing after the context is done", got)
	}
}
