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
	for name, repo := range map[string]func(testing.TB) string{"golang": harness.GoRepo, "buildkit": hello} {
		t.Run(name, func(t *testing.T) {
			dir := repo(t)
			var digests []string
			for range 2 {
				p := harness.Start(t, "--mirror", harness.BaseImages(t))
				cmd := p.Colophon(t.Context(), "release", dir, "--ref", "v1.0.0", "--image", p.Addr+"/twice/app", "--builder", name, "--json")
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
