// Package reproducible releases the same commit on two platforms that share only the
// compiled standard library, with both builders, and expects the same digest.
package reproducible

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
)

func TestSameCommitSameDigest(t *testing.T) {
	needs.Long(t)
	for name, c := range map[string]struct {
		repo func(testing.TB) string
		args []string
	}{
		"golang":            {harness.GoRepo, []string{"--builder", "golang"}},
		"golang for docker": {harness.GoRepo, []string{"--builder", "golang", "--docker-attestations"}},
		"buildkit":          {hello, []string{"--builder", "buildkit"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := c.repo(t)
			var digests []string
			addr := harness.Reserve(t).Addr // one after the other: the name of the image is in BuildKit's attestations
			for range 2 {
				p := harness.Reserve(t)
				p.Addr, p.URL = addr, "http://"+addr
				p.Args = []string{"--mirror", harness.BaseImages(t), "--config", harness.Config(t, nil)}
				p.Up()
				cmd := p.Colophon(t.Context(), append([]string{"release", dir, "--ref", "v1.0.0", "--image", p.Addr + "/twice/app", "--json"}, c.args...)...)
				var log bytes.Buffer
				cmd.Stderr = &log
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("release: %v\n%s", err, log.String())
				}
				var r api.Release
				if err := json.Unmarshal(out, &r); err != nil {
					t.Fatal(err)
				}
				digests = append(digests, r.Digest)
				p.OneOfEach(t, "twice/app", r.Digest)
				if err := p.Stop(); err != nil {
					t.Error(err)
				}
			}
			if digests[0] != digests[1] {
				t.Errorf("two releases of one commit: %s and %s", digests[0], digests[1])
			}
		})
	}
}

// hello is examples/hello as a repository.
func hello(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "hello")
	harness.CopyTree(t, filepath.Join(harness.Root(t), "examples", "hello"), dir)
	harness.Commit(t, dir, "v1.0.0")
	return dir
}
