package release

import (
	"fmt"
	"strings"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/lazyregexp"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/platform/builder"
)

var hexDigest = lazyregexp.New(`^[0-9a-f]{32,128}$`)

// checkClaims refuses a builder's result whose dependencies or tools lack a digest or
// name the source. Only the platform names the source; a reader of the provenance
// could mistake a second entry for it.
func (j *run) checkClaims(r *builder.Result) error {
	refuse := func(format string, args ...any) error {
		return &api.Error{Message: "refusing to sign the builder's claims: " + fmt.Sprintf(format, args...)}
	}
	taken := map[string]bool{attest.GitURI(j.commit.URI, ""): true}
	for _, s := range j.commit.Submodules {
		taken[attest.GitURI(s.URI, "")] = true
	}
	for _, a := range j.added {
		taken[attest.GitURI(a.commit.URI, "")] = true
	}
	for kind, list := range map[string][]attest.ResourceDescriptor{"dependency": r.Dependencies, "tool": r.Tools} {
		for _, d := range list {
			if len(d.Digest) == 0 {
				return refuse("%s %q %q has no digest", kind, d.Name, d.URI)
			}
			for algorithm, value := range d.Digest {
				if !hexDigest.MatchString(value) {
					return refuse("%s %q %q: %s digest: got %q, want hex", kind, d.Name, d.URI, algorithm, value)
				}
			}
			repository, _, _ := strings.Cut(d.URI, "@refs/")
			if d.Name == "source" || taken[repository] {
				return refuse("%s %q %q names the source, which only the platform may name: %s", kind, d.Name, d.URI, j.commit.URI)
			}
		}
	}
	return nil
}
