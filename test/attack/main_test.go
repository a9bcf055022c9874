// Package attack attacks platforms that it starts itself. One file is one
// attack, or one family of them: what it tries, the guard that stops it, the
// attack, how its success would show, and the same guard taken out of the
// source, with which it has to succeed. docs/threats.md has them all.
//
// The test binary is also the attacker: the same program runs in the steps of a
// Dockerfile, and in the place of buildkitd in a room of a platform.
package attack

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "buildkitd":
		takenOver()
	case filepath.Base(os.Args[0]) == "intruder":
		intrude("step")
	case os.Args[0] == bystanderName:
		bystander()
	case os.Getenv(insideVar) != "":
		os.Exit(inside(m))
	case os.Geteuid() != 0:
		os.Exit(m.Run()) // each test says that it could not run
	default:
		os.Exit(outside())
	}
}

// need fails or skips, loudly, where the suite cannot run.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		return
	}
	if os.Getenv("COLOPHON_REQUIRE_BUILD") == "1" {
		t.Fatal("the attack suite needs root: it starts platforms with rooms")
	}
	t.Skip("NOT TESTED: the attack suite needs root: it starts platforms with rooms")
}
