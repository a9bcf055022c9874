package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchore/syft/syft/pkg"
	"github.com/anchore/syft/syft/pkg/cataloger/debian"
	syftsource "github.com/anchore/syft/syft/source"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/sbom"
)

// A scan of many packages without relations takes time in proportion to their number. 60,000
// take 9 s of processor time on a machine with two cores and forty times the work for them.
// With Syft's own search for relations, and both documents, they took 36 s there, and 24 s
// of an idle machine.
func TestManyPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT ASKED FOR: -short does not scan 60,000 packages")
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
	_, _, err := generate(t.Context(), options(dir, digest))
	used := processorTime(t) - before
	t.Logf("%d packages: %s, %s of processor time", n, time.Since(start), used)
	// A verifier accepts no document that lists them all: that is refused, not cut.
	if err == nil || !strings.Contains(err.Error(), "got 60000 packages, want at most 41943") {
		t.Errorf("got %v, want the limit of a document", err)
	}
	if _, err := trimmed(make([]byte, limits.Statement+1)); err == nil || !strings.Contains(err.Error(), "want at most 12582912") {
		t.Errorf("a large document: got %v", err)
	}
	if used > 15*time.Second {
		t.Errorf("took %s of processor time", used)
	}
}

// Packages that are kept from Syft's search for relations are in the documents as if they
// had not been: the bytes are the same, and so are the relations of those that own files.
func TestKeptPackages(t *testing.T) {
	const status = "Status: install ok installed\nVersion: 1\nArchitecture: amd64\n"
	files := map[string][]byte{
		"etc/os-release": []byte("ID=debian\nVERSION_ID=\"12\"\n"),
		"var/lib/dpkg/status": []byte("Package: alone\nDepends: python3-thing\n" + status + "\nPackage: python3-thing\nDepends: licensed, alone\n" + status +
			"\nPackage: licensed\n" + status + "\nPackage: unversioned\nStatus: install ok installed\n\n"),
		"var/lib/dpkg/info/python3-thing.md5sums":                    []byte(strings.Repeat("0", 32) + "  usr/lib/python3/dist-packages/thing.egg-info/PKG-INFO\n"),
		"usr/lib/python3/dist-packages/thing.egg-info/PKG-INFO":      []byte("Metadata-Version: 2.1\nName: thing\nVersion: 1\n"),
		"usr/lib/python3/dist-packages/thing.egg-info/top_level.txt": []byte("thing\n"),
		"usr/share/doc/licensed/copyright":                           []byte("License: MIT\n"),
		"opt/chroot/var/lib/dpkg/status":                             []byte("Package: elsewhere\n" + status),
		"usr/lib/opkg/status":                                        []byte("Package: opkg\n" + status),
	}
	dir := t.TempDir()
	o := order{Order: options(dir, writeIndex(t, dir, testImage(t, "amd64", files)))}
	images, err := find(layout.Path(dir), o.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var docs [2][]byte
	kept := newDpkgPackages()
	for i, dpkg := range []pkg.Cataloger{kept, debian.NewDBCataloger()} {
		one, _, err := o.scan(t.Context(), images[0], dpkg)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			one.Artifacts.Packages.Add(kept.kept...)
		}
		one.Source = syftsource.Description{ID: o.Digest.Hex, Name: o.Image, Version: o.Digest.String(), Metadata: one.Source.Metadata}
		spdx, err := o.spdx(*one, nil)
		if err != nil {
			t.Fatal(err)
		}
		cyclone, err := o.cyclonedx(*one, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n := one.Artifacts.Packages.PackageCount(); len(spdx) < n*limits.Statement/maxPackages {
			t.Errorf("%d packages take %d bytes: fewer than maxPackages assumes", n, len(spdx))
		}
		docs[i] = append(spdx, cyclone...)
	}
	if !bytes.Equal(docs[0], docs[1]) {
		t.Errorf("got\n%s\nwant Syft's own\n%s", docs[0], docs[1])
	}
	var names []string
	for _, p := range kept.kept {
		names = append(names, p.Name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"alone", "elsewhere"}) {
		t.Errorf("kept: got %q", names)
	}
	for _, want := range []string{"ownership-by-file-overlap", "DEPENDENCY_OF", "unversioned"} {
		if !bytes.Contains(docs[0], []byte(want)) {
			t.Errorf("the documents do not say %q", want)
		}
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
		spdx, cdx, err := generate(t.Context(), options(dir, writeIndex(t, dir, testImage(t, "amd64", files))))
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

// A program without symbols has been read: its modules are listed, and it is not named. One that
// cannot be read in another way still is.
func TestProgramWithoutSymbols(t *testing.T) {
	out := filepath.Join(t.TempDir(), "hello")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "./testdata/hello") // as scripts/programs.sh
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spdx, _, err := generate(t.Context(), options(dir, writeIndex(t, dir, testImage(t, "amd64", map[string][]byte{"usr/bin/hello": program, "var/lib/dpkg/status": []byte(dpkg)}))))
	if err != nil {
		t.Fatal(err)
	}
	d, err := sbom.Read(spdx, sbom.PredicateSPDX)
	if err != nil || len(d.Unread) > 0 || !bytes.Contains(spdx, []byte("pkg:golang/golang.org/x/mod@")) {
		t.Errorf("unread: got %q, %v, want none, and golang.org/x/mod listed", d.Unread, err)
	}
	if spdx, _, err = generateFiles(t.Context(), filesOrder(t, out)); err != nil {
		t.Fatal(err)
	}
	if d, err := sbom.Read(spdx, sbom.PredicateSPDX); err != nil || len(d.Unread) > 0 || d.Packages < 2 {
		t.Errorf("the file: got %d packages, unread %q, %v", d.Packages, d.Unread, err)
	}
	if !hidesPackages([]string{noCryptography + "no symbol section", "java: corrupt"}) || !hidesPackages([]string{"go-module-binary-cataloger: unable to read golang buildinfo: x"}) {
		t.Error("another reason is not one to name the file")
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
