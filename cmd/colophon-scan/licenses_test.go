package main

import (
	"context"
	"os"
	"slices"
	"testing"

	"github.com/anchore/syft/syft"
	"github.com/anchore/syft/syft/cataloging/pkgcataloging"
	"github.com/anchore/syft/syft/source/directorysource"
)

// TestClassifyTexts finds with classifyTexts the license of a text that Syft finds without it.
func TestClassifyTexts(t *testing.T) {
	text, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const info = "usr/lib/python3/dist-packages/app-1.0.dist-info/"
	writeProject(t, dir, map[string]string{
		info + "METADATA": "Metadata-Version: 2.4\nName: app\nVersion: 1.0\nLicense-File: LICENSE\n",
		info + "RECORD":   info + "METADATA,,\n",
		info + "LICENSE":  string(text),
	})
	licensesOf := func(ctx context.Context) (found []string) {
		src, err := directorysource.New(directorysource.Config{Path: dir, Base: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		s, err := syft.CreateSBOM(ctx, src, config(pkgcataloging.ImageTag, newDpkgPackages()))
		if err != nil {
			t.Fatal(err)
		}
		for p := range s.Artifacts.Packages.Enumerate() {
			for _, l := range p.Licenses.ToSlice() {
				found = append(found, p.Name+" "+l.Value+" "+l.SPDXExpression+" "+l.Contents)
			}
		}
		return found
	}
	ctx, err := classifyTexts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, want := licensesOf(ctx), licensesOf(t.Context())
	if len(want) != 1 || !slices.Equal(got, want) {
		t.Errorf("got %q, want the one license that Syft finds: %q", got, want)
	}
}

// TestClassifyTextsCostsNothing holds classifyTexts to what it is for: the tables, of which there
// are millions of allocations, are not made before a text is there.
func TestClassifyTextsCostsNothing(t *testing.T) {
	if n := testing.AllocsPerRun(1, func() { classifyTexts(t.Context()) }); n > 10 {
		t.Errorf("got %.0f allocations, want at most 10", n)
	}
}
