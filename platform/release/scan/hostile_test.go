package scan

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colophon-build/colophon/sbom"
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

// What the scanner cannot read is named in both documents, in the same way each time.
func TestUnreadFilesAreNamed(t *testing.T) {
	files := sample(t)
	files["app/corrupt.jar"] = []byte("PK\x03\x04 and no archive")
	files["var/lib/rpm/Packages"] = nil // empty: nothing is left out
	files["app/unknown.tar.gz"] = []byte("an archive in which Syft does not look")
	files["usr/share/man/man1/ls.1.gz"] = []byte("a page")
	var first [][]byte
	for range 2 {
		dir := t.TempDir()
		spdx, cdx, err := Generate(t.Context(), options(dir, writeIndex(t, dir, testImage(t, "amd64", files))))
		if err != nil {
			t.Fatal(err)
		}
		for kind, doc := range map[string][]byte{sbom.PredicateSPDX: spdx, sbom.PredicateCycloneDX: cdx} {
			d, err := sbom.Read(doc, kind)
			if err != nil {
				t.Fatal(err)
			}
			if want := []string{"/app/corrupt.jar", "/app/unknown.tar.gz"}; !slices.Equal(d.Unread, want) {
				t.Errorf("%s: unread: got %q, want %q", d.Format, d.Unread, want)
			}
		}
		if first == nil {
			first = [][]byte{spdx, cdx}
		} else if !bytes.Equal(first[0], spdx) || !bytes.Equal(first[1], cdx) {
			t.Error("the same image gives other documents")
		}
	}
}

// Past their cap, the documents say how many files they do not name.
func TestManyUnreadFiles(t *testing.T) {
	var files []string
	for i := range maxUnread + 5 {
		files = append(files, fmt.Sprintf("/f%04d", i))
	}
	got := named(files)
	if len(got) != maxUnread+1 || got[maxUnread] != "(and 5 more files)" {
		t.Errorf("got %d, the last %q", len(got), got[len(got)-1])
	}
}
