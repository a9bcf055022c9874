package attest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
)

// Isolation is what the internal parameters of both our build types say about
// what kept a build apart: from the platform that signs, and from other builds
// (spec/buildkit/v1 and spec/golang/v1, "Internal parameters"; those of golang
// have the zones alone). SLSA Build L3 rests on it. An empty field says nothing.
type Isolation struct {
	Zones      string `json:"zones,omitempty"`      // SeparateUsers or OneUser
	Namespaces string `json:"namespaces,omitempty"` // the room's own Linux namespaces, separated by spaces: "user mount pid"; or NoNamespaces
}

// Values of Isolation's fields.
const (
	// SeparateUsers: each zone of the platform is an OS user of its own, so that
	// a build that leaves its room cannot reach the signing keys.
	SeparateUsers = "separate users"
	OneUser       = "one user" // all zones run as the same OS user
	NoNamespaces  = "none"     // the build ran without a room
)

// Parameters returns the isolation as members of the internal parameters, to be
// written with whatever else a platform or builder says there.
func (i Isolation) Parameters() map[string]string {
	members := make(map[string]string)
	for name, value := range map[string]string{"zones": i.Zones, "namespaces": i.Namespaces} {
		if value != "" {
			members[name] = value
		}
	}
	return members
}

// Missing returns the first of the namespaces that the room did not have, or "".
func (i Isolation) Missing(namespaces ...string) string {
	had := strings.Fields(i.Namespaces)
	for _, want := range namespaces {
		if !slices.Contains(had, want) {
			return want
		}
	}
	return ""
}

// ReadIsolation reads the isolation out of internal parameters, which may be
// empty. A member that is no string says nothing.
func ReadIsolation(internalParameters json.RawMessage) (Isolation, error) {
	var members struct {
		Zones      any `json:"zones"`
		Namespaces any `json:"namespaces"`
	}
	if len(internalParameters) > 0 {
		if err := strict.Unmarshal(internalParameters, limits.Statement, &members); err != nil {
			return Isolation{}, fmt.Errorf("internal parameters: %w", err)
		}
	}
	var i Isolation
	i.Zones, _ = members.Zones.(string)
	i.Namespaces, _ = members.Namespaces.(string)
	return i, nil
}
