package attest

import (
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Recipe is what a requester may choose about a build; it is recorded whole in
// the provenance's external parameters. Zero fields mean the default.
type Recipe struct {
	Builder    string            `json:"builder"`              // "buildkit" or "golang"
	Platforms  []string          `json:"platforms,omitempty"`  // "linux/amd64"; empty is the host's
	Dockerfile string            `json:"dockerfile,omitempty"` // buildkit: path in the tree, "Dockerfile" where empty
	Target     string            `json:"target,omitempty"`     // buildkit: stage
	BuildArgs  map[string]string `json:"buildArgs,omitempty"`  // buildkit
	Package    string            `json:"package,omitempty"`    // golang: main package, "." where empty
}

// Check refuses what no builder takes, whatever the tree: a mistake of the
// requester, to be told before anything is fetched.
func (r Recipe) Check() error {
	for _, name := range r.Platforms {
		if p, err := v1.ParsePlatform(name); err != nil || p.OS != "linux" || p.Architecture == "" || p.OSVersion != "" {
			return fmt.Errorf("platform: got %q, want linux/ARCHITECTURE, such as linux/amd64", name)
		}
	}
	if f := r.Dockerfile; f != "" && (path.Clean(f) != f || !filepath.IsLocal(f) || f == ".") {
		return fmt.Errorf("dockerfile: got %q, want a clean path inside the tree", f)
	}
	for _, k := range slices.Sorted(maps.Keys(r.BuildArgs)) {
		// These are no arguments of the Dockerfile but switches of BuildKit,
		// and the epoch is the commit's.
		if strings.HasPrefix(k, "BUILDKIT_") || k == "SOURCE_DATE_EPOCH" || k == "" {
			return fmt.Errorf("build argument %q may not be set by a recipe", k)
		}
	}
	if p := path.Clean(r.Package); !filepath.IsLocal(p) || strings.ContainsAny(r.Package, "@\\") || strings.Contains(p, "...") {
		return fmt.Errorf("package: got %q, want a directory below the root of the source, like ./cmd/app", r.Package)
	}
	return nil
}
