package front

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/logs"
)

// headerRequestID is the header of an answer that names its request, as log lines do.
const headerRequestID = "X-Request-Id"

// Logged gives each request of h an id, which its answer and the log lines of all roles
// name, and logs the request when it has been answered. It does so on level debug if the
// platform did what was asked, because the roles log what they change, or if a client asked
// for something that is not there. account returns the account of a token, or "".
func Logged(h http.Handler, account func(token string) string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		of := logs.Request{ID: rand.Text(), Actor: account(tokenOf(r))}
		switch {
		case of.Actor != "":
		case r.Header.Get("Authorization") != "":
			of.Actor = "unknown" // a wrong token, or one that the registry made
		default:
			of.Actor = "anonymous"
		}
		r = r.WithContext(logs.With(r.Context(), of))
		w.Header().Set(headerRequestID, of.ID)
		started := time.Now()
		answer := &logs.Answer{ResponseWriter: w}
		defer func() { // also if h panics with ErrAbortHandler, because a role cut its answer short
			level, reads := slog.LevelDebug, r.Method == http.MethodGet || r.Method == http.MethodHead
			if answer.Status() >= 500 || answer.Status() >= 400 && !reads {
				level = slog.LevelInfo
			}
			// Without the query, which may hold credentials.
			log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", answer.Status(), "bytes", answer.Bytes,
				"took", time.Since(started).Round(time.Microsecond).String(), "client", r.RemoteAddr)
		}()
		h.ServeHTTP(answer, r)
	})
}

// tokenOf returns the token of a request: a bearer token, or the password.
func tokenOf(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}
