package reach

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestGet: a request is sent again while the server starts again, and not for another reason.
func TestGet(t *testing.T) {
	busy := func(w http.ResponseWriter) { http.Error(w, "it starts again", http.StatusServiceUnavailable) }
	closed := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for name, tt := range map[string]struct {
		answers []func(http.ResponseWriter) // the last one stays
		status  int
		body    string
		why     Failure
		asked   int
	}{
		"busy, then closed":   {answers: []func(http.ResponseWriter){busy, closed, func(w http.ResponseWriter) { io.WriteString(w, "here") }}, status: http.StatusOK, body: "here", asked: 3},
		"busy for long":       {answers: []func(http.ResponseWriter){busy}, status: http.StatusServiceUnavailable, body: "it starts again\n", asked: 3},
		"closed for long":     {answers: []func(http.ResponseWriter){closed}, why: Closed, asked: 3},
		"another status":      {answers: []func(http.ResponseWriter){func(w http.ResponseWriter) { http.Error(w, "no", http.StatusInternalServerError) }}, status: http.StatusInternalServerError, body: "no\n", asked: 1},
		"busy, and for hours": {answers: []func(http.ResponseWriter){func(w http.ResponseWriter) { w.Header().Set("Retry-After", "36000"); busy(w) }}, status: http.StatusServiceUnavailable, body: "it starts again\n", asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				tt.answers[min(asked, len(tt.answers))-1](w)
			}))
			defer srv.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			// A connection of its own for each request: http.Transport repeats one on a used connection by itself.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			resp, err := Get(client, "the server", req)
			if tt.why != "" {
				if e, ok := err.(*Error); !ok || e.Why != tt.why || asked != tt.asked {
					t.Errorf("got %v after %d requests, want %q after %d", err, asked, tt.why, tt.asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != tt.status || string(body) != tt.body || asked != tt.asked {
				t.Errorf("got %d %q, %v after %d requests, want %d %q after %d", resp.StatusCode, body, err, asked, tt.status, tt.body, tt.asked)
			}
		})
	}
}
