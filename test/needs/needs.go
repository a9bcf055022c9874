// Package needs ends a test that this machine cannot run, or that nobody asked for. A test
// that this machine cannot run is skipped, or fails where COLOPHON_REQUIRE_BUILD=1 says that
// everything must be tested, as make test does.
package needs

import (
	"fmt"
	"os"
	"testing"
)

// Root ends the test unless it runs as root. why says what needs root.
func Root(t testing.TB, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "%s needs root", why)
	}
}

// Missing ends the test because the machine lacks something.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	said := "NOT TESTED: " + fmt.Sprintf(format, args...)
	if os.Getenv("COLOPHON_REQUIRE_BUILD") == "1" {
		t.Fatal(said)
	}
	t.Skip(said)
}

// AskedForLong reports whether COLOPHON_LONG=1 asks for the tests that take minutes.
func AskedForLong() bool { return os.Getenv("COLOPHON_LONG") == "1" }

// Long skips the test unless COLOPHON_LONG=1 asks for the tests that take minutes, as
// continuous integration does.
func Long(t testing.TB) {
	t.Helper()
	if !AskedForLong() {
		t.Skip("NOT ASKED FOR: COLOPHON_LONG=1 make test runs what takes minutes")
	}
}
