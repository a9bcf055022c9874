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
	return attest.Isolation{Zones: p.users.zones()}.Parameters()
}

// zones returns how the roles of this host are separated, as the kernel reports it.
func (u users) zones() string {
	switch {
	case !u.separate:
		return attest.OneUser
	case u.nested:
		return attest.SubordinateUsers
	}
	return attest.SeparateUsers
}

// builders returns this platform's builders and the highest SLSA Build level of
// each. If all roles share one user, a build that escapes its room can read the
// signing keys; if a plain user owns the users of all roles, every program that he runs
// outside of the platform can. Such builders have another id and a lower level. The golang
// builder isolates its compiler less than buildkit isolates a build.
func (p *platform) builders() []release.BuilderInfo {
	segment, levels := "", map[string]int{"buildkit": 3, "golang": 2}
	switch p.users.zones() {
	case attest.OneUser:
		segment, levels = "one-user/", map[string]int{"buildkit": 2, "golang": 1}
	case attest.SubordinateUsers:
		segment, levels = "plain-user/", map[string]int{"buildkit": 2, "golang": 1}
	}
	return []release.BuilderInfo{
		{Name: "buildkit", Builder: trust.Builder{ID: p.url + "/builders/buildkit/" + segment + "v1", Level: levels["buildkit"]}, BuildType: attest.BuildTypeBuildKit},
		{Name: "golang", Builder: trust.Builder{ID: p.url + "/builders/golang/" + segment + "v1", Level: levels["golang"]}, BuildType: attest.BuildTypeGolang},
	}
}
