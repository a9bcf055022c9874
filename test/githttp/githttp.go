// Package githttp serves git repositories over HTTP for tests, as git itself does.
package githttp

import (
	"io"
	"net/http"
	"net/http/cgi"
	"os/exec"
)

// Handler serves the repositories in the directory dir, to read: /NAME is the one in dir/NAME.
// It reads no configuration but theirs. It fails the test t if there is no git.
func Handler(t interface {
	Fatalf(format string, args ...any)
}, dir string) http.Handler {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatalf("serving %s: %v", dir, err)
	}
	return &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Stderr: io.Discard, // git says there what it also tells the client
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*", // repositories of other users too
		},
	}
}
