package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// TestVerifyPartOfIndex verifies archives and layouts that lack a platform, as docker
// save writes them, and copies of them.
func TestVerifyPartOfIndex(t *testing.T) {
	s := newStage(t)
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"}, "trusted")
	g := newGenuine(t, s)
	var index v1.IndexManifest
	raw := read(t, filepath.Join(g.dir, "blobs", "sha256", g.image.Digest.Hex))
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		t.Fatal(err)
	}
	demand := []string{"--source", "git.example.com/team/app", "--skip-source"}
	verify := func(what string, more ...string) []string {
		return append(append([]string{"verify", what}, demand...), more...)
	}
	s.run(exitOK, verify(g.dir, "--platform", "linux/arm64"), "✓ image       linux/arm64; the layout", "accepted")
	s.run(exitOK, verify(g.dir, "--platform", "linux/aarch64"), "✓ image       linux/arm64; the layout", "accepted")
	s.run(exitRejected, verify(g.dir, "--platform", "linux/arm64/v9"), "want linux/arm64/v9")
	s.run(exitRejected, verify(g.dir, "--platform", "linux/s390x"), "the index has linux/amd64, linux/arm64, want linux/s390x")
	s.run(exitUsage, verify(g.dir, "--platform", "amd64"), "expected OS/ARCH")
	s.run(exitUsage, verify(g.dir, "--platform", "linux/amd64", "--vsa", "attach", "--verifier", "https://v.example.com"), "platform")

	if err := os.Remove(filepath.Join(g.dir, "blobs", "sha256", index.Manifests[1].Digest.Hex)); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{g.dir, tarOf(t, g.dir)} {
		s.run(exitOK, verify(what), "✓ image       linux/amd64; the layout holds these bytes; not there: linux/arm64", "accepted")
		s.run(exitOK, verify(what, "--platform", "linux/amd64"), "✓ image       linux/amd64; the layout holds these bytes", "accepted")
		s.run(exitRejected, verify(what, "--platform", "linux/arm64"), "linux/arm64: not found")
		s.run(exitOK, []string{"inspect", what}, "attached: 4")
		copied := filepath.Join(t.TempDir(), "copy")
		s.run(exitOK, []string{"copy", what, copied}, "left out: manifest "+index.Manifests[1].Digest.String())
		s.run(exitOK, verify(copied), "not there: linux/arm64", "accepted")
	}
	if err := os.Remove(filepath.Join(g.dir, "blobs", "sha256", index.Manifests[0].Digest.Hex)); err != nil {
		t.Fatal(err)
	}
	s.run(exitRejected, verify(g.dir), "linux/amd64, linux/arm64: not found")
	s.run(exitFailure, []string{"copy", g.dir, filepath.Join(t.TempDir(), strings.Repeat("x", 8))}, "none of its manifests is there")
}
