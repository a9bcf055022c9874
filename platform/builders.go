package platform

import (
	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/release"
	"github.com/colophon-build/colophon/trust"
)

// setup is what the platform knows of itself, for the provenance.
func (p *platform) setup() map[string]string {
	if p.users.separate {
		return attest.Isolation{Zones: attest.SeparateUsers}.Parameters()
	}
	return attest.Isolation{Zones: attest.OneUser}.Parameters()
}

// builders are this platform's, and the SLSA Build level that each can earn. If
// roles share a user, a build that gets out of its room has the signing keys, so
// the name of the builder says it. golang compiles with less isolation around it.
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
