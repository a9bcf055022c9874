package golang

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/test/needs"
)

// A build that starts from the compiled standard library gives the same image,
// and leaves nothing in it for the next one.
func TestStandardLibraryIsSharedReadOnly(t *testing.T) {
	needs.Long(t)
	tree := writeTree(t, map[string]string{
		"go.mod":  "module example.com/tiny\n",
		"main.go": "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"hello\") }\n",
	})
	fresh, _, _, err := do(t, newBuilder(t, Config{}), tree, attest.Recipe{}, builder.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(t, Config{StdCache: sharedStd})
	var before map[string]string
	for i := range 2 {
		r, _, _, err := do(t, b, tree, attest.Recipe{}, builder.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Digest != fresh.Digest {
			t.Errorf("build %d: got %s, want %s as from an empty cache", i, r.Digest, fresh.Digest)
		}
		t.Logf("build %d: %v; from an empty cache %v", i, r.Finished.Sub(r.Started), fresh.Finished.Sub(fresh.Started))
		after := fingerprint(t, sharedStd)
		if before != nil && !maps.Equal(before, after) {
			t.Error("a build changed the shared standard library")
		}
		before = after
	}
	if len(before) < 100 {
		t.Errorf("the shared library has %d files, want hundreds", len(before))
	}
}

// Most of a minute of work on a new platform does not pass in silence, and can
// be cancelled.
func TestStandardLibraryIsAnnounced(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	std := t.TempDir()
	var said []string
	r := builder.Request{Recipe: attest.Recipe{Builder: "golang"}, Tree: writeTree(t, plainTree), Epoch: epoch, Layout: t.TempDir(), Log: func(e builder.Event) {
		said = append(said, e.Step)
		cancel()
	}}
	_, err := newBuilder(t, Config{StdCache: std}).Build(ctx, r)
	if !errors.Is(err, context.Canceled) || len(said) != 1 || !strings.HasPrefix(said[0], "standard library for linux/") {
		t.Errorf("got %v and events %q, want %v after one about the standard library", err, said, context.Canceled)
	}
	if left, _ := filepath.Glob(filepath.Join(std, "std-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// fingerprint is path to content hash and time of each file.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		sum, err := builder.FileDigest(path)
		out[path] = sum + info.ModTime().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
