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
	cmd := Command(dir, args...)
	cmd.Env = append(cmd.Env, env...)
	return run(t, cmd)
}

// In is Git with a standard input, such as the object that git hash-object writes.
func In(t testing.TB, stdin, dir string, args ...string) string {
	t.Helper()
	cmd := Command(dir, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return run(t, cmd)
}

// Command returns git in dir, which must be there, for those who run it themselves: where git may
// fail, and in examples, which have no test.
func Command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z",
	}
	return cmd
}

func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	if err := os.MkdirAll(cmd.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v: %s", cmd.Args[1:], err, out)
	}
	return strings.TrimSpace(string(out))
}
