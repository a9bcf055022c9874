package platform

import (
	"context"
	"log/slog"
	"testing"
)

// TestImpatientAsker: whoever asks whether a role is ready and leaves makes it look broken neither for others nor in
// its log. Anybody may ask.
func TestImpatientAsker(t *testing.T) {
	c := &condition{log: slog.New(slog.DiscardHandler), try: func(ctx context.Context) error { return ctx.Err() }}
	left, leave := context.WithCancel(t.Context())
	leave()
	_ = c.ready(left) // nobody gets this answer
	if err := c.ready(t.Context()); err != nil {
		t.Errorf("for the next who asks: got %v, want ready", err)
	}
}
