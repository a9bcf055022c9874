package interop

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/test/await"
	"github.com/colophon-build/colophon/test/harness"
)

// TestArchiveSearch: what only the SBOMs and the provenance of a release say is found in the archive
// of the platform, with proof, also after kill -9; the audit of the archive agrees.
func TestArchiveSearch(t *testing.T) {
	p := harness.Start(t, "--config", harness.Config(t, nil))
	p.Trust()
	repo := harness.GoRepo(t)
	colophon := func(args ...string) (string, string) {
		t.Helper()
		cmd := p.Colophon(t.Context(), args...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, _ := cmd.Output()
		return string(out), errs.String()
	}
	out, errs := colophon("release", repo, "--ref", "v1.0.0", "--image", p.Addr+"/team/app", "--json")
	var r api.Release
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s%s", err, out, errs)
	}
	type answer struct {
		Records []struct {
			Predicate string
			About     []string
		}
		Total         int64
		Indexed, Size int64
	}
	// search waits until so many records are found, and all are indexed.
	search := func(want int, args ...string) {
		t.Helper()
		var found answer
		await.True(t, fmt.Sprintf("%v: %d records", args, want), func() bool {
			out, errs = colophon(append([]string{"log", "search", "--json"}, args...)...)
			return json.Unmarshal([]byte(out), &found) == nil && len(found.Records) >= want && found.Indexed == found.Size
		})
		if len(found.Records) != want {
			t.Fatalf("%v: got %d records, want %d\n%s%s", args, len(found.Records), want, out, errs)
		}
		for _, record := range found.Records {
			if !strings.Contains(strings.Join(record.About, " "), r.Digest) {
				t.Errorf("%v: a record is about %v, want %s", args, record.About, r.Digest)
			}
		}
	}
	check := func() {
		t.Helper()
		search(1, "--builder", r.Builder)
		search(1, "--predicate", "https://spdx.dev/Document")
		search(1, "--archive", "--commit", r.Source.ID)
		search(2, "--package", "stdlib") // SPDX and CycloneDX
		search(0, "--package", "log4j-core")
		if out, errs := colophon("log", "audit", "--archive"); !strings.Contains(out, "the archive has what its log has") {
			t.Errorf("audit: %s%s", out, errs)
		}
	}
	check()
	p.Kill()
	p.Up()
	check()
}
