// Package forgehost serves the REST API of a forge for tests: the answers that it is given,
// in pages where they are lists, as the documentation of GitHub, GitLab and Gitea describes
// it. No forge runs where the tests run; that this server answers as a real one does, is what
// its author read in their documentation, and of Gitea in its source (v1.26).
package forgehost

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// Handler serves answers by path. A value that is a list is served in pages of at most 30
// entries, whatever size is asked for. If token is not empty, a request needs it.
func Handler(answers map[string]any, token string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); token != "" && got != "token "+token && got != "Bearer "+token {
			reply(w, http.StatusUnauthorized, map[string]string{"message": "Unauthorized"})
			return
		}
		value, known := answers[r.URL.EscapedPath()]
		if !known {
			reply(w, http.StatusNotFound, map[string]string{"message": "Not Found"})
			return
		}
		if all, ok := value.([]any); ok {
			value = page(all, r)
		}
		reply(w, http.StatusOK, value)
	})
}

func page(all []any, r *http.Request) []any {
	size := 30
	for _, name := range []string{"per_page", "limit"} {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil && n > 0 {
			size = min(size, n)
		}
	}
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || n < 1 {
		n = 1
	}
	from := min(len(all), (n-1)*size)
	return all[from:min(len(all), from+size)]
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value)
}

// Parse reads answers from JSON: an object of paths. Each NAME of replace is replaced by its
// value before.
func Parse(text string, replace ...string) (map[string]any, error) {
	var out map[string]any
	err := json.Unmarshal([]byte(strings.NewReplacer(replace...).Replace(text)), &out)
	return out, err
}
