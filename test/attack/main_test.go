// Package attack starts platforms and attacks them. Each attack says what it tries and
// which guard stops it, shows evidence if it succeeds, and lists the cuts that remove
// the guard from the source, without which it must succeed. A file holds one family of
// attacks. docs/threats.md lists them all.
//
// The test binary is also the attacker: it runs in the steps of a Dockerfile, and in
// place of buildkitd in a room of a platform.
package attack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
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
	case os.Getenv(platformVar) != "":
		os.Exit(m.Run()) // the platform is elsewhere
	case os.Geteuid() != 0:
		os.Exit(m.Run()) // each test reports that it needs root
	default:
		os.Exit(outside())
	}
}

// need fails or skips the test if the suite cannot run.
func need(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVar) != "" {
		return
	}
	needs.Missing(t, "the attack suite needs root: it starts platforms with rooms")
}
