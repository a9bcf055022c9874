package scan

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A scan of many packages without relations takes time in proportion to their number:
// 60,000 take about 10 s of an idle machine with two cores.
func TestManyPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: scans 60,000 packages")
	}
	var b strings.Builder
	const n = 60_000
	for i := range n {
		fmt.Fprintf(&b, "Package: p%d\nVersion: 1\nArchitecture: amd64\nStatus: install ok installed\n\n", i)
	}
	dir := t.TempDir()
	digest := writeIndex(t, dir, testImage(t, "amd64", map[string][]byte{
		"var/lib/dpkg/status": []byte(b.String()),
		"etc/os-release":      []byte("ID=debian\nVERSION_ID=\"12\"\n"),
	}))
	start, before := time.Now(), processorTime(t)
	_, _, err := Generate(t.Context(), options(dir, digest))
	used := processorTime(t) - before
	t.Logf("%d packages: %s, %s of processor time", n, time.Since(start), used)
	// The document is larger than a verifier accepts: that is refused, not cut.
	if err == nil || !strings.Contains(err.Error(), "want at most 12582912") {
		t.Errorf("got %v, want the limit of a document", err)
	}
	if used > 90*time.Second { // ten times as many packages would take a hundred times as long if it were not proportional
		t.Errorf("took %s of processor time", used)
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
