package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/githttp"
	"github.com/colophon-build/colophon/test/gittest"
)

// TestLoginOfTheUsersGit: a private repository is asked with what the user's own git has for
// its host, and without it the answer says what is missing. The terminal is left alone, and
// the configuration of the working directory does not count.
func TestLoginOfTheUsersGit(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_TERMINAL_PROMPT", "GIT_ASKPASS"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	dir := filepath.Join(t.TempDir(), "repo")
	gittest.Git(t, dir, "init", "-q", "-b", "main")
	gittest.Git(t, dir, "commit", "-q", "--allow-empty", "-m", "x")
	id := gittest.Git(t, dir, "rev-parse", "HEAD")
	git := githttp.Handler(t, filepath.Dir(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "hunter2" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		git.ServeHTTP(w, r)
	}))
	defer srv.Close()
	q := source.Question{URI: srv.URL + "/repo", Ref: "refs/heads/main", Commit: id}
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store := filepath.Join(home, "store")
	config := "[credential]\n\thelper = store --file=" + store + "\n"
	write(store, strings.Replace(srv.URL, "http://", "http://me:hunter2@", 1)+"\n")

	// Only a repository in the working directory names the helper.
	here := t.TempDir()
	gittest.Git(t, here, "init", "-q")
	write(filepath.Join(here, ".git", "config"), config)
	t.Chdir(here)
	if now, err := lookup(t.Context(), q); !errors.Is(err, source.ErrLogin) || !strings.Contains(err.Error(), "helper has none") {
		t.Errorf("without a login: got %+v, %v", now, err)
	}
	write(filepath.Join(home, ".gitconfig"), config)
	if now, err := lookup(t.Context(), q); err != nil || !now.Holds() {
		t.Errorf("with a login: got %+v, %v", now, err)
	}
	write(store, strings.Replace(srv.URL, "http://", "http://me:wrong@", 1)+"\n")
	if now, err := lookup(t.Context(), q); !errors.Is(err, source.ErrLogin) || strings.Contains(err.Error(), "wrong") || !strings.Contains(err.Error(), "refuses the one") {
		t.Errorf("with a wrong login: got %+v, %v", now, err)
	}
}
