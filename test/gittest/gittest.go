// Package gittest runs git in the repositories of tests. No settings of the user or of the machine
// count, and author and date are fixed: commits of the same content have the same id.
//
//	dir := t.TempDir()
//	gittest.Git(t, dir, "init", "-q", "-b", "main")
//	gittest.Git(t, dir, "commit", "-q", "--allow-empty", "-m", "first")
//	id := gittest.Git(t, dir, "rev-parse", "HEAD")
package gittest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Git runs git in dir, which it makes if it is not there, and returns what git prints, without the
// space around it. The test fails if git does.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return With(t, nil, dir, args...)
}

// With is Git with more variables in the environment, such as another GIT_COMMITTER_DATE.
func With(t testing.TB, env []string, dir string, args ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z",
	}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}
