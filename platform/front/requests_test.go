package front

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/logs"
)

func TestLogged(t *testing.T) {
	for _, tc := range []struct {
		name, method, authorization string
		status                      int
		actor, level                string
	}{
		{"a push", "PUT", "Bearer good", 201, "client", "DEBUG"},
		{"as a password", "PUT", "Basic eDpnb29k", 201, "client", "DEBUG"}, // x:good
		{"a push that is refused", "PUT", "Bearer good", 409, "client", "INFO"},
		{"a read of nothing", "GET", "", 404, "anonymous", "DEBUG"},
		{"a wrong token", "PUT", "Bearer wrong", 401, "unknown", "INFO"},
		{"a read", "GET", "", 200, "anonymous", "DEBUG"},
		{"a read that fails", "GET", "", 503, "anonymous", "INFO"},
	} {
		var out bytes.Buffer
		log := logs.New(&out, logs.Settings{JSON: true, Level: -4})
		var inside logs.Request
		h := Logged(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inside, _ = logs.Of(r.Context())
			w.WriteHeader(tc.status)
			io.WriteString(w, "answer")
		}), func(token string) string { return map[string]string{"good": "client"}[token] }, log)
		r := httptest.NewRequest(tc.method, "/v2/x?signature=secret", strings.NewReader(""))
		r.Header.Set("Authorization", tc.authorization)
		r.Header.Set("Colophon-Request", "chosen") // by the client: counts for nothing
		r.Header.Set("Colophon-Actor", "admin")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		var line struct {
			Level, Msg, Method, Path, Request, Actor string
			Status, Bytes                            int
		}
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v in %s", tc.name, err, &out)
		}
		if line.Level != tc.level || line.Actor != tc.actor || line.Status != tc.status || line.Bytes != len("answer") || line.Path != "/v2/x" || line.Method != tc.method {
			t.Errorf("%s: got %s", tc.name, &out)
		}
		if id := rec.Header().Get("X-Request-Id"); id == "" || id == "chosen" || line.Request != id || inside != (logs.Request{ID: id, Actor: tc.actor}) {
			t.Errorf("%s: got id %q, the handler %+v, the log %s", tc.name, id, inside, &out)
		}
		if strings.Contains(out.String(), "secret") || strings.Contains(out.String(), "good") {
			t.Errorf("%s: the log has a secret: %s", tc.name, &out)
		}
	}
}
