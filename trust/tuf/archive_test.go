package tuf

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

// archive returns files below a directory as a gzipped tar archive.
func archive(t *testing.T, dir string, files map[string][]byte) []byte {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	all := tar.NewWriter(zipped)
	for name, content := range files {
		must(t, all.WriteHeader(&tar.Header{Name: dir + name, Mode: 0o600, Size: int64(len(content))}))
		_, err := all.Write(content)
		must(t, err)
	}
	must(t, all.Close())
	must(t, zipped.Close())
	return out.Bytes()
}

// TestFromArchive: the repository in an archive is verified from the root that is named.
func TestFromArchive(t *testing.T) {
	r := newRepo(t)
	p := prooftest.New(t)
	r.publish(time.Now().Add(soon), map[string][]byte{"trusted_root.json": p.TrustedRoot()})
	first := r.pinned()
	r.rotate(newKey(t))
	r.publish(time.Now().Add(soon), map[string][]byte{"trusted_root.json": p.TrustedRoot()})
	for _, dir := range []string{"", "./repository/"} {
		got, err := trust.FromArchive(first, archive(t, dir, r.files), "targets", "trusted_root.json")
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Repository.Roots) != 2 || len(trust.Authorities(got.Material)) != 1 || got.Stale(time.Now()) {
			t.Errorf("got %d roots, %+v", len(got.Repository.Roots), got)
		}
	}
	// A file of that name further down is not the repository's; the answer is the same each time.
	deeper := maps.Clone(r.files)
	deeper["targets/timestamp.json"], deeper["a/b/timestamp.json"] = []byte("x"), []byte("x")
	for range 20 {
		if _, err := trust.FromArchive(first, archive(t, "repository/", deeper), "targets", "trusted_root.json"); err != nil {
			t.Fatalf("with another timestamp.json: %v", err)
		}
	}
	other := newRepo(t)
	other.publish(time.Now().Add(soon), map[string][]byte{"trusted_root.json": prooftest.New(t).TrustedRoot()})
	without := func(part string) map[string][]byte {
		files := maps.Clone(r.files)
		maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.Contains(name, part) })
		return files
	}
	changed := maps.Clone(r.files)
	for name := range changed {
		if strings.HasSuffix(name, "trusted_root.json") {
			changed[name] = prooftest.New(t).TrustedRoot()
		}
	}
	many := maps.Clone(r.files)
	for i := range 1100 {
		many[strings.Repeat("a", i+1)] = nil
	}
	whole := archive(t, "", r.files)
	for name, c := range map[string]struct {
		root, archive []byte
		want          string
	}{
		"another's root":     {other.pinned(), whole, "root metadata"},
		"no root":            {nil, whole, "root metadata"},
		"no archive":         {first, []byte("x"), "gzipped tar"},
		"half an archive":    {first, whole[:len(whole)/2], "gzipped tar"},
		"no timestamp":       {first, archive(t, "", without("timestamp")), "expected timestamp.json"},
		"no snapshot":        {first, archive(t, "", without("snapshot")), "expected snapshot.json"},
		"no targets":         {first, archive(t, "", without("targets.json")), "expected targets.json"},
		"no target":          {first, archive(t, "", without("trusted_root.json")), `target "trusted_root.json"`},
		"another target":     {first, archive(t, "", changed), `target "trusted_root.json"`},
		"many files":         {first, archive(t, "", many), "at most 1024 files"},
		"an unpacking bomb":  {first, archive(t, "", map[string][]byte{"x": make([]byte, 17<<20)}), "bytes"},
		"another's metadata": {first, archive(t, "", other.files), "timestamp metadata"},
	} {
		if got, err := trust.FromArchive(c.root, c.archive, "targets", "trusted_root.json"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v, want %s", name, got != nil, err, c.want)
		}
	}
}
