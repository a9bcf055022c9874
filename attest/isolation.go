package attest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Isolation describes how a Colophon platform isolated a build from the services
// that sign, and from other builds. It is part of the internal parameters of
// BuildTypeBuildKit and BuildTypeGolang (spec/buildkit/v1 and spec/golang/v1,
// "Internal parameters"; golang has only the zones). SLSA Build L3 depends on it.
// An empty field makes no claim.
type Isolation struct {
	Zones      string `json:"zones,omitempty"`      // SeparateUsers, SubordinateUsers or OneUser
	Namespaces string `json:"namespaces,omitempty"` // the build's own Linux namespaces, separated by spaces, such as "user mount pid"; or NoNamespaces
	// Reach is PublicNetwork, or else "public" and the other address ranges that the
	// platform's settings opened to the build, separated by spaces.
	Reach string `json:"reach,omitempty"`
	// CacheMounts is EmptyCacheMounts, or KeptCacheMounts if the build got the cache mounts
	// (RUN --mount=type=cache) of an earlier build, or left its own to a later one.
	CacheMounts string `json:"cacheMounts,omitempty"`
}

// Values of Isolation's fields.
const (
	// SeparateUsers means that each zone of the platform runs as its own OS user,
	// so that a build that escapes its sandbox cannot read the signing keys.
	SeparateUsers = "separate users"
	// SubordinateUsers means that each zone has a user of its own, but that a plain user of
	// the host owns all of them (subuid(5)). A build that escapes its sandbox cannot read the
	// signing keys; the owner, and every program that he runs, can.
	SubordinateUsers = "subordinate users"
	OneUser          = "one user" // all zones run as the same OS user
	NoNamespaces     = "none"     // the build ran without a sandbox
	PublicNetwork    = "public"   // the build could reach public addresses and no others

	EmptyCacheMounts = "empty" // cache mounts began empty, and were erased after the build
	KeptCacheMounts  = "kept"  // builds of one repository, branch and recipe share them
)

// Parameters returns the members that i adds to the internal parameters: "zones",
// "namespaces", "reach" and "cacheMounts", without the empty ones.
func (i Isolation) Parameters() map[string]string {
	members := make(map[string]string)
	for name, value := range map[string]string{"zones": i.Zones, "namespaces": i.Namespaces, "reach": i.Reach, "cacheMounts": i.CacheMounts} {
		if value != "" {
			members[name] = value
		}
	}
	return members
}

// Missing returns the first of the given namespaces that the build did not have,
// or "" if it had all of them.
func (i Isolation) Missing(namespaces ...string) string {
	own := strings.Fields(i.Namespaces)
	for _, want := range namespaces {
		if !slices.Contains(own, want) {
			return want
		}
	}
	return ""
}

// ReadIsolation reads the members of Isolation from the JSON of internal
// parameters, which may be empty. A member that is not a string counts as empty.
func ReadIsolation(internalParameters json.RawMessage) (Isolation, error) {
	var members struct {
		Zones       any `json:"zones"`
		Namespaces  any `json:"namespaces"`
		Reach       any `json:"reach"`
		CacheMounts any `json:"cacheMounts"`
	}
	if len(internalParameters) > 0 {
		if err := strict.Unmarshal(internalParameters, limits.Statement, &members); err != nil {
			return Isolation{}, fmt.Errorf("internal parameters: %w", err)
		}
	}
	var i Isolation
	i.Zones, _ = members.Zones.(string)
	i.Namespaces, _ = members.Namespaces.(string)
	i.Reach, _ = members.Reach.(string)
	i.CacheMounts, _ = members.CacheMounts.(string)
	return i, nil
}
