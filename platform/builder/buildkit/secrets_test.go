package buildkit

import (
	"errors"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/platform/builder"
)

// TestSecretsOfSteps: a step that requires a secret or an ssh agent is refused before a room
// is opened, with what to do; one that mounts it if there is one is built, and the log says
// that there is none.
func TestSecretsOfSteps(t *testing.T) {
	for mount, required := range map[string]bool{
		"type=secret,id=npm,required=true": true, "type=secret,id=npm,required": true, "type=ssh,required=true": true, "type=secret,id=npm,env=TOKEN,required=true": true,
		"type=secret,id=npm": false, "type=ssh": false, "type=secret,id=npm,env=TOKEN": false,
	} {
		dir := tree(t, "FROM scratch\nCOPY . /\nRUN --mount="+mount+" true\n")
		var log []string
		c := &closed{}
		_, err := New(Config{Rooms: c}).Build(t.Context(), builder.Request{Tree: dir, Recipe: attest.Recipe{}, Epoch: epoch, Layout: t.TempDir(), Log: func(e builder.Event) { log = append(log, e.Step+": "+e.Line) }})
		said := strings.Join(log, "\n")
		if required {
			said = err.Error()
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(mount, "type="), ",")
		if !strings.Contains(said, "RUN --mount=type="+kind) || !strings.Contains(said, "docs/configuration.md, Credentials") || errors.Is(err, errClosed) == required {
			t.Errorf("%s: got %v, log %q", mount, err, log)
		}
	}
}
