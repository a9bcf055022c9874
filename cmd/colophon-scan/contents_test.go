package main

import (
	"maps"
	"testing"

	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sbom/contents"
)

// What we write agrees with the image by package contents, which reads it in
// another way, of every kind of package that it knows.
func TestDocumentsAgreeWithTheImage(t *testing.T) {
	files := sample(t)
	maps.Copy(files, map[string][]byte{
		"lib/apk/db/installed": []byte("C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nS:100\nI:200\nT:libc\nU:https://musl.libc.org/\nL:MIT\no:musl\nt:1\n\n" +
			"C:Q1def=\nP:busybox\nV:1.36.1-r5\nA:x86_64\nS:100\nI:200\nT:tools\nU:https://busybox.net/\nL:GPL-2.0-only\no:busybox\nt:1\n\n"),
		"app/node_modules/left-pad/package.json":                            []byte(`{"name":"left-pad","version":"1.3.0","license":"WTFPL"}`),
		"app/node_modules/@scope/thing/package.json":                        []byte(`{"name":"@scope/thing","version":"2.0.0-rc.1+x"}`),
		"app/node_modules/left-pad/test/package.json":                       []byte(`{"name":`),
		"usr/lib/python3/dist-packages/Foo_Bar-1.2.dist-info/METADATA":      []byte("Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.2\n\nName: not-this\n"),
		"usr/lib/python3/dist-packages/baz-3.egg-info/PKG-INFO":             []byte("Metadata-Version: 1.2\nName: baz\nVersion: 3\n"),
		"usr/lib/python3/dist-packages/Foo_Bar-1.2.dist-info/top_level.txt": []byte("foo_bar\n"),
		"usr/lib/python3/dist-packages/Foo_Bar-1.2.dist-info/RECORD":        []byte("foo_bar/__init__.py,,\n"),
	})
	dir := t.TempDir()
	digest := writeIndex(t, dir, testImage(t, "amd64", files))
	spdx, cdx, err := generate(t.Context(), options(dir, digest))
	if err != nil {
		t.Fatal(err)
	}
	l, err := oci.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	installed, err := contents.Read(t.Context(), l, digest)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for p := range installed {
		seen[p.Type]++
	}
	for _, kind := range contents.Types {
		if seen[kind] < 2 {
			t.Errorf("%s: found %d packages, want two or more", kind, seen[kind])
		}
	}
	for kind, doc := range map[string][]byte{sbom.PredicateSPDX: spdx, sbom.PredicateCycloneDX: cdx} {
		d, err := sbom.Read(doc, kind)
		if err != nil {
			t.Fatal(err)
		}
		diff := contents.Compare(d.List, installed)
		if !diff.None() || diff.Compared < len(installed) {
			t.Errorf("%s: compared %d; %s", d.Format, diff.Compared, diff)
			for p := range installed {
				t.Logf("installed %s", p)
			}
			for _, l := range d.List {
				t.Logf("listed %s", l.PURL)
			}
		}
	}
}
