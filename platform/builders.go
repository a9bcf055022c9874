package platform

import (
	"context"
	"fmt"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/trust"
)

// byName sends each build to the role that runs its builder. Recipe and tree of a
// Dockerfile go to the role rooms and never through the role builder.
type byName map[string]builder.Builder

// Build implements builder.Builder.
func (b byName) Build(ctx context.Context, r builder.Request) (*builder.Result, error) {
	to, ok := b[r.Recipe.Builder]
	if !ok {
		return nil, fmt.Errorf("no role runs the builder %q", r.Recipe.Builder)
	}
	return to.Build(ctx, r)
}

// setup returns the platform's isolation parameters, which provenance records.
func (p *platform) setup() map[string]string {
	if p.users.separate {
		return attest.Isolation{Zones: attest.SeparateUsers}.Parameters()
	}
	return attest.Isolation{Zones: attest.OneUser}.Parameters()
}

// builders returns this platform's builders and the highest SLSA Build level of
// each. If all roles share one user, a build that escapes its room can read the
// signing keys; such builders have another id and a lower level. The golang
// builder isolates its compiler less than buildkit isolates a build.
func (p *platform) builders() []release.BuilderInfo {
	segment, levels := "", map[string]int{"buildkit": 3, "golang": 2}
	if !p.users.separate {
		segment, levels = "one-user/", map[string]int{"buildkit": 2, "golang": 1}
	}
	return []release.BuilderInfo{
		{Name: "buildkit", Builder: trust.Builder{ID: p.url + "/builders/buildkit/" + segment + "v1", Level: levels["buildkit"]}, BuildType: attest.BuildTypeBuildKit},
		{Name: "golang", Builder: trust.Builder{ID: p.url + "/builders/golang/" + segment + "v1", Level: levels["golang"]}, BuildType: attest.BuildTypeGolang},
	}
}
