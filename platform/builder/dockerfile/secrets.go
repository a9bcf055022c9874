package dockerfile

import (
	"cmp"
	"context"
	"slices"

	"github.com/moby/buildkit/solver/pb"
)

// Secret is a secret or an ssh agent that a step of a Dockerfile mounts.
type Secret struct {
	Mount    string // as the Dockerfile has it: "type=secret,id=npm"
	Required bool
}

// Secrets returns the secrets and ssh agents that the Dockerfile's steps mount on the
// platform, each once, in the order of the steps.
func (d Dockerfile) Secrets(ctx context.Context, platform string) (list []Secret) {
	add := func(s Secret) {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	for _, op := range d.ops(ctx, platform) {
		exec := op.GetExec()
		for _, e := range exec.GetSecretenv() {
			add(Secret{"type=secret,id=" + e.ID, !e.Optional})
		}
		for _, m := range exec.GetMounts() {
			switch {
			case m.MountType == pb.MountType_SECRET && m.SecretOpt != nil:
				add(Secret{"type=secret,id=" + m.SecretOpt.ID, !m.SecretOpt.Optional})
			case m.MountType == pb.MountType_SSH && m.SSHOpt != nil:
				add(Secret{"type=ssh,id=" + cmp.Or(m.SSHOpt.ID, "default"), !m.SSHOpt.Optional})
			}
		}
	}
	return list
}
