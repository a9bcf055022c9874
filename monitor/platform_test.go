package monitor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
)

// TestReleasesThatAreRemembered: a release that ended is asked for once, until more are remembered
// than may be.
func TestReleasesThatAreRemembered(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(api.Run{ID: r.URL.Path[len(r.URL.Path)-32:], State: api.Released})
	}))
	defer s.Close()
	p := NewPlatform(&api.ClientConfig{URL: s.URL, Token: "secret"})
	ask := func(n int, want int64) {
		t.Helper()
		if r, err := p.run(t.Context(), fmt.Sprintf("%032x", n)); err != nil || r == nil {
			t.Fatalf("got %v, %v", r, err)
		}
		if got := asked.Load(); got != want {
			t.Errorf("asked %d times, want %d", got, want)
		}
	}
	ask(1, 1)
	ask(1, 1)
	for n := range 10_000 - 1 {
		p.runs[fmt.Sprint("other ", n)] = run{}
	}
	ask(1, 1)
	ask(2, 2)
	if len(p.runs) != 1 {
		t.Errorf("%d releases are remembered, want 1", len(p.runs))
	}
	ask(1, 3)
}
