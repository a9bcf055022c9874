package verdicts

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestNotReadyWithoutPolicies: a gate that starts with policies that cannot be used decides about nothing. It is
// not ready, so that the one before it goes on, and does not say that others still count.
func TestNotReadyWithoutPolicies(t *testing.T) {
	var log bytes.Buffer
	l := NewLoader(New(Config{}), slog.New(slog.NewTextHandler(&log, nil)), nil)
	l.Tell(TrustDocuments, nil)
	l.Tell(PolicyDocuments, []Document{{Name: "p", Raw: []byte("kind: x\n")}})
	w := httptest.NewRecorder()
	l.Checks(prometheus.NewRegistry(), l.Missing).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if body := w.Body.String(); w.Code != http.StatusServiceUnavailable || !strings.Contains(body, "apiVersion") {
		t.Errorf("got %d %q, want 503 and what is wrong", w.Code, body)
	}
	if strings.Contains(log.String(), "still do") || !strings.Contains(log.String(), "every image is undecided") {
		t.Errorf("got the log %s", &log)
	}
}
